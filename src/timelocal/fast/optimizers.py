"""The optimizers that a native stream supports, and where they keep their moments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from timelocal.kernels.native_stream import GroupCall
from timelocal.network.hooks import behind, no_hook


class Native(NamedTuple):
    """A supported optimizer: its name in the kernels, and its own names for its moments."""

    kind: str
    first: str | None
    second: str | None
    steps: bool
    refused: tuple[str, ...]
    """Options that the kernels do not support unless they are false."""


_COMMON = ("maximize", "capturable", "differentiable")
NATIVE: dict[type[Optimizer], Native] = {
    SGD: Native("sgd", "momentum_buffer", None, False, _COMMON),
    Adam: Native("adam", "exp_avg", "exp_avg_sq", True, (*_COMMON, "amsgrad")),
    AdamW: Native("adam", "exp_avg", "exp_avg_sq", True, (*_COMMON, "amsgrad")),
    RMSprop: Native("rmsprop", None, "square_avg", True, (*_COMMON, "centered", "momentum")),
}
"""By exact type: a subclass of an optimizer may compute something else."""
_DECISIVE = (*_COMMON, "amsgrad", "centered", "decoupled_weight_decay")


def held_parameters(optimizer: Optimizer) -> set[int]:
    """The parameters that an optimizer updates, by their `id`."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def native_of(optimizer: Optimizer, parameters: Iterable[Tensor]) -> Native | None:
    """The entry for this optimizer, None if the kernels do not support it."""
    native = NATIVE.get(type(optimizer))
    if native is None or is_hooked(optimizer):
        return None
    groups = optimizer.param_groups
    if any(group.get(name) for group in groups for name in native.refused):
        return None
    own = set(map(id, parameters))  # others may have gradients that an optimizer step would use
    if any(id(parameter) not in own for group in groups for parameter in group["params"]):
        return None
    decouples = {_decouples(optimizer, group) for group in groups}
    momentum = {bool(group.get("momentum")) for group in groups}
    return native if len(decouples) == 1 and len(momentum) == 1 else None


def decouples(optimizer: Optimizer) -> bool:
    """Whether weight decay bypasses the moments, as in AdamW."""
    return _decouples(optimizer, optimizer.param_groups[0])


def _decouples(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    return bool(group.get("decoupled_weight_decay", type(optimizer) is AdamW))


def options(group: Mapping[str, Any]) -> tuple[object, ...]:
    """The options of a group that decide whether the kernels support it."""
    return (*map(group.get, _DECISIVE), bool(group.get("momentum")))


def write_group(call: GroupCall, group: Mapping[str, Any]) -> None:
    """Write a group's present options, which a scheduler may have changed since the last step."""
    call.lr = float(group["lr"])
    call.weight_decay = float(group["weight_decay"])
    if "betas" in group:
        call.momentum, call.decay = map(float, group["betas"])
    else:
        call.momentum, call.decay = float(group.get("momentum", 0)), float(group.get("alpha", 0))
    call.dampening = float(group.get("dampening", 0))
    call.epsilon = float(group.get("eps", 0))
    call.nesterov = bool(group.get("nesterov"))


def moments(
    native: Native, group: Mapping[str, Any], state: Mapping[str, Any], like: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None] | None:
    """The first moment, the second moment and the number of steps, as far as the optimizer keeps them.

    None before the optimizer's own first step, which creates them, or if they are laid out differently.
    """
    found = []
    keeps = native.first is not None and (native.kind != "sgd" or bool(group["momentum"]))
    for name in (native.first if keeps else None, native.second):
        tensor = None if name is None else state.get(name)
        laid_out = (
            isinstance(tensor, Tensor)
            and tensor.shape == like.shape
            and tensor.is_contiguous()
            and (tensor.dtype, tensor.device) == (like.dtype, like.device)
        )
        if name is not None and not laid_out:
            return None
        found.append(tensor)
    step = state.get("step") if native.steps else None
    if native.steps and not (
        isinstance(step, Tensor)
        and step.numel() == 1
        and step.dtype == torch.float32
        and step.is_cpu
    ):
        return None
    return found[0], found[1], step


_HOOKS: WeakKeyDictionary[Optimizer, tuple[dict[int, Any], ...]] = WeakKeyDictionary()


def hooks(optimizer: Optimizer) -> tuple[dict[int, Any], ...]:
    """The dictionaries of an optimizer's hooks and of all optimizers', as their own handles refer to them."""
    found = _HOOKS.get(optimizer)
    if found is None:
        found = _HOOKS[optimizer] = behind(
            optimizer.register_step_pre_hook(no_hook),
            optimizer.register_step_post_hook(no_hook),
            register_optimizer_step_pre_hook(no_hook),
            register_optimizer_step_post_hook(no_hook),
        )
    return found


def is_hooked(optimizer: Optimizer) -> bool:
    """Whether a hook of the user runs at every step."""
    return any(map(len, hooks(optimizer)))


def count_an_update(optimizer: Optimizer, parameters: Iterable[Tensor]) -> None:
    """One `optimizer.step()` without gradients, which changes nothing but lets a scheduler count the step."""
    kept = [(parameter, parameter.grad) for parameter in parameters]
    for parameter, _ in kept:
        parameter.grad = None
    optimizer.step()
    for parameter, gradient in kept:
        parameter.grad = gradient
