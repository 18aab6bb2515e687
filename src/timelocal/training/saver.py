"""When a run is saved, what identifies it, and the two plain files for reading."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from timelocal.data import Sequences
from timelocal.files import to_json, write_index, write_json
from timelocal.network import Network
from timelocal.training import checkpoint
from timelocal.training.history import History
from timelocal.training.identity import identity_of, options
from timelocal.training.metrics import Metric
from timelocal.training.parts import fingerprint
from timelocal.training.snapshot import Live, Snapshot, groups_of

_SHARE = 0.05
"""Saving after an epoch waits while it would take more than this share of the time."""


class Saver:
    """Saves the run of `settings` in `folder`: `checkpoint/`, `history.json` and `timing.json`.

    Only the checkpoint counts when a run is resumed; the two files repeat part of it. Training can resume
    from any epoch and end in the same bits, so not every short epoch needs to be saved.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self.folder, self.settings = folder, settings
        self._next_save = 0.0

    def load(self) -> tuple[Snapshot, History] | None:
        """The saved run, if there is one."""
        return checkpoint.load(self.folder / "checkpoint", self.settings)

    def offer(self, state: Snapshot, history: History) -> None:
        """Save if the last save was long enough ago."""
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
    live: Live,
    parts: Mapping[str, Sequences],
    metrics: Mapping[str, Metric],
    *,
    batch_size: int,
    seed: int,
    clip: float | None,
    online: bool,
    drop_last: bool,
) -> dict[str, Any]:
    """The settings that must be unchanged to resume a run, as read back from JSON.

    Its length (`epochs`, `patience`) and its observers are not part of this.
    """
    rule, network, optimizer = live.rule, live.rule.network, live.optimizer
    held = (rule, network, *rule.parameters(), *rule.buffers())
    settings: dict[str, object] = {
        "rule": type(rule).__name__,
        "rule_options": _options(rule, held),
        "loss": {"type": type(rule.loss).__name__, **_options(rule.loss, held)},
        "layers": repr(network),
        "cell": identity_of(network.cell, held),
        "rule_state": {
            name: list(tensor.shape)
            for name, tensor in rule.state_dict().items()
            if not name.startswith("network.")
        },
        "network": {name: list(tensor.shape) for name, tensor in network.state_dict().items()},
        "optimizer": type(optimizer).__name__,
        "optimizer_groups": identity_of(groups_of(optimizer)),
        "batch_size": batch_size,
        "seed": seed,
        "clip": clip,
        "data": {name: fingerprint(part) for name, part in parts.items()},
    }
    where_asked_for = {
        "online": online,
        "drop_last": drop_last,
        "modules": {
            name: identity_of(module, held) for name, module in _foreign_modules(network).items()
        },
        "frozen": [name for name, p in network.named_parameters() if not p.requires_grad],
        "in evaluation mode": [name for name, m in rule.named_modules() if not m.training],
        "scheduler": live.scheduler and _scheduler(live.scheduler),
        "generators": list(live.generators),
        "callbacks": [type(callback).__qualname__ for callback in live.callbacks],
        "metrics": identity_of(metrics, held),
    }
    settings |= {name: value for name, value in where_asked_for.items() if value}
    plain: dict[str, Any] = json.loads(to_json(settings))
    return plain


def _options(made: object, held: Iterable[object]) -> dict[str, object]:
    """The constructor arguments of a rule or a loss."""
    others = {"network", "loss", "generator", "spec"}
    kept = set(map(id, held))  # in the checkpoint
    return {
        name: identity_of(value, held)
        for name, value in options(made).items()
        if name not in others and id(value) not in kept
    }


def _foreign_modules(network: Network) -> dict[str, nn.Module]:
    """The modules whose `repr` may not show their constructor arguments."""
    known = ("torch.nn.modules.", "timelocal.network.")
    return {
        name: module
        for name, module in network.named_modules()
        if not type(module).__module__.startswith(known)
    }


def _scheduler(scheduler: LRScheduler) -> dict[str, object]:
    """A scheduler by its state, and the functions which that leaves out."""
    return {
        "is": type(scheduler).__name__,
        "state": identity_of(scheduler.state_dict()),
        "functions": [identity_of(function) for function in _functions(scheduler)],
    }


def _functions(scheduler: LRScheduler) -> Iterator[object]:
    """The functions that a scheduler, or one inside it, was given to call."""
    for value in vars(scheduler).values():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, LRScheduler):
                yield from _functions(one)
            elif callable(one) and getattr(one, "__self__", None) is not scheduler:
                yield one
