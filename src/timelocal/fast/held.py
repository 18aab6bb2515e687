"""Checks that all objects a native call refers to are still the same, with tensors at the same addresses.

This runs before every step of a stream and must take only microseconds. Modules and optimizers keep their
members in dictionaries and lists, and comparing the objects of two lists is fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter, is_
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer

from timelocal.kernels import native

Container: TypeAlias = dict[Any, Any] | list[Any]


class Held:
    """The present members of some containers, and the addresses of the tensors among them.

    laid_out: tensors whose shape, strides and `requires_grad` are compared as well.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> held = Held(of_modules(layer), layer.parameters())
    >>> held.is_same()
    True
    >>> layer.weight.data = torch.zeros(2, 2)
    >>> held.is_same()
    False
    """

    def __init__(self, containers: Iterable[Container], laid_out: Iterable[Tensor] = ()) -> None:
        self._containers = list(containers)
        # keeps the old members alive, so that no new object can get the identity of an old one
        self._members = _members(self._containers)
        self.tensors = [own for own in self._members if isinstance(own, Tensor)]
        self._laid_out = list(laid_out)
        self._places, self._layouts = self._addresses(), self._layout()

    def is_same(self) -> bool:
        """Whether nothing has been replaced, added or moved since."""
        return (
            _are_members(self._containers, self._members)
            and self._addresses() == self._places
            and self._layout() == self._layouts
        )

    def _addresses(self) -> list[int]:
        return list(map(Tensor.data_ptr, self.tensors))

    def _layout(self) -> list[object]:
        return [*map(_FORM, self._laid_out), *map(Tensor.is_contiguous, self._laid_out)]


_FORM = attrgetter("shape", "requires_grad")


def members(containers: list[Container]) -> list[Any]:
    """The values of dictionaries and the items of lists."""
    views = (own.values() if isinstance(own, dict) else own for own in containers)
    return list(chain.from_iterable(views))


def are_members(containers: list[Container], expected: list[Any]) -> bool:
    """Whether the containers still hold the same objects in the same order."""
    now = members(containers)
    return len(now) == len(expected) and all(map(is_, now, expected))


_members, _are_members = members, are_members
if native.describe()["path"] == "native":  # the same in a fraction of the time
    _members, _are_members = native.extension().members, native.extension().are_members


def of_modules(root: nn.Module) -> Iterator[Container]:
    """The dictionaries of a module and of all within it: attributes, parameters, buffers, hooks."""
    for module in root.modules():
        yield from of_object(module)


def of_object(owner: object) -> Iterator[Container]:
    """The dictionary of an object's attributes, and those that are attributes themselves."""
    yield vars(owner)
    yield from (own for own in vars(owner).values() if isinstance(own, dict))


def of_optimizer(optimizer: Optimizer) -> Iterator[Container]:
    """The containers of an optimizer's parameters and moments, without the options of its groups."""
    yield from of_object(optimizer)
    yield optimizer.param_groups
    yield from (group["params"] for group in optimizer.param_groups)
    yield from optimizer.state.values()
