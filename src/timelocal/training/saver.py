"""When a run is saved, what it is known by, and the two plain files for human eyes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.optim import Optimizer

from timelocal.data import Sequences
from timelocal.files import to_json, write_index, write_json
from timelocal.rules import Rule
from timelocal.training import checkpoint
from timelocal.training.history import History
from timelocal.training.parts import fingerprint
from timelocal.training.snapshot import Snapshot

_SHARE = 0.05
"""Saving after an epoch waits while it would take more than this share of the time."""


class Saver:
    """Saves the run of `settings` in `folder`: `checkpoint/`, `history.json` and `timing.json`.

    Only the checkpoint counts when a run goes on; the two files repeat a part of it. Training can
    go on from any epoch and end in the same bits, so short epochs need not all be saved.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self.folder, self.settings = folder, settings
        self._next_save = 0.0

    def load(self) -> tuple[Snapshot, History] | None:
        """The saved run, if there is one."""
        return checkpoint.load(self.folder / "checkpoint", self.settings)

    def offer(self, state: Snapshot, history: History) -> None:
        """Save if the last saving was long enough ago."""
        if time.perf_counter() >= self._next_save:
            self.save(state, history)

    def save(self, state: Snapshot, history: History) -> None:
        """Save now."""
        start = time.perf_counter()
        checkpoint.save(self.folder / "checkpoint", state, history, self.settings)
        write_index(self.folder / "history.json", history.curves(), {})
        write_json(self.folder / "timing.json", history.timing())
        end = time.perf_counter()
        self._next_save = end + (end - start) / _SHARE


def run_settings(
    rule: Rule,
    optimizer: Optimizer,
    parts: Mapping[str, Sequences],
    batch_size: int,
    seed: int,
    clip: float | None,
    online: bool,
) -> dict[str, object]:
    """What must be the same for a run to go on; as JSON would give it back."""
    groups = [
        {
            key: float(value) if isinstance(value, Tensor) else value
            for key, value in group.items()
            if key != "params"
        }
        for group in optimizer.state_dict()["param_groups"]
    ]
    shapes = {name: list(tensor.shape) for name, tensor in rule.network.state_dict().items()}
    settings = {
        "rule": type(rule).__name__,
        "rule_options": _options(rule),
        "loss": {"type": type(rule.loss).__name__, **_options(rule.loss)},
        "layers": repr(rule.network),
        "rule_state": {
            name: list(tensor.shape)
            for name, tensor in rule.state_dict().items()
            if not name.startswith("network.")
        },
        "network": shapes,
        "optimizer": type(optimizer).__name__,
        "optimizer_groups": groups,
        "batch_size": batch_size,
        "seed": seed,
        "clip": clip,
        "data": {name: fingerprint(part) for name, part in parts.items()},
    }
    if online:
        settings["online"] = True
    plain: dict[str, object] = json.loads(to_json(settings))
    return plain


def _options(made: object) -> dict[str, object]:
    """What a rule or a loss was made with, as far as its public attributes tell."""
    others = {"training", "network", "loss", "generator", "spec"}
    own = {
        name: value for name, value in vars(made).items() if name[0] != "_" and name not in others
    }
    return {name: _plain(value) for name, value in own.items()}


def _plain(value: object) -> object:
    """A value as JSON, alike in another process; of what is neither plain nor a tensor the name alone."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return getattr(value, "__qualname__", type(value).__name__)
