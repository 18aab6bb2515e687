"""`timelocal runs`: what a store of runs holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

_SHOWN = 50


def runs(
    store: Annotated[Path, typer.Argument(help="Folder of run folders, or packed runs.")] = Path(
        "runs"
    ),
    dataset: Annotated[str | None, typer.Option(help="Only runs on this data set.")] = None,
    cell: Annotated[str | None, typer.Option(help="Only this cell.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only this rule.")] = None,
    status: Annotated[
        str | None, typer.Option(help="finished, running, diverged, failed, stopped or damaged.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Configurations and results without times, as CSV.")
    ] = False,
    renamed: Annotated[
        bool, typer.Option("--rename", help="Give run folders of before the names of today first.")
    ] = False,
) -> None:
    """List the runs of a store."""
    from rich.console import Console
    from rich.table import Table

    from timelocal.cli.tables import plain
    from timelocal.errors import Problem, raise_problems, unknown_name
    from timelocal.files import to_json
    from timelocal.studies.packing import rename
    from timelocal.studies.store import DAMAGED, STATUSES, Records, exists, index
    from timelocal.studies.table import table

    missing = None
    if not exists(store):
        missing = Problem(
            "store", str(store), "a folder or file of runs that exists", "Make runs first"
        )
    unknown = None if status is None else unknown_name("status", status, (*STATUSES, DAMAGED))
    raise_problems([missing, unknown])
    for former, name in rename(store).items() if renamed else ():
        typer.echo(f"{former} is now {name}", err=True)
    wanted = {"dataset": dataset, "cell": cell, "rule": rule, "status": status}
    found = [
        entry
        for entry in index(store)
        if all(value in (None, entry.get(name)) for name, value in wanted.items())
    ]
    if as_csv:
        records = Records(store)
        typer.echo(table(records[entry["name"]] for entry in found), nl=False)
        return
    if as_json:
        for entry in found:
            typer.echo(to_json(entry))
        return
    shown = Table(title=f"{len(found)} runs in {plain(str(store))}")
    columns = ("name", "dataset", "cell", "rule", "seed", "status")
    for name in columns:
        shown.add_column(name)
    for entry in found[:_SHOWN]:
        shown.add_row(*(plain(str(entry.get(name, "–"))) for name in columns))
    console = Console()
    console.print(shown)
    if len(found) > _SHOWN:
        console.print(f"… and {len(found) - _SHOWN} more; --json lists all")
    for entry in found[:_SHOWN]:
        for problem in entry.get("problems", ()):
            console.print(plain(f"{entry['name']}: {problem}"), highlight=False, soft_wrap=True)
    counts = Counter(entry["status"] for entry in found)
    told = {"running": "running (or cut off: the same command goes on)"}
    console.print(
        ", ".join(f"{count} {told.get(name, name)}" for name, count in sorted(counts.items()))
    )
