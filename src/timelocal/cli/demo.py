"""`timelocal demo`: learning with and without backpropagation through time, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timelocal.cli.terminal import say


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path("demo"),
) -> None:
    """Train an RNN and a GRU by DFA and BPTT on handwritten digits, and write a report."""
    from timelocal.cli.summary import do_runs, print_summary
    from timelocal.experiments.config import TrainConfig
    from timelocal.report import write_report

    configs = [
        TrainConfig(
            dataset="digits-rows",
            cell=cell,
            rule=rule,
            hidden=128,
            lr=2e-3,
            epochs=30,
            standardize=True,
            seed=seed,
        )
        for cell in ("rnn", "gru")
        for rule in ("dfa", "bptt")
        for seed in range(3)
    ]
    records = do_runs(configs, out)
    page = write_report([record.folder for record in records], out / "report.html")
    print_summary(records)
    say(f"report: {page}")
