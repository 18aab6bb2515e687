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
from timelocal.training.snapshot import Snapshot, part_of

_FORMAT = 2
_READ = (1, 2)
"""Format 1 kept the network beside the rule; since 2 the rule's state holds it."""
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
    _check_settings(folder, index, settings)
    tensors = _of_this_format(index, read_tensors(folder / index["last"]))
    snapshot = Snapshot(
        part_of(tensors, "rule"), part_of(tensors, "optimizer"), index["optimizer_numbers"]
    )
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
    parts = {"rule": snapshot.rule, "optimizer": snapshot.optimizer}
    return {f"{part}.{name}": t for part, tensors in parts.items() for name, t in tensors.items()}


def _check_settings(folder: Path, index: Mapping[str, Any], given: Mapping[str, object]) -> None:
    """Refuse to go on with a run under other settings than it was begun with."""
    saved = index["settings"]
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


def _told_in_format_1(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, without the options that no rule had yet."""
    options = {k: v for k, v in given["rule_options"].items() if k in saved["rule_options"]}
    state = given["rule_state"]
    if "dfa._extra_state" in saved["rule_state"]:
        state = {
            name if name == "_extra_state" else f"dfa.{name}": shape
            for name, shape in state.items()
        } | {"dfa._extra_state": saved["rule_state"]["dfa._extra_state"]}
    return {**given, "rule_options": options, "rule_state": state}
