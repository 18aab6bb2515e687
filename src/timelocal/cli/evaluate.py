"""`timelocal evaluate`: how good a trained model is on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from timelocal.cli.models import RUN

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from timelocal.data.own_files import More


def evaluate(
    run: Annotated[Path, typer.Argument(help=RUN)],
    data: Annotated[
        str, typer.Argument(help="File or folder with labels, in the format of the training data.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    cell: Annotated[str | None, typer.Option(help="The cell, if it is your own.")] = None,
    rule: Annotated[str | None, typer.Option(help="The rule, if it is your own.")] = None,
) -> None:
    """Evaluate: precision, recall and F1 by class, confusion matrix and calibration; or errors of values.

    The results are compared with predictors that learn nothing over time: the most frequent class, the mean,
    the last value of a forecast, a ridge regression. For a run folder these are fitted to its training part,
    if available.
    """
    from timelocal.cli.models import model_at, more_for
    from timelocal.cli.terminal import say, show
    from timelocal.files import to_json
    from timelocal.model.evaluation import evaluated

    model = model_at(run, cell, rule)
    more = more_for(model, data, labelled=True)
    found = evaluated(model, more, _floors(run, more))
    if as_json:
        say(to_json(found, indent=1))
        return
    if model.classes is not None:
        show(_of_classes(found), _confusions(found["confusion"], list(model.classes)))
    show(_whole(found))


def _floors(run: Path, more: More) -> dict[str, Tensor] | None:
    """The floors of a run folder's training part; None for a model file, or if the data are missing."""
    from timelocal.cli.terminal import say
    from timelocal.errors import DataError
    from timelocal.experiments.beside import floors_beside

    if not (run / "config.json").is_file():
        return None
    try:
        return floors_beside(run, more)
    except DataError as error:
        say(f"without the floors of the training part: {error}", err=True)
        return None


def _of_classes(found: dict[str, Any]) -> Table:
    from timelocal.cli.terminal import table

    entries = "steps" if "steps" in found else "sequences"
    made = table("class", "precision", "recall", "F1", entries, title="each class")
    for name, own in found["classes"].items():
        scores = (own["precision"], own["recall"], own["f1"])
        made.add_row(
            name, *("–" if one is None else f"{one:.3f}" for one in scores), f"{own['count']:,}"
        )
    return made


def _confusions(counts: list[list[int]], classes: list[str]) -> Table:
    from timelocal.cli.terminal import table

    made = table("is, predicted as", *classes, title="confusions")
    for name, row in zip(classes, counts, strict=True):
        made.add_row(name, *(str(n) for n in row))
    return made


def _whole(found: dict[str, Any]) -> Table:
    from timelocal.cli.terminal import table

    names = [name for name, one in found.items() if isinstance(one, float)]
    made = table("", *(name.replace("_", " ") for name in names), title="all sequences")
    for who, scores in {"model": found, **found["floors"]}.items():
        told = (scores.get(name) for name in names)
        made.add_row(who, *("–" if one is None else f"{one:.4g}" for one in told))
    return made
