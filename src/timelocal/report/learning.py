"""Learning curves of an experiment on the validation part, with a panel for every data set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from timelocal.report import pictures
from timelocal.report.figures import at_shared_epochs, thinned, values_by_epoch
from timelocal.studies.measures import MEASURES, Measure
from timelocal.studies.reproduction import LineResult, Reproduction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS, _MARKED = 60, 5
"""About how many epochs of a line are drawn, and how many of these are marked."""

Curves = dict[pictures.Kind, dict[int, float]]
"""By rule and cell, the mean over seeds by epoch, in the unit that is shown."""


def curves(one: Reproduction) -> dict[str, Curves]:
    """By panel, the curve of every rule on every cell with several finished runs.

    It ends with the last epoch that all of them reached.
    """
    measure = MEASURES[one.experiment.measures[0]]
    by_panel = {
        panel: {kind: mean for kind, line in lines.items() if (mean := _mean(line, measure))}
        for panel, lines in pictures.compared(one).items()
    }
    return {panel: found for panel, found in by_panel.items() if found}


def _mean(line: LineResult, measure: Measure) -> dict[int, float]:
    finished = [run for _, run in line.runs if run is not None and run.status == "finished"]
    values = at_shared_epochs([values_by_epoch(run, _key(measure)) for run in finished])
    return {epoch: measure.scale * fmean(some) for epoch, some in values.items()}


def _key(measure: Measure) -> str:
    """The name, in the epochs of a run, of what the measure is called there on the test part."""
    return str(measure.curve).replace("test", "validation")


def draw(one: Reproduction, output: Path, paper: bool = False) -> Path | None:
    """Write the picture of all panels with curves, two side by side; None if there are none.

    Args:
        output: its suffix decides the format.
        paper: for one column of print instead of a page.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: it cannot be written.
    """
    made = curves(one)
    if not made:
        return None
    measure = MEASURES[one.experiment.measures[0]]
    unit = f" ({measure.unit.strip()})" if measure.unit else ""
    kinds = [kind for here in made.values() for kind in here]
    looks = pictures.looks(kinds)
    return pictures.draw(
        {panel: partial(_panel, here, looks) for panel, here in made.items()},
        "epoch",
        _key(measure).replace("_", " ") + unit,
        pictures.legend(kinds, rule={}, frozen={"linestyle": "--"}),
        output,
        paper,
    )


def _panel(here: Curves, looks: Mapping[pictures.Kind, pictures.Look], axes: Axes) -> None:
    """The curves, their markers at different epochs."""
    from matplotlib.ticker import MaxNLocator

    for order, (kind, whole) in enumerate(here.items()):
        curve = thinned(whole, points=_POINTS)
        apart = -(-len(curve) // _MARKED)
        axes.plot(
            list(curve),
            list(curve.values()),
            linestyle="--" if kind.frozen else "-",
            linewidth=1,
            markevery=(order * apart // len(here), apart),
            **looks[kind],
        )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
