"""Estimates in a loop over batches of one shape, which reuse one native call if there is one for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from timelocal import kernels
from timelocal.feedback import FIXED
from timelocal.rules import DFA, Estimate, Rule, arrange, estimate_batch, estimate_from, single_call

Estimator: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Estimate]
"""A function from checked inputs, targets and lengths to the rule's estimate."""

_Repeat: TypeAlias = Callable[[Tensor, Tensor], Estimate | None]


def repeated_estimate(rule: Rule) -> Estimator:
    """A function from (inputs, targets, lengths or None) to an `Estimate`, for loops over the same data.

    It checks nothing; call `rule.check` once for all the data. Its estimates are those of `rule.estimate`,
    but each is valid only until the next: to save time, they may be written into the same tensors.

    >>> import torch, timelocal as tl
    >>> rule = tl.DFA(tl.GRU(3, 8, 2))
    >>> inputs, targets = torch.randn(10, 5, 3), torch.randint(2, (10,))
    >>> rule.check(inputs, targets)
    >>> learn = repeated_estimate(rule)
    >>> for start in (0, 5):
    ...     estimate = learn(inputs[start : start + 5], targets[start : start + 5], None)
    >>> estimate.gradients.keys() == dict(rule.network.named_parameters()).keys()
    True
    """
    repeat: _Repeat | None = None
    asked = not _in_one_call(rule)

    def learn(inputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Estimate:
        nonlocal repeat, asked
        if not asked and lengths is None:
            repeat, asked = _repeat(rule, inputs, targets), True
        if repeat and lengths is None and (estimate := repeat(inputs, targets)):
            return estimate
        batch = arrange(rule.network, rule.loss, rule.at, inputs, targets, lengths)
        return estimate_batch(rule, batch)

    return learn


def _in_one_call(rule: Rule) -> bool:
    """Whether one native call may compute the rule's estimates: exactly DFA, with a single, fixed F."""
    return (
        type(rule) is DFA
        and (rule.trace, rule.feedback_per, rule.normalize) == ("none", "layer", None)
        and rule.slope is None
        and rule.feedback in FIXED
    )


@torch.no_grad()
def _repeat(rule: Rule, inputs: Tensor, targets: Tensor) -> _Repeat | None:
    """A function for the estimates of batches shaped like this one; None if no native call can do it.

    The function returns None for other shapes, and once a weight has been moved or replaced.
    """
    assert isinstance(rule, DFA)
    network = rule.network
    given = arrange(network, rule.loss, rule.at, inputs, targets)
    batch = replace(given, inputs=given.inputs.contiguous().clone(), targets=targets.clone())
    call = single_call.prepare(network, rule.loss, rule.feedback_matrix(), batch)
    made = call and kernels.repeated_direct(call)
    if not (call and made):
        return None
    parameters = (*call.weights, call.readout, call.bias, call.feedback)
    read = [tensor for tensor in parameters if tensor is not None]
    if not all(
        tensor.is_contiguous() for tensor in read
    ):  # the call would read copies of the others
        return None
    results, run = made
    # no copies, which would stay what they are
    last = tuple(state[-1:] for state in results[0].states)
    estimate = replace(
        estimate_from(rule, *single_call.unpacked(network, batch, results)),
        final_states=last[0] if len(last) == 1 else last,
    )
    addresses = [tensor.data_ptr() for tensor in read]
    places = _places(rule, read)
    shape, dtype = inputs.shape, inputs.dtype

    @torch.no_grad()
    def repeat(inputs: Tensor, targets: Tensor) -> Estimate | None:
        moved = addresses != [tensor.data_ptr() for tensor in read]
        moved = moved or any(held.get(name) is not own for held, name, own in places)
        if moved or inputs.shape != shape or inputs.dtype != dtype:
            return None
        batch.inputs.copy_(network.time_first(inputs))
        batch.targets.copy_(targets)
        run()
        return estimate

    return repeat


def _places(rule: Rule, read: Collection[Tensor]) -> list[tuple[dict[str, Any], str, object]]:
    """The places of these tensors and of all modules: torch's dictionary, the name in it, and the object."""
    wanted = set(map(id, read))
    return [
        (vars(module)[registered], name, own)
        for module in rule.modules()
        for registered in (
            "_parameters",
            "_buffers",
            "_modules",
        )  # asking the module takes ten times as long
        for name, own in vars(module)[registered].items()
        if isinstance(own, nn.Module) or id(own) in wanted
    ]
