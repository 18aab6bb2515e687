"""The figures of a reproduction as plotly's JSON: curves, final values, sizes and costs.

A rule is a hue and its variants are shades and dashes of it, the same in all figures of an experiment. A run
that ended early is drawn as far as it came, with a cross where it ended, and named below the figure.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timelocal.report.figures import (
    LOWEST,
    POINTS,
    TRIVIAL_COLOUR,
    Figure,
    Series,
    at_shared_epochs,
    axis_range,
    band,
    rounded,
    thinned,
    values_by_epoch,
    whole_epochs,
)
from timelocal.report.lines import anchor, titled
from timelocal.report.style import rule_colours, variant_look
from timelocal.studies.measures import MEASURES, Measure
from timelocal.studies.reproduction import LineResult, Reproduction
from timelocal.studies.store import RunRecord

CURVES = {"alignment.recurrent.cosine": MEASURES["alignment"].title}
"""What a curve is called, where the key in the records does not say it."""

_ENDED_EARLY = ("diverged", "failed", "stopped")

_CROSS = 8
"""The size of the cross that ends a run."""

_ROOM = 100.0
"""The factor by which a logarithmic axis may exceed the finished runs to show those that ended early."""

_BEHIND, _FEWEST = 10_000, 20
"""The approximate number of points of all seeds in a figure together, and the minimum for each curve."""

_FOLDED = 3
"""From this number of panels on, one figure shows all final values, and the curves of each are folded."""

_ROW, _WRITTEN, _LEVEL, _AROUND = 22, 15, 13, 90
"""Pixels: of a line, of each row of the name above it, of a line without a name, and around the plot."""

_LABEL, _NARROW, _NAME = 34, 28, 44
"""The number of letters that fit below or beside an axis, below one with names on its left, above a line."""

_PHONE, _LETTER = 220, 8
"""Pixels: of the narrowest horizontal axis (on a phone), and of the widest letter of its labels."""

_STROKE = 10
"""The size of the stroke that marks a mean: it is 14 pixels long, which fits below the line's name."""

_FAINT, _CROWD = (0.08, 0.25), 8.0
"""The least and the most opacity of a seed's curve, and the sum of the opacities in one figure."""


@dataclass(frozen=True)
class Panel:
    """Figures of the same lines, below one legend."""

    title: str
    legend: tuple[Series, ...]
    figures: tuple[Figure, ...]
    folded: bool = False


Looks = Mapping[str, Series]
"""The look of every line of an experiment, by its label."""


def panels(reproduction: Reproduction) -> list[Panel]:
    """The figures of an experiment's page, by its view; none before a run has ended."""
    experiment = reproduction.experiment
    lines = [one for one in reproduction.lines if one.values(experiment.measures[0]) or _early(one)]
    if not lines or experiment.view in {"settings", "grid"}:
        return []
    looks = _looks(reproduction.lines)
    names = list(dict.fromkeys(one.line.key.panel for one in lines))
    legend = _legend(lines, looks)
    if experiment.view == "sizes":
        found = [_sizes(lines, name, looks) for name in experiment.measures]
        return [Panel("", legend, tuple(found))]
    several = len(names) > 1
    if experiment.view == "costs":
        draw = _by_panel if several else _finals
        found = [draw(lines, "all rules", name, looks) for name in experiment.measures]
        return [Panel("", legend if several else (), tuple(found))]
    folded = len(names) >= _FOLDED
    made = []
    if folded:
        overview = _by_panel(lines, "all data", experiment.measures[0], looks)
        made.append(Panel("", legend, (overview,)))
    keys = list(dict.fromkeys(filter(None, (MEASURES[name].curve for name in experiment.measures))))
    for panel in names:
        here = [one for one in lines if one.line.key.panel == panel]
        found = [
            _curves(part, panel, key, looks)
            for code in (False, True)
            if (part := [one for one in here if _as_in_code(one) == code])
            for key in keys
        ]
        found.append(_finals(here, panel, experiment.measures[0], looks))
        drawn = tuple(figure for figure in found if figure.spec["data"])
        made.append(Panel(panel if several else "", _legend(here, looks), drawn, folded))
    return made


def figures(reproduction: Reproduction) -> list[Figure]:
    """The figures of all panels."""
    return [figure for panel in panels(reproduction) for figure in panel.figures]


def _early(one: LineResult) -> list[tuple[int, RunRecord]]:
    """Seeds and runs that ended without finishing."""
    return [
        (config.seed, run)
        for config, run in one.runs
        if run is not None and run.status in _ENDED_EARLY
    ]


