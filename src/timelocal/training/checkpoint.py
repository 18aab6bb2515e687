"""Checkpoints: tensors in safetensors, the rest in JSON, committed atomically.

A checkpoint folder holds `checkpoint.json` and the tensor files it names. New tensor files get new names and
are complete before `checkpoint.json` is replaced; files it does not name are deleted afterwards. So a
process killed at any moment leaves either the old or the new checkpoint. The index holds the sha256 of
itself and of the tensor files, so that damage is detected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from timelocal.errors import Problem, RunError, raise_problems, unknown_name
from timelocal.files import (
    as_path,
    damaged,
    is_there,
    make_folder,
    read_index,
    read_tensors,
    tensors_sha256,
    write_index,
    write_tensors,
)
from timelocal.training.history import History, epochs_from, is_number
from timelocal.training.identity import identity_of
from timelocal.training.snapshot import Snapshot, part_of
from timelocal.training.state import unpacked

_FORMAT = 3
_READ = (1, 2, 3)
"""Format 1 kept network and rule separately; format 2 had no sha256, no `state`, and fewer settings."""
_INDEX = "checkpoint.json"


def save(
    folder: Path, snapshot: Snapshot, history: History, settings: Mapping[str, object]
) -> None:
    """Commit `snapshot` and `history` to `folder`; `settings` identify the run.

    The parent folder must exist: if it is gone, that is an error, not a reason to create it.
    """
    make_folder(folder, parents=False)
    epoch = len(history.epochs)
    last = _last(epoch)
    digests = {last: write_tensors(folder / last, _flatten(snapshot))}
    best = None
    if history.best is not None and history.best_weights is not None:
        best = f"best-{history.best['epoch']:06d}.safetensors"
        if is_there(folder / _INDEX) and is_there(
            folder / best
        ):  # without an index it may be anyone's
            digests[best] = tensors_sha256(history.best_weights)
        else:
            digests[best] = write_tensors(folder / best, history.best_weights)
    index = {
        "format": _FORMAT,
        "epoch": epoch,
        "last": last,
        "best": best,
        "settings": settings,
        "optimizer_numbers": snapshot.numbers,
        "state": snapshot.state,
        "history": history.curves(),
        "timing": history.timing(),
    }
    write_index(folder / _INDEX, index, digests)
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name not in {_INDEX, last, best}:
                path.unlink()


def load(folder: Path, settings: Mapping[str, object]) -> tuple[Snapshot, History] | None:
    """The checkpoint in `folder`, or None if there is none.

    Raises `RunError` if it is damaged or was made under other `settings`.
    """
    found = _read(folder)
    if found is None:
        return None
    index, digests = found
    tensors = _of_this_format(index, _tensors(folder, index, digests, "last"))
    snapshot = Snapshot(
        part_of(tensors, "rule"),
        part_of(tensors, "optimizer"),
        index["optimizer_numbers"],
        index.get("state", {}),
        part_of(tensors, "state"),
    )
    _check_state(folder, index, snapshot)
    _check_settings(folder, index, snapshot, settings)
    _check_shapes(folder, index, snapshot)
    history = History(
        epochs=epochs_from(index["history"]),
        seconds=index["timing"]["seconds"],
        step_seconds=index["timing"]["step_seconds"],
        best_weights=_tensors(folder, index, digests, "best") if index["best"] else None,
    )
    return snapshot, history


def load_weights(folder: str | Path, which: str = "best") -> dict[str, Tensor]:
    """The network's `state_dict` from the run folder `folder`, after its best or its last epoch.

    `which`: `"best"` (on the validation part) or `"last"`. Raises `ArgumentError` for any other value and
    `RunError` if the folder holds no such weights.

    `network.load_state_dict(load_weights(folder))` restores the network.
    """
    raise_problems([unknown_name("which", which, ("best", "last"))])
    folder = as_path(folder) / "checkpoint"
    index, digests = _read(folder) or ({which: None}, None)
    if index[which] is None:
        raise RunError(f"{folder} holds no {which} weights. Train with this folder first.")
    tensors = _tensors(folder, index, digests, which)
    if which == "best":
        return tensors
    return part_of(_of_this_format(index, tensors), "rule.network")


def _of_this_format(index: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of the present format."""
    if index["format"] != 1:
        return tensors
    return {
        f"rule.{name}" if name.startswith("network.") else name: tensor
        for name, tensor in tensors.items()
    }


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, str] | None] | None:
    """The checked `checkpoint.json` and the sha256 of its files, or None if there is none."""
    path = folder / _INDEX
    if not is_there(path):
        return None
    index, digests = read_index(path)
    if index.get("format") not in _READ:
        raise RunError(
            f"{path} is not a checkpoint of format {_FORMAT}. Choose another folder, or delete this one to "
            "start again."
        )
    problem = _problem(index, digests)
    if problem:
        raise damaged(path, problem)
    return index, digests


