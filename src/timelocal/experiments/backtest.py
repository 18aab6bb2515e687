"""A rolling backtest: forecasts of block after block of time, each by a model of what was before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timelocal import data
from timelocal.arguments import whole_problem
from timelocal.data import Dataset, Sequences, Split
from timelocal.data.forecasting import Windows, windows
from timelocal.data.own_series import Series, filled
from timelocal.data.reading import Reading, reading_of, refuse_duplicates, series_of
from timelocal.errors import Problem, raise_problems
from timelocal.experiments import exponential_smoothing as smoothing
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.floors import floor_predictions
from timelocal.experiments.predictions import predicted
from timelocal.experiments.preparing import scaled
from timelocal.experiments.run import trained
from timelocal.files import as_path
from timelocal.losses import Gaussian, Quantile
from timelocal.model import Model
from timelocal.model.evaluation import coverage
from timelocal.model.scores import value_scores

_FIRST = 0.5
"""The share of the time that comes before the first block."""

_VALIDATION = 0.2
"""The share of the windows before a block, the last of them, that validates."""

LEVELS = (0.1, 0.9)
"""The quantiles between which targets are counted: the outermost of the loss "quantile"."""

Scores = dict[str, dict[str, float | None]]
"""MAE, RMSE and R² by predictor, the model first; of a model of quantiles also their `coverage`."""


@dataclass(frozen=True)
class Block:
    """What was found in one block: windows trained on and tested, epochs that were used, and the scores."""

    trained: int
    tested: int
    epochs: int
    scores: Scores


def backtest(
    config: TrainConfig, blocks: int = 5, season: int | None = None
) -> tuple[list[Block], Scores]:
    """Forecast the second half of the time block by block; each model knows only what came before its block.

    A window is trained on if all its targets lie before the block; the last fifth of these windows validates.
    A window is tested if all its targets lie in the block.

    Args:
        config: of a file with `reading["target"]`. A network of its own is trained for every block.
        blocks: how many, of equal time.
        season: the length of a season in steps, for the seasonal naive forecast, the value a season before;
            None leaves it out.

    Returns:
        The blocks, and the scores of all their test windows together; in both the model beside the mean of
        training, persistence, a ridge regression on the window, the seasonal naive forecast, and, where
        statsforecast is installed, exponential smoothing (AutoETS). Models of quantiles (loss "quantile", or
        "gaussian": those of 0.1 and 0.9) have the coverage of the outermost two besides.

    Raises:
        ArgumentError: for data without a target to forecast, too many blocks, a season beyond the window.
    """
    reading = reading_of(config.reading)
    raise_problems(
        [
            whole_problem("blocks", blocks),
            None
            if reading.target is not None
            else Problem("target", "None", "the column to forecast", "Give --target."),
            None if season is None else whole_problem("season", season, 1, reading.steps),
        ]
    )
    torch.set_num_threads(config.threads)
    series, made = _windows(config, reading)
    dataset = data.load(config.dataset, reading=config.reading)
    edges = np.linspace(_FIRST, 1, blocks + 1)
    edges[-1] = math.inf
    found = []
    told: dict[str, list[Tensor]] = {}
    wanted, intervals = [], []
    for low, high in pairwise(edges):
        parts = _parts(made, low, high)
        epochs, predictions, ends = _forecasts(config, dataset, parts, reading, season)
        if smoothing.is_installed():
            column = series.features.index(str(reading.target))
            smooth = smoothing.smoothed(series, made, _inside(made, low, high), column, season)
            predictions["exponential smoothing"] = torch.from_numpy(smooth)
        targets = parts.test.targets
        wanted.append(targets)
        intervals.append(ends)
        for name, values in predictions.items():
            told.setdefault(name, []).append(values)
        scores = _scores(predictions, targets, ends)
        found.append(Block(len(parts.train), len(targets), epochs, scores))
    joined = {name: torch.cat(values) for name, values in told.items()}
    every = [ends for ends in intervals if ends is not None]
    return found, _scores(joined, torch.cat(wanted), np.concatenate(every) if every else None)


def _scores(
    predictions: Mapping[str, Tensor], targets: Tensor, ends: NDArray[Any] | None
) -> Scores:
    """ends: of the model two quantiles of each target (m, horizon, 2), if it has learned any."""
    found: Scores = {name: value_scores(one, targets) for name, one in predictions.items()}
    if ends is not None:
        share = LEVELS[1] - LEVELS[0]
        found["model"] |= coverage(ends, targets.double().numpy(), share)
    return found


def seasonal_naive(
    inputs: NDArray[np.float32], feature: int, horizon: int, season: int
) -> NDArray[np.float32]:
    """The value of one season before, or of several, (m, horizon), from windows (m, w, i).

    ŷ_{t+h} = y_{t+h−season·⌈h/season⌉}

    >>> seasonal_naive(np.arange(4.0)[None, :, None], 0, horizon=3, season=2).tolist()
    [[2.0, 3.0, 2.0]]
    """
    back = [step - season * math.ceil(step / season) - 1 for step in range(1, horizon + 1)]
    return inputs[:, back, feature]


def _windows(config: TrainConfig, reading: Reading) -> tuple[Series, Windows]:
    """The series of the file, and all their windows."""
    assert reading.target is not None
    series = series_of(as_path(config.dataset, "dataset"), reading)
    refuse_duplicates(series)
    whole = filled(series, reading.missing)
    return whole, windows(whole, reading.target, reading.horizon, reading.steps, cut=False)


def _parts(made: Windows, low: float, high: float) -> Split:
    before = np.flatnonzero(made.end < low)
    before = before[np.argsort(made.end[before], kind="stable")]
    held = math.ceil(_VALIDATION * len(before))
    inside = _inside(made, low, high)
    counts = (len(before) - held, held, len(inside))
    if min(counts) < 1:
        got = f"a block with {counts} windows to train, validate and test on"
        raise_problems([Problem("blocks", got, "some of each", "Give fewer, or a shorter window.")])
    chosen = (before[: len(before) - held], before[len(before) - held :], inside)
    return Split(
        *(Sequences(made.inputs[one], made.targets[one]) for one in map(torch.from_numpy, chosen))
    )


def _inside(made: Windows, low: float, high: float) -> NDArray[np.int64]:
    """The windows whose targets lie in a block."""
    return np.flatnonzero((made.begin >= low) & (made.end < high))


def _forecasts(
    config: TrainConfig, dataset: Dataset, parts: Split, reading: Reading, season: int | None
) -> tuple[int, dict[str, Tensor], NDArray[Any] | None]:
    """Epochs of the model that was kept, its scores and the floors' on the test part, and its quantiles."""
    ready = scaled(config, dataset, parts)
    rule, history = trained(config, dataset, ready.split)
    found = {"model": ready.in_own_units(predicted(rule, ready.split.test))}
    found |= floor_predictions(ready, reading.target, rule.network)
    if season is not None:
        feature = dataset.card.features.index(str(reading.target))
        inputs = parts.test.inputs.numpy()
        values = seasonal_naive(inputs, feature, reading.horizon, season)
        found["seasonal naive"] = torch.from_numpy(values)
    ends = None
    if isinstance(rule.loss, Quantile | Gaussian):
        model = Model(rule, inputs_scale=ready.inputs_scale, outputs_scale=ready.outputs_scale)
        ends = model.predict_quantiles(parts.test.inputs, levels=LEVELS)
    return int((history.best or {}).get("epoch", 0)), found, ends
