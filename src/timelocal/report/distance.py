"""Distance to BPTT against cost: one picture of an experiment and the experiment that measures its costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from timelocal.analysis.statistics import summarize
from timelocal.report import pictures, printed
from timelocal.report.figures import TRIVIAL_COLOUR
from timelocal.report.line_figures import log_places
from timelocal.studies.measures import MEASURES, Measure
from timelocal.studies.reproduction import Reproduction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST = 0.5
"""The floor is left out of view where it would leave the points less than this share of the axis."""

_FLOOR: pictures.Look = {"color": TRIVIAL_COLOUR, "linestyle": "--"}


class Point(NamedTuple):
    """A rule on a cell: milliseconds per update, and the mean difference to the best BPTT.

    The interval is the 95 % interval of the differences, paired by seed; None for the best BPTT itself.
    """

    kind: pictures.Kind
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
        pictures.kind(line.line.config): fmean(found.values())
        for line in costs.lines
        if (found := line.values("milliseconds"))
    }
    made = []
    for title, lines in pictures.compared(one).items():
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
                points.append(Point(kind, spent[kind], summary.mean, interval))
        if len(points) > 1:
            floor = _paired(floors.get(title, {}), values[best])
            made.append(Panel(title, tuple(points), _in_view(floor, points)))
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
    pixels = pictures.AXIS[min(pictures.COLUMNS, len(made))]
    kinds = [point.kind for panel in made for point in panel.points]
    looks = pictures.looks(kinds)
    entries = pictures.legend(kinds, rule={"linestyle": "", "marker": "o"}, frozen={})
    if any(panel.floor is not None for panel in made):
        entries[-1].append(_FLOOR | {"label": "floor"})
    return pictures.draw(
        {panel.title: partial(_panel, panel, measure, looks, pixels) for panel in made},
        "milliseconds per update, one thread, logarithmic",
        f"{measure.title},\n{_difference(measure)}",
        entries,
        output,
        paper,
    )


def _difference(measure: Measure) -> str:
    unit = measure.unit.strip().replace("%", "points")
    return "difference to the best BPTT" + (f" ({unit})" if unit else "")


def _panel(
    panel: Panel,
    measure: Measure,
    looks: Mapping[pictures.Kind, pictures.Look],
    pixels: float,
    axes: Axes,
) -> None:
    """The points, with the better ones above."""
    axes.axhline(0, color="black", linewidth=0.6, zorder=0)
    if panel.floor is not None:
        axes.axhline(measure.scale * panel.floor, linewidth=1, zorder=0, **_FLOOR)
    for point in panel.points:
        height = measure.scale * point.difference
        ends = [measure.scale * end for end in point.interval or ()]
        axes.errorbar(
            [point.milliseconds],
            [height],
            yerr=[[abs(end - height)] for end in ends] or None,
            linestyle="",
            elinewidth=1,
            capsize=2,
            **looks[point.kind],
        )
    spent = [point.milliseconds for point in panel.points]
    ticks = log_places([0.96 * min(spent), 1.04 * max(spent)], pixels)  # no marker lies on an axis
    printed.draw_axis(axes, "x", {"title": {"text": ""}, "type": "log"} | ticks)
    if not measure.higher_is_better:
        axes.invert_yaxis()
