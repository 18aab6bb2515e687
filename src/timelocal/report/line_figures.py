"""The figures of a reproduction as plotly's JSON: curves, final values, sizes and costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from timelocal.report.figures import Figure
from timelocal.report.style import rule_colours
from timelocal.studies.measures import MEASURES, Measure
from timelocal.studies.reproduction import LineResult, Reproduction

_DASHES = {
    "as in the authors' code": "dot",
    "true BPTT": "longdash",
    "best without BPTT": "dashdot",
}


def figures(reproduction: Reproduction) -> list[Figure]:
    """What the page of an experiment draws, by its view; nothing where no run has finished."""
    experiment = reproduction.experiment
    lines = [one for one in reproduction.lines if one.values(experiment.measures[0])]
    if not lines or experiment.view in {"settings", "grid"}:
        return []
    if experiment.view == "sizes":
        return [_sizes(lines, reproduction, name) for name in experiment.measures]
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


def _name(one: LineResult) -> str:
    column = one.line.key.column
    told = "" if column in {"as corrected", "true BPTT"} else f" ({column})"
    return one.line.key.label + told


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
        "xaxis": {"title": {"text": x}, "zeroline": False},
        "yaxis": {"title": {"text": y}, "zeroline": False} | scale,
        "legend": {"orientation": "h", "y": -0.22, "yanchor": "top"},
    }


def _unit(measure: Measure) -> str:
    return f"{measure.title} ({measure.unit.strip()})" if measure.unit else measure.title


def _curves(lines: Sequence[LineResult], panel: str, key: str) -> Figure:
    measure = next(one for one in MEASURES.values() if one.curve == key)
    traces: list[dict[str, Any]] = []
    for one in lines:
        group, look = _name(one), _look(one)
        found = [
            {int(e["epoch"]): measure.scale * e[key] for e in run.epochs if key in e}
            for _, run in one.runs
            if run is not None and run.status == "finished"
        ]
        base = {"type": "scatter", "mode": "lines", "name": group, "legendgroup": group}
        thin = {"showlegend": False, "opacity": 0.3, "line": look | {"width": 1}}
        traces += [base | thin | {"x": list(curve), "y": list(curve.values())} for curve in found]
        shared = [epoch for epoch in found[0] if all(epoch in c for c in found)] if found else []
        if shared:
            mean = [statistics.fmean(curve[epoch] for curve in found) for epoch in shared]
            mode = {"mode": "lines" if len(shared) > 1 else "markers"}
            traces.append(base | mode | {"x": shared, "y": mean, "line": look | {"width": 2.5}})
    heights = [y for trace in traces for y in trace["y"]]
    log = measure.log and bool(heights) and min(heights) > 0
    title = key.replace("_", " ")
    return Figure(
        f"{panel}: {title} per epoch",
        f"Line chart of the {title} on {panel} for {_listed(lines)}.",
        {
            "data": traces,
            "layout": _layout("Epoch", title + (" (%)" if measure.scale == 100 else ""), log),
        },
    )


def _finals(lines: Sequence[LineResult], panel: str, name: str) -> Figure:
    """A bar from the smallest to the largest seed, every seed as a dot, the mean as a line."""
    measure = MEASURES[name]
    traces: list[dict[str, Any]] = []
    for one in reversed(lines):
        values = [measure.scale * v for v in one.values(name).values()]
        if not values:
            continue
        label, colour = _name(one), _look(one)["color"]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": sorted(values),
                "y": [label] * len(values),
                "name": label,
                "showlegend": False,
                "line": {"color": colour, "width": 2},
                "marker": {"color": colour, "size": 7, "opacity": 0.6},
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [statistics.fmean(values)],
                "y": [label],
                "showlegend": False,
                "name": f"{label}, mean",
                "marker": {
                    "color": colour,
                    "size": 16,
                    "symbol": "line-ns-open",
                    "line": {"width": 3},
                },
            }
        )
    layout = _layout(_unit(measure), "", False)
    layout["yaxis"] |= {"type": "category"}
    if measure.log and all(x > 0 for trace in traces for x in trace["x"]):
        layout["xaxis"] |= {"type": "log", "exponentformat": "power"}
    return Figure(
        f"{panel}: {measure.title}, every seed",
        f"{measure.title} of every seed on {panel} for {_listed(lines)}.",
        {"data": traces, "layout": layout},
    )


def _sizes(lines: Sequence[LineResult], reproduction: Reproduction, name: str) -> Figure:
    """Means over sizes: filled where every seed is stable, open where some are not."""
    measure = MEASURES[name]
    traces = []
    for label in dict.fromkeys(one.line.key.label for one in lines):
        own = [one for one in lines if one.line.key.label == label and one.values(name)]
        whole = [len(one.values(name)) == len(one.line.seeds) for one in own]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label,
                "x": [one.line.x for one in own],
                "y": [measure.scale * statistics.fmean(one.values(name).values()) for one in own],
                "line": _look(own[0]) if own else {},
                "marker": {"size": 10, "symbol": ["circle" if w else "circle-open" for w in whole]},
            }
        )
    layout = _layout("Hidden units", _unit(measure), True)
    layout["xaxis"] |= {"type": "log"}
    return Figure(
        f"{measure.title} over the number of hidden units",
        f"{measure.title} of networks of growing size. Open circles: some seeds did not finish.",
        {"data": traces, "layout": layout},
    )


def _listed(lines: Iterable[LineResult]) -> str:
    return ", ".join(dict.fromkeys(map(_name, lines)))
