"""Optuna instead of the whole grid: the same choices, tried one after another, the most promising first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timelocal.experiments.experiment import Line
from timelocal.optional import require
from timelocal.studies.measures import MEASURES
from timelocal.studies.search import Choice, score
from timelocal.studies.store import RunRecord


def proposed(
    line: Line, records: Mapping[str, RunRecord], count: int
) -> tuple[list[Choice], Choice | None]:
    """The choices that a search of `count` proposals has tried so far, each once, and the next one.

    The tree-structured Parzen estimator with seed 0 receives the scores in the order of its proposals.
    Everything follows from the records, so an interrupted search continues as if it had not stopped.

    Args:
        line: with a search; the fields of its grid are the parameters, their values the categories.
        records: by name of the run folder.
        count: the total number of proposals; a choice may be proposed more than once.

    Returns:
        The choices that have a score, and the next choice, None after `count` proposals.

    Raises:
        MissingExtraError: Optuna is not installed.

    Source: J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl. Algorithms for Hyper-Parameter Optimization. NeurIPS
    24, 2011; T. Akiba et al. Optuna. KDD 2019.
    """
    assert line.search is not None
    optuna = _optuna()
    grid = line.search.grid
    best = "maximize" if MEASURES[line.search.measure].higher_is_better else "minimize"
    study = optuna.create_study(direction=best, sampler=optuna.samplers.TPESampler(seed=0))
    places = {name: optuna.distributions.CategoricalDistribution(range(len(values)))
              for name, values in grid.items()}  # fmt: skip
    tried: dict[Choice, None] = {}
    for _ in range(count):
        trial = study.ask(places)
        choice = tuple(values[trial.params[name]] for name, values in grid.items())
        found = score(line, choice, records)
        if found is None:
            return list(tried), choice
        tried[choice] = None
        study.tell(trial, found)
    return list(tried), None


def _optuna() -> Any:
    require("optuna", extra="search", for_="a search with Optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
