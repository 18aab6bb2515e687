"""The command line, one file per verb."""

from __future__ import annotations

import sys

from timelocal.cli.exits import MISTAKE
from timelocal.errors import MissingExtraError
from timelocal.optional import require


def main() -> None:
    """Entry point of the `timelocal` script; one plain line if its packages are not installed."""
    try:
        require("typer", "rich", "pydantic", "sklearn", extra="cli", for_="the command timelocal")
    except MissingExtraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISTAKE)
    from timelocal.cli.app import app

    app(prog_name="timelocal")


__all__ = ["main"]
