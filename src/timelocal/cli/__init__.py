"""The command line, one file per verb."""

from timelocal.cli.app import main

__all__ = ["main"]
