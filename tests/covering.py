"""A grid in two parts: few cases that cover it are fast, and all the others are marked slow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import combinations

import pytest


def covering(
    cases: Iterable[Sequence[object]],
    axes: Callable[..., Sequence[object]] = lambda *case: case,
    *,
    pairs: bool = False,
    ids: Callable[..., str] | None = None,
    others: Callable[..., pytest.MarkDecorator] = lambda *case: pytest.mark.slow,
) -> list[object]:
    """The cases as pytest's parameters; the fast ones together have each value of each axis.

    `axes(*case)` says where a case lies: one value an axis, by default the case itself. What has to be
    met together, such as a rule and a cell, is one value: the tuple of both. With `pairs` the fast cases
    have each pair of values of two axes that any case has. `ids(*case)` names a test; `others(*case)` marks
    one that is not fast.
    """
    cases = list(cases)
    has = [_values(axes(*case), pairs) for case in cases]
    fast = _cover(has)
    return [
        pytest.param(
            *case,
            id=ids and ids(*case),
            marks=() if number in fast else others(*case),
        )
        for number, case in enumerate(cases)
    ]


def is_fast(param: object) -> bool:
    return not param.marks


def _values(place: Sequence[object], pairs: bool) -> set[object]:
    """By their text, since options are often a dict."""
    found = [(axis, repr(value)) for axis, value in enumerate(place)]
    return set(combinations(found, 2) if pairs else found)


def _cover(has: Sequence[set[object]]) -> set[int]:
    """Indices of few of the sets whose union is that of all.

    Always the one with most that is new; of these, the one whose values were taken least often.
    """
    missing, taken, often = set().union(*has), set(), Counter()
    queue = [(-len(values), 0, number) for number, values in enumerate(has)]
    heapify(queue)
    while missing:
        number = queue[0][-1]
        values = has[number]
        now = (-len(values & missing), sum(often[value] for value in values), number)
        if now == queue[0]:  # since no other gains by what was taken
            heappop(queue)
            missing -= values
            often.update(values)
            taken.add(number)
        else:
            heapreplace(queue, now)
    return taken
