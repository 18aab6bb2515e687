"""What can go wrong, grouped by what the reader can do about it.

Every message says what was given, what was expected and what to do. Checks collect all the
problems they can see and raise them together (`raise_problems`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real

__all__ = [
    "ArgumentError",
    "BusyError",
    "DataError",
    "DivergedError",
    "MissingExtraError",
    "Problem",
    "RunError",
    "TimelocalError",
    "UnsupportedError",
    "raise_problems",
    "unknown_name",
]


class TimelocalError(Exception):
    """Base of every error this package raises on purpose; the CLI prints it without a traceback."""


class ArgumentError(TimelocalError, ValueError):
    """An argument is wrong: change the call."""


class UnsupportedError(TimelocalError, NotImplementedError):
    """This rule, cell or network cannot do what was asked: the message names what can."""


class DataError(TimelocalError):
    """A data file is missing, damaged or not what it should be: fetch it again."""


class DivergedError(TimelocalError):
    """Numbers are no longer finite: lower the learning rate, clip gradients or scale the targets."""


class RunError(TimelocalError):
    """A run folder cannot be written, read or resumed: free the disk or choose another folder."""


class BusyError(RunError):
    """Another process is writing the run folder: wait for it."""


class MissingExtraError(TimelocalError, ImportError):
    """A package that only some features need is not installed: install the extra that brings it."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: its name, what was given, what was expected, what to do."""

    what: str
    got: object
    expected: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f". {self.remedy}" if self.remedy else ""
        return f"{self.what}: got {self.got}, expected {self.expected}{remedy}"


def described(value: object) -> str:
    """A value in a message: a number or short text as it is; an array by its shape; else what it is.

    >>> described(2.5), described([1, 2]), described(dict)
    ('2.5', 'a list', 'the class dict')
    """
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    try:
        if isinstance(value, Integral) and not isinstance(value, bool):
            whole = int(value)
            return str(whole) if abs(whole) < 10**15 else "an integer of more than 15 digits"
        if isinstance(value, bool | Real | str | None):
            text = repr(value)
            return text if len(text) <= 60 else f"{text[:57]}..."
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if isinstance(shape, tuple) and dtype is not None:
            return f"shape {tuple(shape)}, {dtype}"
    except Exception:  # a foreign object need not know how to show itself
        pass
    if isinstance(value, type):
        return f"the class {name}"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def raise_problems(
    problems: Iterable[Problem | None], kind: type[TimelocalError] = ArgumentError
) -> None:
    """Raise one error that lists every problem; return quietly if there is none."""
    found = [str(problem) for problem in problems if problem is not None]
    if len(found) == 1:
        raise kind(found[0])
    if found:
        raise kind(f"{len(found)} problems:\n" + "\n".join(f"  - {line}" for line in found))


def unknown_name(what: str, given: object, known: Iterable[str]) -> Problem | None:
    """A problem that lists the known names and the nearest one, or None if `given` is known."""
    names = sorted(known)
    if isinstance(given, str) and given in names:
        return None
    near = difflib.get_close_matches(given, names, n=1) if isinstance(given, str) else []
    return Problem(
        what,
        described(given),
        "one of " + ", ".join(repr(name) for name in names),
        f"Did you mean {near[0]!r}?" if near else "",
    )
