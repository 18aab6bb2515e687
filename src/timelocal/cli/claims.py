"""`timelocal claims`: every claim of both papers and beyond, with the verdict of the runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timelocal.cli.terminal import say


def claims(
    results: Annotated[
        Path, typer.Argument(help="Folder of the studies: reproduction, beyond, memory, published.")
    ] = Path("results"),
    markdown: Annotated[
        Path | None, typer.Option(help="Also write them as one Markdown page.")
    ] = None,
) -> None:
    """Print the verdict of the runs on every claim of both papers and every question beyond them."""
    from timelocal.errors import Problem, raise_problems
    from timelocal.experiments.catalogue import EXPERIMENTS
    from timelocal.report.claims import decided, why, write_claims

    there = None
    if not results.is_dir():
        remedy = "Create it by `timelocal reproduce NAME --out results/STUDY`."
        there = Problem("results", str(results), "a folder of studies that exists", remedy)
    raise_problems([there])
    found = list(decided(EXPERIMENTS.values(), results))
    for one in found:
        for claim, verdict, _ in one.claims:
            say(f"{one.experiment.name}: {verdict.word}: {claim.text} ({why(verdict)})")
    if markdown is not None:
        say(f"page: {write_claims(found, markdown)}")
