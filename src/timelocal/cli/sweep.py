"""`timelocal sweep`: all combinations of options, on any engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timelocal.cli.options import Address, DataDir, EngineName, Out, Slurm, Workers

_SHOWN = 30


def sweep(
    fields: Annotated[
        list[str],
        typer.Argument(
            help="NAME=VALUE or NAME=VALUE,VALUE: rule=dfa,bptt lr=1e-3,1e-2 rule_options.feedback=sign "
            "dataset=own.csv reading.series=id reading.time=t reading.label=kind"
        ),
    ],
    seeds: Annotated[str, typer.Option(help="How many (5), or which (0,3,7).")] = "1",
    engine: EngineName = "processes",
    workers: Workers = None,
    address: Address = None,
    slurm: Slurm = None,
    proposals: Annotated[
        int | None,
        typer.Option(help="Try this many combinations proposed by Optuna, instead of all."),
    ] = None,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
) -> None:
    """Train every combination and rank them by the validation part. Finished runs are not repeated.

    Any field of `config.json` can be given; rules and cells of your own as module:Name.
    """
    from timelocal.cli.reproduce import ENGINES, engine_named
    from timelocal.cli.rule_options import plain_value
    from timelocal.cli.seeds import parse_seeds
    from timelocal.cli.summary import told_floors
    from timelocal.cli.terminal import say, show
    from timelocal.cli.terminal import table as listing
    from timelocal.errors import raise_problems, unknown_name
    from timelocal.studies.sweep import parsed
    from timelocal.studies.sweep import sweep as do_sweep

    raise_problems([unknown_name("engine", engine, ENGINES)])
    grid = parsed(fields, plain_value)
    rows = do_sweep(
        grid,
        parse_seeds(seeds),
        out,
        engine=engine_named(engine, workers, address, slurm),
        data_dir=data_dir,
        proposals=proposals,
        tell=lambda text: say(text, err=True),
    )
    varied = [place for place, values in enumerate(grid.values()) if len(values) > 1]
    names = [list(grid)[place] for place in varied]
    made = listing(*names, title="best on the validation part first; test: mean ± deviation")
    for name in ("validation", "test", "runs"):
        made.add_column(name, justify="right")
    made.add_column("without learning over time", overflow="fold")
    for row in rows[:_SHOWN]:
        mean = f"{sum(row.validation) / len(row.validation):.4g}" if row.validation else "–"
        floors = told_floors(row.floors)
        told = (str(row.choice[place]) for place in varied)
        made.add_row(*told, mean, row.told, f"{len(row.validation)} of {row.runs}", floors)
    show(made)
