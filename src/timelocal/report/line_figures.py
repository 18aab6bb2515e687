"""The figures of a reproduction as plotly's JSON: curves, final values, sizes and costs.

A run that ended early is drawn as far as it came, with a cross where it ended, and named below the figure.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from timelocal.report.figures import Figure
from timelocal.report.lines import anchor, titled
from timelocal.report.style import rule_colours
from timelocal.studies.measures import MEASURES, Measure, is_number
from timelocal.studies.reproduction import LineResult, Reproduction
from timelocal.studies.store import RunRecord

_DASHES = {
    "as in the authors' code": "dot",
    "true BPTT": "longdash",
    "best without BPTT": "dashdot",
    "recurrence frozen": "dot",
}

_ENDED_EARLY = ("diverged", "failed", "stopped")

_CROSS = 8
"""The size of the cross that ends a run."""

_ROOM = 100.0
"""How far above what finished a logarithmic axis may reach for what ended early: a factor."""


_LABEL = 34
"""So many letters fit below an axis beside the names of the lines."""


def figures(reproduction: Reproduction) -> list[Figure]:
    """What the page of an experiment draws, by its view; nothing where no run has come to an end."""
    experiment = reproduction.experiment
    lines = [one for one in reproduction.lines if one.values(experiment.measures[0]) or _early(one)]
    if not lines or experiment.view in {"settings", "grid"}:
        return []
    if experiment.view == "sizes":
        return [_sizes(lines, name) for name in experiment.measures]
    if experiment.view == "costs":
        return [_finals(lines, "all rules", name) for name in experiment.measures]
    found = []
    for panel in dict.fromkeys(one.line.key.panel for one in lines):
        here = [one for one in lines if one.line.key.panel == panel]
        curves = dict.fromkeys(
            MEASURES[name].curve for name in experiment.measures if MEASURES[name].curve
        )
        found += [_curves(here, panel, str(key)) for key in curves]
        found.append(_finals(here, panel, experiment.measures[0]))
    return found


def _early(one: LineResult) -> list[tuple[int, RunRecord]]:
    """Seeds and runs that came to an end, but not to the right one."""
    return [
        (config.seed, run)
        for config, run in one.runs
        if run is not None and run.status in _ENDED_EARLY
    ]


def _name(one: LineResult) -> str:
    column = one.line.key.column
    told = "" if column in {"as corrected", "true BPTT"} else f" ({column})"
    return one.line.key.label + told


def _counted(one: LineResult) -> str:
    """The name with how many seeds finished, where that is not all of them."""
    finished = sum(run is not None and run.status == "finished" for _, run in one.runs)
    whole = finished == len(one.line.seeds)
    return _name(one) + ("" if whole else f", {finished} of {len(one.line.seeds)}")


def _look(one: LineResult) -> dict[str, Any]:
    config = one.line.config
    rule = config.rule.removesuffix("-authors-code")
    dash = _DASHES.get(one.line.key.column, "solid")
    if config.decorrelate and dash == "solid":
        dash = "dash"
    return {"color": rule_colours([rule])[rule], "dash": dash}


def _layout(x: str, y: str, log: bool) -> dict[str, Any]:
    scale = {"type": "log", "exponentformat": "power"} if log else {}
    return {
        "margin": {"l": 60, "r": 12, "t": 8, "b": 44},
        "hovermode": "closest",
        "xaxis": {"title": {"text": x, "standoff": 4}, "zeroline": False},
        "yaxis": {"title": {"text": y}, "zeroline": False} | scale,
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
    }


def _curve(run: RunRecord, measure: Measure) -> dict[int, float]:
    """The measure by epoch, where it is a number."""
    found = ((int(epoch["epoch"]), epoch.get(str(measure.curve))) for epoch in run.epochs)
    return {epoch: measure.scale * value for epoch, value in found if is_number(value)}


def _curves(lines: Sequence[LineResult], panel: str, key: str) -> Figure:
    measure = next(one for one in MEASURES.values() if one.curve == key)
    traces: list[dict[str, Any]] = []
    heights: list[float] = []
    for one in lines:
        look = _look(one)
        base = {
            "type": "scatter",
            "name": _counted(one),
            "legendgroup": _name(one),
            "meta": anchor(*one.line.key),
        }
        whole: list[dict[int, float]] = []
        thin: list[dict[str, Any]] = []
        for config, run in one.runs:
            if run is None or run.status not in ("finished", *_ENDED_EARLY):
                continue
            curve = _curve(run, measure)
            if not curve:
                continue
            told = f"seed {config.seed}, epoch %{{x}}: %{{y:.4g}}"
            trace = base | {
                "mode": "lines",
                "showlegend": False,
                "opacity": 0.3,
                "x": list(curve),
                "y": list(curve.values()),
                "line": look | {"width": 1},
                "hovertemplate": told,
            }
            if run.status == "finished":
                whole.append(curve)
            else:
                ends = [0] * (len(curve) - 1) + [_CROSS]
                marker = {"color": look["color"], "symbol": "x", "size": ends}
                trace |= {"mode": "lines+markers", "opacity": 0.8, "marker": marker}
                trace["hovertemplate"] = f"{told}; {run.status} after epoch {max(curve)}"
            thin.append(trace)
        shared = [epoch for epoch in whole[0] if all(epoch in c for c in whole)] if whole else []
        if shared:
            mean = {
                "mode": "lines" if len(shared) > 1 else "markers",
                "x": shared,
                "y": [statistics.fmean(curve[epoch] for curve in whole) for epoch in shared],
                "line": look | {"width": 2.5},
                "hovertemplate": f"mean of {len(whole)}, epoch %{{x}}: %{{y:.4g}}",
            }
            thin.append(base | mean)
        elif thin:
            thin[0]["showlegend"] = True  # else nothing would name the line
        traces += thin
        heights += [value for curve in whole for value in curve.values()]
    log = _logarithmic(measure, traces)
    title = key.replace("_", " ")
    layout = _layout("Epoch", title + (" (%)" if measure.scale == 100 else ""), log)
    layout["yaxis"] |= _room(heights, traces) if log else {}
    return Figure(
        f"{panel}: {title} per epoch",
        f"Line chart of the {title} on {panel} for {_listed(lines)}.",
        {"data": traces, "layout": layout},
        _note(lines),
    )


def _logarithmic(measure: Measure, traces: Sequence[Mapping[str, Any]]) -> bool:
    heights = [y for trace in traces for y in trace["y"]]
    return measure.log and bool(heights) and min(heights) > 0


def _room(finished: Sequence[float], traces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The range of a logarithmic axis that shows what finished where the rest grew out of all proportion."""
    every = [y for trace in traces for y in trace["y"]]
    if not finished or max(every) <= _ROOM * max(finished):
        return {}
    return {"range": [math.log10(min(every)) - 0.1, math.log10(_ROOM * max(finished))]}


