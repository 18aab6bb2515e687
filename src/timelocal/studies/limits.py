"""Limits on a trial's time and memory, beyond which it is stopped."""

from __future__ import annotations

import math
from dataclasses import dataclass

from timelocal.errors import Problem, raise_problems


@dataclass(frozen=True)
class Limits:
    """The longest time in seconds and the largest resident memory in megabytes; None means no limit.

    Raises:
        ArgumentError: a limit that is not a positive number.

    >>> Limits(seconds=60).megabytes is None
    True
    """

    seconds: float | None = None
    megabytes: float | None = None

    def __post_init__(self) -> None:
        raise_problems(
            Problem(name, value, "a positive number, or None for no limit")
            for name, value in (("seconds", self.seconds), ("megabytes", self.megabytes))
            if value is not None and not 0 < value < math.inf
        )

    def allow_more_than(self, others: Limits) -> bool:
        """Whether a trial stopped under `others` could finish under these limits."""
        pairs = ((self.seconds, others.seconds), (self.megabytes, others.megabytes))
        return any(theirs is not None and (ours is None or ours > theirs) for ours, theirs in pairs)
