"""Distance to BPTT against cost: one picture of an experiment and the experiment that measures its costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from timelocal.analysis.statistics import summarize
from timelocal.experiments.config import TrainConfig
from timelocal.report import printed
from timelocal.report.figures import TRIVIAL_COLOUR
from timelocal.report.line_figures import log_places
from timelocal.report.style import cell_label, rule_colours, rule_label
from timelocal.studies.measures import MEASURES, Measure
from timelocal.studies.reproduction import LineResult, Reproduction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {"rnn": "s", "gru": "o", "lru": "^", "rtu": "D"}
_OTHER_MARKER = "v"

_PAPER, _PAGE = (printed.WIDTH, 1.9, 7), (printed.PAGE_WIDTH, printed.PAGE_PLOT, 10)
"""In print, and on a page: inches of the picture's width and of a panel's height, and points of the text."""

_AXES = {1: 270, 2: 120}
"""Pixels of the horizontal axis of a panel on a phone, by the number of panels side by side."""

_LEGEND = 4
"""Entries in a row of the legend, where their names leave room for as many."""

_LEAST = 0.5
"""The floor is left out of view where it would leave the points less than this share of the axis."""


class Point(NamedTuple):
    """A rule on a cell: milliseconds per update, and the mean difference to the best BPTT.

    The interval is the 95 % interval of the differences, paired by seed; None for the best BPTT itself.
    """

    rule: str
    cell: str
    frozen: bool
    milliseconds: float
    difference: float
    interval: tuple[float, float] | None


class Panel(NamedTuple):
    """The points of a data set, and the floor's difference to the best BPTT; None if not to be drawn."""

    title: str
    points: tuple[Point, ...]
    floor: float | None


def pairs(reproductions: Sequence[Reproduction]) -> list[tuple[Reproduction, Reproduction]]:
    """Every experiment whose costs are measured by another that is here, and that other."""
    by_name = {one.experiment.name: one for one in reproductions}
    found = [(one, by_name.get(one.experiment.beside or "")) for one in reproductions]
    return [(one, costs) for one, costs in found if costs is not None]


def panels(one: Reproduction, costs: Reproduction) -> list[Panel]:
    """A panel for every data set with BPTT and something to compare it with.

    There is a point for every rule on every cell that has a cost and shares seeds with the best BPTT: the
    line with the best mean in the column "true BPTT".
    """
    main = one.experiment.measures[0]
    best_of = max if MEASURES[main].higher_is_better else min
    floors = one.floors(main)
    spent = {
        _kind(line.line.config): fmean(found.values())
        for line in costs.lines
        if (found := line.values("milliseconds"))
    }
    made = []
    for title, lines in _compared(one).items():
        values = {kind: line.values(main) for kind, line in lines.items()}
        bptt = [kind for kind, line in lines.items() if line.line.key.column == "true BPTT"]
        if not bptt:
            continue
        best = best_of(bptt, key=lambda kind: fmean(values[kind].values()))
        points = []
        for kind in [kind for kind in lines if kind in spent]:
            differences = _paired(values[kind], values[best])
            if len(differences) > 1:
                summary = summarize(differences)
                interval = None if kind == best else summary.interval
                points.append(Point(*kind[1:], spent[kind], summary.mean, interval))
        if len(points) > 1:
            floor = _paired(floors.get(title, {}), values[best])
            made.append(Panel(title, tuple(points), _in_view(floor, points)))
    return made


_Kind = tuple[str, str, str, bool]


def _kind(config: TrainConfig) -> _Kind:
    return config.dataset, config.rule, config.cell, config.frozen


def _compared(one: Reproduction) -> dict[str, dict[_Kind, LineResult]]:
    """By panel, every rule on every cell with several runs.

    If several lines amount to the same rule and cell (a single cell, and the better of two), the first
    counts.
    """
    made: dict[str, dict[_Kind, LineResult]] = {}
    for line in one.lines:
        if len(line.values(one.experiment.measures[0])) > 1:
            kind = _kind(line.chosen or line.line.config)
            made.setdefault(line.line.key.panel, {}).setdefault(kind, line)
    return made


def _paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


def _in_view(floor: Sequence[float], points: Sequence[Point]) -> float | None:
    """The mean of the floor's differences, if it does not squash the points."""
    if not floor:
        return None
    mean = fmean(floor)
    ends = [end for point in points for end in (point.interval or (point.difference,))]
    own, whole = (max(some) - min(some) for some in (ends, [*ends, mean]))
    return mean if own >= _LEAST * whole else None


