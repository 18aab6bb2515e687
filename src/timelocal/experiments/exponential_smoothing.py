"""Exponential smoothing as a floor of forecasts, where statsforecast is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from timelocal.data.forecasting import Windows
from timelocal.data.own_series import Series


def is_installed() -> bool:
    """Whether the extra `forecast` is there."""
    return find_spec("statsforecast") is not None


def smoothed(
    series: Series, made: Windows, chosen: NDArray[np.int64], column: int, season: int | None
) -> NDArray[np.float64]:
    """Forecasts (m, horizon) of the chosen windows by the exponential smoothing that AutoETS selects.

    Kind and parameters are fitted, for each series, to all values up to the first chosen window's last input;
    the states are those after all values up to each window's own last input.
    """
    models = import_module("statsforecast.models")
    horizon = made.targets.shape[1]
    found = np.empty((len(chosen), horizon))
    for one in np.unique(made.series[chosen]):
        own = np.flatnonzero(made.series[chosen] == one)
        begin = series.starts[one]
        values = series.rows[begin : begin + series.lengths[one], column]
        ends = made.steps[chosen[own]] + 1
        fitted = models.AutoETS(season_length=season or 1).fit(values[: ends.min()])
        for place, end in zip(own, ends, strict=True):
            found[place] = fitted.forward(values[:end], horizon)["mean"]
    return found
