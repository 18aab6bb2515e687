"""Pictures with a panel for every data set: which rules and cells they compare, and how these look.

A rule is a colour, a cell a marker, and a frozen recurrence a hollow one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from timelocal.experiments.config import TrainConfig
from timelocal.report import printed
from timelocal.report.style import cell_label, rule_colours, rule_label
from timelocal.studies.reproduction import LineResult, Reproduction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 2
"""Panels side by side."""

AXIS = {1: 270, 2: 120}
"""Pixels of the horizontal axis of a panel on a phone, by the number of panels side by side."""

_MARKERS = {"rnn": "s", "gru": "o", "lru": "^", "rtu": "D"}
_OTHER_MARKER = "v"
_GREY = "#b5b5b5"

_PAPER, _PAGE = (printed.WIDTH, 1.9, 7), (printed.PAGE_WIDTH, printed.PAGE_PLOT, 10)
"""In print, and on a page: inches of the picture's width and of a panel's height, and points of the text."""

_LEGEND = 4
"""Entries in a row of the legend, where their names leave room for as many."""

Look = dict[str, Any]
"""How matplotlib draws a line."""


class Kind(NamedTuple):
    """What the pictures compare on a data set: a rule on a cell."""

    dataset: str
    rule: str
    cell: str
    frozen: bool


def kind(config: TrainConfig) -> Kind:
    """The kind of a run."""
    return Kind(config.dataset, config.rule, config.cell, config.frozen)


def compared(one: Reproduction) -> dict[str, dict[Kind, LineResult]]:
    """By panel, every kind with several runs.

    If several lines are of the same kind (a single cell, and the better of two), the first counts.
    """
    made: dict[str, dict[Kind, LineResult]] = {}
    for line in one.lines:
        if len(line.values(one.experiment.measures[0])) > 1:
            here = made.setdefault(line.line.key.panel, {})
            here.setdefault(kind(line.chosen or line.line.config), line)
    return made


def looks(kinds: Iterable[Kind]) -> dict[Kind, Look]:
    """The colour and the marker of every kind."""
    kinds = list(kinds)
    colours = rule_colours(one.rule for one in kinds)
    return {
        one: {
            "color": colours[one.rule],
            "marker": _MARKERS.get(one.cell, _OTHER_MARKER),
            "markerfacecolor": "white" if one.frozen else colours[one.rule],
        }
        for one in kinds
    }


def legend(kinds: Iterable[Kind], rule: Look, frozen: Look) -> list[list[Look]]:
    """Three rows of entries: the rules, the cells, and the frozen recurrence if there is one.

    Args:
        kinds: all that the picture shows.
        rule: how the entry of a rule looks, its colour aside.
        frozen: how the entry of the frozen recurrence looks, its hollow marker aside.
    """
    kinds = list(kinds)
    colours = rule_colours(one.rule for one in kinds)
    rules = dict.fromkeys(one.rule for one in kinds if not one.frozen)
    cells = {one.cell: _MARKERS.get(one.cell, _OTHER_MARKER) for one in kinds}
    grey: Look = {"color": _GREY, "linestyle": ""}
    hollow = {"label": "frozen recurrence", "marker": "o", "markerfacecolor": "white"}
    return [
        [rule | {"label": rule_label(name), "color": colours[name]} for name in rules],
        [grey | {"label": cell_label(cell), "marker": marker} for cell, marker in cells.items()],
        [grey | hollow | frozen] if any(one.frozen for one in kinds) else [],
    ]


def draw(
    plots: Mapping[str, Callable[[Axes], None]],
    x: str,
    y: str,
    entries: Sequence[Sequence[Look]],
    output: Path,
    paper: bool,
) -> Path:
    """Write a picture.

    Args:
        plots: by the title of a panel, the function that draws it.
        x: the name of the horizontal axes. y: that of the vertical ones.
        entries: of the legend, by row.
        output: its suffix decides the format.
        paper: for one column of print instead of a page.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: it cannot be written.
    """
    width, height, text = _PAPER if paper else _PAGE
    columns = min(COLUMNS, len(plots))
    rows = -(-len(plots) // columns)
    with printed.for_print(text):
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.ticker import MaxNLocator

        apart = ConstrainedLayoutEngine(h_pad=0.08)
        figure = Figure(figsize=(width, height * rows), layout=apart)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (title, plot) in zip(grid.flat, plots.items(), strict=False):
            axes.set_title(title, fontsize=text + 1)
            axes.spines[["top", "right"]].set_visible(False)
            axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
            plot(axes)
        for axes in grid.flat[len(plots) :]:
            axes.set_axis_off()
        figure.supxlabel(x)
        figure.supylabel(y)
        _legend(figure, entries)
        printed.set_plot_height(figure, height)
        return printed.save(figure, output)


def _legend(figure: Figure, rows: Sequence[Sequence[Look]]) -> None:
    """As many columns as the picture has room for; every row of entries starts in the first."""
    from matplotlib.lines import Line2D

    nothing = {"label": "", "linestyle": ""}
    for columns in range(_LEGEND, 0, -1):
        filled = [one for row in rows for one in (*row, *[nothing] * (-len(row) % columns))]
        legend = figure.legend(
            handles=[
                Line2D([], [], **one)
                for column in range(columns)
                for one in filled[column::columns]
            ],
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