def _as_in_code(one: LineResult) -> bool:
    return one.line.key.column == "as in the authors' code"


def _name(one: LineResult) -> str:
    column = one.line.key.column
    told = "" if column in {"as corrected", "true BPTT"} else f" ({column})"
    return one.line.key.label + told


def _counted(one: LineResult) -> str:
    """The name, with the number of finished seeds unless all have finished."""
    finished = sum(run is not None and run.status == "finished" for _, run in one.runs)
    whole = finished == len(one.line.seeds)
    return _name(one) + ("" if whole else f", {finished} of {len(one.line.seeds)}")


def _looks(lines: Sequence[LineResult]) -> Looks:
    """A hue for every rule; its second, third, … label gets another shade and another dash."""
    variants: dict[str, list[str]] = {}
    looks: dict[str, Series] = {}
    for one in lines:
        label, config = one.line.key.label, one.line.config
        if label in looks:
            continue
        rule = config.rule.removesuffix("-authors-code")
        known = variants.setdefault("frozen" if config.frozen else rule, [])
        hue = TRIVIAL_COLOUR if config.frozen else rule_colours([rule])[rule]
        colour, dash = variant_look(hue, len(known))
        known.append(label)
        if config.frozen:
            dash = "dot"
        looks[label] = Series(anchor("line", label), label, colour, dash, None)
    return looks


def _legend(lines: Sequence[LineResult], looks: Looks) -> tuple[Series, ...]:
    return tuple(looks[label] for label in dict.fromkeys(one.line.key.label for one in lines))


def _base(one: LineResult, looks: Looks) -> dict[str, Any]:
    """The settings that all traces of a line share: its name, the place of its runs, its legend entry."""
    return {
        "type": "scatter",
        "name": _counted(one),
        "meta": anchor(*one.line.key),
        "legendgroup": looks[one.line.key.label].key,
    }


_LOG = {"type": "log", "exponentformat": "power"}


def _layout(x: str, y: str, log: bool) -> dict[str, Any]:
    scale = _LOG if log else {}
    return {
        "margin": {"l": 60, "r": 12, "t": 8, "b": 44},
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": {"title": {"text": x, "standoff": 4}, "zeroline": False},
        "yaxis": {"title": {"text": y, "standoff": 8}, "zeroline": False} | scale,
    }


def _curve(run: RunRecord, measure: Measure) -> dict[int, float]:
    found = values_by_epoch(run, str(measure.curve))
    return {epoch: measure.scale * value for epoch, value in found.items()}


def _budget(lines: Sequence[LineResult]) -> int:
    """The epochs that the axis shows: the most of any line that is not true BPTT, if there is one."""
    epochs = {one.line.key: (one.chosen or one.line.config).epochs for one in lines}
    others = [count for key, count in epochs.items() if key.column != "true BPTT"]
    return max(others or epochs.values())


