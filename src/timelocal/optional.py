"""Packages that only some features need; the error for a missing one names the extra that installs it."""

from __future__ import annotations

from importlib.util import find_spec

from timelocal.errors import MissingExtraError

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Names to install, where they differ from the names to import."""


def require(*packages: str, extra: str, for_: str) -> None:
    """Check that packages can be imported; imports nothing itself.

    Args:
        packages: names to import, such as "scipy".
        extra: of timelocal, that brings all of them.
        for_: the feature that needs them, as its user knows it.

    Raises:
        MissingExtraError: one of them is not installed.

    >>> require("json", extra="cli", for_="timelocal report")
    >>> require("json", "no_such", extra="report", for_="timelocal report")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    timelocal.errors.MissingExtraError: timelocal report: needs no_such. Install it: ...
    """
    missing = [_DISTRIBUTIONS.get(name, name) for name in packages if find_spec(name) is None]
    if missing:
        them = "it" if len(missing) == 1 else "them"
        raise MissingExtraError(
            f"{for_}: needs {' and '.join(missing)}. "
            f'Install {them}: pip install "timelocal[{extra}]"'
        )
