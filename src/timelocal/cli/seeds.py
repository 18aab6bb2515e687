"""`--seeds`: a count, or the seeds themselves."""

from __future__ import annotations

from timelocal.errors import ArgumentError, Problem

_MOST = 10_000
_DIGITS = 18
"""The digits of a seed: it is below 2⁶³, as in torch."""


def parse_seeds(text: str) -> list[int]:
    """`"5"` is five seeds, 0 to 4; `"0,3,7"` is these three, `"7,"` the seed 7 alone.

    >>> parse_seeds("3"), parse_seeds("0,3,7"), parse_seeds("7,")
    ([0, 1, 2], [0, 3, 7], [7])
    """
    parts = [part.strip() for part in text.split(",")]
    is_list = len(parts) > 1
    if is_list and not parts[-1]:
        parts.pop()
    if all(part.isascii() and part.isdigit() and len(part) <= _DIGITS for part in parts):
        numbers = [int(part) for part in parts]
        if is_list and len(set(numbers)) == len(numbers):
            return numbers
        if not is_list and 0 < numbers[0] <= _MOST:
            return list(range(numbers[0]))
    expected = (
        f"a count from 1 to {_MOST:,}, such as 5, or different seeds such as 0,3,7, "
        f"each below 10^{_DIGITS}"
    )
    raise ArgumentError(str(Problem("--seeds", repr(text), expected)))
