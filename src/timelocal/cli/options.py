"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data files; by default TIMELOCAL_DATA, the cache, or a download.",
        show_default=False,
    ),
]
Out: TypeAlias = Annotated[Path, typer.Option(help="Folder of run folders.")]

Column: TypeAlias = str | None
Series: TypeAlias = Annotated[
    Column, typer.Option(help="Own file: the column that names the series of each row.")
]
Time: TypeAlias = Annotated[Column, typer.Option(help="Own file: the column of times.")]
Label: TypeAlias = Annotated[
    Column, typer.Option(help="Own file: the column of the class or value of a series.")
]
Features: TypeAlias = Annotated[
    Column,
    typer.Option(help="Own file: the input columns, separated by commas; by default all others."),
]
Target: TypeAlias = Annotated[Column, typer.Option(help="Own file: the column to forecast.")]
Horizon: TypeAlias = Annotated[int, typer.Option(help="Own file: how many values to forecast.")]
Window: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Own file: how many steps to forecast from, or per piece of one labelled series."
    ),
]
Missing: TypeAlias = Annotated[
    str, typer.Option(help="Own file: how to treat missing values: refuse, hold, interpolate.")
]
Task: TypeAlias = Annotated[
    Column, typer.Option(help="Own file: whether labels are classes or values.")
]


def reading_options(
    series: Column,
    time: Column,
    label: Column,
    features: Column,
    target: Column,
    horizon: int,
    window: int | None,
    missing: str,
    task: Column,
) -> dict[str, object]:
    """The arguments of `timelocal.data.read` that differ from its defaults."""
    given: dict[str, object] = {
        "series": _column(series),
        "time": _column(time),
        "label": _column(label),
        "features": None if features is None else [_column(one) for one in features.split(",")],
        "target": target,
        "window": window,
        "task": task,
    }
    given = {name: value for name, value in given.items() if value is not None}
    given |= {} if horizon == 1 else {"horizon": horizon}
    return given | ({} if missing == "refuse" else {"missing": missing})


def _column(name: Column) -> str | int | None:
    """A column by its name, or by its number in a table without names."""
    return int(name) if name is not None and name.strip().isdigit() else name


EngineName: TypeAlias = Annotated[
    str, typer.Option(help="What executes the runs: in-process, processes, ray or slurm.")
]
Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Runs at a time (processes, slurm).", show_default="one per core; 500 jobs"),
]
Address: TypeAlias = Annotated[
    str | None, typer.Option(help="The Ray cluster.", show_default="a new local one")
]
Slurm: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=VALUE for the jobs: partition, time (minutes), memory (GB), and other sbatch options, "
        "such as account; can be repeated."
    ),
]
OWN = "a name of `timelocal list`, or your own as package.module:Name"
"""Help for an option that takes the name of a rule, a cell or a data set."""
