"""Exit codes of the `timelocal` command."""

MISTAKE = 2
"""The user has something to fix: an argument, a file, an installation."""

INTERRUPTED = 130
"""Ctrl-C."""
