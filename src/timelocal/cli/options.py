"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the data files; else TIMELOCAL_DATA, the cache, a download.",
        show_default=False,
    ),
]
Out: TypeAlias = Annotated[Path, typer.Option(help="Folder of run folders.")]

OWN = "a name of `timelocal list`, or your own as package.module:Name"
"""Help for an option that takes the name of a rule, a cell or a data set."""
