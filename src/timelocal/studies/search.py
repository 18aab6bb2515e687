"""Grid search: every combination of a line's choices; the validation part selects one of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from timelocal.experiments.experiment import Line, Search
from timelocal.experiments.trial import Trial, from_json
from timelocal.studies.measures import MEASURES, value
from timelocal.studies.store import RunRecord

Choice = tuple[object, ...]
"""One value for each field of a grid, in the grid's order."""

_OPTIONS = ("rule_options", "cell_options")
_GOING_ON = {"running", "unknown", "damaged"}


def choices(search: Search) -> list[Choice]:
    """All combinations of a grid, the last field changing fastest.

    >>> choices(Search({"lr": (0.1, 0.2), "hidden": (8,)}, epochs=1))
    [(0.1, 8), (0.2, 8)]
    """
    return list(itertools.product(*search.grid.values()))


def with_choice(config: Trial, search: Search, choice: Choice) -> Trial:
    """The configuration with a choice filled in, checked as a whole; "rule_options.name" is an option of the
    rule, "cell_options.name" one of the cell."""
    values = config.model_dump()
    for name, chosen in zip(search.grid, choice, strict=True):
        field, _, option = name.partition(".")
        if field in _OPTIONS:
            values[field][option] = chosen
        else:
            values[name] = chosen
    return from_json(values)


def with_seed(config: Trial, seed: int, **others: object) -> Trial:
    """The configuration with another seed, and with the given other fields."""
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
    """The mean measure of a choice over its seeds; None while a run is missing or has not ended.

    A choice with a run that failed or diverged scores worst of all.
    """
    assert line.search is not None
    return mean_measure(
        line.search, [records.get(trial.folder_name()) for trial in candidates(line, [choice])]
    )


def mean_measure(search: Search, runs: Sequence[RunRecord | None]) -> float | None:
    """As `score`, for any runs of one choice."""
    found = []
    for run in runs:
        if run is None or run.status in _GOING_ON:
            return None
        found.append(value(run, search.measure))
    if any(one is None for one in found):
        return -math.inf if MEASURES[search.measure].higher_is_better else math.inf
    return fmean(one for one in found if one is not None)


def finalists(
    line: Line, tried: Sequence[Choice], records: Mapping[str, RunRecord]
) -> list[Trial] | None:
    """The line's configuration with its best choices, best first; None while the search goes on.

    There are as many as the search's `finalists`; ties keep the order of the grid. A choice that is known to
    diverge in one of the line's full, longer runs with the search's seeds is replaced by the next best,
    unless all diverge.
    """
    if line.search is None:
        return [line.config]
    if len(tried) == 1 == len(choices(line.search)):
        return [with_choice(line.config, line.search, tried[0])]
    ranked = _ranked(line, tried, records)
    if ranked is None:
        return None
    stable = [one for one in ranked if not _diverges(line, one, records)]
    return (stable or ranked)[: line.search.finalists]


def judged_in_full(
    line: Line, tried: Sequence[Choice], records: Mapping[str, RunRecord]
) -> list[Trial]:
    """The full runs that a choice rests on in addition to the search, in the order of the search's ranking.

    These are the runs of the finalists and of the choices skipped before them; there are none if the best of
    the search is taken directly.
    """
    searched = line.search is not None and len(choices(line.search)) > 1
    found = finalists(line, tried, records) if searched else None
    ranked = _ranked(line, tried, records) if found else None
    if not found or not ranked:
        return []
    none_is_stable = _diverges(line, found[-1], records)
    judged = ranked if none_is_stable else ranked[: ranked.index(found[-1]) + 1]
    if len(judged) == 1 and not none_is_stable:
        return []
    return [run for one in judged for run in in_full(line, one)]


def _ranked(
    line: Line, tried: Sequence[Choice], records: Mapping[str, RunRecord]
) -> list[Trial] | None:
    """The line with every choice that finished in the search, best first; ties keep the order of the grid.

    None while the search goes on.
    """
    assert line.search is not None
    scores = [score(line, one, records) for one in tried]
    known = [one for one in scores if one is not None]
    if not known or len(known) < len(scores):
        return None
    ranked = sorted(
        (rank(line.search, one), number) for number, one in enumerate(known) if math.isfinite(one)
    )
    return [with_choice(line.config, line.search, tried[number]) for _, number in ranked]


def in_full(line: Line, config: Trial) -> list[Trial]:
    """The line's full runs of a choice, with the seeds of its search."""
    assert line.search is not None
    return [with_seed(config, seed) for seed in line.search.seeds]


def _in_full(line: Line, config: Trial, records: Mapping[str, RunRecord]) -> list[RunRecord | None]:
    return [records.get(run.folder_name()) for run in in_full(line, config)]


def _diverges(line: Line, config: Trial, records: Mapping[str, RunRecord]) -> bool:
    runs = _in_full(line, config, records)
    return any(run is not None and run.status == "diverged" for run in runs)


def choose(line: Line, tried: Sequence[Choice], records: Mapping[str, RunRecord]) -> Trial | None:
    """The line's configuration with its best choice; None while the search goes on.

    This is the best of the finalists by the mean measure of the search, once all have run in full; a single
    finalist need not. If none of them finished, the first one is chosen, and its runs show the failure.
    """
    found = finalists(line, tried, records)
    if not found or line.search is None or len(found) == 1:
        return found[0] if found else None
    scores = [mean_measure(line.search, _in_full(line, one, records)) for one in found]
    known = [one for one in scores if one is not None]
    if len(known) < len(scores):
        return None
    return found[min((rank(line.search, one), n) for n, one in enumerate(known))[1]]


def rank(search: Search, measured: float | None) -> float:
    """A rank, smaller is better; an unknown measure ranks like a run that failed."""
    if measured is None:
        return math.inf
    return -measured if MEASURES[search.measure].higher_is_better else measured