def _note(lines: Sequence[LineResult]) -> str:
    """Every line with runs that ended early, and how far these came."""
    told = []
    for one in lines:
        early = _early(one)
        for status in dict.fromkeys(run.status for _, run in early):
            epochs = sorted(len(run.epochs) for _, run in early if run.status == status)
            after = ", ".join(map(str, dict.fromkeys(epochs)))
            told.append(
                f"{_name(one)}{_place(one, lines)}: {len(epochs)} of {len(one.line.seeds)} {status} after "
                f"{after} {'epoch' if after == '1' else 'epochs'}"
            )
    return f"✕ ended early, in no mean: {'; '.join(told)}." if told else ""


def _place(one: LineResult, lines: Sequence[LineResult]) -> str:
    """The panel of a line, where the figure has several."""
    several = len({other.line.key.panel for other in lines}) > 1
    return f" at {one.line.key.panel}" if several else ""


def _finals(lines: Sequence[LineResult], panel: str, name: str) -> Figure:
    """A bar from the smallest to the largest seed, every seed as a dot, the mean as a line."""
    measure = MEASURES[name]
    traces: list[dict[str, Any]] = []
    labels = [_counted(one) for one in reversed(lines)]
    for one, label in zip(reversed(lines), labels, strict=True):
        by_value = sorted((measure.scale * v, seed) for seed, v in one.values(name).items())
        if not by_value:
            continue
        values, seeds = zip(*by_value, strict=True)
        colour, place = _look(one)["color"], anchor(*one.line.key)
        base = {"type": "scatter", "showlegend": False, "meta": place}
        traces.append(
            base
            | {
                "mode": "lines+markers",
                "x": list(values),
                "y": [label] * len(values),
                "name": label,
                "customdata": list(seeds),
                "hovertemplate": "seed %{customdata}: %{x:.4g}",
                "line": {"color": colour, "width": 2},
                "marker": {"color": colour, "size": 7, "opacity": 0.6},
            }
        )
        traces.append(
            base
            | {
                "mode": "markers",
                "x": [statistics.fmean(values)],
                "y": [label],
                "name": label,
                "hovertemplate": f"mean of {len(values)}: %{{x:.4g}}",
                "marker": {
                    "color": colour,
                    "size": 16,
                    "symbol": "line-ns-open",
                    "line": {"width": 3},
                },
            }
        )
    written = textwrap.wrap(titled(measure), _LABEL)
    layout = _layout("<br>".join(written), "", False)
    layout["margin"]["b"] += 16 * (len(written) - 1)
    # a line without a value keeps its place
    order = {"categoryorder": "array", "categoryarray": labels, "range": [-0.6, len(labels) - 0.4]}
    layout["yaxis"] |= {"type": "category", **order}
    layout["annotations"] = [
        {
            "text": f"✕ {len(_early(one))}",
            "xref": "paper",
            "x": 1,
            "xanchor": "right",
            "y": label,
            "showarrow": False,
            "font": {"color": _look(one)["color"]},
        }
        for one, label in zip(reversed(lines), labels, strict=True)
        if _early(one)
    ]
    if measure.log and traces and all(x > 0 for trace in traces for x in trace["x"]):
        layout["xaxis"] |= {"type": "log", "exponentformat": "power"}
    return Figure(
        f"{panel}: {measure.title}, every seed",
        f"{measure.title} of every seed on {panel} for {_listed(lines)}.",
        {"data": traces, "layout": layout},
        _note(lines),
    )


