"""Grid search: every combination of a line's choices, one of which the validation part selects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from timelocal.experiments.papers.experiment import Line, Search
from timelocal.experiments.trial import Trial, from_json
from timelocal.studies.measures import MEASURES, value
from timelocal.studies.store import RunRecord

Choice = tuple[object, ...]
"""One value for each field of a grid, in its order."""

_OPTION = "rule_options."


def choices(search: Search) -> list[Choice]:
    """All combinations of a grid, the last field changing fastest.

    >>> choices(Search({"lr": (0.1, 0.2), "hidden": (8,)}, epochs=1))
    [(0.1, 8), (0.2, 8)]
    """
    return list(itertools.product(*search.grid.values()))


def with_choice(config: Trial, search: Search, choice: Choice) -> Trial:
    """The configuration with a choice in it, checked as a whole; "rule_options.name" is an option."""
    values = config.model_dump()
    for name, chosen in zip(search.grid, choice, strict=True):
        if name.startswith(_OPTION):
            values["rule_options"][name.removeprefix(_OPTION)] = chosen
        else:
            values[name] = chosen
    return from_json(values)


def with_seed(config: Trial, seed: int, **others: object) -> Trial:
    """The configuration with another seed, and other fields besides."""
    return from_json({**config.model_dump(), "seed": seed, **others})


def candidates(line: Line, tried: Sequence[Choice]) -> list[Trial]:
    """The trials of a search: each choice with every one of its seeds, choice by choice."""
    assert line.search is not None
    return [
        with_seed(with_choice(line.config, line.search, one), seed, epochs=line.search.epochs)
        for one in tried
        for seed in line.search.seeds
    ]


def score(line: Line, choice: Choice, records: Mapping[str, RunRecord]) -> float | None:
    """The mean measure of a choice over its seeds, None while a run is missing or not at its end.

    A choice with a run that did not finish well scores worst of all.
    """
    assert line.search is not None
    found = []
    for trial in candidates(line, [choice]):
        record = records.get(trial.folder_name())
        if record is None or record.status in {"running", "unknown"}:
            return None
        found.append(value(record, line.search.measure))
    if any(one is None for one in found):
        return -math.inf if MEASURES[line.search.measure].higher_is_better else math.inf
    return fmean(one for one in found if one is not None)


def choose(line: Line, tried: Sequence[Choice], records: Mapping[str, RunRecord]) -> Trial | None:
    """The line's configuration with its best choice, the first of equals; None while the search goes on.

    A choice that diverges in the line's own, longer run with a seed of the search is passed over, as long as
    there is another one. A single choice needs no search.
    """
    if line.search is None:
        return line.config
    if len(tried) == 1 == len(choices(line.search)):
        return with_choice(line.config, line.search, tried[0])
    scores = [score(line, one, records) for one in tried]
    known = [one for one in scores if one is not None]
    if not known or len(known) < len(scores):
        return None
    sign = -1 if MEASURES[line.search.measure].higher_is_better else 1
    ranked = sorted((sign * one, number) for number, one in enumerate(known) if math.isfinite(one))
    found = [with_choice(line.config, line.search, tried[number]) for _, number in ranked]
    stable = [config for config in found if not _diverges(line, config, records)]
    return next(iter([*stable, *found]), None)


def _diverges(line: Line, config: Trial, records: Mapping[str, RunRecord]) -> bool:
    """Whether a run of the line with a seed of its search is known to diverge."""
    assert line.search is not None
    runs = (records.get(with_seed(config, seed).folder_name()) for seed in line.search.seeds)
    return any(run is not None and run.status == "diverged" for run in runs)
