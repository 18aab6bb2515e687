"""Reproduce tables and figures: first the runs of searches, then the chosen runs, all experiments at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from timelocal.experiments.experiment import Experiment, Line, ProfileName
from timelocal.experiments.trial import Trial
from timelocal.studies.engines import Engine
from timelocal.studies.limits import Limits
from timelocal.studies.optuna_search import proposed
from timelocal.studies.reproduction import LineResult, Reproduction
from timelocal.studies.search import (
    Choice,
    candidates,
    choices,
    choose,
    finalists,
    in_full,
    judged_in_full,
    with_seed,
)
from timelocal.studies.store import Records, RunRecord
from timelocal.studies.study import run_study


def reproduce(
    experiments: Sequence[Experiment],
    profile: ProfileName,
    store: Path,
    *,
    engine: Engine,
    data_dir: Path | None = None,
    retries: int = 1,
    limits: Limits | None = None,
    optuna: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Reproduction]:
    """Run what the experiments still lack, and return all their results.

    Args:
        experiments: from `timelocal.experiments.catalogue.EXPERIMENTS`.
        profile: the size of the experiments.
        store: of runs, shared by all experiments: a run that two of them need is done once.
        engine, data_dir, retries, limits, tell: as in `run_study`.
        optuna: how many candidates of each search Optuna proposes; None tries the whole grid.
    """
    lines = [line for experiment in experiments for line in experiment.lines(profile)]

    def do(trials: Sequence[Trial]) -> None:
        run_study(
            trials, store, engine=engine, data_dir=data_dir, retries=retries, limits=limits, tell=tell
        )  # fmt: skip

    searched = [line for line in lines if line.search and len(choices(line.search)) > 1]
    for _ in range(1 if optuna is None else optuna):
        tried = [trial for line in searched for trial in _next(line, Records(store), optuna)]
        if not tried:
            break
        tell("searches")
        do(tried)
    tell("runs")
    done: set[str] = set()

    def do_new(trials: Sequence[Trial]) -> bool:
        """Run each new trial once, however it ends (`run_study` counts retries). False if there is none."""
        new = [trial for trial in trials if trial.folder_name() not in done]
        done.update(trial.folder_name() for trial in new)
        if new:
            do(new)
        return bool(new)

    while True:  # a choice whose full runs diverge is replaced by the next
        records = Records(store)
        found = [finalists(line, _tried(line, records, optuna), records) for line in searched]
        asked = [
            (line, one) for line, ones in zip(searched, found, strict=True) for one in ones or ()
        ]
        if not do_new([run for line, one in asked for run in in_full(line, one)]):
            break
    chosen = [(line, choose(line, _tried(line, records, optuna), records)) for line in lines]
    do_new([trial for line, config in chosen for trial in _runs(line, config)])
    return collect(experiments, profile, store, optuna=optuna)


def collect(
    experiments: Sequence[Experiment],
    profile: ProfileName,
    store: Path,
    *,
    optuna: int | None = None,
) -> list[Reproduction]:
    """All results of the experiments in a store; nothing is run."""
    records = Records(store)
    return [
        Reproduction(
            experiment,
            profile,
            tuple(_result(line, records, optuna) for line in experiment.lines(profile)),
            optuna,
        )
        for experiment in experiments
    ]


def _tried(line: Line, records: Mapping[str, RunRecord], optuna: int | None) -> list[Choice]:
    """The choices a search has to compare."""
    if line.search is None:
        return []
    every = choices(line.search)
    if optuna is None or len(every) == 1:
        return every
    tried, following = proposed(line, records, optuna)
    return tried if following is None else [*tried, following]


def _next(line: Line, records: Mapping[str, RunRecord], optuna: int | None) -> list[Trial]:
    """The trials that a search has to run now."""
    assert line.search is not None
    if optuna is None:
        return candidates(line, choices(line.search))
    following = proposed(line, records, optuna)[1]
    return [] if following is None else candidates(line, [following])


def _runs(line: Line, config: Trial | None) -> list[Trial]:
    return [] if config is None else [with_seed(config, seed) for seed in line.seeds]


def _result(line: Line, records: Mapping[str, RunRecord], optuna: int | None) -> LineResult:
    tried = _tried(line, records, optuna)
    config = choose(line, tried, records)
    searched = candidates(line, tried) if line.search and len(choices(line.search)) > 1 else []

    def found(trials: Sequence[Trial]) -> tuple[tuple[Trial, RunRecord | None], ...]:
        return tuple((trial, records.get(trial.folder_name())) for trial in trials)

    finals = judged_in_full(line, tried, records)
    return LineResult(line, config, found(searched), found(finals), found(_runs(line, config)))
