"""`timelocal data`: list the datasets, show one, fetch one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import typer

from timelocal.cli.group import Group
from timelocal.cli.options import (
    OWN,
    DataDir,
    Features,
    Horizon,
    Label,
    Missing,
    Series,
    Target,
    Task,
    Time,
    Window,
    reading_options,
)
from timelocal.cli.terminal import say
from timelocal.cli.terminal import show as show_all

app = typer.Typer(cls=Group, help="Data sets: list, show, fetch.", no_args_is_help=True)
Name: TypeAlias = Annotated[str, typer.Argument(help=f"{OWN[0].upper()}{OWN[1:]}.")]


@app.command("list")
def list_() -> None:
    """List the data sets."""
    from timelocal.cli.tables import datasets_table, plugins_table

    own = plugins_table("dataset")
    show_all(*filter(None, (datasets_table(), own)))


@app.command()
def show(
    name: Name,
    data_dir: DataDir = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    series: Series = None,
    time: Time = None,
    label: Label = None,
    features: Features = None,
    target: Target = None,
    horizon: Horizon = 1,
    window: Window = None,
    missing: Missing = "refuse",
    task: Task = None,
) -> None:
    """Show a data set's card, its parts, duplicates across parts, and the errors of trivial predictors.

    For a file of your own: what it contains, and whether it can be used for training.
    """
    from timelocal import data
    from timelocal.data.preview import preview
    from timelocal.data.reading import is_file, reading_of
    from timelocal.files import as_path

    options = reading_options(series, time, label, features, target, horizon, window, missing, task)
    if is_file(name):
        _say_lines(preview(as_path(name), reading_of(options)))
        return
    card = data.card(name)
    counts = card.class_counts or ()
    lines = {
        "name": card.name,
        "title": card.title,
        "sequences × steps × features": " × ".join(f"{n:,}" for n in card.shape),
        "classes": ", ".join(
            f"{label} ({count:,})" for label, count in zip(card.classes or (), counts, strict=True)
        )
        or "none",
        "source": card.source,
        "citation": "\n".join(card.citation),
        "terms": card.terms,
        "notes": "\n".join(card.notes) or "none",
        "where": data.locate(name, data_dir) or "not here; `timelocal data fetch` downloads it",
    }
    if data.locate(name, data_dir):
        parts = data.split(data.load(name, data_dir), seed)
        lines[f"parts at seed {seed}" if card.parts is None else "parts, given"] = (
            f"{len(parts.train):,} train, {len(parts.validation):,} validation, "
            f"{len(parts.test):,} test"
        )
        lines["equal sequences in two parts"] = ", ".join(
            f"{pair}: {number}" for pair, number in parts.duplicates.items()
        )
        if floors := data.floors(name, parts):
            lines["trivial predictors on the test part"] = "\n".join(
                f"{what}: {error:.3g}" for what, error in floors.items()
            )
    _say_lines(lines)


def _say_lines(lines: Mapping[str, str]) -> None:
    from rich.text import Text

    for key, value in lines.items():
        show_all(Text(key, style="bold"), str(value))


@app.command()
def fetch(name: Name, data_dir: DataDir = None) -> None:
    """Download a data set into the cache unless it is already there, and check its values."""
    from timelocal import data

    dataset = data.load(name, data_dir)
    say(f"{name}: {len(dataset):,} sequences, checked, in {data.locate(name, data_dir)}")
