"""From runs to what the page shows: sections by dataset, groups of seeds, rows of statistics."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from timelocal.analysis.statistics import Difference, Summary, paired_difference, summarize
from timelocal.files import to_json
from timelocal.report.runs import finished, seed_of
from timelocal.report.style import cell_label, cell_order, rule_label
from timelocal.studies.measures import is_number
from timelocal.studies.store import RunRecord

REFERENCE_RULE = "bptt"


@dataclass(frozen=True)
class Metric:
    """A quantity that a section compares: its key in the run files and its format."""

    key: str
    name: str
    scale: float
    digits: int
    unit: str
    higher_is_better: bool


ACCURACY = Metric("test_accuracy", "test accuracy", 100.0, 1, "\u202f%", higher_is_better=True)
LOSS = Metric("test_loss", "test loss", 1.0, 4, "", higher_is_better=False)
DECORRELATION = Metric(
    "decorrelation_loss", "decorrelation loss", 1.0, 8, "", higher_is_better=False
)


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    cell: str
    rule: str
    settings: Mapping[str, str]
    variant: str
    runs: tuple[RunRecord, ...]

    @property
    def label(self) -> str:
        """The name of the group in text and legends."""
        return f"{cell_label(self.cell)} · {self.rule_and_variant}"

    @property
    def rule_and_variant(self) -> str:
        """The name of the group, to be shown next to that of its cell."""
        return self.rule_label + (f" ({self.variant})" if self.variant else "")

    @property
    def rule_label(self) -> str:
        """The rule, with the paper's D in front where the network decorrelates."""
        decorrelates = self.settings.get("decorrelate", "null") != "null"
        return ("D" if decorrelates else "") + rule_label(self.rule)

    @property
    def finished(self) -> tuple[RunRecord, ...]:
        """The runs that count in means."""
        return tuple(run for run in self.runs if finished(run))


@dataclass(frozen=True)
class Comparison:
    """The best-validation values of a group compared with those of the reference rule on the same cell."""

    reference: Group
    ours: Summary
    theirs: Summary
    difference: Difference


@dataclass(frozen=True)
class Row:
    """One line of a results table, with None for missing entries."""

    group: Group
    best: Summary | None
    last: Summary | None
    maximum: Summary | None
    comparison: Comparison | None
    step_milliseconds: float | None
    run_seconds: float | None
    unfinished: Mapping[str, int]


@dataclass(frozen=True)
class TrivialRow:
    """A predictor that learns nothing over time; `cell` is set if it depends on the cell."""

    name: str
    cell: str | None
    summary: Summary

    @property
    def label(self) -> str:
        """The name of the predictor in text and legends."""
        return f"{self.name} · {cell_label(self.cell)}" if self.cell else self.name


