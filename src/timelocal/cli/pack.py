"""`timelocal pack`: a store of run folders as one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timelocal.cli.terminal import say


def pack(
    store: Annotated[
        Path, typer.Argument(help="Folder of runs; with --unpack, a packed file.")
    ] = Path("runs"),
    out: Annotated[
        Path | None,
        typer.Option(
            help="The packed file; with --unpack, the folder.",
            show_default="runs.parquet next to runs; with --unpack, runs",
        ),
    ] = None,
    reverse: Annotated[
        bool, typer.Option("--unpack", help="Write the runs of a packed file as run folders.")
    ] = False,
) -> None:
    """Pack runs into one small file that every command reads in place of run folders, or unpack it."""
    from timelocal.errors import Problem, raise_problems
    from timelocal.studies.packing import pack as do_pack
    from timelocal.studies.packing import unpack
    from timelocal.studies.store import exists, packed_beside

    if not exists(store):
        expected = "a packed file that exists" if reverse else "a folder of runs that exists"
        raise_problems([Problem("store", str(store), expected)])
    if reverse:
        file = packed_beside(store)
        folder = out or file.with_suffix("")
        written, there = unpack(file, folder)
        say(
            f"{written} runs unpacked into {folder}"
            + (f", {there} were already there" * bool(there))
        )
        return
    packing = do_pack(store, out)
    for text in packing.left_out:
        say(f"left out: {text}", err=True)
    size = packing.path.stat().st_size / 1e6
    say(f"{packing.count} runs packed into {packing.path}, {size:.2g} MB")
