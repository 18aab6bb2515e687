"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from timelocal import data

MODULES = [module.name for module in pkgutil.iter_modules(data.__path__, "timelocal.data.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_every_public_function_has_an_example() -> None:
    functions = [getattr(data, name) for name in data.__all__]
    missing = [
        f.__name__
        for f in functions
        if callable(f) and not isinstance(f, type) and ">>>" not in (f.__doc__ or "")
    ]
    assert missing == ["cache_dir"]  # its answer depends on the machine
