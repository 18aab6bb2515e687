"""Learning curves as plotly figures in plain JSON.

They are written as dictionaries, not with plotly's Python classes, because the JSON schema is stable between
versions of plotly, and importing the classes takes seconds.
"""

from __future__ import annotations

import html
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from timelocal.analysis.statistics import summarize
from timelocal.report.runs import seed_of
from timelocal.report.style import cell_dash, rule_colours, variant_symbol
from timelocal.report.tables import (
    ACCURACY,
    DECORRELATION,
    LOSS,
    Group,
    Metric,
    Section,
    TrivialRow,
)
from timelocal.report.words import number
from timelocal.studies.measures import is_number
from timelocal.studies.store import RunRecord

TRIVIAL_COLOUR = "#888888"

_Value = TypeVar("_Value")

LOWEST = 352
"""The height of a figure with its axes in pixels: no plot area is lower than 260."""

POINTS = 150
"""The approximate number of epochs drawn per curve: as many as a screen can show."""

_FEWEST, _MOST, _PREDICTED = 3, 12, 20_000
"""Outputs drawn of a network, at least and at most: as many as keep a section within the number of points."""

_ROW, _AROUND = 68, 90
"""The height in pixels of one output among several, and of the space around the plot."""


@dataclass(frozen=True)
class Series:
    """One entry of the legend: the line's look and the key its traces carry."""

    key: str
    label: str
    colour: str
    dash: str
    symbol: str | None


@dataclass(frozen=True)
class Figure:
    """A plotly figure as JSON, with a caption, an alternative text, and a note below it."""

    caption: str
    description: str
    spec: Mapping[str, Any]
    note: str = ""
    height: int | None = None
    """In pixels; None means the height set by the page."""


def rounded(value: float) -> float:
    """Rounded to five digits: more than a screen shows, in a third of the bytes."""
    return float(f"{value:.5g}")


def thinned(
    curve: Mapping[int, _Value], budget: int | None = None, points: int = POINTS
) -> dict[int, _Value]:
    """About `points` epochs of a curve, up to epoch `budget`, including the first and the last."""
    epochs = [epoch for epoch in curve if budget is None or epoch <= budget]
    step = -(-(budget or max(epochs, default=1)) // points)
    return {
        epoch: curve[epoch] for epoch in epochs if (epoch - 1) % step == 0 or epoch == epochs[-1]
    }


def values_by_epoch(run: RunRecord, key: str) -> dict[int, float]:
    """A number of a run by epoch, where the epoch has it."""
    found = ((int(epoch["epoch"]), epoch.get(key)) for epoch in run.epochs)
    return {epoch: value for epoch, value in found if is_number(value)}


def at_shared_epochs(curves: Sequence[Mapping[int, float]]) -> dict[int, list[float]]:
    """The values of all curves, at the epochs that all of them reached."""
    shared = [epoch for epoch in curves[0] if all(epoch in one for one in curves)] if curves else []
    return {epoch: [one[epoch] for one in curves] for epoch in shared}


def whole_epochs(last: int) -> dict[str, Any]:
    """Axis settings that keep the ticks of a short epoch axis at whole epochs."""
    return {"dtick": 1} if last <= 8 else {}


def band(values: Mapping[Any, Sequence[float]], colour: str) -> list[dict[str, Any]]:
    """The 95 % interval of the mean along an axis as a filled shape; empty for single values."""
    known = {place: ends for place, some in values.items() if (ends := summarize(some).interval)}
    if len(known) < 2:
        return []
    lows, highs = zip(*known.values(), strict=True)
    # A logarithmic axis cannot show values of zero or less: there the band ends below the axis.
    floor = min(value for some in values.values() for value in some) / 1000
    lows = [max(low, floor) if floor > 0 else low for low in lows]
    rgb = ", ".join(str(int(colour[start : start + 2], 16)) for start in (1, 3, 5))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "fill": "toself",
            "fillcolor": f"rgba({rgb}, 0.12)",
            "line": {"width": 0, "color": colour},
            "hoverinfo": "skip",
            "x": [*known, *reversed(known)],
            "y": [rounded(end) for end in (*lows, *reversed(highs))],
        }
    ]


def legend(section: Section) -> list[Series]:
    """The lines of a section's figures, in the order of its table."""
    colours = rule_colours(group.rule for group in section.groups)
    lines: list[Series] = []
    alike: Counter[tuple[str, str]] = Counter()
    for index, group in enumerate(section.groups):
        colour = colours[group.rule]  # its authors' code has the same
        symbol = variant_symbol(alike[group.cell, colour])
        alike[group.cell, colour] += 1
        look = (colour, cell_dash(group.cell), symbol)
        lines.append(Series(f"group{index}", group.label, *look))
    if section.trivial:
        lines.append(Series("trivial", "trivial predictors", TRIVIAL_COLOUR, "dot", None))
    return lines


