"""The examples in the docstrings of the core run, and whatever is public has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import timelocal

PACKAGES = (
    "analysis", "cells", "cli", "experiments", "fast", "integrations", "kernels", "model", "network",
    "report", "rules", "studies", "testing", "training",
)  # fmt: skip
SINGLE = (
    "arguments", "deprecated", "distributed", "errors", "feedback", "files", "inference", "losses",
    "optional", "plugins", "precision", "seeding", "typing",
)  # fmt: skip
MODULES = [
    *(f"timelocal.{name}" for name in SINGLE),
    *(
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages(
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
    done = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert done.failed == 0


def test_whatever_is_public_has_an_example() -> None:
    """Except errors, whose one line says when they are raised."""
    called = {name: getattr(timelocal, name) for name in timelocal.__all__}
    missing = [
        name
        for name, value in called.items()
        if callable(value)
        and not (isinstance(value, type) and issubclass(value, Exception))
        and ">>>" not in (value.__doc__ or "")
    ]
    assert len(called) > 50
    assert not missing


def test_every_example_of_the_package_is_run() -> None:
    source = Path(timelocal.__file__).parent
    with_examples = {
        ".".join(path.relative_to(source.parent).with_suffix("").parts)
        for path in source.rglob("*.py")
        if ">>> " in path.read_text()
    }
    run = {*MODULES, *(name for name in with_examples if name.startswith("timelocal.data."))}
    assert not with_examples - run
