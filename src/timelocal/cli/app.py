"""The `timelocal` command: its verbs, and how its errors read."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from timelocal.cli import bench, data, demo, doctor, report, reproduce, runs, train
from timelocal.cli import list as listing
from timelocal.errors import TimelocalError

INTERRUPTED = 130
MISTAKE = 2


class _Group(TyperGroup):
    """Runs a verb; a mistake of the user, or Ctrl-C, ends in a plain message, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TimelocalError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(MISTAKE) from None
        except KeyboardInterrupt:
            typer.echo("\nStopped. Give the same command again to go on from here.", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    help="Train recurrent networks without backpropagation through time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("report")(report.report)
app.command("list")(listing.show)
app.command("reproduce")(reproduce.reproduce)
app.command("runs")(runs.runs)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.add_typer(data.app, name="data")


def main() -> None:
    """Entry point of the `timelocal` script."""
    app(prog_name="timelocal")
