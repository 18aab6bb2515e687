"""The numbers that tables and figures compare, read from the record of a run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard

from timelocal.studies.store import RunRecord


@dataclass(frozen=True)
class Measure:
    """A number of a run: its name, its format, and how to read it.

    `scale` and `digits` are for tables; `curve` is the key of the same number in the epochs of a run.
    """

    title: str
    unit: str
    scale: float
    digits: int
    higher_is_better: bool
    read: Callable[[RunRecord], float | None]
    curve: str | None = None
    log: bool = False
    trivial: Literal["accuracy", "loss", None] = None
    """How the trivial predictors of a run are scored to be comparable with it."""


def value(record: RunRecord, measure: str) -> float | None:
    """The measure of a finished run, None where it has none."""
    if record.status != "finished":
        return None
    found = MEASURES[measure].read(record)
    return found if found is not None and math.isfinite(found) else None


def trivial_scores(record: RunRecord | None, measure: str) -> dict[str, float]:
    """The scores of a run's trivial predictors in this measure, by name; empty if scored in another."""
    scores = ((record.result if record is not None else None) or {}).get("trivial") or {}
    kind = "accuracy" if scores.keys() & _ACCURATE else "loss"
    if MEASURES[measure].trivial != kind:
        return {}
    return {name: float(score) for name, score in scores.items() if is_number(score)}


_ACCURATE = {"majority_class", "readout_only"}
"""Trivial predictors of classes, which are scored by their accuracy."""


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def _result(*keys: str) -> Callable[[RunRecord], float | None]:
    def read(record: RunRecord) -> float | None:
        found: object = record.result
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return float(found) if isinstance(found, int | float) else None

    return read


def _curve(record: RunRecord, key: str) -> list[float]:
    """The values of the epochs that have one."""
    return [epoch[key] for epoch in record.epochs if key in epoch]


def _final(key: str) -> Callable[[RunRecord], float | None]:
    """The mean over the last tenth of the epochs: the last 50 of the papers' 500."""

    def read(record: RunRecord) -> float | None:
        values = _curve(record, key)
        tail = values[-max(1, len(values) // 10) :]
        return statistics.fmean(tail) if tail else None

    return read


def _of_ridge(place: str) -> Callable[[RunRecord], float | None]:
    """The test error in a section of the result, relative to that of the run's ridge regression."""

    def read(record: RunRecord) -> float | None:
        error = _result(place, "mse")(record)
        ridge = _result("trivial", "ridge on the past")(record)
        return None if error is None or not ridge else error / ridge

    return read


def _mean(key: str) -> Callable[[RunRecord], float | None]:
    """The mean over all epochs."""

    def read(record: RunRecord) -> float | None:
        values = _curve(record, key)
        return statistics.fmean(values) if values else None

    return read


_WAY = 0.9
"""A run counts as converged after this share of the total decrease of its training loss."""


def _convergence(record: RunRecord) -> float | None:
    """The first epoch at which nine tenths of the training loss's decrease are reached; None without one."""
    losses = _curve(record, "train_loss")
    end = _final("train_loss")(record)
    if end is None or not end < losses[0]:
        return None
    goal = losses[0] - _WAY * (losses[0] - end)
    return float(1 + next(n for n, loss in enumerate(losses) if loss <= goal))


def _gap(record: RunRecord) -> float | None:
    """The final test loss minus the final training loss."""
    test, train = _final("test_loss")(record), _final("train_loss")(record)
    return None if test is None or train is None else test - train


def _slope(epochs: int) -> Callable[[RunRecord], float | None]:
    """The least-squares slope of the test accuracy over the first epochs, per hundred epochs."""

    def read(record: RunRecord) -> float | None:
        found = _curve(record, "test_accuracy")
        if len(found) < epochs:
            return None
        return 100 * statistics.linear_regression(range(epochs), found[:epochs]).slope

    return read


def _accuracy(title: str, read: Callable[[RunRecord], float | None]) -> Measure:
    return Measure(title, "\u202f%", 100.0, 1, True, read, "test_accuracy", trivial="accuracy")


def _rise(epochs: int) -> Measure:
    title = f"slope of the test accuracy over {epochs} epochs, points per hundred epochs"
    return Measure(title, "", 100.0, 1, True, _slope(epochs))


def _loss(title: str, key: str, trivial: Literal["loss", None] = None) -> Measure:
    return Measure(title, "", 1.0, 5, False, _final(key), key, True, trivial)


MEASURES: dict[str, Measure] = {
    "accuracy": _accuracy(
        "test accuracy at the best validation epoch", _result("best_validation", "test_accuracy")
    ),
    "last_accuracy": _accuracy("test accuracy at the last epoch", _result("last", "test_accuracy")),
    "max_accuracy": _accuracy(
        "maximum of the test accuracy over epochs", _result("max_test_accuracy")
    ),
    "validation_accuracy": replace(
        _accuracy(
            "validation accuracy, best epoch", _result("best_validation", "validation_accuracy")
        ),
        trivial=None,
    ),
    "test_loss": _loss("final test loss", "test_loss", "loss"),
    "train_loss": _loss("final training loss", "train_loss"),
    "validation_loss": _loss("final validation loss", "validation_loss"),
    "nrmse": Measure("test NRMSE", "", 1.0, 3, False, _result("metrics", "nrmse")),
    "of_ridge": Measure("test error relative to ridge", "", 1.0, 3, False, _of_ridge("metrics")),
    "of_ridge_alone": Measure(
        "the same of single networks, on average", "", 1.0, 3, False, _of_ridge("alone")
    ),
    "bit_errors": Measure("bit errors", "", 1.0, 3, False, _result("metrics", "bit_errors")),
    "convergence": Measure(
        "epochs to nine tenths of the training-loss decrease", "", 1.0, 1, False, _convergence
    ),
    "generalization_gap": Measure("test loss minus training loss", "", 1.0, 5, False, _gap),
    "slope_50": _rise(50),
    "slope_150": _rise(150),
    "alignment": Measure(
        "cosine with the gradient of BPTT", "", 1.0, 3, True, _mean("alignment.recurrent.cosine")
    ),
    "last_alignment": Measure(
        "cosine with the gradient of BPTT, last tenth of the epochs",
        "",
        1.0,
        3,
        True,
        _final("alignment.recurrent.cosine"),
        "alignment.recurrent.cosine",
    ),
    "decorrelation_loss": _loss("decorrelation loss", "decorrelation_loss"),
    "milliseconds": Measure(
        "time for one sequence", " ms", 1.0, 2, False, _result("milliseconds"), log=True
    ),
    "peak_megabytes": Measure(
        "peak memory above the level before",
        " MB",
        1.0,
        2,
        False,
        _result("peak_megabytes"),
        log=True,
    ),
}
