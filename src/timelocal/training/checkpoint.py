"""Checkpoints: tensors in safetensors, the rest in JSON, one indivisible moment of commitment.

A checkpoint folder holds `checkpoint.json` and the tensor files it names. New tensor files get new
names and are complete before `checkpoint.json` is replaced; files it does not name are rubbish and
go afterwards. So a process killed at any moment leaves the old or the new checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from timelocal.errors import ArgumentError, Problem, RunError, raise_problems
from timelocal.files import (
    make_folder,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from timelocal.training.history import History, epochs_from
from timelocal.training.identity import described
from timelocal.training.snapshot import Snapshot, part_of
from timelocal.training.state import unpacked

_FORMAT = 3
_READ = (1, 2, 3)
"""Format 1 kept the network beside the rule, 2 had no `state` and knew less of a run's settings."""
_INDEX = "checkpoint.json"


def save(
    folder: Path, snapshot: Snapshot, history: History, settings: Mapping[str, object]
) -> None:
    """Commit `snapshot` and `history` to `folder`; `settings` say which run they belong to."""
    make_folder(folder)
    epoch = len(history.epochs)
    last = f"last-{epoch:06d}.safetensors"
    write_tensors(folder / last, _flatten(snapshot))
    best = None
    if history.best is not None and history.best_weights is not None:
        best = f"best-{history.best['epoch']:06d}.safetensors"
        if not (folder / best).exists():
            write_tensors(folder / best, history.best_weights)
    write_json(
        folder / _INDEX,
        {
            "format": _FORMAT,
            "epoch": epoch,
            "last": last,
            "best": best,
            "settings": settings,
            "optimizer_numbers": snapshot.numbers,
            "state": snapshot.state,
            "history": history.curves(),
            "timing": history.timing(),
        },
    )
    for path in folder.iterdir():
        if path.name not in {_INDEX, last, best}:
            with suppress(OSError):
                path.unlink()


def load(folder: Path, settings: Mapping[str, object]) -> tuple[Snapshot, History] | None:
    """The checkpoint in `folder`, or None if there is none.

    Raises `RunError` if it is damaged or was made under other `settings`.
    """
    index = _index(folder)
    if index is None:
        return None
    tensors = _of_this_format(index, read_tensors(folder / index["last"]))
    snapshot = Snapshot(
        part_of(tensors, "rule"),
        part_of(tensors, "optimizer"),
        index["optimizer_numbers"],
        index.get("state", {}),
        part_of(tensors, "state"),
    )
    _check_settings(folder, index, snapshot, settings)
    history = History(
        epochs=epochs_from(index["history"]),
        seconds=index["timing"]["seconds"],
        step_seconds=index["timing"]["step_seconds"],
        best_weights=read_tensors(folder / index["best"]) if index["best"] else None,
    )
    return snapshot, history


def load_weights(folder: str | Path, which: str = "best") -> dict[str, Tensor]:
    """The network's `state_dict` in the run folder `folder`: after its best or its last epoch.

    `which`: `"best"` (on the validation part) or `"last"`. Raises `ArgumentError` for another word
    and `RunError` if the folder holds no such weights.

    `network.load_state_dict(load_weights(folder))` gives the network back.
    """
    if which not in {"best", "last"}:
        raise ArgumentError(str(Problem("which", repr(which), "'best' or 'last'")))
    folder = Path(folder) / "checkpoint"
    index = _index(folder)
    if index is None or index[which] is None:
        raise RunError(f"{folder} holds no {which} weights. Train with this folder first.")
    tensors = read_tensors(folder / index[which])
    if which == "best":
        return tensors
    return part_of(_of_this_format(index, tensors), "rule.network")


def _of_this_format(index: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of the present format."""
    if index["format"] != 1:
        return tensors
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("network."):
            renamed[f"rule.{name}"] = tensor
        elif name != "rule.dfa._extra_state":  # of a rule inside a rule, which is no more
            renamed[name.replace("rule.dfa.", "rule.")] = tensor
    return renamed


def _index(folder: Path) -> dict[str, Any] | None:
    """The parsed `checkpoint.json`, or None if there is none."""
    path = folder / _INDEX
    if not path.exists():
        return None
    index = read_json(path)
    if not isinstance(index, dict) or index.get("format") not in _READ:
        raise RunError(
            f"{path} is not a checkpoint of format {_FORMAT}. Choose another folder, or delete "
            "this one to begin again."
        )
    return index


def _flatten(snapshot: Snapshot) -> dict[str, Tensor]:
    parts = {"rule": snapshot.rule, "optimizer": snapshot.optimizer, "state": snapshot.tensors}
    return {f"{part}.{name}": t for part, tensors in parts.items() for name, t in tensors.items()}


def _check_settings(
    folder: Path, index: Mapping[str, Any], snapshot: Snapshot, given: Mapping[str, Any]
) -> None:
    """Refuse to go on with a run under other settings than it was begun with."""
    saved = index["settings"]
    given = _where_it_stopped(saved, snapshot, given)
    if index["format"] < 3:
        given = _told_before_3(saved, given)
    if index["format"] == 1:
        given = _told_in_format_1(saved, given)
    raise_problems(
        (
            Problem(
                key,
                repr(given.get(key)),
                f"{saved.get(key)!r}, with which the run in {folder} was begun",
                "Give the same settings to go on, or another folder to begin a new run",
            )
            for key in sorted({*saved, *given})
            if saved.get(key) != given.get(key)
        ),
        RunError,
    )


def _where_it_stopped(
    saved: Mapping[str, Any], snapshot: Snapshot, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What is given, as it was at the beginning where it is as the run left it.

    A schedule moves on: who calls `fit` again with the same optimizer and scheduler goes on with the run.
    """
    changed = {}
    if given["optimizer_groups"] == described(snapshot.groups):
        changed["optimizer_groups"] = saved["optimizer_groups"]
    if "scheduler" in given and "scheduler" in snapshot.state and "scheduler" in saved:
        left = unpacked(snapshot.state["scheduler"], snapshot.tensors)
        if given["scheduler"]["state"] == described(left):
            begun = saved["scheduler"]["state"]
            changed["scheduler"] = {**given["scheduler"], "state": begun}
    return {**given, **changed}


def _told_before_3(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, as formats 1 and 2 would have told it.

    Of what is made of options they told the name of the type alone, and of some things nothing at all.
    """

    def plain(told: Any) -> Any:
        if isinstance(told, list):
            return list(map(plain, told))
        if not isinstance(told, dict):
            return told
        return told["is"] if "is" in told else {name: plain(one) for name, one in told.items()}

    untold = {"cell", "modules", "generators", "frozen", "in evaluation mode"}
    as_before = {name: plain(told) for name, told in given.items() if name not in untold}
    for name in ("rule_options", "loss"):  # private attributes
        as_before[name] = {k: v for k, v in as_before[name].items() if k in saved[name]}
    return as_before


def _told_in_format_1(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The state of what was a rule inside a rule under its names."""
    state = given["rule_state"]
    if "dfa._extra_state" in saved["rule_state"]:
        state = {
            name if name == "_extra_state" else f"dfa.{name}": shape
            for name, shape in state.items()
        } | {"dfa._extra_state": saved["rule_state"]["dfa._extra_state"]}
    return {**given, "rule_state": state}
