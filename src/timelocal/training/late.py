"""Steps of a stream that wait for their targets, with everything each was made from."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from timelocal.arguments import is_whole
from timelocal.errors import Problem, described, raise_problems
from timelocal.network import Network
from timelocal.rules import Rule
from timelocal.typing import Memory


class WaitingStep(NamedTuple):
    """Copies of everything that a step was made from.

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
        """Copies of everything that the current step depends on."""
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
        """The inverse of `named`, copied, each tensor to the device of that of `like`."""

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


Waiting: TypeAlias = deque[WaitingStep | None]
"""The most recent steps, the last one at the end; None for a step that no longer waits for its target."""

MOST_DELAY = 10**6
_LATE = "late.{}."
_AGE = re.compile(r"late\.(\d+)\.")
"""The names of the tensors of a waiting step, by the number of steps since then."""


def delay_problem(what: str, value: object, most: int = MOST_DELAY) -> Problem | None:
    """A problem unless `value` is a number of steps up to `most`."""
    if is_whole(value, 0, most):
        return None
    if most == MOST_DELAY:
        return Problem(what, described(value), f"a number of steps from 0 to {most:,}")
    remedy = f"Create the stream with max_delay={described(value)}." if is_whole(value, 0) else ""
    return Problem(
        what, described(value), f"a number of steps between 0 and max_delay={most}", remedy
    )


def none_waits(max_delay: int) -> Waiting:
    """Room for the last step and the `max_delay` steps before it."""
    return deque([None] * (max_delay + 1), maxlen=max_delay + 1)


def named(waiting: Waiting) -> dict[str, Tensor]:
    """Copies of all waiting steps as tensors by name."""
    return {
        _LATE.format(age) + name: own.clone()
        for age, step in enumerate(reversed(waiting))
        if step is not None
        for name, own in step.named().items()
    }


def from_named(state: Mapping[str, Tensor], like: WaitingStep, max_delay: int) -> Waiting:
    """The inverse of `named`, copied, each tensor to the device of that of `like`."""
    waiting = none_waits(max_delay)
    for age in range(len(waiting)):
        prefix = _LATE.format(age)
        own = {
            name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)
        }
        waiting[-1 - age] = WaitingStep.from_named(own, like) if own else None
    return waiting


def expected_names(
    state: Mapping[str, Tensor], like: WaitingStep, max_delay: int
) -> dict[str, Tensor]:
    """The expected form of the waiting steps in a state, by name.

    Raises:
        ArgumentError: for one that has waited longer than `max_delay`.
    """
    ages = {int(found[1]) for name in state if (found := _AGE.match(name))}
    if ages and (not max_delay or max(ages) > max_delay):
        got = f"a step that has been waiting for its target for {max(ages)} steps"
        remedy = f"Create the stream with max_delay={max(1, max(ages))}."
        raise_problems([Problem("state", got, f"max_delay={max_delay}", remedy)])
    return {_LATE.format(age) + name: own for age in ages for name, own in like.named().items()}


def check_weights(network: Network, waiting: WaitingStep) -> None:
    """Raise an `ArgumentError` if the network's parameters have changed since that step."""
    now = {name: tuple(own.shape) for name, own in network.named_parameters()}
    then = {name: tuple(own.shape) for name, own in waiting.weights.items()}
    remedy = "Learn from the earlier steps before changing the network."
    raise_problems(
        Problem(name, f"{now.get(name)} now", f"{then.get(name)}, as at that step", remedy)
        for name in sorted({*now, *then})
        if now.get(name) != then.get(name)
    )


@contextmanager
def as_it_was(rule: Rule, waiting: WaitingStep) -> Iterator[None]:
    """The rule, temporarily with the weights and the generator of an earlier step."""
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