@dataclass(frozen=True)
class Section:
    """Everything that the page shows of one dataset."""

    dataset: str
    metric: Metric
    rows: tuple[Row, ...]
    trivial: tuple[TrivialRow, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in the order of the table."""
        return tuple(row.group for row in self.rows)

    @property
    def cells(self) -> list[list[Row]]:
        """The rows, one list per cell."""
        return [list(rows) for _, rows in groupby(self.rows, key=lambda row: row.group.cell)]


def sections(runs: Sequence[RunRecord]) -> list[Section]:
    """One section per dataset, and per metric if a dataset was used for both kinds of task."""
    by_dataset: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for run in runs:
        by_dataset[str(run.config["dataset"]), _metric(run).key].append(run)
    return [_section(dataset, group) for (dataset, _), group in sorted(by_dataset.items())]


def values(group: Group, read: Callable[[RunRecord], object]) -> dict[int, float]:
    """What `read` returns for each finished run, by seed, where it is a finite number."""
    found = {seed_of(run): read(run) for run in group.finished}
    return {seed: float(value) for seed, value in found.items() if is_number(value)}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level, keys joined by dots, values as JSON except plain text."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else to_json(value)
    return flat


def differing(settings: Iterable[Mapping[str, str]]) -> list[str]:
    """The keys with more than one value; settings without a key are not counted for it."""
    seen: dict[str, set[str]] = defaultdict(set)
    for one in settings:
        for key, value in one.items():
            seen[key].add(value)
    return [key for key, found in seen.items() if len(found) > 1]


def _metric(run: RunRecord) -> Metric:
    if run.epochs:
        return ACCURACY if ACCURACY.key in run.epochs[0] else LOSS
    return LOSS if run.config.get("loss") == "mse" else ACCURACY


def _section(dataset: str, runs: Sequence[RunRecord]) -> Section:
    metric = _metric(runs[0])
    groups = _groups(runs)
    rows = tuple(_row(group, _reference(group, groups), metric) for group in groups)
    return Section(dataset, metric, rows, tuple(_trivial(groups)))


def _groups(runs: Sequence[RunRecord]) -> list[Group]:
    alike: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        alike[json.dumps(_settings(run), sort_keys=True)].append(run)
    families: dict[tuple[str, str], list[list[RunRecord]]] = defaultdict(list)
    for members in alike.values():
        config = members[0].config
        families[str(config["cell"]), str(config["rule"])].append(members)
    groups = []
    for (cell, rule), family in families.items():
        keys = differing(_settings(members[0]) for members in family)
        rates = {_settings(members[0])["decorrelate"] for members in family}
        told = "decorrelate" if len(rates - {"null"}) < 2 else ""  # the rule's name says it
        for members in family:
            settings = _settings(members[0])
            said = [key for key in keys if key in settings and key != told]
            variant = ", ".join(f"{key} {settings[key]}" for key in said)
            seeds = tuple(sorted(members, key=seed_of))
            groups.append(Group(cell, rule, settings, variant, seeds))
    return sorted(groups, key=_table_order)


def _table_order(group: Group) -> tuple[tuple[int, str], bool, str, str]:
    return (cell_order(group.cell), group.rule != REFERENCE_RULE, group.rule, group.variant)


_LEFT_OUT = {
    "decorrelate": None,
    "decorrelate_norm": None,
    "online": False,
    "tau": None,
    "alignment": False,
    "frozen": False,
}
"""Settings that older records omit if they have their defaults."""


def _settings(run: RunRecord) -> dict[str, str]:
    own = {key: value for key, value in run.config.items() if key not in ("seed", "rule_options")}
    return flatten(_LEFT_OUT | own | dict(run.config.get("rule_options") or {}))


@dataclass(frozen=True)
class Measures:
    """Measures besides the loss: their names, and for each group one text per name."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Summary | None, ...]], ...]


def measures(section: Section) -> Measures | None:
    """The measures of the runs on the test part besides the training loss; None if there are none."""
    names = list(
        dict.fromkeys(
            name
            for group in section.groups
            for run in group.finished
            for name in _result(run, "metrics") or ()
            if name != "mse"
        )
    )
    if not names:
        return None
    rows = tuple(
        (
            group.label,
            tuple(
                _summary(values(group, lambda run, name=name: _result(run, "metrics", name)))  # type: ignore[misc]
                for name in names
            ),
        )
        for group in section.groups
    )
    return Measures(tuple(names), rows)


def _reference(group: Group, groups: Sequence[Group]) -> Group | None:
    """The reference rule on the same cell, in the settings nearest to the group's."""
    if group.rule == REFERENCE_RULE:
        return None
    candidates = [g for g in groups if g.rule == REFERENCE_RULE and g.cell == group.cell]
    return min(candidates, key=lambda g: len(differing([group.settings, g.settings])), default=None)


def _row(group: Group, reference: Group | None, metric: Metric) -> Row:
    step = values(group, lambda run: run.timing.get("step_seconds_median")).values()
    unfinished: dict[str, int] = defaultdict(int)
    for run in group.runs:
        if not finished(run):
            unfinished[run.status] += 1
    return Row(
        group=group,
        best=_summary(_best(group, metric)),
        last=_summary(values(group, lambda run: _result(run, "last", metric.key))),
        maximum=_summary(values(group, lambda run: _result(run, "max_test_accuracy")))
        if metric is ACCURACY
        else None,
        comparison=_comparison(group, reference, metric),
        step_milliseconds=1e3 * statistics.median(step) if step else None,
        run_seconds=_mean(values(group, lambda run: _result(run, "seconds"))),
        unfinished=dict(unfinished),
    )


def _comparison(group: Group, reference: Group | None, metric: Metric) -> Comparison | None:
    if reference is None:
        return None
    ours, theirs = _best(group, metric), _best(reference, metric)
    if not ours.keys() & theirs.keys():
        return None
    return Comparison(
        reference,
        summarize(list(ours.values())),
        summarize(list(theirs.values())),
        paired_difference(ours, theirs),
    )


def _best(group: Group, metric: Metric) -> dict[int, float]:
    return values(group, lambda run: _result(run, "best_validation", metric.key))


def _result(run: RunRecord, *keys: str) -> Any:
    """The value in a run's result under nested keys, or None."""
    value: Any = run.result
    for key in keys:
        value = (value or {}).get(key)
    return value


def _trivial(groups: Sequence[Group]) -> list[TrivialRow]:
    """One row per predictor, or per predictor and cell where the cell makes a difference."""
    scores: dict[str, dict[str, dict[int, list[float]]]] = {}
    for group in groups:
        for run in group.finished:
            for name, value in (_result(run, "trivial") or {}).items():
                if is_number(value):
                    cells = scores.setdefault(name, {})
                    cells.setdefault(group.cell, {}).setdefault(seed_of(run), []).append(value)
    rows = []
    for name, cells in scores.items():
        by_seed: dict[int, set[float]] = defaultdict(set)
        for seeds in cells.values():
            for seed, found in seeds.items():
                by_seed[seed] |= set(found)
        alike = all(len(found) == 1 for found in by_seed.values())
        parts = {None: by_seed} if alike else cells
        rows += [
            TrivialRow(
                name.replace("_", " "), cell, summarize([*map(statistics.fmean, part.values())])
            )
            for cell, part in parts.items()
        ]
    return rows


def _summary(by_seed: Mapping[int, float]) -> Summary | None:
    return summarize(list(by_seed.values())) if by_seed else None


def _mean(by_seed: Mapping[int, float]) -> float | None:
    return statistics.fmean(by_seed.values()) if by_seed else None
