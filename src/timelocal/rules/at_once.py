"""DFA of one layer from a loss at the last step in one call; and that call again and again, in a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.kernels import Direct, DirectCall
from timelocal.network import Trajectory
from timelocal.rules.batch import Batch, arrange
from timelocal.rules.rule import Estimate, ForwardPass, Learner
from timelocal.typing import Gradients

if TYPE_CHECKING:
    from timelocal.rules.feedback_rule import FeedbackRule

Repeat = Callable[[Tensor, Tensor], Estimate | None]


def compute(rule: FeedbackRule, batch: Batch) -> tuple[ForwardPass, Gradients] | None:
    """A forward pass and the gradients; None for what is more than one layer, one matrix and no trace."""
    call = _call(rule, batch)
    return call and _found(rule, kernels.direct(call))


def learner(rule: FeedbackRule) -> Learner:
    """The rule's estimates for a loop: where it can be, one native call again, into the same tensors."""
    repeat: Repeat | None = None
    asked = False

    def learn(inputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Estimate:
        nonlocal repeat, asked
        if not asked and lengths is None:
            repeat, asked = _repeat(rule, inputs, targets), True
        if repeat and lengths is None and (estimate := repeat(inputs, targets)):
            return estimate
        return rule.estimate_checked(inputs, targets, lengths)

    return learn


@torch.no_grad()
def _repeat(rule: FeedbackRule, inputs: Tensor, targets: Tensor) -> Repeat | None:
    """Estimates of batches shaped like this one; None where one native call does not do.

    What it makes says None of other shapes, and once a weight lies elsewhere.
    """
    given = arrange(rule.network, rule.loss, rule.at, inputs, targets)
    batch = replace(given, inputs=given.inputs.contiguous().clone(), targets=targets.clone())
    call = _call(rule, batch)
    made = call and kernels.repeated_direct(call)
    if not (call and made):
        return None
    parameters = (*call.weights, call.readout, call.bias, call.feedback)
    read = [tensor for tensor in parameters if tensor is not None]
    if not all(tensor.is_contiguous() for tensor in read):  # the call reads copies of these
        return None
    found, run = made
    # no copies, which would stay what they are
    last = tuple(state[-1:] for state in found[0].states)
    estimate = replace(
        rule.estimate_from(batch, *_found(rule, found)),
        final_states=last[0] if len(last) == 1 else last,
    )
    addresses = [tensor.data_ptr() for tensor in read]
    shape, kind = inputs.shape, inputs.dtype

    @torch.no_grad()
    def repeat(inputs: Tensor, targets: Tensor) -> Estimate | None:
        moved = addresses != [tensor.data_ptr() for tensor in read]
        if moved or inputs.shape != shape or inputs.dtype != kind:
            return None
        batch.inputs.copy_(rule.network.time_first(inputs))
        batch.targets.copy_(targets)
        run()
        return estimate

    return repeat


def _call(rule: FeedbackRule, batch: Batch) -> DirectCall | None:
    network, recurrent = rule.network, rule.network.recurrent
    alone = recurrent.num_layers == recurrent.directions == 1 and recurrent.decorrelate is None
    whole = batch.at == "last" and batch.lengths is None
    direct = rule.trace == "none" and rule.feedback_per == "layer"
    if not (alone and whole and direct) or torch.compiler.is_compiling():
        return None
    small = rule.small_head(batch, batch.inputs.shape[1])
    if small is None:
        return None
    initial = batch.initial
    start = None if initial is None else network.start(batch.inputs, initial, 0, 0)
    weights, feedback = recurrent.weights(0, 0), rule.feedback_matrix()
    return DirectCall(recurrent.cell, weights, batch.inputs, start, *small, batch.targets, feedback)


def _found(rule: FeedbackRule, found: Direct) -> tuple[ForwardPass, Gradients]:
    own, head, gradients = found
    features = own.features
    trajectory = Trajectory(((own,),), features, None, None, ())
    forward = rule.with_head(trajectory, features[-1], head)
    return forward, rule.readout_gradients(forward) | rule.network.named(0, 0, gradients)
