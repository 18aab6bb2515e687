"""An experiment with its runs in a store: the chosen configurations, the run of every seed, the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from timelocal.experiments.claims import Measured, verdicts
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import (
    Claim,
    Experiment,
    Key,
    Line,
    ProfileName,
    Verdict,
)
from timelocal.experiments.floors import is_fitted
from timelocal.studies.measures import MEASURES, trivial_scores, value
from timelocal.studies.store import RunRecord


@dataclass(frozen=True)
class LineResult:
    """A line, the configuration that its search chose (None if the search is not finished), and its runs."""

    line: Line
    chosen: TrainConfig | None
    tried: tuple[tuple[TrainConfig, RunRecord | None], ...]
    """The run of every candidate of the search, None if it is missing."""
    finals: tuple[tuple[TrainConfig, RunRecord | None], ...]
    """The full runs that decided among the best of the search, in its ranking's order; None if missing."""
    runs: tuple[tuple[TrainConfig, RunRecord | None], ...]
    """One run per seed, None if it is missing."""

    @property
    def asked(self) -> tuple[tuple[TrainConfig, RunRecord | None], ...]:
        """Every run that the line and its search need."""
        return (*self.runs, *self.tried, *self.finals)

    def values(self, measure: str) -> dict[int, float]:
        """The values by seed, for finished runs."""
        found = {config.seed: value(run, measure) for config, run in self.runs if run is not None}
        return {seed: number for seed, number in found.items() if number is not None}


@dataclass(frozen=True)
class Reproduction:
    """An experiment at a profile, with all its results so far."""

    experiment: Experiment
    profile: ProfileName
    lines: tuple[LineResult, ...]
    optuna: int | None = None
    """The number of candidates that Optuna proposed in each search; None if the whole grid was tried."""

    @property
    def command(self) -> str:
        """The command that reproduces all of it."""
        search = "" if self.optuna is None else f" --search optuna --search-trials {self.optuna}"
        return f"timelocal reproduce {self.experiment.name} --profile {self.profile}{search}"

    def numbers(self, measure: str) -> Mapping[Key, Mapping[int, float]]:
        """Every line's values by seed; lines without finished runs are left out."""
        found = {one.line.key: one.values(measure) for one in self.lines}
        return {key: values for key, values in found.items() if values}

    def verdicts(self) -> list[tuple[Claim, Verdict]]:
        """The claims with their verdicts, decided together."""
        main, claims = self.experiment.measures[0], self.experiment.claims
        measured = {
            name: Measured(self.numbers(name), self.floors(name), MEASURES[name].higher_is_better)
            for name in {main, *(one.measure or main for one in claims)}
        }
        return list(zip(claims, verdicts(claims, measured, main), strict=True))

    def floors(self, measure: str) -> dict[str, dict[int, float]]:
        """The best predictor that learns nothing, by panel and seed, on the data of the corrected columns."""
        best = max if MEASURES[measure].higher_is_better else min
        found: dict[str, dict[int, float]] = {}
        for one in self.lines:
            if one.line.key.column == "as in the authors' code":
                continue  # some of these columns use other data
            for config, run in one.runs:
                scores = trivial_scores(run, measure)
                unlearned = [score for name, score in scores.items() if not is_fitted(name)]
                if unlearned:
                    found.setdefault(one.line.key.panel, {})[config.seed] = best(unlearned)
        return found