def _problem(index: Mapping[str, Any], digests: Mapping[str, str] | None) -> str | None:
    """The problem with a checkpoint's index, in words; None if there is none."""
    kinds = {"epoch": int, "last": str, "settings": dict, "history": dict, "timing": dict}
    for name, kind in {**kinds, "optimizer_numbers": dict, "best": str | None}.items():
        if name not in index or not isinstance(index[name], kind):
            return f"it holds no {name}, or one of the wrong type"
    try:
        history = History(epochs_from(index["history"]))
    except ValueError as error:
        return f"history: {error}"
    epoch, timing, settings = len(history.epochs), index["timing"], index["settings"]
    if index["epoch"] != epoch or index["last"] != _last(epoch):
        return (
            f"it is of epoch {index['epoch']}, its history of {epoch}, its tensors {index['last']}"
        )
    if (index["best"] is None) != (history.best is None) or not _BEST.fullmatch(
        index["best"] or "best-000000.safetensors"
    ):
        return f"best: {index['best']!r}"
    for name in ("seconds", "step_seconds"):
        times = timing.get(name)
        if not isinstance(times, list) or len(times) != epoch or not all(map(is_number, times)):
            return f"timing: {name} is not a list of {epoch} numbers"
    for key, value in index["optimizer_numbers"].items():
        if not (value is None or isinstance(value, bool) or is_number(value)):
            return f"optimizer_numbers: {key} is not a number"
    if not all(isinstance(settings.get(name), dict) for name in ("rule_options", "rule_state")):
        return "settings: not those of a rule"
    files = {index["last"], *filter(None, [index["best"]])}
    if (index["format"] >= 3 or digests is not None) and {*(digests or ())} != files:
        return f"it lacks the sha256 of {' and '.join(sorted(files))}"
    return None


_BEST = re.compile(r"best-\d{6,}\.safetensors")


def _last(epoch: int) -> str:
    return f"last-{epoch:06d}.safetensors"


def _tensors(
    folder: Path, index: Mapping[str, Any], digests: Mapping[str, str] | None, which: str
) -> dict[str, Tensor]:
    """The tensors of the file that the index names; formats before 3 have no sha256 to identify it."""
    name = index[which]
    return read_tensors(folder / name, None if digests is None else digests[name])


def _check_shapes(folder: Path, index: Mapping[str, Any], snapshot: Snapshot) -> None:
    """Refuse tensors whose names or shapes differ from the run's settings."""
    settings = index["settings"]
    network = {f"network.{name}": shape for name, shape in settings["network"].items()}
    wanted = {**settings["rule_state"], **network}
    found = {name: list(tensor.shape) for name, tensor in snapshot.rule.items()}
    different = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if index["format"] > 1 and different:
        raise damaged(
            folder / index["last"], f"it does not hold {', '.join(different)} of this run"
        )


