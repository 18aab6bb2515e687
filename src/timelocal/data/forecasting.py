"""Forecasting: windows of the past of a series, and the values that follow. The parts are split by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timelocal.arguments import memory_problem
from timelocal.data.overlapping import windows_over
from timelocal.data.own_series import Series
from timelocal.errors import Problem, raise_problems

FRACTIONS = (0.6, 0.8)
"""Where the validation and the test part begin, as fractions of the time."""


@dataclass(frozen=True, eq=False)
class Windows:
    """M windows of the past, in the order of their parts.

    inputs (M, W, I) are the steps before; targets (M, K) the K values that follow; parts the numbers of
    windows for training, validation and test, between that of those between two parts, which are in none;
    series (M,) the place of each window's series, and steps (M,) that of its last input in it; begin and end
    (M,) where the first and the last of its targets lie, as shares of the time from 0 to 1.
    """

    inputs: Tensor
    targets: Tensor
    parts: tuple[int, int, int]
    between: int
    series: NDArray[np.int64]
    steps: NDArray[np.int64]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]


def windows(series: Series, target: str, horizon: int, window: int, *, cut: bool = True) -> Windows:
    """Every window of `window` steps with the next `horizon` values of the feature `target`.

    A window belongs to the part in which all its targets lie; windows whose targets cross a boundary are in
    no part. So no target is seen before its part; inputs may reach back into the previous part. Without
    `cut` all windows belong to the test part.

    The windows of one series are views of its rows, whatever their number. Those of several series are
    copied, without those in no part.

    Raises:
        ArgumentError: no such feature, or no series of window + horizon steps.
    """
    column = _target_column(series, target)
    whole = window + horizon
    longest = int(series.lengths.max())
    if longest < whole:
        got, remedy = f"series of at most {longest:,} steps", "Give a shorter window."
        expected = f"{whole:,} or more, window + horizon"
        raise_problems([Problem(series.source, got, expected, remedy)])
    rows = torch.from_numpy(series.rows.astype(np.float32))
    inputs, ahead = windows_over(rows, window), rows[:, column].unfold(0, horizon, 1)
    fractions = FRACTIONS if cut else (0.0, 0.0)
    find = _of_one if len(series) == 1 else _of_several
    made = find(series, inputs, ahead, fractions)
    if cut and min(made.parts) < 1:
        got = f"{sum(made.parts):,} windows, of which {list(made.parts)} for training, validation and test"
        remedy = "Give a longer series, or a shorter window or horizon."
        raise_problems([Problem(series.source, got, "some for each", remedy)])
    return made


def _of_one(
    series: Series, inputs: Tensor, ahead: Tensor, fractions: tuple[float, float]
) -> Windows:
    """From all windows of the rows (R − W + 1, W, I) and all runs of targets (R − K + 1, K)."""
    window, horizon = inputs.shape[1], ahead.shape[1]
    targets = ahead[window:]
    count, share = len(targets), _shares(series)
    begin, end = share[window:][:count], share[window + horizon - 1 :]
    first, second = np.searchsorted(begin, fractions).tolist()
    trained, validated = np.searchsorted(end, fractions).tolist()
    return Windows(
        inputs=inputs[:count],
        targets=targets,
        parts=(trained, max(0, validated - first), count - second),
        between=first - trained,
        series=np.zeros(count, np.int64),
        steps=np.arange(window - 1, window - 1 + count),
        begin=begin,
        end=end,
    )


def _of_several(
    series: Series, inputs: Tensor, ahead: Tensor, fractions: tuple[float, float]
) -> Windows:
    window, horizon = inputs.shape[1], ahead.shape[1]
    whole = window + horizon
    counts = np.maximum(series.lengths - whole + 1, 0)
    which = np.repeat(np.arange(len(series)), counts)
    begin = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = series.starts[which] + begin  # the row of each window's first input
    share = _shares(series)
    since, until = share[first + window], share[first + whole - 1]
    early, late = np.digitize(since, fractions), np.digitize(until, fractions)
    chosen = np.flatnonzero(early == late)
    chosen = chosen[np.argsort(early[chosen], kind="stable")]
    size = len(chosen) * 4 * (window * inputs.shape[2] + horizon)
    raise_problems([memory_problem(f"{series.source}: {len(chosen):,} windows", size)])
    trained, validated, tested = np.bincount(early[chosen], minlength=3).tolist()
    rows = torch.from_numpy(first[chosen])
    return Windows(
        inputs=inputs[rows],
        targets=ahead[rows + window],
        parts=(trained, validated, tested),
        between=0,
        series=which[chosen],
        steps=begin[chosen] + window - 1,
        begin=since[chosen],
        end=until[chosen],
    )


def last_windows(series: Series, window: int) -> NDArray[np.float32]:
    """(N, W, I): the last `window` steps of each series, from which to forecast the unknown future."""
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
    if len(series) == 1:
        share = np.arange(len(series.rows), dtype=np.float64)
        share /= len(share)
        return share
    if series.times is None:
        place = np.arange(len(series.rows)) - np.repeat(series.starts, series.lengths)
        return place / np.repeat(series.lengths, series.lengths)
    order = np.sort(series.times)  # so that a cut is one moment for all series
    return np.searchsorted(order, series.times, side="left") / len(order)
