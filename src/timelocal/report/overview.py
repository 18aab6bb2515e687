"""Every rule over all tasks of a paper: the interquartile mean and the performance profile of its runs.

Tasks are made comparable by the skill score ``(value − floor) / (perfect − floor)``, seed by seed: 0 is the
best predictor that learns nothing, 1 is error-free; below 0 a run is worse than that predictor.

Source: Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the Statistical Precipice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import numpy as np

from timelocal.analysis.statistics import interquartile_mean
from timelocal.experiments.experiment import Column
from timelocal.studies.measures import MEASURES
from timelocal.studies.reproduction import Reproduction

LEVELS = (0.0, 0.25, 0.5, 0.75, 0.9)
"""Scores of the performance profile, which gives the share of runs that reach each."""
_RESAMPLES = 2000
_ROUNDING = 1e-9


@dataclass(frozen=True)
class OverviewRow:
    """One rule over the tasks that have its runs."""

    label: str
    column: Column
    tasks: int
    runs: int
    interquartile_mean: float
    interval: tuple[float, float]
    """95 %, by resampling the seeds of every task."""
    profile: tuple[float, ...]
    """The share of runs that reach each of `LEVELS`, with equal weight per task."""


@dataclass(frozen=True)
class Overview:
    """The rules of a paper, best first."""

    rows: tuple[OverviewRow, ...]
    tasks: tuple[str, ...]


def overview(reproductions: Sequence[Reproduction]) -> Overview:
    """The rules over all tasks of these experiments; a task in two experiments counts in the first."""
    scores: dict[tuple[str, Column], dict[str, list[float]]] = {}
    tasks: list[str] = []
    for one in reproductions:
        measure = one.experiment.measures[0]
        if one.experiment.view != "curves" or MEASURES[measure].trivial is None:
            continue
        values, floors = one.numbers(measure), one.floors(measure)
        perfect = 1.0 if MEASURES[measure].higher_is_better else 0.0
        new = [panel for panel in dict.fromkeys(key.panel for key in values) if panel not in tasks]
        tasks += new
        for key, seeds in values.items():
            if key.panel not in new or key.column == "as in the authors' code":
                continue
            floor = floors.get(key.panel, {})
            found = [
                (seeds[seed] - floor[seed]) / (perfect - floor[seed])
                for seed in seeds.keys() & floor.keys()
            ]
            if found:
                scores.setdefault((key.label, key.column), {})[key.panel] = found
    rows = [_row(*name, tuple(map(tuple, by_task.values()))) for name, by_task in scores.items()]
    rows.sort(key=lambda row: -row.interquartile_mean)
    return Overview(tuple(rows), tuple(tasks))


@cache  # the site and the Markdown page show the same rows, and resampling takes long
def _row(label: str, column: Column, by_task: tuple[tuple[float, ...], ...]) -> OverviewRow:
    generator = np.random.default_rng(0)
    resampled = [
        interquartile_mean(
            np.concatenate([generator.choice(values, len(values)) for values in by_task]).tolist()
        )
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(resampled, [0.025, 0.975])
    together = [value for values in by_task for value in values]
    return OverviewRow(
        label,
        column,
        len(by_task),
        len(together),
        interquartile_mean(together),
        (float(low), float(high)),
        tuple(
            fmean(fmean(value >= level - _ROUNDING for value in values) for values in by_task)
            for level in LEVELS
        ),
    )