def _check_state(folder: Path, index: Mapping[str, Any], snapshot: Snapshot) -> None:
    """Refuse a state that `save` cannot have written: it is read back as a test and discarded."""
    try:
        groups, state = snapshot.groups, unpacked(snapshot.state, snapshot.tensors)
        stopped, callbacks = state.get("stopped", ""), state.get("callbacks", [])
        readable = all(isinstance(group, dict) for group in groups) and (
            isinstance(stopped, str) and isinstance(callbacks, list)
        )
        readable = readable and isinstance(state.get("generators", {}), dict)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        readable = False
    if not readable or (index["format"] >= 3 and "groups" not in snapshot.state):
        raise damaged(folder / _INDEX, "its state is not that of a run")


def _flatten(snapshot: Snapshot) -> dict[str, Tensor]:
    parts = {"rule": snapshot.rule, "optimizer": snapshot.optimizer, "state": snapshot.tensors}
    return {f"{part}.{name}": t for part, tensors in parts.items() for name, t in tensors.items()}


def _check_settings(
    folder: Path, index: Mapping[str, Any], snapshot: Snapshot, given: Mapping[str, Any]
) -> None:
    """Refuse to continue a run under settings that differ from those it began with."""
    saved = index["settings"]
    given = _where_it_stopped(saved, snapshot, given)
    if index["format"] < 3:
        saved = {name: told for name, told in saved.items() if name not in _UNTOLD_BEFORE_3}
        given = _told_before_3(saved, given)
    if index["format"] == 1:
        given = _told_in_format_1(saved, given)
    given = _known_then(saved, given)
    raise_problems(
        (
            Problem(
                key,
                repr(given.get(key)),
                f"{saved.get(key)!r}, with which the run in {folder} was begun",
                "Give the same settings to continue, or another folder to start a new run",
            )
            for key in sorted({*saved, *given})
            if saved.get(key) != given.get(key)
        ),
        RunError,
    )


def _where_it_stopped(
    saved: Mapping[str, Any], snapshot: Snapshot, given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The given settings, with the run's initial values for those that equal its final ones.

    A scheduler changes learning rates: calling `fit` again with the same optimizer and scheduler must
    continue the run.
    """
    changed = {}
    if given["optimizer_groups"] == identity_of(snapshot.groups):
        changed["optimizer_groups"] = saved["optimizer_groups"]
    if "scheduler" in given and "scheduler" in snapshot.state and "scheduler" in saved:
        left = unpacked(snapshot.state["scheduler"], snapshot.tensors)
        if given["scheduler"]["state"] == identity_of(left):
            begun = saved["scheduler"]["state"]
            changed["scheduler"] = {**given["scheduler"], "state": begun}
    return {**given, **changed}


def _known_then(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings without options that are newer than the checkpoint and unused (None)."""
    return {
        name: _known_then(saved[name], value)
        if isinstance(value, dict) and isinstance(saved.get(name), dict)
        else value
        for name, value in given.items()
        if name in saved or value is not None
    }


_UNTOLD_BEFORE_3 = {"cell", "modules", "generators", "frozen", "in evaluation mode"}


def _told_before_3(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings as formats 1 and 2 would have recorded them.

    Those formats recorded only the type names of objects with options, and omitted some settings entirely.
    """

    def plain(told: Any) -> Any:
        if isinstance(told, list):
            return list(map(plain, told))
        if not isinstance(told, dict):
            return told
        return told["is"] if "is" in told else {name: plain(one) for name, one in told.items()}

    as_before = {name: plain(told) for name, told in given.items() if name not in _UNTOLD_BEFORE_3}
    for name in ("rule_options", "loss"):  # private attributes
        as_before[name] = {k: v for k, v in as_before[name].items() if k in saved[name]}
    return as_before


def _told_in_format_1(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the names that they had in format 1, where one rule contained another."""
    state = given["rule_state"]
    if "dfa._extra_state" in saved["rule_state"]:
        state = {
            name if name == "_extra_state" else f"dfa.{name}": shape
            for name, shape in state.items()
        } | {"dfa._extra_state": saved["rule_state"]["dfa._extra_state"]}
    return {**given, "rule_state": state}
