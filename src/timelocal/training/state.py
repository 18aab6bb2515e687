"""The state of anything with a `state_dict`, as JSON and named tensors, and back: nothing is pickled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timelocal.arguments import tensor_problem
from timelocal.errors import UnsupportedError, raise_problems

_TAGS = {"tensor", "array", "float", "tuple", "items", "counter"}
"""The keys of the one-key objects that represent values without a JSON form."""


def packed(value: object, tensors: MutableMapping[str, Tensor], name: str) -> object:
    """A value as JSON; its tensors and arrays are copied to `tensors`, under names that start with `name`.

    Raises:
        UnsupportedError: something in it is not a number, a text, a tensor or made of these.
        ArgumentError: for a tensor that has no values in memory (meta, sparse).

    >>> found = {}
    >>> packed({"best": math.inf, "average": [torch.ones(2)]}, found, "callback")
    {'best': {'float': 'inf'}, 'average': [{'tensor': 'callback.average.0'}]}
    >>> unpacked(_, found)
    {'best': inf, 'average': [tensor([1., 1.])]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "buif"):
        while name in tensors:  # "a.b" and "b" in "a"
            name += "'"
        if isinstance(value, Tensor):
            raise_problems([tensor_problem(name, value)])
            tensors[name] = value.detach().clone()
            return {"tensor": name}
        tensors[name] = torch.from_numpy(value.copy())
        return {"array": name}
    if isinstance(value, list | tuple):
        items = [packed(one, tensors, f"{name}.{place}") for place, one in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        each = {key: packed(one, tensors, f"{name}.{key}") for key, one in value.items()}
        if isinstance(value, Counter):
            return {"counter": list(map(list, each.items()))}
        if all(isinstance(key, str) for key in each) and not each.keys() & _TAGS:
            return each
        if all(isinstance(key, str | int | float) for key in each):
            return {"items": list(map(list, each.items()))}
    raise UnsupportedError(
        f"the state of {name} holds a {type(value).__name__}; a checkpoint can hold numbers, texts, "
        "tensors, arrays, and lists, tuples and dicts of these. Its state_dict() must return only these."
    )


def unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What was `packed`, with copies of its tensors."""
    if isinstance(value, list):
        return [unpacked(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and (tag := next(iter(value))) in _TAGS:
        inside = value[tag]
        if tag in {"tensor", "array"}:
            copy = tensors[inside].clone()
            return copy if tag == "tensor" else copy.numpy()
        if tag == "float":
            return float(inside)
        items = unpacked(inside, tensors)
        if tag == "tuple":
            return tuple(items)
        return dict(items) if tag == "items" else Counter(dict(items))
    return {key: unpacked(one, tensors) for key, one in value.items()}