def _curves(lines: Sequence[LineResult], panel: str, key: str, looks: Looks) -> Figure:
    """Every seed thin, the 95 % interval of the mean as a band, the mean in front."""
    measure = next(one for one in MEASURES.values() if one.curve == key)
    budget = _budget(lines)
    seeds = sum(len(one.runs) for one in lines)
    points = max(_FEWEST, min(POINTS, _BEHIND // seeds))
    opacity = rounded(min(_FAINT[1], max(_FAINT[0], _CROWD / seeds)))
    behind: list[dict[str, Any]] = []
    bands: list[dict[str, Any]] = []
    front: list[dict[str, Any]] = []
    heights: list[float] = []
    for one in lines:
        look, base = looks[one.line.key.label], _base(one, looks)
        line = {"color": look.colour, "dash": look.dash}
        finished: list[dict[int, float]] = []
        for config, run in one.runs:
            if run is None or run.status not in ("finished", *_ENDED_EARLY):
                continue
            whole = _curve(run, measure)
            curve = thinned(whole, budget, points)
            if not curve:
                continue
            told = f"seed {config.seed}, epoch %{{x}}: %{{y:.4g}}"
            trace = base | {
                "mode": "lines",
                "opacity": opacity,
                "x": list(curve),
                "y": [rounded(value) for value in curve.values()],
                "line": line | {"width": 1},
                "hovertemplate": told,
            }
            if run.status == "finished":
                finished.append(thinned(whole, budget))
            else:
                ends = [0] * (len(curve) - 1) + [_CROSS]
                marker = {"color": look.colour, "symbol": "x", "size": ends}
                trace |= {"mode": "lines+markers", "opacity": 0.8, "marker": marker}
                trace["hovertemplate"] = f"{told}; {run.status} after epoch {max(curve)}"
            behind.append(trace)
        by_epoch = at_shared_epochs(finished)
        if by_epoch:
            means = [rounded(statistics.fmean(values)) for values in by_epoch.values()]
            mean = {
                "mode": "lines" if len(by_epoch) > 1 else "markers",
                "x": list(by_epoch),
                "y": means,
                "line": line | {"width": 2.5},
                "hovertemplate": f"mean of {len(finished)}, epoch %{{x}}: %{{y:.4g}}",
            }
            front.append(base | mean)
            bands += [base | trace for trace in band(by_epoch, look.colour)]
        heights += [value for curve in finished for value in curve.values()]
    log = _logarithmic(measure, [*behind, *front])
    title = CURVES.get(key, key.replace("_", " "))
    layout = _layout("Epoch", title + (" (%)" if measure.scale == 100 else ""), log)
    layout["xaxis"] |= whole_epochs(budget)
    layout["yaxis"] |= _scale(heights, [*behind, *front], log)
    code = " as in the authors' code" if all(map(_as_in_code, lines)) else ""
    return Figure(
        f"{panel}: {title} per epoch{code}",
        f"Line chart of the {title} on {panel} for {_listed(lines)}.",
        {"data": [*bands, *behind, *front], "layout": layout},
        " ".join(filter(None, [_note(lines), _beyond(lines, budget)])),
    )


def _logarithmic(measure: Measure, traces: Sequence[Mapping[str, Any]]) -> bool:
    heights = [y for trace in traces for y in trace["y"]]
    return measure.log and bool(heights) and min(heights) > 0


def _scale(
    finished: Sequence[float], traces: Sequence[Mapping[str, Any]], log: bool
) -> dict[str, Any]:
    """The range of an axis: it shows all seeds, but only the start of those that grew out of proportion."""
    every = [y for trace in traces for y in trace["y"]]
    if not every:
        return {}
    limit = _ROOM * max(finished) if log and finished else math.inf
    ends = axis_range([min(y, limit) for y in every], log)
    return {"range": ends} | (_log_ticks(*ends) if log else {})


def _log_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks at powers of ten over more than two decades; at 1, 2 and 5 over most of one, written alike."""
    if high - low > 2:
        return {"dtick": 1}
    written = "~e" if low < -4 else "~g"
    return {"dtick": "D2", "tickformat": written} if high - low > 0.7 else {"nticks": 5}


def log_places(values: Sequence[float], width: float = _PHONE) -> dict[str, Any]:
    """The range and the ticks of a horizontal logarithmic axis, as many as do not touch on `width` pixels."""
    low, high = axis_range(values, log=True)
    if high - low > 2:
        return {"range": [low, high], "dtick": math.ceil((high - low) / 6)}
    smallest, largest = 10**low, 10**high
    decade = math.floor(math.log10(largest - smallest))
    decades = range(math.floor(low), math.ceil(high))
    sets = [[part * 10.0**n for n in decades for part in parts] for parts in ((1, 2, 5), (1, 3))]
    steps = [part * 10.0**n for n in (decade, decade - 1) for part in (5, 2, 1)]
    sets += [
        [n * step for n in range(math.ceil(smallest / step), int(largest / step) + 1)]
        for step in steps
    ]

    def written(ticks: Sequence[float]) -> list[str]:
        return [f"{tick:.6g}" for tick in ticks]

    def fit(ticks: Sequence[float]) -> bool:
        widths = [_LETTER * len(label) for label in written(ticks)]
        places = [width * math.log10(tick) / (high - low) for tick in ticks]
        return all(
            right - left > (before + after) / 2 + _LETTER
            for left, right, before, after in zip(
                places, places[1:], widths, widths[1:], strict=False
            )
        )

    shown = [[tick for tick in ticks if smallest <= tick <= largest] for ticks in sets]
    most = max(filter(fit, shown), key=len)
    return {"range": [low, high], "tickvals": list(map(rounded, most)), "ticktext": written(most)}


def _beyond(lines: Sequence[LineResult], budget: int) -> str:
    """The lines that continue beyond the end of the axis, which shows the same budget for all."""
    longer = {
        _name(one): epochs
        for one in lines
        if (epochs := (one.chosen or one.line.config).epochs) > budget
    }
    told = ", ".join(f"{name} continues to epoch {epochs}" for name, epochs in longer.items())
    return f"{told}; the final values show where it ends." if told else ""


def _note(lines: Sequence[LineResult]) -> str:
    """Every line with runs that ended early, and after how many epochs."""
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
    return f"✕ ended early, not in any mean: {'; '.join(told)}." if told else ""


def _place(one: LineResult, lines: Sequence[LineResult]) -> str:
    """The panel of a line, where the figure has several."""
    several = len({other.line.key.panel for other in lines}) > 1
    return f" at {one.line.key.panel}" if several else ""


def _spread(one: LineResult, name: str, height: str | float, looks: Looks) -> list[dict[str, Any]]:
    """A bar from the smallest to the largest seed, every seed as a dot, the mean as a stroke."""
    measure = MEASURES[name]
    by_value = sorted((measure.scale * v, seed) for seed, v in one.values(name).items())
    if not by_value:
        return []
    values, seeds = zip(*by_value, strict=True)
    colour, base = looks[one.line.key.label].colour, _base(one, looks)
    bar = {
        "mode": "lines+markers",
        "x": list(values),
        "y": [height] * len(values),
        "customdata": list(seeds),
        "hovertemplate": "seed %{customdata}: %{x:.4g}",
        "line": {"color": colour, "width": 2},
        "marker": {
            "color": colour,
            "size": 7,
            "symbol": "circle-open" if _as_in_code(one) else "circle",
        },
    }
    stroke = {"size": _STROKE, "symbol": "line-ns-open", "line": {"width": 3}, "color": colour}
    mean = {
        "mode": "markers",
        "x": [statistics.fmean(values)],
        "y": [height],
        "hovertemplate": f"mean of {len(values)}: %{{x:.4g}}",
        "marker": stroke,
    }
    return [base | bar, base | mean]


def _values_axis(
    measure: Measure, traces: Sequence[Mapping[str, Any]], letters: int
) -> dict[str, Any]:
    """The layout of a figure with values on the horizontal axis; `letters` is the number that fit below."""
    written = textwrap.wrap(titled(measure), letters)
    layout = _layout("<br>".join(written), "", False)
    layout["margin"]["b"] += 16 * (len(written) - 1)
    values = [x for trace in traces for x in trace["x"]]
    if measure.log and values and min(values) > 0:
        layout["xaxis"] |= _LOG | log_places(values)
    return layout


def _finals(lines: Sequence[LineResult], panel: str, name: str, looks: Looks) -> Figure:
    """Every line in its own row, with its name above, so that the name takes no width from the plot."""
    measure = MEASURES[name]
    labels = [_counted(one) for one in reversed(lines)]
    traces = [
        trace
        for one, label in zip(reversed(lines), labels, strict=True)
        for trace in _spread(one, name, label, looks)
    ]
    layout = _values_axis(measure, traces, _LABEL)
    layout["margin"]["l"] = 12
    names = ["<br>".join(textwrap.wrap(label, _NAME)) for label in labels]
    row = _ROW + _WRITTEN * max(name.count("<br>") + 1 for name in names)
    below = _ROW / row / 2
    layout["yaxis"] |= {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": labels,  # a line without a value keeps its place
        "range": [-below, len(labels) - below],
        "showticklabels": False,
    }

    def text(said: str, label: str, side: str) -> dict[str, Any]:
        place = {"xref": "paper", "x": float(side == "right"), "xanchor": side, "y": label}
        look = {"showarrow": False, "yshift": 8, "yanchor": "bottom", "font": {"size": 12}}
        return {"text": said, "align": "left"} | look | place

    layout["annotations"] = [
        text(name, label, "left") for name, label in zip(names, labels, strict=True)
    ]
    layout["annotations"] += [
        text(f"✕ {len(_early(one))}", label, "right")
        for one, label in zip(reversed(lines), labels, strict=True)
        if _early(one)
    ]
    return Figure(
        f"{panel}: {measure.title}, every seed",
        f"{measure.title} of every seed on {panel} for {_listed(lines)}.",
        {"data": traces, "layout": layout},
        _note(lines),
        max(LOWEST, row * len(lines) + _AROUND),
    )


def _by_panel(lines: Sequence[LineResult], where: str, name: str, looks: Looks) -> Figure:
    """The lines of every panel, one below the other, distinguished only by their appearance."""
    measure = MEASURES[name]
    traces: list[dict[str, Any]] = []
    ticks: dict[str, float] = {}
    height = 0.0
    for panel in reversed(list(dict.fromkeys(one.line.key.panel for one in lines))):
        here = [one for one in reversed(lines) if one.line.key.panel == panel]
        ticks[panel] = height + (len(here) - 1) / 2
        for one in here:
            traces += _spread(one, name, height, looks)
            height += 1
        height += 1
    layout = _values_axis(measure, traces, _NARROW)
    layout["yaxis"] |= {
        "tickvals": list(ticks.values()),
        "ticktext": list(ticks),
        "range": [-1, height - 1],
        "showgrid": False,
    }
    layout["shapes"] = [_border(low) for low in _between(ticks, lines)]
    code = "Open dots: as in the authors' code." if any(map(_as_in_code, lines)) else ""
    return Figure(
        f"{where}: {measure.title}, every seed",
        f"{measure.title} of every seed on {', '.join(ticks)} for {_listed(lines)}.",
        {"data": traces, "layout": layout},
        " ".join(filter(None, [code, _note(lines)])),
        max(LOWEST, int(_LEVEL * height) + _AROUND),
    )


def _between(ticks: Mapping[str, float], lines: Sequence[LineResult]) -> list[float]:
    """The heights between the panels of `_by_panel`."""
    found, height = [], 0.0
    for panel in list(ticks)[:-1]:
        height += sum(one.line.key.panel == panel for one in lines)
        found.append(height)
        height += 1
    return found


def _border(height: float) -> dict[str, Any]:
    line = {"color": TRIVIAL_COLOUR, "width": 0.5}
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": height,
        "y1": height,
        "line": line,
    }


def _sizes(lines: Sequence[LineResult], name: str, looks: Looks) -> Figure:
    """Means over sizes: filled where every seed is stable, open where some are not, as in the paper.

    A cross is the last value of a run that ended early, where it got as far as one.
    """
    measure = MEASURES[name]
    traces: list[dict[str, Any]] = []
    heights: list[float] = []
    for label in dict.fromkeys(one.line.key.label for one in lines):
        here = [one for one in lines if one.line.key.label == label]
        own = [one for one in here if one.values(name)]
        look = looks[label]
        base = {"type": "scatter", "name": label, "legendgroup": look.key}
        line = {"color": look.colour, "dash": look.dash, "width": 2}
        scaled = [[measure.scale * v for v in one.values(name).values()] for one in own]
        means = [statistics.fmean(values) for values in scaled]
        heights += means
        if own:
            whole = [len(one.values(name)) == len(one.line.seeds) for one in own]
            symbols = ["circle" if stable else "circle-open" for stable in whole]
            counts = [f"mean of {len(one.values(name))}" for one in own]
            by_size = {one.line.x: values for one, values in zip(own, scaled, strict=True)}
            traces += [base | trace for trace in band(by_size, look.colour)]
            traces.append(
                base
                | {
                    "mode": "lines+markers",
                    "x": [one.line.x for one in own],
                    "y": means,
                    "customdata": counts,
                    "hovertemplate": f"%{{customdata}}, {here[0].line.key.panel}: %{{y:.4g}}",
                    "line": line,
                    "marker": {"color": look.colour, "size": 9, "symbol": symbols},
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
            marker = {"symbol": "x", "size": _CROSS, "color": look.colour}
            hover = {"customdata": told, "hovertemplate": "%{customdata}, %{x}: %{y:.4g}"}
            traces.append(base | {"mode": "markers", "x": x, "y": y, "marker": marker} | hover)
    points = [trace for trace in traces if "fill" not in trace]
    log = _logarithmic(measure, points)
    layout = _layout(_axis(lines[0]), "<br>".join(textwrap.wrap(titled(measure), _LABEL)), log)
    sizes = [x for trace in points for x in trace["x"]]
    layout["xaxis"] |= _LOG | (log_places(sizes) if sizes else {})
    layout["yaxis"] |= _scale(heights, points, log)
    return Figure(
        f"{measure.title} over {_axis(lines[0])}",
        f"{measure.title} over {_axis(lines[0])}. Open circles: some seeds did not finish.",
        {"data": traces, "layout": layout},
        _note(lines),
    )


def _axis(one: LineResult) -> str:
    """The quantity on the axis of a figure over sizes: "units" for "100 units", "σ²" for "σ² = 0.1"."""
    panel = one.line.key.panel
    name, equals, _ = panel.partition(" = ")
    return name if equals else panel.partition(" ")[2]


def _listed(lines: Iterable[LineResult]) -> str:
    return ", ".join(dict.fromkeys(map(_name, lines)))