def _sizes(lines: Sequence[LineResult], name: str) -> Figure:
    """Means over sizes: filled where every seed is stable, open where some are not, as in the paper.

    A cross is the last value of a run that ended early, where it got as far as one.
    """
    measure = MEASURES[name]
    traces: list[dict[str, Any]] = []
    heights: list[float] = []
    for label in dict.fromkeys(one.line.key.label for one in lines):
        here = [one for one in lines if one.line.key.label == label]
        own = [one for one in here if one.values(name)]
        look = _look(here[0])
        base = {"type": "scatter", "name": label, "legendgroup": label}
        means = [measure.scale * statistics.fmean(one.values(name).values()) for one in own]
        heights += means
        if own:
            whole = [len(one.values(name)) == len(one.line.seeds) for one in own]
            symbols = ["circle" if stable else "circle-open" for stable in whole]
            counts = [f"mean of {len(one.values(name))}" for one in own]
            traces.append(
                base
                | {
                    "mode": "lines+markers",
                    "x": [one.line.x for one in own],
                    "y": means,
                    "customdata": counts,
                    "hovertemplate": "%{customdata}, %{x} units: %{y:.4g}",
                    "line": look,
                    "marker": {"size": 10, "symbol": symbols},
                }
            )
        ends = [
            (one.line.x, curve[max(curve)], f"seed {seed}, {run.status} after epoch {max(curve)}")
            for one in here
            for seed, run in _early(one)
            if measure.curve and (curve := _curve(run, measure))
        ]
        if ends:
            x, y, told = map(list, zip(*ends, strict=True))
            marker = {"symbol": "x", "size": _CROSS, "color": look["color"]}
            cross = {"marker": marker, "showlegend": not own}
            hover = {"customdata": told, "hovertemplate": "%{customdata}, %{x} units: %{y:.4g}"}
            traces.append(base | {"mode": "markers", "x": x, "y": y} | hover | cross)
    log = _logarithmic(measure, traces)
    layout = _layout("Hidden units", titled(measure), log)
    layout["xaxis"] |= {"type": "log"}
    layout["yaxis"] |= _room(heights, traces) if log else {}
    return Figure(
        f"{measure.title} over the number of hidden units",
        f"{measure.title} of networks of growing size. Open circles: some seeds did not finish.",
        {"data": traces, "layout": layout},
        _note(lines),
    )


def _listed(lines: Iterable[LineResult]) -> str:
    return ", ".join(dict.fromkeys(map(_name, lines)))
