"""Imports form no circle: neither among modules nor between a package and what is in it, types included."""

from __future__ import annotations

import graphlib

import grimp
import pytest


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of a graph, from importer to imported; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    graph = grimp.build_graph("timelocal", cache_dir=None, exclude_type_checking_imports=False)
    return {
        importer: set(graph.find_modules_directly_imported_by(importer))
        for importer in graph.modules
    }


def test_no_circles(imports: dict[str, set[str]]) -> None:
    assert len(imports) > 150
    assert "timelocal.cells" in imports["timelocal"]  # what is imported for types alone counts
    assert circle(imports) == []


def test_a_circle_would_be_found(imports: dict[str, set[str]]) -> None:
    closed = imports | {"timelocal.errors": imports["timelocal.errors"] | {"timelocal.rules.rule"}}
    found = circle(closed)
    assert found[0] == found[-1]
    assert {"timelocal.errors", "timelocal.rules.rule"} <= set(found)
