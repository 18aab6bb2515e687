"""The history of a training run: one record per epoch, and which epoch was the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard

from torch import Tensor

from timelocal.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PARTS = ("train", "validation", "test")

Record: TypeAlias = dict[str, float]
"""`epoch`, and `<part>_loss`, `<part>_accuracy`, `<part>_<metric>` for the parts train, validation and test
(user metrics except on the training part); `lr` if there is a schedule; and the rule's
`diagnostics` by their own names, over the training part."""

_ROWS = 20
"""Epochs shown of a history in a notebook."""


@dataclass(repr=False)
class History:
    """The course of one run.

    `epochs`: one `Record` per finished epoch; a value is a mean over the valid entries (`train_*`:
    over the epoch's minibatches, each before its own update). `seconds`: time spent learning in
    each epoch, evaluation not counted; `step_seconds`: the median over its updates (online: over its
    batches, each of which counts by the mean of its steps). `best_weights`: the network's `state_dict`
    after the best epoch. `restored`: the epoch whose weights the network was left with, if not the last.
    `status` and `message`: how the run ended, and why, if it ended early.

    >>> history = History(epochs=[{"epoch": 1, "validation_accuracy": 0.5},
    ...                           {"epoch": 2, "validation_accuracy": 0.5}])
    >>> history.best["epoch"]
    1
    >>> history
    History of 2 epochs, running
      last, epoch 2: validation_accuracy 0.5
      best, epoch 1: validation_accuracy 0.5
    """

    epochs: list[Record] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    steps_per_epoch: int = 0
    status: Literal["running", "finished", "diverged"] = "running"
    message: str = ""
    best_weights: dict[str, Tensor] | None = None
    restored: int | None = None

    @property
    def last(self) -> Record | None:
        """The record of the last finished epoch."""
        return self.epochs[-1] if self.epochs else None

    @property
    def best(self) -> Record | None:
        """The record of the best epoch on the validation part, if there was one."""
        return best_epoch(self.epochs)

    def to_frame(self) -> DataFrame:
        """A pandas data frame with one row per epoch, indexed by its number, and one column per quantity.

        `seconds` is the time spent learning in an epoch. Missing values are NaN.

        Raises:
            MissingExtraError: the extra `data` is not installed.
        """
        require("pandas", extra="data", for_="History.to_frame()")
        from pandas import DataFrame

        timed = len(self.seconds) == len(self.epochs)
        frame = DataFrame(
            [
                {**record, "seconds": self.seconds[place]} if timed else record
                for place, record in enumerate(self.epochs)
            ]
        )
        return frame.set_index("epoch") if self.epochs else frame

    def plot(self) -> Figure:
        """A matplotlib figure: one panel each for loss, accuracy and every metric, one curve per part.

        A vertical line marks the best epoch. `matplotlib.pyplot.show()` shows it outside a notebook.

        Raises:
            MissingExtraError: the extra `report` is not installed.
        """
        require("matplotlib", extra="report", for_="History.plot()")
        from matplotlib import pyplot

        names = dict.fromkeys(name for record in self.epochs for name in record)
        panels: dict[str, list[str]] = {"loss": []}
        for name in names:
            part, _, quantity = name.partition("_")
            if part in PARTS and quantity:
                panels.setdefault(quantity, []).append(part)
        figure, axes = pyplot.subplots(
            1, len(panels), figsize=(5 * len(panels), 3.6), squeeze=False, layout="constrained"
        )
        best = self.best
        for axis, (quantity, parts) in zip(axes[0], panels.items(), strict=True):
            for part in parts:
                name = f"{part}_{quantity}"
                points = [(one["epoch"], one[name]) for one in self.epochs if name in one]
                marker = "." if len(points) == 1 else None
                axis.plot(*zip(*points, strict=True), label=part, marker=marker)
            if best is not None:
                label = "restored" if self.restored == best["epoch"] else "best"
                axis.axvline(best["epoch"], color="grey", linestyle=":", label=label)
            axis.set(xlabel="epoch", ylabel=quantity)
            if parts:
                axis.legend()
        return figure

    def __repr__(self) -> str:
        return "\n  ".join((self._headline(), *self._notable()))

    def _repr_html_(self) -> str:
        """What a notebook shows: the course of the run as a table."""
        names = list(dict.fromkeys(name for record in self.epochs for name in record))
        best = self.best
        shown = self.epochs
        if len(shown) > _ROWS:
            half = _ROWS // 2
            middle = [best] if best in shown[half:-half] else []
            shown = [*shown[:half], *middle, *shown[-half:]]
        rows, before = [], 0.0
        for record in shown:
            if record["epoch"] > before + 1:
                rows.append(f'<tr><td colspan="{len(names)}">…</td></tr>')
            before = record["epoch"]
            cells = "".join(
                f"<td>{_short(record[name]) if name in record else ''}</td>" for name in names
            )
            rows.append(
                f'<tr style="font-weight: bold">{cells}</tr>'
                if record is best
                else f"<tr>{cells}</tr>"
            )
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        caption = escape(self._headline())
        if best is not None:
            caption += ". Bold: the best epoch"
            caption += ", whose weights the network has" if self.restored else ""
        return (
            f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )

    def _headline(self) -> str:
        count = len(self.epochs)
        reason = f": {self.message}" if self.message else ""
        return f"History of {count} epoch{'' if count == 1 else 's'}, {self.status}{reason}"

    def _notable(self) -> list[str]:
        restored = ", restored" if self.restored else ""
        return [
            f"{word}, epoch {record['epoch']}{mark}: "
            + ", ".join(
                f"{name} {_short(value)}" for name, value in record.items() if name != "epoch"
            )
            for word, record, mark in (("last", self.last, ""), ("best", self.best, restored))
            if record is not None
        ]

    def curves(self) -> dict[str, object]:
        """The deterministic part, as stored in `history.json`."""
        return {"epochs": self.epochs}

    def timing(self) -> dict[str, object]:
        """The part that differs between runs, as stored in `timing.json`."""
        return {
            "seconds": self.seconds,
            "steps_per_epoch": self.steps_per_epoch,
            "step_seconds_median": median(self.step_seconds) if self.step_seconds else None,
            "step_seconds": self.step_seconds,
        }


def epochs_from(curves: Mapping[str, Any]) -> list[Record]:
    """The epochs of `History.curves` from JSON, where null means a non-finite value.

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
    """Whether a JSON value is a usable number; true and false are not.

    >>> is_number(0.5), is_number(True), is_number(10**400)
    (True, False, False)
    """
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def without_progress(epochs: Sequence[Record]) -> int:
    """The number of epochs since the (first) lowest validation loss.

    >>> without_progress([{"epoch": 1, "validation_loss": 0.5}, {"epoch": 2, "validation_loss": 0.6}])
    1
    """
    losses = [record["validation_loss"] for record in epochs]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def best_epoch(epochs: Sequence[Record]) -> Record | None:
    """The record with the highest validation accuracy (lowest loss in regression); the first one wins.

    None if nothing was validated.
    """
    validated = [record for record in epochs if "validation_loss" in record]
    if validated and "validation_accuracy" not in validated[0]:
        return min(validated, key=lambda record: record["validation_loss"])
    scored = [record for record in epochs if "validation_accuracy" in record]
    return max(scored, key=lambda record: record["validation_accuracy"], default=None)
