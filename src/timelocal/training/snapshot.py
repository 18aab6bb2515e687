"""All that the next epoch depends on, copied out of the live objects and put back into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from timelocal.errors import RunError, UnsupportedError
from timelocal.rules import Rule

Number: TypeAlias = bool | int | float | None


@dataclass(frozen=True)
class Snapshot:
    """Copies of the rule's state, its network's inside, and of the optimizer's.

    The optimizer's tensors and numbers are named `<parameter index>.<name>`, so that they fit a
    safetensors and a JSON file: nothing is pickled.
    """

    rule: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    numbers: dict[str, Number]

    def network(self) -> dict[str, Tensor]:
        """The network's own `state_dict`."""
        return part_of(self.rule, "network")


def part_of(state: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    """The state of a submodule, by its own names.

    >>> part_of({"network.a": torch.ones(1), "b": torch.ones(1)}, "network").keys()
    dict_keys(['a'])
    """
    prefix = f"{module}."
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def take(rule: Rule, optimizer: Optimizer) -> Snapshot:
    """Copy the present state of `rule` and `optimizer`."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Number] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            key = f"{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value.detach().clone()
            elif value is None or isinstance(value, int | float):
                numbers[key] = value
            else:
                raise UnsupportedError(
                    f"{type(optimizer).__name__} keeps {name!r} of type {type(value).__name__}; a "
                    "checkpoint can hold tensors and numbers. Use an optimizer whose state is made "
                    "of these, such as Adam, SGD or RMSprop."
                )
    return Snapshot(_copy(rule.state_dict()), tensors, numbers)


def put_back(snapshot: Snapshot, rule: Rule, optimizer: Optimizer) -> None:
    """Give `rule` and `optimizer` the state of `snapshot`."""
    rule.load_state_dict(snapshot.rule)
    state: dict[int, dict[str, Tensor | Number]] = {}
    for values in (_copy(snapshot.optimizer), snapshot.numbers):
        for key, value in values.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def go_on_from(saved: Snapshot, rule: Rule, optimizer: Optimizer, folder: object) -> None:
    """`put_back` what `folder` held; a `RunError` if it does not fit, and nothing is changed then."""
    before = take(rule, optimizer)
    try:
        put_back(saved, rule, optimizer)
    except (LookupError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        put_back(before, rule, optimizer)
        raise RunError(
            f"the checkpoint in {folder} does not fit this rule and optimizer ({error}). Give the same "
            "objects to go on, or another folder to begin a new run."
        ) from error


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def is_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether every floating-point number in `tensors` is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
