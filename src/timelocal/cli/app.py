"""The `timelocal` command and its verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from timelocal import __version__
from timelocal.cli import (
    backtest,
    bench,
    cite,
    claims,
    data,
    demo,
    doctor,
    evaluate,
    export,
    pack,
    predict,
    report,
    reproduce,
    runs,
    sweep,
    train,
)
from timelocal.cli import list as listing
from timelocal.cli.group import Group
from timelocal.cli.terminal import say

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"timelocal {__version__}")
        raise typer.Exit


@app.callback()
def timelocal(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Train recurrent networks without backpropagation through time."""


app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("backtest")(backtest.backtest)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("cite")(cite.cite)
app.command("report")(report.report)
app.command("list")(listing.list_)
app.command("reproduce")(reproduce.reproduce)
app.command("claims")(claims.claims)
app.command("runs")(runs.runs)
app.command("pack")(pack.pack)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.add_typer(data.app, name="data")
