"""Series of unequal length, one after the other: the common form of all user files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from timelocal.arguments import memory_problem
from timelocal.errors import Problem, raise_problems

Missing: TypeAlias = Literal["refuse", "hold", "interpolate"]
MISSING: tuple[Missing, ...] = ("refuse", "hold", "interpolate")

CUT = "or cut the series where the class changes"

MANY = 50
"""With more different whole numbers than this, the user must say whether they are values or classes."""


@dataclass(frozen=True, eq=False)
class Series:
    """N series of I features, whose R steps follow each other.

    Args:
        rows: (R, I) float64, NaN where a cell is missing.
        lengths: (N,), their sum is R.
        features: I names.
        names: N names, text or numbers.
        labels: (N,) as the file writes them, or (R,) where they differ within a series; None for none.
        kinds: the different labels; `labels` are then their places in it.
        times: (R,) of the steps, in rising order within each series, as numbers; None for none.
        duplicates: how many steps have the time of the step before, by the first of them in words.
        gaps: how many steps the times leave out, in a grid of the median distance.
        where: the place of a step in its file, in words, such as "line 7".
        values: whether the file says that its labels are values (True) or classes (False).
    """

    rows: NDArray[np.float64]
    lengths: NDArray[np.int64]
    features: tuple[str, ...]
    names: Sequence[Any]
    labels: NDArray[Any] | None = None
    kinds: NDArray[Any] | None = None
    times: NDArray[Any] | None = None
    duplicates: Mapping[str, int] = field(default_factory=dict)
    gaps: int = 0
    source: str = "frame"
    values: bool | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def stepwise(self) -> bool:
        """Whether labels differ within a series, so that there is one for each step."""
        return self.labels is not None and len(self.labels) != len(self)

    def with_labels_of_steps(self) -> Series:
        """The same with a label for each step."""
        if self.labels is None or self.stepwise:
            return self
        return replace(self, labels=np.repeat(self.labels, self.lengths))

    @property
    def starts(self) -> NDArray[np.int64]:
        """(N,): the row where each series begins."""
        return np.cumsum(self.lengths) - self.lengths

    def padded(self, flat: NDArray[Any], dtype: Any) -> NDArray[Any]:
        """Rows (R, …) as (N, T, …), zeros behind the shorter series."""
        count, steps = len(self), int(self.lengths.max())
        size = count * steps * int(np.prod(flat.shape[1:])) * np.dtype(dtype).itemsize
        raise_problems([memory_problem(f"{self.source}: series padded to {steps:,} steps", size)])
        if (self.lengths == steps).all():
            return flat.astype(dtype).reshape(count, steps, *flat.shape[1:])
        padded = np.zeros((count, steps, *flat.shape[1:]), dtype)
        padded[np.arange(steps) < self.lengths[:, None]] = flat
        return padded


def filled(series: Series, missing: Missing) -> Series:
    """The series with every missing cell filled from its own series and feature, or refused.

    Args:
        missing: "refuse"; "hold": the last value, before the first of all the next; "interpolate": on the
            straight line between the two, in steps.

    Raises:
        ArgumentError: cells are missing, and either they are to be refused or the series has no value there.
    """
    gone = np.isnan(series.rows)
    if not gone.any():
        return series
    row, column = np.argwhere(gone)[0]
    first = f"series {_name_at(series, int(row))!r}, feature {series.features[int(column)]!r}"
    if missing == "refuse":
        remedy = "Give missing='hold', or 'interpolate' if nothing is forecast; or fill them first."
        count = int(gone.sum())
        values = "value" if count == 1 else "values"
        got = f"{count:,} missing {values}, the first in {first}"
        raise_problems([Problem(series.source, got, "none", remedy)])
    index = np.arange(len(gone))[:, None]
    begin = np.repeat(series.starts, series.lengths)[:, None]
    end = begin + np.repeat(series.lengths, series.lengths)[:, None]
    before = np.maximum.accumulate(np.where(gone, -1, index), 0)
    after = np.minimum.accumulate(np.where(gone, len(gone), index)[::-1], 0)[::-1]
    none_before, none_after = before < begin, after >= end
    if (none_before & none_after).any():
        row, column = np.argwhere(none_before & none_after)[0]
        got = f"no value of {series.features[int(column)]!r} in {_name_at(series, int(row))!r}"
        remedy = "Leave out that series or that feature."
        raise_problems([Problem(series.source, got, "at least one in each series", remedy)])
    before, after = np.where(none_before, after, before), np.where(none_after, before, after)
    low = np.take_along_axis(series.rows, before, 0)
    if missing == "hold":
        return replace(series, rows=low)
    high = np.take_along_axis(series.rows, after, 0)
    share = (index - before) / np.maximum(after - before, 1)
    return replace(series, rows=np.where(gone, low + share * (high - low), series.rows))


def in_pieces(series: Series, steps: int) -> Series:
    """One series with a label at every step, cut into series of equal length; the last one takes the rest.

    Raises:
        ArgumentError: for several series, and for labels of whole series.
    """
    if len(series) > 1 or not series.stepwise or steps < 2:
        got = "labels of whole series" if not series.stepwise else f"{len(series):,} series"
        expected = "2 or more with one series that has a label at every step, or with target="
        raise_problems([Problem("window", f"{steps} with {got}", expected, "Leave it out.")])
    begin = np.arange(0, len(series.rows), steps)
    lengths = np.diff(begin, append=len(series.rows))
    names = tuple(f"{series.names[0]} from {step}" for step in begin.tolist())
    return replace(series, lengths=lengths, names=names)


def _name_at(series: Series, row: int) -> str:
    return str(series.names[int(np.searchsorted(series.starts, row, side="right")) - 1])


def are_values(series: Series, task: str | None) -> bool:
    """Whether the labels are values, not classes: as given, as the file says, or because one has a fraction.

    Raises:
        ArgumentError: for whole numbers that may be either: of many kinds, or changing within a series.
    """
    assert series.labels is not None
    if task is not None:
        return task == "values"
    if series.values is not None:
        return series.values
    if series.kinds is not None or series.labels.dtype.kind not in "iuf":
        return False
    if series.stepwise:
        whole = series.labels[np.isfinite(series.labels)]
        if (whole == np.round(whole)).all():
            got = "whole numbers that change within a series"
            remedy = f"Say task='values' or task='classes', one at every step, {CUT}."
            raise_problems(
                [Problem(f"{series.source}: label", got, "one class per series", remedy)]
            )
        return True
    kinds = np.unique(series.labels)
    if not np.isfinite(kinds).all() or (kinds != np.round(kinds)).any():
        return True
    if len(kinds) > max(MANY, len(series) // 2):
        got = f"{len(kinds):,} different whole numbers"
        remedy = "Say which: task='classes' or task='values'."
        raise_problems([Problem(f"{series.source}: label", got, "classes, or values", remedy)])
    return False


def class_names(labels: NDArray[Any]) -> list[str]:
    """Labels as text: 1.0 and 1 are "1", spaces around are left out.

    >>> class_names(np.array([1.0, 2.0])), class_names(np.array([" up", "down "]))
    (['1', '2'], ['up', 'down'])
    """
    if labels.dtype.kind == "f":
        return [f"{x:.0f}" if x.is_integer() else repr(x) for x in labels.tolist()]
    return [str(label).strip() for label in labels.tolist()]


def told_classes(series: Series) -> tuple[list[str], NDArray[np.int64]]:
    """The different labels as text, and which of them each one is."""
    assert series.labels is not None
    if series.kinds is not None:
        return class_names(series.kinds), series.labels
    kinds, places = np.unique(series.labels, return_inverse=True)
    return class_names(kinds), places


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The different names, numbers by their value, all else by letters.

    >>> in_order(["10", "9", "9"]), in_order(["b", "a"])
    (('9', '10'), ('a', 'b'))
    """
    different = set(names)
    try:
        return tuple(sorted(different, key=float))
    except ValueError:
        return tuple(sorted(different))
