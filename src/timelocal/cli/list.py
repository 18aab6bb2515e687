"""`timelocal list`: what there is to choose from, and what has been run."""

from __future__ import annotations

from pathlib import Path

from timelocal.cli.options import Out
from timelocal.cli.terminal import show


def list_(out: Out = Path("runs")) -> None:
    """List data sets, rules, cells, optimizers, what installed packages add, and the runs under --out."""
    from timelocal.cli.tables import datasets_table, plugins_table, rules_table, runs_table
    from timelocal.model.build import CELLS, OPTIMIZERS
    from timelocal.studies.store import runs

    own, records = plugins_table(), runs(out)
    show(
        datasets_table(),
        rules_table(),
        f"cells:      {', '.join(CELLS)}",
        f"optimizers: {', '.join(OPTIMIZERS)}",
        *([own] if own else []),
        "your own:   package.module:Name in place of the name of a dataset, rule or cell",
        runs_table(records) if records else f"no runs under {out}",
    )
