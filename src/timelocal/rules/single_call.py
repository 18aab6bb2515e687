"""DFA of one layer from a loss at the last step, in one native call: a function of values."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.kernels import Direct, DirectCall
from timelocal.losses import Loss
from timelocal.network import Network, Trajectory
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass
from timelocal.rules.forward import readout_gradients, with_head
from timelocal.rules.heads import small_head
from timelocal.typing import Gradients


def prepare(network: Network, loss: Loss, feedback: Tensor, batch: Batch) -> DirectCall | None:
    """The call that makes DFA's estimate of a batch with one F (h, o) and no trace.

    None for more than one layer or direction, decorrelation, features other than h, unequal lengths, a loss
    at every step, a head that no kernel computes, or inputs that require a gradient.
    """
    recurrent = network.recurrent
    plain = recurrent.decorrelate is None and recurrent.cell.features_are_hidden
    alone = recurrent.num_layers == recurrent.directions == 1 and plain
    whole = batch.at == "last" and batch.lengths is None and not batch.wanted
    if not (alone and whole) or torch.compiler.is_compiling():
        return None
    small = small_head(network.readout, loss, batch, batch.inputs.shape[1])
    if small is None:
        return None
    start = None if batch.initial is None else network.start(batch.inputs, batch.initial, 0, 0)
    return DirectCall(
        recurrent.cell, recurrent.weights(0, 0), batch.inputs, start, *small, batch.targets, feedback
    )  # fmt: skip


def make(network: Network, batch: Batch, call: DirectCall) -> tuple[ForwardPass, Gradients]:
    """The forward pass and all gradients by that call."""
    return unpacked(network, batch, kernels.direct(call))


def unpacked(network: Network, batch: Batch, found: Direct) -> tuple[ForwardPass, Gradients]:
    """The call's results as a forward pass and gradients by the network's names."""
    own, head, gradients = found
    trajectory = Trajectory(((own,),), own.features, None, None, ())
    forward = with_head(batch, trajectory, own.features[-1], head)
    return forward, readout_gradients(network, forward) | network.named(0, 0, gradients)
