"""Whether all that a native call was told of is still there: the same objects, tensors where they were.

It is asked before every step of a stream and has to cost microseconds. What modules and optimizers hold
is in dictionaries and lists, and whether two lists hold the same objects is soon seen.
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
    """What some containers hold at this moment, and where the tensors among it lie.

    laid_out: tensors of which also shape, strides and `requires_grad` are looked at.

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
        # kept: so nothing new can have the identity of what has gone
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
    """What dictionaries, by their values, and lists hold."""
    views = (own.values() if isinstance(own, dict) else own for own in containers)
    return list(chain.from_iterable(views))


def are_members(containers: list[Container], expected: list[Any]) -> bool:
    """Whether they still hold the same objects in the same order."""
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
    """Where an optimizer keeps its parameters and their moments; its groups' options are not among it."""
    yield from of_object(optimizer)
    yield optimizer.param_groups
    yield from (group["params"] for group in optimizer.param_groups)
    yield from optimizer.state.values()
