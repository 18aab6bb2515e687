"""`timelocal list`: what there is to choose from, and what has been run."""

from __future__ import annotations

from pathlib import Path

from timelocal.cli.options import Out


def show(out: Out = Path("runs")) -> None:
    """List datasets, rules, cells, optimizers, what installed packages add, and the runs under --out."""
    from rich.console import Console

    from timelocal.cli.tables import datasets_table, plugins_table, rules_table, runs_table
    from timelocal.experiments.build import CELLS, OPTIMIZERS
    from timelocal.studies.store import runs

    console = Console()
    console.print(datasets_table())
    console.print(rules_table())
    console.print("cells:     ", ", ".join(CELLS))
    console.print("optimizers:", ", ".join(OPTIMIZERS))
    if own := plugins_table():
        console.print(own)
    console.print("your own:   package.module:Name in place of the name of a dataset, rule or cell")
    records = runs(out)
    console.print(runs_table(records) if records else f"no runs under {out}")
