"""A sweep: every combination of values of a run's fields, over seeds, ranked by the validation part."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from timelocal.data.reading import is_file
from timelocal.errors import Problem, raise_problems, unknown_name
from timelocal.experiments.config import TrainConfig, default_task
from timelocal.optional import require
from timelocal.studies.engines import Engine
from timelocal.studies.measures import MEASURES, value
from timelocal.studies.store import RunRecord
from timelocal.studies.study import run_study

Choice = tuple[object, ...]

_NESTED = ("reading", "rule_options", "cell_options")


@dataclass(frozen=True)
class Row:
    """A combination: its values, and one number from each of its finished runs."""

    choice: Choice
    validation: tuple[float, ...]
    test: tuple[float, ...]
    floors: Mapping[str, float]
    runs: int

    @property
    def told(self) -> str:
        """The test results as mean ± standard deviation."""
        if not self.test:
            return "–"
        spread = f" ± {stdev(self.test):.2g}" if len(self.test) > 1 else ""
        return f"{fmean(self.test):.4g}{spread}"


def configs_of(
    grid: Mapping[str, Sequence[object]], choice: Choice, seeds: Sequence[int]
) -> list[TrainConfig]:
    """The runs of a combination. "rule_options.name" is an option of the rule, "reading.name" one of `read`.

    Raises:
        ArgumentError: for unknown fields and invalid values.
    """
    fields: dict[str, object] = {}
    nested: dict[str, dict[str, object]] = {}
    for name, one in zip(grid, choice, strict=True):
        field, dot, option = name.partition(".")
        if dot and field in _NESTED:
            nested.setdefault(field, {})[option] = one
        else:
            fields[name] = one
    known = set(TrainConfig.model_fields) - {"seed"}
    raise_problems(unknown_name("field", name, known) for name in {*fields, *nested} - known)
    fields |= nested
    dataset = str(fields.get("dataset", "digits-rows"))
    task = default_task(dataset, nested.get("reading"))
    defaults: dict[str, object] = {**task, "standardize": is_file(dataset)}
    return [TrainConfig(**{**defaults, **fields, "seed": seed}) for seed in seeds]


def sweep(
    grid: Mapping[str, Sequence[object]],
    seeds: Sequence[int],
    store: Path,
    *,
    engine: Engine,
    data_dir: Path | None = None,
    proposals: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Run the missing runs of a sweep and rank its combinations, the best on the validation part first.

    Args:
        grid: fields of `TrainConfig` by name, with the values of each.
        seeds: the seeds of every combination.
        proposals: the number of combinations that Optuna's tree-structured Parzen estimator tries, one after
            another; None tries all of them.

    Raises:
        ArgumentError: for an invalid grid, before anything runs.
        MissingExtraError: Optuna is not installed.
    """
    everything = list(itertools.product(*grid.values()))
    trials = {choice: configs_of(grid, choice, seeds) for choice in everything}
    measure = _measure(trials[everything[0]][0])

    def done(choices: Sequence[Choice]) -> list[Row]:
        wanted = [config for choice in choices for config in trials[choice]]
        records = run_study(wanted, store, engine=engine, data_dir=data_dir, tell=tell)
        found = {record.folder.name: record for record in records}
        return [
            _row(choice, [found[one.folder_name()] for one in trials[choice]], measure)
            for choice in choices
        ]

    rows = (
        done(everything) if proposals is None else list(_proposed(grid, done, proposals, measure))
    )
    return sorted(rows, key=lambda row: _rank(row, measure))


def _measure(config: TrainConfig) -> str:
    return "validation_accuracy" if config.loss == "cross_entropy" else "validation_loss"


def _row(choice: Choice, records: Sequence[RunRecord], measure: str) -> Row:
    test = "accuracy" if measure == "validation_accuracy" else "test_loss"
    sound = [record for record in records if value(record, measure) is not None]
    numbers = {
        name: tuple(found for record in sound if (found := value(record, name)) is not None)
        for name in (measure, test)
    }
    floors = (sound[0].result or {}).get("trivial", {}) if sound else {}
    return Row(choice, numbers[measure], numbers[test], floors, len(records))


def _rank(row: Row, measure: str) -> tuple[bool, float]:
    """A rank, smaller is better; a combination with an unfinished run comes last."""
    if len(row.validation) < row.runs:
        return True, 0.0
    mean = fmean(row.validation)
    return False, -mean if MEASURES[measure].higher_is_better else mean


def _proposed(
    grid: Mapping[str, Sequence[object]],
    done: Callable[[Sequence[Choice]], list[Row]],
    count: int,
    measure: str,
) -> Iterator[Row]:
    """The combinations that Optuna proposes, each once. The same results lead to the same proposals."""
    require("optuna", extra="search", for_="a sweep with proposals")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    places: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution(range(len(values)))
        for name, values in grid.items()
    }
    seen: set[Choice] = set()
    for _ in range(count):
        trial = study.ask(places)
        choice = tuple(values[trial.params[name]] for name, values in grid.items())
        (row,) = done([choice])
        failed, rank = _rank(row, measure)
        if failed:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, rank)
        if choice not in seen:
            seen.add(choice)
            yield row


def parsed(pairs: Sequence[str], read: Callable[[str], object]) -> dict[str, list[object]]:
    """NAME=V1,V2,… as the values of each name, in the order given.

    Raises:
        ArgumentError: for text that is not such a pair, and for repeated names.
    """
    problems: list[Problem | None] = []
    grid: dict[str, list[object]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals or not text:
            problems.append(Problem("field", repr(pair), "NAME=VALUE or NAME=VALUE,VALUE"))
        elif name in grid:
            problems.append(Problem("field", f"{name!r} twice", "each name once, with all values"))
        else:
            grid[name] = list(dict.fromkeys(map(read, text.split(","))))
    raise_problems(problems)
    return grid
