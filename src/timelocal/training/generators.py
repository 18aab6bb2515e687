"""The generators of user objects: noise in a black box, in a loss, in a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Generator: TypeAlias = torch.Generator | np.random.Generator

_MANY = 1000
"""Items of a list or dict: a longer one is data, and nobody keeps generators in there."""


def generators(made: Mapping[str, object]) -> dict[str, Generator]:
    """Every generator that the named objects hold, in attributes, lists, dicts or closures, by its path.

    >>> class Noisy:
    ...     def __init__(self):
    ...         self.noise = torch.Generator()
    >>> generators({"cell": Noisy()}).keys()
    dict_keys(['cell.noise'])
    """
    found: dict[str, Generator] = {}
    seen: set[int] = set()

    def look(name: str, value: object) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Generator):
            found[name] = value
            return
        for inside, one in _inside(value):
            look(f"{name}.{inside}", one)

    for name, value in made.items():
        look(name, value)
    return found


def _inside(value: Any) -> Iterator[tuple[object, object]]:
    """What an object is made of, by name."""
    if isinstance(value, Tensor | np.ndarray | type | ModuleType | str | bytes):
        return
    if isinstance(value, dict):
        if len(value) <= _MANY:
            # torch numbers hooks by a global count: what counts is their order
            for place, (key, one) in enumerate(list(value.items())):
                yield key if isinstance(key, str) else place, one
    elif isinstance(value, list | tuple):
        if len(value) <= _MANY:
            yield from enumerate(value)
    elif isinstance(value, FunctionType):
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not yet assigned
                continue
    elif isinstance(value, MethodType):
        yield value.__name__, value.__self__
    elif isinstance(value, partial):
        yield from {"func": value.func, "args": value.args, "keywords": value.keywords}.items()
    elif hasattr(value, "__dict__"):
        yield from list(vars(value).items())
