"""`timelocal runs`: what a store of runs holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from timelocal.cli.terminal import say, show
from timelocal.cli.terminal import table as listing

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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Configurations and results without times, as CSV.")
    ] = False,
    renamed: Annotated[
        bool, typer.Option("--rename", help="First rename the run folders of earlier versions.")
    ] = False,
) -> None:
    """List the runs of a store."""
    from timelocal.errors import Problem, did_you_mean, raise_problems, unknown_name
    from timelocal.files import to_json
    from timelocal.studies.packing import rename
    from timelocal.studies.store import DAMAGED, STATUSES, Records, exists, index
    from timelocal.studies.table import table

    missing = None
    if not exists(store):
        missing = Problem(
            "store",
            str(store),
            "a folder or file of runs that exists",
            "Train first: `timelocal train`",
        )
    unknown = None if status is None else unknown_name("status", status, (*STATUSES, DAMAGED))
    raise_problems([missing, unknown])
    for former, name in rename(store).items() if renamed else ():
        say(f"{former} is now {name}", err=True)
    wanted = {"dataset": dataset, "cell": cell, "rule": rule, "status": status}
    entries = index(store)
    for name, value in wanted.items():
        there = {str(entry.get(name)) for entry in entries}
        if value is not None and value not in there:
            say(
                f"no run of the {name} {value!r}. {did_you_mean(value, sorted(there))}".rstrip(),
                err=True,
            )
    found = [
        entry
        for entry in entries
        if all(value in (None, entry.get(name)) for name, value in wanted.items())
    ]
    if as_csv:
        records = Records(store)
        say(table(records[entry["name"]] for entry in found), nl=False)
        return
    if as_json:
        for entry in found:
            say(to_json(entry))
        return
    columns = ("name", "dataset", "cell", "rule", "seed", "status")
    shown = listing(*columns, title=f"{len(found)} runs in {store}")
    for entry in found[:_SHOWN]:
        shown.add_row(*(str(entry.get(name, "–")) for name in columns))
    show(shown)
    if len(found) > _SHOWN:
        show(f"… and {len(found) - _SHOWN} more; --json lists all")
    show(
        *(
            f"{one['name']}: {problem}"
            for one in found[:_SHOWN]
            for problem in one.get("problems", ())
        )
    )
    counts = Counter(entry["status"] for entry in found)
    told = {"running": "running (or interrupted: the same command resumes it)"}
    show(", ".join(f"{count} {told.get(name, name)}" for name, count in sorted(counts.items())))
