"""The examples in the docstrings of the core run, and whatever is public has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import timelocal

PACKAGES = (
    "cells", "experiments", "fast", "integrations", "kernels", "network", "rules", "studies", "testing",
    "training",
)  # fmt: skip
SINGLE = (
    "arguments", "deprecated", "distributed", "errors", "feedback", "files", "losses", "optional",
    "seeding", "typing",
)  # fmt: skip
MODULES = [
    *(f"timelocal.{name}" for name in SINGLE),
    *(
        module.name
        for package in PACKAGES
        for module in pkgutil.iter_modules(
            importlib.import_module(f"timelocal.{package}").__path__, f"timelocal.{package}."
        )
        if "_native" not in module.name
    ),
]
NEEDS = {
    "timelocal.data.own_tables": "pandas",
    "timelocal.integrations.aeon": "aeon",
    "timelocal.integrations.sktime": "sktime",
    "timelocal.integrations.river": "river",
    "timelocal.integrations.sklearn": "sklearn",
}
SLOW = {"timelocal.testing.contract"}  # runs a whole contract


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in MODULES]
)
def test_examples(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_what_a_user_calls_first_has_an_example() -> None:
    called = (
        "RNN", "GRU", "LSTM", "from_cell", "from_torch", "to_torch", "AutogradCell", "Stream", "fit",
    )  # fmt: skip
    rules = (
        "BPTT",
        "TBPTT",
        "RTRL",
        "SparseRTRL",
        "DFA",
        "DFAAuthorsCode",
        "RFLO",
        "EProp",
        "SnAp1",
        "UORO",
        "FeedbackAlignment",
        "WeightMirror",
    )
    for name in (*called, *rules):
        assert ">>>" in getattr(timelocal, name).__doc__, name
