"""Everything that the next epoch depends on, copied from the live objects and restored to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from timelocal.errors import RunError, UnsupportedError
from timelocal.rules import Rule
from timelocal.training.generators import Generator, generators
from timelocal.training.state import packed, unpacked

Number: TypeAlias = bool | int | float | None


@runtime_checkable
class Stateful(Protocol):
    """An object with a state that lasts over epochs."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any) -> object: ...


def stateful(callbacks: Iterable[object]) -> tuple[Stateful, ...]:
    """The callbacks that have a state."""
    return tuple(callback for callback in callbacks if isinstance(callback, Stateful))


@dataclass(frozen=True)
class Live:
    """The objects of a run that change as it goes.

    callbacks: those that have a state.
    """

    rule: Rule
    optimizer: Optimizer
    scheduler: LRScheduler | None = None
    callbacks: tuple[Stateful, ...] = ()

    @cached_property
    def generators(self) -> dict[str, Generator]:
        """The generators of the network's parts and the loss, besides the rule's own."""
        rule = self.rule
        found = generators({"rule": rule, "cell": rule.network.cell, "loss": rule.loss})
        return {name: one for name, one in found.items() if one is not rule.generator}


@dataclass(frozen=True)
class Snapshot:
    """Copies of the state of the rule (with its network), the optimizer and everything else.

    The optimizer's tensors and numbers are named `<parameter index>.<name>`, so that they fit a
    safetensors and a JSON file: nothing is pickled. `state` is JSON: the optimizer's `groups` (learning
    rates, betas, …), the `scheduler`, the `callbacks`, the `generators`, and why the run has `stopped`, if
    one of its callbacks said so. `tensors` are those it names.
    """

    rule: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    numbers: dict[str, Number]
    state: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def network(self) -> dict[str, Tensor]:
        """The network's own `state_dict`."""
        return part_of(self.rule, "network")

    @property
    def stopped(self) -> str:
        """Why the run stopped, if a callback stopped it."""
        return self.state.get("stopped", "")

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups without their parameters; empty in checkpoints before format 3."""
        return unpacked(self.state.get("groups", []), self.tensors)


def part_of(state: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    """The state of a submodule, by its own names.

    >>> part_of({"network.a": torch.ones(1), "b": torch.ones(1)}, "network").keys()
    dict_keys(['a'])
    """
    prefix = f"{module}."
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def groups_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The options of every group of the optimizer, without its parameters.

    >>> groups_of(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1))[0]["lr"]
    0.1
    """
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]


def take(live: Live, stopped: str = "") -> Snapshot:
    """Copy the current state of the live objects; `stopped`: why the run stopped."""
    optimizer_tensors: dict[str, Tensor] = {}
    numbers: dict[str, Number] = {}
    for index, state in live.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            key = f"{index}.{name}"
            if isinstance(value, Tensor):
                optimizer_tensors[key] = value.detach().clone()
            elif value is None or isinstance(value, int | float):
                numbers[key] = value
            else:
                raise UnsupportedError(
                    f"{type(live.optimizer).__name__} keeps {name!r} of type {type(value).__name__}; a "
                    "checkpoint can hold tensors and numbers. Use an optimizer whose state is made "
                    "of these, such as Adam, SGD or RMSprop."
                )
    tensors: dict[str, Tensor] = {}
    others: dict[str, Any] = {
        "groups": packed(groups_of(live.optimizer), tensors, type(live.optimizer).__name__)
    }
    if live.scheduler is not None:
        scheduler = type(live.scheduler).__name__
        others["scheduler"] = packed(live.scheduler.state_dict(), tensors, scheduler)
    if live.callbacks:
        others["callbacks"] = [
            packed(callback.state_dict(), tensors, f"{type(callback).__name__}.{place}")
            for place, callback in enumerate(live.callbacks)
        ]
    if live.generators:
        others["generators"] = {
            name: packed(_drawn(one), tensors, name) for name, one in live.generators.items()
        }
    if stopped:
        others["stopped"] = stopped
    return Snapshot(_copy(live.rule.state_dict()), optimizer_tensors, numbers, others, tensors)


def put_back(snapshot: Snapshot, live: Live) -> None:
    """Restore the live objects from `snapshot`; anything it does not hold is left unchanged."""
    live.rule.load_state_dict(snapshot.rule)
    state: dict[int, dict[str, Tensor | Number]] = {}
    for values in (_copy(snapshot.optimizer), snapshot.numbers):
        for key, value in values.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
    groups = live.optimizer.state_dict()["param_groups"]
    for group, saved in zip(groups, snapshot.groups, strict=False):
        for name, value in saved.items():
            now = group.get(name)
            both = isinstance(now, Tensor) and isinstance(value, Tensor)
            group[name] = value.to(now) if both else value
    live.optimizer.load_state_dict({"state": state, "param_groups": groups})
    others = {
        name: unpacked(value, snapshot.tensors)
        for name, value in snapshot.state.items()
        if name not in {"groups", "stopped"}
    }
    if live.scheduler is not None and "scheduler" in others:
        live.scheduler.load_state_dict(others["scheduler"])
    for callback, saved in zip(live.callbacks, others.get("callbacks", []), strict=False):
        callback.load_state_dict(saved)
    for name, saved in others.get("generators", {}).items():
        _draw_on(live.generators[name], saved)


def _drawn(generator: Generator) -> Any:
    """How far a generator has drawn."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    return generator.bit_generator.state


def _draw_on(generator: Generator, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state


def go_on_from(saved: Snapshot, live: Live, folder: object) -> None:
    """`put_back` the content of `folder`; if it does not fit, raise a `RunError` and change nothing."""
    before = take(live)
    try:
        put_back(saved, live)
    except (LookupError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        put_back(before, live)
        raise RunError(
            f"the checkpoint in {folder} does not fit this rule and optimizer ({error}). Give the same "
            "objects to continue, or another folder to start a new run."
        ) from error


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def is_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether every floating-point number in `tensors` is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
