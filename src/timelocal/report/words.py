"""Numbers and findings as text."""

from __future__ import annotations

from collections.abc import Sequence

from timelocal.analysis.statistics import Difference, Summary
from timelocal.report.style import cell_label
from timelocal.report.tables import REFERENCE_RULE, Comparison, Group, Metric, Section, TrivialRow

NOTHING = "–"


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """A number with a true minus sign; one too long to read in powers of ten."""
    sign, form = ("+" if signed else ""), (f".{digits}f" if abs(value) < 1e6 else ".1e")
    return f"{value:{sign}{form}}".replace("-", "−")


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
    named = {(group.rule, group.rule_label) for section in sections for group in section.groups}
    rules = [label for _, label in sorted(named)]
    datasets = list(dict.fromkeys(section.dataset for section in sections))
    where = listed(datasets) if len(datasets) <= 3 else f"{len(datasets)} datasets"
    return f"{listed(rules)} on {where}"


def listed(words: Sequence[str]) -> str:
    """Words as `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def findings(section: Section) -> list[str]:
    """What the numbers of one dataset say, in plain sentences."""
    metric = section.metric
    sentences = [
        _beside_reference(row.group, row.comparison, metric)
        for row in section.rows
        if row.comparison
    ]
    told = bool(sentences)  # then the reference is in those sentences
    sentences += [
        _alone(row.group, row.best, metric)
        for row in section.rows
        if row.best and not row.comparison and not (told and row.group.rule == REFERENCE_RULE)
    ]
    if not sentences:
        sentences = ["No run has finished, so there is nothing to compare yet."]
    return sentences + _floor(section)


def _beside_reference(group: Group, comparison: Comparison, metric: Metric) -> str:
    return (
        f"With the {cell_label(group.cell)}, {group.rule_and_variant} reaches "
        f"{_value(comparison.ours, metric)} {metric.name} and {comparison.reference.rule_and_variant} "
        f"{_value(comparison.theirs, metric)}: {_difference(comparison.difference, metric)}."
    )


def _alone(group: Group, best: Summary, metric: Metric) -> str:
    seeds = "one seed" if best.n == 1 else f"{best.n} seeds"
    return (
        f"With the {cell_label(group.cell)}, {group.rule_and_variant} reaches "
        f"{_value(best, metric)} {metric.name} ({seeds})."
    )


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


def _floor(section: Section) -> list[str]:
    if not section.trivial:
        return []
    metric = section.metric
    scores = [f"{row.label} {_value(row.summary, metric)}" for row in section.trivial]
    sentences = [f"Without any learning over time: {listed(scores)}."]
    beaten = [
        row.group.label
        for row in section.rows
        if row.best and not _beats_all(row.group, row.best, section.trivial, metric)
    ]
    if beaten:
        sentences.append(f"Not better than every trivial predictor: {listed(beaten)}.")
    return sentences


def _beats_all(group: Group, best: Summary, trivial: Sequence[TrivialRow], metric: Metric) -> bool:
    sign = 1 if metric.higher_is_better else -1
    rivals = [one.summary.mean for one in trivial if one.cell in (None, group.cell)]
    return all(sign * best.mean > sign * rival for rival in rivals)


def _value(summary: Summary, metric: Metric) -> str:
    return number(metric.scale * summary.mean, metric.digits) + metric.unit
