"""Numbers and findings as text."""

from __future__ import annotations

from collections.abc import Sequence

from timelocal.analysis.statistics import Difference, Summary
from timelocal.report.style import cell_label, rule_label
from timelocal.report.tables import REFERENCE_RULE, Metric, Row, Section, TrivialRow

NOTHING = "–"


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """A number with a true minus sign."""
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def spread(summary: Summary | None, metric: Metric) -> str:
    """Mean ± sample standard deviation."""
    if summary is None:
        return NOTHING
    mean = number(metric.scale * summary.mean, metric.digits)
    if summary.sd is None:
        return mean
    return f"{mean} ± {number(metric.scale * summary.sd, metric.digits)}"


def interval(summary: Summary, metric: Metric, *, signed: bool = False) -> str:
    """The 95 % interval in brackets, or nothing if there is none."""
    if summary.interval is None:
        return ""
    low, high = (
        number(metric.scale * end, metric.digits, signed=signed) for end in summary.interval
    )
    return f"[{low}, {high}]"


def title(sections: Sequence[Section]) -> str:
    """What the page is about: rules and datasets."""
    if not sections:
        return "No runs to report"
    rules = sorted({group.rule for section in sections for group in section.groups})
    datasets = list(dict.fromkeys(section.dataset for section in sections))
    where = listed(datasets) if len(datasets) <= 3 else f"{len(datasets)} datasets"
    return f"{listed([rule_label(rule) for rule in rules])} on {where}"


def listed(words: Sequence[str]) -> str:
    """Words as `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def findings(section: Section) -> list[str]:
    """What the numbers of one dataset say, in plain sentences."""
    compared = [row for row in section.rows if row.difference is not None]
    references = {row.group.cell: row for row in section.rows if row.group.rule == REFERENCE_RULE}
    alone = [
        row
        for row in section.rows
        if row.best and row not in compared and row.group.rule != REFERENCE_RULE
    ]
    if not compared:
        alone = [row for row in section.rows if row.best]
    sentences = [
        _comparison(row, references.get(row.group.cell), section.metric) for row in compared
    ]
    sentences += [_level(row, section.metric) for row in alone]
    if not sentences:
        sentences = ["No run has finished, so there is nothing to compare yet."]
    return sentences + _floor(section)


def _comparison(row: Row, reference: Row | None, metric: Metric) -> str:
    assert row.best is not None
    assert row.difference is not None
    theirs = (
        f" and {rule_label(REFERENCE_RULE)} {_value(reference.best, metric)}"
        if reference and reference.best
        else ""
    )
    return (
        f"With the {_name(row)} reaches {_value(row.best, metric)} {metric.name}{theirs}: "
        f"{_difference(row.difference, metric)}."
    )


def _name(row: Row) -> str:
    variant = f" ({row.group.variant})" if row.group.variant else ""
    return f"{cell_label(row.group.cell)}, {rule_label(row.group.rule)}{variant}"


def _difference(difference: Difference, metric: Metric) -> str:
    summary = difference.summary
    points = " points" if metric.scale == 100 else ""
    size = (
        f"a difference of {number(metric.scale * summary.mean, metric.digits, signed=True)}{points}"
    )
    if summary.interval is None:
        return f"{size} on a single seed, which tells nothing about the spread"
    bracket = interval(summary, metric, signed=True)
    text = f"{size}, 95\u202f% interval {bracket}, {summary.n} paired seeds"
    low, high = summary.interval
    return f"{text}; these runs cannot tell the two apart" if low <= 0 <= high else text


def _level(row: Row, metric: Metric) -> str:
    assert row.best is not None
    seeds = "one seed" if row.best.n == 1 else f"{row.best.n} seeds"
    return f"With the {_name(row)} reaches {_value(row.best, metric)} {metric.name} ({seeds})."


def _floor(section: Section) -> list[str]:
    if not section.trivial:
        return []
    metric = section.metric
    scores = [f"{row.label} {_value(row.summary, metric)}" for row in section.trivial]
    sentences = [f"Without any learning over time: {listed(scores)}."]
    beaten = [
        row for row in section.rows if row.best and not _beats_all(row, section.trivial, metric)
    ]
    if beaten:
        names = listed([row.group.label for row in beaten])
        sentences.append(f"Not better than every trivial predictor: {names}.")
    return sentences


def _beats_all(row: Row, trivial: Sequence[TrivialRow], metric: Metric) -> bool:
    assert row.best is not None
    sign = 1 if metric.higher_is_better else -1
    rivals = [one.summary.mean for one in trivial if one.cell in (None, row.group.cell)]
    return all(sign * row.best.mean > sign * rival for rival in rivals)


def _value(summary: Summary, metric: Metric) -> str:
    return number(metric.scale * summary.mean, metric.digits) + metric.unit
