"""Errors, grouped by what the user can do about them.

Every message says what was given, what was expected and what to do. Checks collect all the
problems they can see and raise them together (`raise_problems`).
"""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from numbers import Integral, Real

__all__ = [
    "ArgumentError",
    "BusyError",
    "DataError",
    "DivergedError",
    "MissingExtraError",
    "Problem",
    "ReadingWarning",
    "RunError",
    "TimelocalError",
    "UnsupportedError",
    "did_you_mean",
    "printable",
    "raise_problems",
    "unknown_name",
    "warn",
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


class ReadingWarning(UserWarning):
    """A file can be read in this way, but may be meant in another."""


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
    expected = "one of " + ", ".join(repr(name) for name in names)
    return Problem(what, described(given), expected, did_you_mean(given, names))


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line outside of this package and torch that led here. Python tells it once a line."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_passed_on(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def _is_passed_on(module: str) -> bool:
    return module.partition(".")[0] in ("timelocal", "torch")


SYNONYMS = {
    "backprop": "bptt",
    "backpropagation": "bptt",
    "binarycrossentropy": "bce",
    "bcewithlogits": "bce",
    "bcewithlogitsloss": "bce",
    "categoricalcrossentropy": "cross_entropy",
    "ce": "cross_entropy",
    "crossentropyloss": "cross_entropy",
    "l2": "mse",
    "logistic": "bce",
    "meansquarederror": "mse",
    "mseloss": "mse",
    "nll": "cross_entropy",
    "nllloss": "cross_entropy",
    "softmax": "cross_entropy",
    "sparsecategoricalcrossentropy": "cross_entropy",
    "squarederror": "mse",
    "xent": "cross_entropy",
    "elman": "rnn",
    "simplernn": "rnn",
    "vanillarnn": "rnn",
    "nodeperturbation": "np",
    "activitynodeperturbation": "anp",
    "weightperturbation": "wp",
    "directfeedbackalignment": "dfa",
    "truncatedbptt": "tbptt",
    "realtimerecurrentlearning": "rtrl",
    "eligibilitypropagation": "eprop",
    "normal": "gaussian",
    "transposed": "symmetric",
    "final": "last",
    "all": "every",
    "smnist": "row-mnist",
    "digits": "digits-rows",
}
"""What others call a name of this package, in the form that `did_you_mean` compares: small letters and
digits alone."""


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """ "Did you mean 'a'?" of the known names that `given` may stand for; "" where it is near none.

    Near is a name that is the same but for case, hyphens and the like; that `SYNONYMS` knows by this word;
    that begins or ends with it; or that differs by a slip of the pen.

    >>> did_you_mean("DFA", ["anp", "dfa"]), did_you_mean("iris", ["libras"])
    ("Did you mean 'dfa'?", '')
    >>> did_you_mean("ce", ["bce", "cross_entropy"])
    "Did you mean 'cross_entropy'?"
    """
    if given is None:
        given = "none"
    if not isinstance(given, str):
        return ""
    word, names = _bare(given), sorted(known)
    near = [name for name in names if _bare(name) == word]
    near = near or [name for name in names if name == SYNONYMS.get(word)]
    near = near or [name for name in names if word in _words(name)]
    near = near or _nearest({name: _likeness(word, _bare(name)) for name in names})
    near = near or _nearest(
        {name: max(map(_likeness, repeat(word), _words(name))) for name in names}
    )
    return f"Did you mean {' or '.join(map(repr, near))}?" if 0 < len(near) <= 3 else ""


def _nearest(likeness: Mapping[str, float]) -> list[str]:
    best = max(likeness.values(), default=0.0)
    return [name for name, value in likeness.items() if value == best >= _NEAR]


_NEAR = 0.7
"""The least likeness of a name that is guessed: above that of "iris" and "libras", 0.6."""


def _bare(name: str) -> str:
    """A name without what is easily mistaken: case, hyphens, underscores, spaces."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _words(name: str) -> list[str]:
    return re.sub(r"[\W_]+", " ", name.casefold()).split() or [""]


def _likeness(word: str, name: str) -> float:
    """From 0 to 1, the name itself. Letters that changed places, and half a name or more, are near."""
    if not word or word == name:
        return float(word == name)
    if sorted(word) == sorted(name):
        return 0.9
    is_end = name.startswith(word) or name.endswith(word)
    ratio = difflib.SequenceMatcher(None, word, name).ratio()
    return max(ratio, _NEAR) if is_end and 2 * len(word) >= len(name) else ratio


_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Text as a terminal may show it: what it would obey, and halves of characters, as escapes.

    That is control characters but for the end of a line, and changes of the writing direction.

    >>> print(printable("run-\udcff \x1b[31m"))
    run-\udcff \x1b[31m
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
