"""The `timelocal` command: its verbs, and how its errors read."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from timelocal import __version__
from timelocal.cli import bench, data, demo, doctor, pack, report, reproduce, runs, train
from timelocal.cli import list as listing
from timelocal.cli.exits import INTERRUPTED, MISTAKE
from timelocal.errors import TimelocalError

_TILDE = re.compile(r"^((?:--[\w-]+=)?)(~(?:/.*)?)$", re.DOTALL)


def _at_home(found: re.Match[str]) -> str:
    return found[1] + os.path.expanduser(found[2])


class _Group(TyperGroup):
    """Runs a verb; a mistake of the user, or Ctrl-C, ends in a plain message, never a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`--out=~/runs` and `'~/runs'` mean the home folder, as where a shell expands them."""
        return super().parse_args(ctx, [_TILDE.sub(_at_home, one) for one in args])

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
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"timelocal {__version__}")
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
app.command("report")(report.report)
app.command("list")(listing.show)
app.command("reproduce")(reproduce.reproduce)
app.command("runs")(runs.runs)
app.command("pack")(pack.pack)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.add_typer(data.app, name="data")
