"""Output of the command line: any text, on any terminal, pipe or encoding."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment
from rich.table import Table

from timelocal.errors import printable


def replace_what_has_no_code() -> None:
    """Let the standard streams print "?" for a character their encoding lacks, such as σ in cp1252."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print a line, to stderr if `err`."""
    typer.echo(printable(str(text)), err=err, nl=nl)


class _Table(Table):
    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(
            *(printable(one) if isinstance(one, str) else one for one in cells), **options
        )


def table(*headings: str, title: str | None = None, **options: Any) -> Table:
    """A table in which texts mean what they say, and are folded rather than cut."""
    made = _Table(title=None if title is None else printable(title), **options)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def console(*, stderr: bool = False) -> Console:
    """A console on which a name is a name: `[/x]` and `:x:` in it are text, and nothing in it is obeyed."""
    made = Console(stderr=stderr, markup=False, emoji=False)
    made.push_render_hook(_Printable())
    return made


def show(*renderables: ConsoleRenderable | str) -> None:
    """Print tables and texts: folded to the width of a terminal, in full width where there is none."""
    made = console()
    if not made.is_terminal:
        unlimited = made.options.update(width=10**4)
        tables = (one for one in renderables if isinstance(one, Table))
        made.width = max(
            [made.width, *(made.measure(one, options=unlimited).maximum for one in tables)]
        )
    for one in renderables:
        made.print(one, soft_wrap=isinstance(one, str), highlight=False)


class _Printable(RenderHook):
    """Makes texts printable on their way to the terminal; the styles of the console itself come later."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Filtered(one) for one in renderables]


class _Filtered:
    def __init__(self, renderable: ConsoleRenderable) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _filtered(console.render(self.renderable, options))


def _filtered(segments: Iterable[Segment]) -> Iterable[Segment]:
    for text, style, control in segments:
        yield Segment(text if control else printable(text), style, control)
