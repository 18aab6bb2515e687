"""The fast part of a grid that is split has all that the grid has."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product

from covering import covering, is_fast

GRID = list(product("abcde", (1, 2, 3), (False, True)))


def cases(params: list) -> list[tuple]:
    return [param.values for param in params]


def pairs(found: list[tuple]) -> set[tuple]:
    return {pair for case in found for pair in combinations(enumerate(case), 2)}


def test_each_value_of_each_axis_is_fast() -> None:
    split = covering(GRID)
    assert cases(split) == GRID
    fast = cases(filter(is_fast, split))
    assert [set(axis) for axis in zip(*fast, strict=True)] == [
        set("abcde"),
        {1, 2, 3},
        {False, True},
    ]
    assert len(fast) == 5


def test_each_pair_is_fast_where_it_is_asked_for() -> None:
    fast = cases(filter(is_fast, covering(GRID, pairs=True)))
    assert pairs(fast) == pairs(GRID)
    assert 15 <= len(fast) < len(GRID)


def test_values_that_are_fewer_take_turns() -> None:
    fast = cases(filter(is_fast, covering(product("ab", range(6)))))
    assert Counter(letter for letter, _ in fast) == {"a": 3, "b": 3}


def test_a_value_that_few_cases_have_is_fast() -> None:
    """Of a grid with holes too."""
    holes = [case for case in GRID if case[0] != "e" or case[1:] == (3, True)]
    assert ("e", 3, True) in cases(filter(is_fast, covering(holes)))


def test_axes_of_a_case_may_be_any_that_it_has() -> None:
    """What is met together is one value; options need not be hashable."""
    given = [(name, {"k": k}) for name, k in product("ab", range(4))]
    fast = cases(filter(is_fast, covering(given, lambda name, own: [(name, own["k"] > 1)])))
    assert [(name, own["k"]) for name, own in fast] == [("a", 0), ("a", 2), ("b", 0), ("b", 2)]


def test_what_is_not_fast_is_slow() -> None:
    others = [param for param in covering(GRID) if not is_fast(param)]
    assert {mark.name for param in others for mark in param.marks} == {"slow"}


def test_names_are_those_that_are_asked_for() -> None:
    split = covering(GRID, ids=lambda letter, *_: letter * 2)
    assert [param.id for param in split] == [letter * 2 for letter, *_ in GRID]
    assert {param.id for param in covering(GRID)} == {None}
