"""The identity of a run: values as JSON that differ if they would make a different run."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from functools import cached_property, partial
from numbers import Number
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from timelocal.files import to_json

Told: TypeAlias = Any
"""JSON: text, number, list or object. An object made from options is `{"is": its type's name, **options}`."""

_WRITTEN = 1000
"""The most numbers of a tensor, or items of a list, that are written out; beyond, there is a digest."""


def identity_of(value: object, held: Iterable[object] = ()) -> Told:
    """A value as JSON, the same in every process.

    Functions and classes are identified by their names, functions also by their defaults and closures (and
    anonymous ones by their code), other objects by their type and the arguments they were made with
    (`options`).

    held: objects of which only the type counts (and a tensor's shape), because a checkpoint holds their
    content.

    >>> identity_of(partial(math.isclose, rel_tol=np.float32(0.5)))
    {'is': 'partial', 'func': 'isclose', 'args': [], 'keywords': {'rel_tol': 0.5}}
    """
    return _identity_of(value, frozenset(map(id, held)), ())


def options(made: object) -> dict[str, object]:
    """The arguments an object was made with, as far as its attributes show.

    These are its public attributes, and private ones named like an argument of its constructor. Lazily
    computed values and a module's training mode are not options.

    >>> class Clipped:
    ...     def __init__(self, limit):
    ...         self._limit, self._calls = limit, 0
    >>> options(Clipped(0.5))
    {'_limit': 0.5}
    """
    kinds = type(made).__mro__
    found = dict(getattr(made, "__dict__", {}))
    for kind in kinds:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(made, name):
                found.setdefault(name, getattr(made, name))
    if isinstance(made, nn.Module):
        found.pop("training", None)
        for registered in ("_parameters", "_buffers", "_modules"):
            found |= found.pop(registered, {})
    try:
        arguments = set(inspect.signature(type(made)).parameters)
    except (TypeError, ValueError):  # written in C
        arguments = set()

    def counts(name: str) -> bool:
        if any(isinstance(vars(kind).get(name), cached_property) for kind in kinds):
            return False
        if not name.startswith("_"):
            return True
        for kind in kinds:  # self.__limit is _Clipped__limit
            name = name.removeprefix(f"_{kind.__name__.lstrip('_')}__")
        return name.lstrip("_") in arguments

    return {name: value for name, value in found.items() if counts(name)}


def _identity_of(value: Any, held: frozenset[int], above: tuple[int, ...]) -> Told:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Number | Enum | PurePath | torch.dtype | torch.device | range | slice):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, Tensor | np.ndarray):
        return _array(value, id(value) in held)
    if id(value) in held or id(value) in above or isinstance(value, Optimizer):
        return type(value).__qualname__
    inner = (*above, id(value))

    def each(values: Iterable[object]) -> list[Told]:
        return [_identity_of(one, held, inner) for one in values]

    def named(values: Mapping[str, object]) -> dict[str, Told]:
        return {name: _identity_of(one, held, inner) for name, one in values.items()}

    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return _short(named(value))
        pairs = (each(pair) for pair in value.items())
        return _short(sorted(pairs, key=to_json))
    if isinstance(value, Set):
        return _short(sorted(each(value), key=to_json))
    if isinstance(value, Sequence):
        return _short(each(value))
    if isinstance(value, partial):
        parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
        return {"is": "partial", **named(parts)}
    if isinstance(value, MethodType):
        return {"is": value.__qualname__, **named({"of": value.__self__})}
    if isinstance(value, FunctionType):
        return _with(value.__qualname__, named(_function(value)))
    if isinstance(value, torch.Generator):
        return {"is": "Generator", "seed": value.initial_seed()}
    if isinstance(value, np.random.Generator) or hasattr(value, "__qualname__"):
        return getattr(value, "__qualname__", type(value).__qualname__)
    name = type(value).__qualname__
    own = next(kind for kind in type(value).__mro__ if "__reduce__" in vars(kind))
    reduces_itself = own is not object  # a logger, a date, a pattern
    if not reduces_itself and (found := options(value)):
        return _with(name, named(found))
    return _with(name, {"of": arguments} if (arguments := each(_reduced(value))) else {})


def _with(name: str, parts: dict[str, Told]) -> Told:
    return {"is": name, **parts} if parts else name


def _function(function: FunctionType) -> dict[str, object]:
    """The properties in which two functions of the same name may differ."""
    parts: dict[str, object] = {}
    if function.__defaults__:
        parts["defaults"] = function.__defaults__
    if function.__kwdefaults__:
        parts["keyword defaults"] = function.__kwdefaults__
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            parts[name] = cell.cell_contents
        except ValueError:  # not yet assigned
            parts[name] = None
    if function.__name__ == "<lambda>":
        constants = [one for one in code.co_consts if not inspect.iscode(one)]
        parts["code"] = hashlib.sha256(code.co_code).hexdigest()[:16]
        parts["names and constants"] = [*code.co_names, *constants]
    return parts


def _reduced(value: Any) -> Sequence[object]:
    """The data that an object declares as sufficient to construct it again."""
    try:
        reduced = value.__reduce_ex__(2)
    except Exception:  # locks, files, handles of devices
        return ()
    if isinstance(reduced, str) or not isinstance(reduced[1], tuple):
        return ()
    return [one for one in reduced[1] if one is not type(value)]


def _array(value: Tensor | np.ndarray, held: bool) -> Told:
    if isinstance(value, Tensor):
        if held or value.is_meta:
            return {"shape": list(value.shape)}
        value = value.detach().cpu()
    size = value.numel() if isinstance(value, Tensor) else value.size
    if size <= _WRITTEN:
        return _identity_of(value.tolist(), frozenset(), ())
    shape = list(value.shape)
    if isinstance(value, Tensor):
        value = value.contiguous().flatten().view(torch.uint8).numpy()
    return {"shape": shape, "sha256": hashlib.sha256(value.tobytes()).hexdigest()}


def _short(made: Told) -> Told:
    if len(made) <= _WRITTEN:
        return made
    return {"items": len(made), "sha256": hashlib.sha256(to_json(made).encode()).hexdigest()}
