"""What a training run leaves behind: one record per epoch, and which epoch was the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, TypeAlias, TypeGuard

from torch import Tensor

Record: TypeAlias = dict[str, float]
"""`epoch`, and `<part>_loss`, `<part>_accuracy` for the parts train, validation and test; and the rule's
`diagnostics` by their own names, over the training part."""


@dataclass
class History:
    """The course of one run.

    `epochs`: one `Record` per finished epoch; a value is a mean over the valid entries (`train_*`:
    over the epoch's minibatches, each before its own update). `seconds`: time spent learning in
    each epoch, evaluation not counted; `step_seconds`: the median over its updates (online: over its
    batches, each of which counts by the mean of its steps). `best_weights`: the network's `state_dict`
    after the best epoch.

    >>> history = History(epochs=[{"epoch": 1, "validation_accuracy": 0.5},
    ...                           {"epoch": 2, "validation_accuracy": 0.5}])
    >>> history.best["epoch"]
    1
    """

    epochs: list[Record] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    steps_per_epoch: int = 0
    status: Literal["running", "finished", "diverged"] = "running"
    message: str = ""
    best_weights: dict[str, Tensor] | None = None

    @property
    def last(self) -> Record | None:
        """The record of the last finished epoch."""
        return self.epochs[-1] if self.epochs else None

    @property
    def best(self) -> Record | None:
        """The record of the best epoch on the validation part, if there was one."""
        return best_epoch(self.epochs)

    def curves(self) -> dict[str, object]:
        """The deterministic part, as `history.json` holds it."""
        return {"epochs": self.epochs}

    def timing(self) -> dict[str, object]:
        """The part that no two runs share, as `timing.json` holds it."""
        return {
            "seconds": self.seconds,
            "steps_per_epoch": self.steps_per_epoch,
            "step_seconds_median": median(self.step_seconds) if self.step_seconds else None,
            "step_seconds": self.step_seconds,
        }


def epochs_from(curves: Mapping[str, Any]) -> list[Record]:
    """The epochs in what `History.curves` was as JSON, where null stands for what was not finite.

    Raises `ValueError` if they are not the records of epochs 1, 2, …, each of numbers by name.

    >>> epochs_from({"epochs": [{"epoch": 1, "cosine": None}]})
    [{'epoch': 1, 'cosine': nan}]
    """
    epochs = curves.get("epochs")
    if not isinstance(epochs, list):
        raise ValueError(f"epochs: got {type(epochs).__name__}, expected a list")
    for number, record in enumerate(epochs, 1):
        if not isinstance(record, dict) or record.get("epoch") != number:
            raise ValueError(f"epochs: got no record of epoch {number} at its place")
        for name, value in record.items():
            if value is not None and not is_number(value):
                raise ValueError(f"{name} of epoch {number}: got {value!r:.40}, expected a number")
    return [
        {name: math.nan if value is None else value for name, value in record.items()}
        for record in epochs
    ]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number that Python can count with; true and false are none.

    >>> is_number(0.5), is_number(True), is_number(10**400)
    (True, False, False)
    """
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def best_epoch(epochs: Sequence[Record]) -> Record | None:
    """The record of highest validation accuracy (lowest loss in regression); the first one wins.

    None if nothing was validated.
    """
    validated = [record for record in epochs if "validation_loss" in record]
    if validated and "validation_accuracy" not in validated[0]:
        return min(validated, key=lambda record: record["validation_loss"])
    scored = [record for record in epochs if "validation_accuracy" in record]
    return max(scored, key=lambda record: record["validation_accuracy"], default=None)