def draw(one: Reproduction, costs: Reproduction, output: Path, paper: bool = False) -> Path | None:
    """Write the picture of all panels with something to compare, two side by side; None if there are none.

    Zero is the best BPTT. A dashed line is the best predictor that learns nothing over time, left out where
    it would squash the points.

    Args:
        output: its suffix decides the format.
        paper: for one column of print instead of a page.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: it cannot be written.
    """
    made = panels(one, costs)
    if not made:
        return None
    measure = MEASURES[one.experiment.measures[0]]
    every = [point for panel in made for point in panel.points]
    width, height, text = _PAPER if paper else _PAGE
    columns = min(2, len(made))
    rows = -(-len(made) // columns)
    with printed.for_print(text):
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        apart = ConstrainedLayoutEngine(h_pad=0.08)
        figure = Figure(figsize=(width, height * rows), layout=apart)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, made, strict=False):
            _panel(axes, panel, measure, _AXES[columns])
            axes.set_title(panel.title, fontsize=text + 1)
        for axes in grid.flat[len(made) :]:
            axes.set_axis_off()
        figure.supxlabel("milliseconds per update, one thread, logarithmic")
        figure.supylabel(f"{measure.title},\n{_difference(measure)}")
        _legend(figure, every, any(panel.floor is not None for panel in made))
        printed.set_plot_height(figure, height)
        return printed.save(figure, output)


def _difference(measure: Measure) -> str:
    unit = measure.unit.strip().replace("%", "points")
    return "difference to the best BPTT" + (f" ({unit})" if unit else "")


def _panel(axes: Axes, panel: Panel, measure: Measure, pixels: float) -> None:
    """The points, with the better ones above."""
    from matplotlib.ticker import MaxNLocator

    colours = rule_colours(point.rule for point in panel.points)
    axes.axhline(0, color="black", linewidth=0.6, zorder=0)
    if panel.floor is not None:
        height = measure.scale * panel.floor
        axes.axhline(height, color=TRIVIAL_COLOUR, linewidth=1, linestyle="--", zorder=0)
    for point in panel.points:
        colour, height = colours[point.rule], measure.scale * point.difference
        ends = [measure.scale * end for end in point.interval or ()]
        axes.errorbar(
            [point.milliseconds],
            [height],
            yerr=[[abs(end - height)] for end in ends] or None,
            fmt=_MARKERS.get(point.cell, _OTHER_MARKER),
            color=colour,
            markerfacecolor="white" if point.frozen else colour,
            elinewidth=1,
            capsize=2,
        )
    spent = [point.milliseconds for point in panel.points]
    ticks = log_places([0.96 * min(spent), 1.04 * max(spent)], pixels)  # no marker lies on an axis
    printed.draw_axis(axes, "x", {"title": {"text": ""}, "type": "log"} | ticks)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    if not measure.higher_is_better:
        axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, made: Sequence[Point], floored: bool) -> None:
    """Rows of colours for the rules, of markers for the cells, and of what else there is."""
    from matplotlib.lines import Line2D

    def entry(label: str, colour: str, marker: str, face: str) -> Line2D:
        return Line2D(
            [], [], label=label, color=colour, marker=marker, markerfacecolor=face, linestyle=""
        )

    colours, grey = rule_colours(point.rule for point in made), "#b5b5b5"
    rules = [
        entry(rule_label(rule), colours[rule], "o", colours[rule])
        for rule in dict.fromkeys(point.rule for point in made if not point.frozen)
    ]
    cells = [
        entry(cell_label(cell), grey, _MARKERS.get(cell, _OTHER_MARKER), grey)
        for cell in dict.fromkeys(point.cell for point in made)
    ]
    others = []
    if any(point.frozen for point in made):
        others.append(entry("frozen recurrence", grey, "o", "white"))
    if floored:
        others.append(Line2D([], [], label="floor", color=TRIVIAL_COLOUR, linestyle="--"))
    nothing = entry("", "none", "", "none")
    for columns in range(_LEGEND, 0, -1):
        in_rows = [
            one
            for kind in (rules, cells, others)
            for one in (*kind, *[nothing] * (-len(kind) % columns))
        ]
        legend = figure.legend(
            handles=[one for column in range(columns) for one in in_rows[column::columns]],
            loc="outside upper center",
            ncols=columns,
            frameon=False,
            handlelength=1.5,
            columnspacing=1.2,
        )
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()
