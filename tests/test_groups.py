"""Tests that share something costly run in one worker, one after the other."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("groups")
def test_the_groups_of_tests_are_seen(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("loadgroup", False):
        pytest.skip("one process alone, or no --dist loadgroup")
    assert request.node.nodeid.endswith("@groups")