def axis_range(values: Sequence[float], log: bool) -> list[float]:
    """The range of a vertical axis that shows these values, in plotly's units; bands may exceed it."""
    low, high = min(values), max(values)
    if log:
        low, high = math.log10(low), math.log10(high)
    room = 0.04 * (high - low) or 0.1
    return [low - room, high + room]


def learning_curves(section: Section) -> list[Figure]:
    """Test accuracy and loss per epoch, and the correlation of units in decorrelated networks.

    Every seed is drawn, and the mean; metrics that no run has are left out.
    """
    metrics = [ACCURACY, LOSS] if section.metric is ACCURACY else [LOSS]
    runs = [run for group in section.groups for run in group.runs]
    if any(values_by_epoch(run, DECORRELATION.key) for run in runs):
        metrics.append(DECORRELATION)
    return [_curves(section, metric) for metric in metrics]


def predictions(section: Section) -> list[Figure]:
    """The predictions of one network of each group for the first test sequence, before and after training.

    The network is that of the group's first finished run. Every output has its own row.
    """
    found = []
    for line, group in zip(legend(section), section.groups, strict=False):
        run = next((run for run in group.finished if run.predictions), None)
        if run is not None:
            found.append((line, run))
    return [_prediction(section, line, run, _PREDICTED // len(found)) for line, run in found]


def _prediction(section: Section, line: Series, run: RunRecord, points: int) -> Figure:
    assert run.predictions is not None
    target, before, after = (run.predictions[name] for name in ("target", "before", "after"))
    looks = (
        (target, "target", TRIVIAL_COLOUR, "solid", 3),
        (before, "before training", "#b08030", "dot", 1.5),
        (after, "after training", line.colour, "solid", 2),
    )
    outputs = len(target[0])
    shown = min(outputs, _MOST, max(_FEWEST, points // (len(looks) * len(target))))
    names = [f"output {n + 1}" for n in range(shown)] if outputs > 1 else ["Output"]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "y": [rounded(row[n]) for row in values],
            "yaxis": f"y{n + 1 if n else ''}",
            "name": name,
            "meta": "prediction",
            "legendgroup": name,
            "showlegend": n == 0,
            "line": {"color": colour, "dash": dash, "width": width},
            "hovertemplate": f"{name}, step %{{x}}: %{{y:.4f}}<extra></extra>",
        }
        for n in range(shown)
        for values, name, colour, dash, width in looks
    ]
    axes = {
        f"yaxis{n + 1 if n else ''}": {
            "domain": [1 - (n + 0.85) / shown, 1 - n / shown] if outputs > 1 else [0, 1],
            "title": {"text": name, "font": {"size": 11}},
            "zeroline": False,
        }
        | ({"nticks": 3} if outputs > 1 else {})
        for n, name in enumerate(names)
    }
    lowest = f"y{shown if shown > 1 else ''}"
    layout = {
        "margin": {"l": 52, "r": 12, "t": 8, "b": 44},
        "xaxis": {"title": {"text": "Step"}, "zeroline": False, "anchor": lowest},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    }
    return Figure(
        f"{line.label}, seed {seed_of(run)}: the first test sequence",
        f"Target and prediction of {line.label} on {section.dataset}, before and after training, over "
        f"{len(target)} steps.",
        {"data": traces, "layout": layout | axes},
        f"The first {shown} of {outputs} outputs." if shown < outputs else "",
        max(LOWEST, _ROW * shown + _AROUND) if outputs > 1 else None,
    )


def _curves(section: Section, metric: Metric) -> Figure:
    traces: list[dict[str, Any]] = []
    lines = legend(section)
    for line, group in zip(lines, section.groups, strict=False):
        traces += [_seed_trace(line, run, metric) for run in group.runs]
    drawn = [value for trace in traces for value in trace["y"]]
    for line, group in zip(lines, section.groups, strict=False):
        spread = thinned(_spread(group, metric))
        scaled = {epoch: [metric.scale * value for value in some] for epoch, some in spread.items()}
        traces += [shape | {"meta": line.key} for shape in band(scaled, line.colour)]
    for line, group in zip(lines, section.groups, strict=False):
        traces += _mean_trace(line, group, metric)
    horizontals = section.trivial if metric is section.metric else ()
    title = metric.name.capitalize() + (f" ({metric.unit.strip()})" if metric.unit else "")
    last = max((max(trace["x"], default=0) for trace in traces), default=0)
    epochs = {"title": {"text": "Epoch"}, "rangemode": "tozero", "zeroline": False}
    layout = {
        "margin": {"l": 52, "r": 12, "t": 8, "b": 44},
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": epochs | whole_epochs(last),
        "yaxis": {"title": {"text": title, "standoff": 8}, "zeroline": False}
        | _scale(drawn, horizontals, metric),
        "shapes": [_horizontal(row, metric) for row in horizontals],
        "annotations": [_horizontal_label(i, row, metric) for i, row in enumerate(horizontals)],
    }
    ends = [
        f"{group.label} {number(metric.scale * end, metric.digits)}{metric.unit}"
        for group in section.groups
        if (end := _last(_mean_curve(group, metric))) is not None
    ]
    return Figure(
        caption=f"{metric.name.capitalize()} per epoch",
        description=f"Line chart of the {metric.name} per epoch on {section.dataset}. "
        f"Means at the last epoch: {', '.join(ends) or 'none yet'}.",
        spec={"data": traces, "layout": layout},
    )


def _seed_trace(line: Series, run: RunRecord, metric: Metric) -> dict[str, Any]:
    values = thinned(values_by_epoch(run, metric.key))
    trace = _trace(line, values, metric, f"seed {seed_of(run)}", width=1)
    # A run that stopped early ends in a cross, so that its line does not seem to continue.
    stopped = run.status in ("diverged", "failed") and bool(values)
    symbols = ["x" if stopped else "circle"] * len(values)
    sizes = [0] * (len(values) - 1) + [8 if stopped else 4 * (len(values) == 1)]
    return trace | {
        "mode": "lines+markers",
        "opacity": 0.5,
        "marker": {"color": line.colour, "symbol": symbols, "size": sizes[-len(values) :]},
    }


def _mean_trace(line: Series, group: Group, metric: Metric) -> list[dict[str, Any]]:
    curve = thinned(_mean_curve(group, metric))
    if not curve:
        return []
    trace = _trace(line, curve, metric, f"mean of {len(group.finished)}", width=3)
    if line.symbol is None and len(curve) > 1:
        return [trace | {"mode": "lines"}]
    marker = {"color": line.colour, "symbol": line.symbol or "circle", "size": 9, "maxdisplayed": 8}
    return [trace | {"mode": "lines+markers", "marker": marker}]


def _trace(
    line: Series, curve: Mapping[int, float], metric: Metric, what: str, width: int
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": list(curve),
        "y": [rounded(metric.scale * value) for value in curve.values()],
        "name": verbatim(line.label),
        "meta": line.key,
        "line": {"color": line.colour, "dash": line.dash, "width": width},
        "hovertemplate": f"{what}, epoch %{{x}}: %{{y:.{metric.digits}f}}{metric.unit}"
        "<extra>%{fullData.name}</extra>",
    }


def verbatim(name: str) -> str:
    """A name escaped so that plotly shows it literally: it interprets some HTML and `%{…}` in every text."""
    return html.escape(name).replace("%{", "%&#123;")


def _spread(group: Group, metric: Metric) -> dict[int, list[float]]:
    return at_shared_epochs([values_by_epoch(run, metric.key) for run in group.finished])


def _mean_curve(group: Group, metric: Metric) -> dict[int, float]:
    """The mean over finished runs, at the epochs that all of them reached."""
    return {epoch: statistics.fmean(values) for epoch, values in _spread(group, metric).items()}


def _last(curve: Mapping[int, float]) -> float | None:
    return curve[max(curve)] if curve else None


def _scale(found: Sequence[float], rows: Sequence[TrivialRow], metric: Metric) -> dict[str, Any]:
    """A logarithmic axis for losses that span more than a factor of 20."""
    factor = max(found) / min(found) if found and min(found) > 0 else 1.0
    log = metric is not ACCURACY and factor > 20
    shown = [*found, *(metric.scale * row.summary.mean for row in rows)]
    if not found or (log and min(shown) <= 0):
        return {}
    scale = {"range": axis_range(shown, log)}
    if not log:
        return scale
    marks = {"dtick": "D2", "tickformat": "~g"} if factor < 1e4 else {"exponentformat": "power"}
    return scale | {"type": "log"} | marks


def _horizontal(row: TrivialRow, metric: Metric) -> dict[str, Any]:
    height = metric.scale * row.summary.mean
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": height,
        "y1": height,
        "name": "trivial",
        "line": {"color": TRIVIAL_COLOUR, "dash": "dot", "width": 1.5},
    }


def _horizontal_label(index: int, row: TrivialRow, metric: Metric) -> dict[str, Any]:
    # Alternate sides, so that the labels of two predictors with similar scores do not overlap.
    side = ("right", "left")[index % 2]
    return {
        "text": verbatim(row.label),
        "name": "trivial",
        "xref": "paper",
        "x": 1 if side == "right" else 0,
        "xanchor": side,
        "y": metric.scale * row.summary.mean,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11, "color": TRIVIAL_COLOUR},
    }
