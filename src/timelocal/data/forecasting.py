"""Forecasting: windows of the past of a series, and the values that followed. Parts are cut by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timelocal.arguments import memory_problem
from timelocal.data.own_series import Series
from timelocal.errors import Problem, raise_problems

FRACTIONS = (0.6, 0.8)
"""Where the validation and the test part begin, as shares of the time."""


@dataclass(frozen=True, eq=False)
class Windows:
    """M windows of the past, in the order of their parts.

    inputs (M, W, I) are the steps before; targets (M, K) the K values that follow; parts the numbers of
    windows for training, validation and test; series (M,) the place of each window's series, and steps
    (M,) that of its last input in it; begin and end (M,) where the first and the last of its targets lie, as
    shares of the time from 0 to 1.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]
    parts: tuple[int, int, int]
    series: NDArray[np.int64]
    steps: NDArray[np.int64]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]


def windows(series: Series, target: str, horizon: int, window: int, *, cut: bool = True) -> Windows:
    """Every window of `window` steps with the next `horizon` values of the feature `target`.

    The part of a window is the part of the time in which all its targets lie; windows whose targets reach
    over a cut are left out. So no target is seen before its part; inputs may reach back into the part before.
    Without `cut` all windows are of the test part.

    Raises:
        ArgumentError: no such feature, or no series of window + horizon steps.
    """
    column = _target_column(series, target)
    whole = window + horizon
    fits = series.lengths >= whole
    raise_problems(
        [
            None
            if fits.any()
            else Problem(
                series.source,
                f"series of at most {int(series.lengths.max()):,} steps",
                f"{whole:,} or more, window + horizon",
                "Give a shorter window.",
            )
        ]
    )
    counts = np.where(fits, series.lengths - whole + 1, 0)
    which = np.repeat(np.arange(len(series)), counts)
    begin = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = series.starts[which] + begin  # the row of each window's first input
    share = _shares(series)
    since, until = share[first + window], share[first + whole - 1]
    fractions = FRACTIONS if cut else (0.0, 0.0)
    early, late = np.digitize(since, fractions), np.digitize(until, fractions)
    chosen = np.flatnonzero(early == late)
    chosen = chosen[np.argsort(early[chosen], kind="stable")]
    which, begin, first, part = which[chosen], begin[chosen], first[chosen], early[chosen]
    parts = np.bincount(part, minlength=3)
    if cut and not parts.all():
        got = (
            f"{len(chosen):,} windows, of which {parts.tolist()} for training, validation and test"
        )
        remedy = "Give a longer series, or a shorter window or horizon."
        raise_problems([Problem(series.source, got, "some for each", remedy)])
    width = series.rows.shape[1]
    size = len(first) * 4 * (window * width + horizon)
    raise_problems([memory_problem(f"{series.source}: {len(first):,} windows", size)])
    rows = series.rows.astype(np.float32)
    steps = np.lib.stride_tricks.sliding_window_view(rows, window, 0)  # (R − W + 1, I, W)
    ahead = np.lib.stride_tricks.sliding_window_view(rows[:, column], horizon)
    return Windows(
        inputs=np.ascontiguousarray(steps[first].swapaxes(1, 2)),
        targets=ahead[first + window],
        parts=(int(parts[0]), int(parts[1]), int(parts[2])),
        series=which,
        steps=begin + window - 1,
        begin=since[chosen],
        end=until[chosen],
    )


def last_windows(series: Series, window: int) -> NDArray[np.float32]:
    """(N, W, I): the last `window` steps of each series, from which to forecast what is not known yet."""
    shortest = int(series.lengths.min())
    if shortest < window:
        name = series.names[int(series.lengths.argmin())]
        got = f"{shortest} steps of series {name!r}"
        raise_problems([Problem(series.source, got, f"{window} or more, the model's window")])
    index = (series.starts + series.lengths - window)[:, None] + np.arange(window)
    return series.rows[index].astype(np.float32)


def _target_column(series: Series, target: str) -> int:
    if target not in series.features:
        expected = "one of the features " + ", ".join(series.features[:20])
        raise_problems([Problem(f"{series.source}: target", repr(target), expected)])
    return series.features.index(target)


def _shares(series: Series) -> NDArray[np.float64]:
    """Where each row lies, as a share of all the time, or without times of its own series."""
    lengths = np.repeat(series.lengths, series.lengths)
    place = np.arange(len(series.rows)) - np.repeat(series.starts, series.lengths)
    if series.times is None or len(series) == 1:
        return place / lengths
    order = np.sort(series.times)  # so that a cut is one moment for all series
    return np.searchsorted(order, series.times, side="left") / len(order)
