"""A step of a stream that waits for its label: what it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from timelocal.network import Network
from timelocal.rules import Rule
from timelocal.typing import Memory


class WaitingStep(NamedTuple):
    """Copies of all that a step was made from.

    inputs (b, i); present (b,): which rows made the step; memory: states and traces before it; weights: the
    network's parameters by name; step: its number; generator: the state its dropout masks are drawn from.
    """

    inputs: Tensor
    present: Tensor
    memory: Memory
    weights: dict[str, Tensor]
    step: Tensor
    generator: Tensor

    @classmethod
    def of(
        cls, rule: Rule, memory: Memory, step: int, inputs: Tensor, present: Tensor | None
    ) -> WaitingStep:
        """What the step is made from now, copied."""
        if present is None:
            present = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
        return cls(
            inputs.clone(),
            present.clone(),
            {name: carried.clone() for name, carried in memory.items()},
            {name: own.detach().clone() for name, own in rule.network.named_parameters()},
            torch.tensor(step),
            rule.get_extra_state(),
        )

    def named(self) -> dict[str, Tensor]:
        """All as tensors by name, for a `state_dict`."""
        found: dict[str, Tensor] = {}
        for field, value in self._asdict().items():
            each = {field: value} if isinstance(value, Tensor) else value
            found |= {
                name if name == field else f"{field}.{name}": own for name, own in each.items()
            }
        return found

    @classmethod
    def from_named(cls, named: Mapping[str, Tensor], like: WaitingStep) -> WaitingStep:
        """The inverse of `named`, copied, each tensor to where that of `like` is."""

        def of(name: str, own: Tensor) -> Tensor:
            return named[name].to(own.device, copy=True)

        return cls(
            of("inputs", like.inputs),
            of("present", like.present),
            {name: of(f"memory.{name}", own) for name, own in like.memory.items()},
            {name: of(f"weights.{name}", own) for name, own in like.weights.items()},
            of("step", like.step),
            of("generator", like.generator),
        )


@contextmanager
def as_it_was(rule: Rule, waiting: WaitingStep) -> Iterator[None]:
    """The rule with the weights and the generator of a step that has passed, for a while."""
    network, now = rule.network, rule.get_extra_state()
    present = _data(network, waiting.weights)
    rule.set_extra_state(waiting.generator)
    try:
        yield
    finally:
        _data(network, present)
        rule.set_extra_state(now)


def _data(network: Network, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Let the parameters hold other tensors, without a copy; return those they held."""
    held = {}
    for name, parameter in network.named_parameters():
        held[name], parameter.data = parameter.data, values[name]
    return held
