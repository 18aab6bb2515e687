"""Distance to BPTT against cost: one picture of an experiment and the experiment that measures its costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from timelocal.analysis.statistics import summarize
from timelocal.experiments.config import TrainConfig
from timelocal.report import printed
from timelocal.report.figures import TRIVIAL_COLOUR
from timelocal.report.line_figures import log_places
from timelocal.report.lines import titled
from timelocal.report.style import cell_label, rule_colours, rule_label
from timelocal.studies.measures import MEASURES
from timelocal.studies.reproduction import LineResult, Reproduction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {"rnn": "s", "gru": "o", "lru": "^", "rtu": "D"}
_OTHER_MARKER = "v"

_PAPER, _PAGE = (printed.WIDTH, 1.9, 7), (printed.PAGE_WIDTH, printed.PAGE_PLOT, 10)
"""In print, and on a page: inches of the picture's width and of a panel's height, and points of the text."""

_AXES = {1: 280, 2: 130}
"""Pixels of the horizontal axis of a panel on a phone, by the number of panels side by side."""

_LEGEND = 4
"""Entries in a row of the legend, where their names leave room for as many."""


class Point(NamedTuple):
    """A rule on a cell: milliseconds per update, the mean of its measure and that mean's 95 % interval."""

    panel: str
    rule: str
    cell: str
    frozen: bool
    milliseconds: float
    mean: float
    interval: tuple[float, float]


def pairs(reproductions: Sequence[Reproduction]) -> list[tuple[Reproduction, Reproduction]]:
    """Every experiment whose costs are measured by another that is here, and that other."""
    by_name = {one.experiment.name: one for one in reproductions}
    found = [(one, by_name.get(one.experiment.beside or "")) for one in reproductions]
    return [(one, costs) for one, costs in found if costs is not None]


def points(one: Reproduction, costs: Reproduction) -> list[Point]:
    """A point for every rule on every cell that has runs and a cost.

    If several lines amount to the same rule and cell (a single cell, and the better of two), the first
    counts.
    """
    main = one.experiment.measures[0]
    spent = {
        _kind(line.line.config): fmean(found.values())
        for line in costs.lines
        if (found := line.values("milliseconds"))
    }
    made: dict[tuple[str, _Kind], Point] = {}
    for line in one.lines:
        panel, kind, values = line.line.key.panel, _kind(_as_run(line)), line.values(main)
        if kind in spent and len(values) > 1:
            summary = summarize(list(values.values()))
            assert summary.interval is not None  # of two values and more
            point = Point(panel, *kind[1:], spent[kind], summary.mean, summary.interval)
            made.setdefault((panel, kind), point)
    return list(made.values())


_Kind = tuple[str, str, str, bool]


def _kind(config: TrainConfig) -> _Kind:
    return config.dataset, config.rule, config.cell, config.frozen


def _as_run(line: LineResult) -> TrainConfig:
    return line.chosen or line.line.config


def draw(one: Reproduction, costs: Reproduction, output: Path, paper: bool = False) -> Path | None:
    """Write the picture of all panels with something to compare, two side by side; None if there are none.

    A dashed line is the best predictor that learns nothing over time.

    Args:
        output: its suffix decides the format.
        paper: for one column of print instead of a page.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: it cannot be written.
    """
    found = points(one, costs)
    many = {name for name, count in Counter(point.panel for point in found).items() if count > 1}
    made = [point for point in found if point.panel in many]
    if not made:
        return None
    main = one.experiment.measures[0]
    measure, floors = MEASURES[main], one.floors(main)
    panels = list(dict.fromkeys(point.panel for point in made))
    width, height, text = _PAPER if paper else _PAGE
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with printed.for_print(text):
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        apart = ConstrainedLayoutEngine(h_pad=0.08)
        figure = Figure(figsize=(width, height * rows), layout=apart)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            floor = fmean(floors[panel].values()) if floors.get(panel) else None
            here = [point for point in made if point.panel == panel]
            _panel(axes, here, floor, measure.scale, _AXES[columns])
            axes.set_title(panel, fontsize=text + 1)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        figure.supxlabel("milliseconds per update, one thread, logarithmic")
        figure.supylabel(titled(measure))
        _legend(figure, made, any(map(floors.get, panels)))
        printed.set_plot_height(figure, height)
        return printed.save(figure, output)


def _panel(
    axes: Axes, made: Sequence[Point], floor: float | None, scale: float, pixels: float
) -> None:
    from matplotlib.ticker import MaxNLocator

    colours = rule_colours(point.rule for point in made)
    if floor is not None:
        axes.axhline(scale * floor, color=TRIVIAL_COLOUR, linewidth=1, linestyle="--", zorder=0)
    for point in made:
        colour = colours[point.rule]
        low, high = (scale * end for end in point.interval)
        middle = scale * point.mean
        axes.errorbar(
            [point.milliseconds],
            [middle],
            yerr=[[middle - low], [high - middle]],
            fmt=_MARKERS.get(point.cell, _OTHER_MARKER),
            color=colour,
            markerfacecolor="white" if point.frozen else colour,
            markersize=6,
            elinewidth=1,
            capsize=2,
        )
    spent = [point.milliseconds for point in made]
    ticks = log_places([0.96 * min(spent), 1.04 * max(spent)], pixels)  # no marker lies on an axis
    printed.draw_axis(axes, "x", {"title": {"text": ""}, "type": "log"} | ticks)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
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
