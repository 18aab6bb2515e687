"""`timelocal report`: run folders in, one page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timelocal.cli.terminal import say


def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, folders of them, or packed runs.", show_default="runs"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The page.", show_default="report.html in the first folder")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Also write figures (SVG, PDF), LaTeX tables, a CSV and BibTeX there."),
    ] = None,
) -> None:
    """Turn run folders into one self-contained HTML page."""
    from timelocal.errors import ArgumentError, Problem, raise_problems
    from timelocal.report import write_report
    from timelocal.report.exports import export_report
    from timelocal.studies.store import exists, runs

    folders = folders or [Path("runs")]
    raise_problems(
        Problem(
            "folder",
            str(folder),
            "a folder or file of runs that exists",
            "Train first: `timelocal train`",
        )
        for folder in folders
        if not exists(folder)
    )
    found = {record.folder: record for folder in folders for record in runs(folder)}
    if not found:
        expected = "at least one run folder (it has a config.json)"
        got = ", ".join(map(str, folders))
        raise ArgumentError(
            str(Problem("folders", got, expected, "Train first: `timelocal train`"))
        )
    here = folders[0] if folders[0].is_dir() else folders[0].parent
    if figures is not None:
        say(f"for print: {export_report(list(found), figures)}")
    say(f"report: {write_report(list(found), output or here / 'report.html')}")
