"""The forward pass of a rule: one run with its losses and output errors; and the readout's own share."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.kernels import Head
from timelocal.losses import Loss
from timelocal.network import Network, Trajectory, mean_over_steps, read, readout
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass
from timelocal.rules.heads import small_head
from timelocal.typing import Gradients, Place, States


def forward_pass(
    network: Network, loss: Loss, batch: Batch, generator: torch.Generator | None
) -> ForwardPass:
    """One clean run with its losses and output errors; the generator draws dropout masks.

    >>> import torch, timelocal as tl
    >>> from timelocal.rules import make_batch
    >>> net = tl.RNN(2, 4, output_size=3)
    >>> rule = tl.BPTT(net)
    >>> batch = make_batch(net, rule.loss, "last", torch.ones(5, 6, 2), torch.zeros(5).long())
    >>> forward_pass(net, rule.loss, batch, None).errors.shape
    torch.Size([5, 3])
    """
    trajectory = network.unroll(batch.inputs, batch.lengths, batch.initial, generator)
    last = batch.at == "last"
    features = trajectory.last() if last else trajectory.outputs.flatten(0, 1)
    small = small_head(network.readout, loss, batch, len(features))
    if small is not None:
        name, weight, bias = small
        return with_head(
            batch, trajectory, features, kernels.head(name, features, weight, bias, batch.targets)
        )
    valid = None if last or trajectory.valid is None else trajectory.valid.flatten()
    features, outputs = read(network.readout, features, valid)
    values = batch.pooled(outputs.detach())
    losses, errors = batch.losses_and_errors(loss, values)
    return ForwardPass(
        batch,
        trajectory,
        features,
        outputs,
        batch.spread(batch.scale_errors(errors)).to(values.dtype),
        batch.mean(losses),
        batch.accuracy(loss, values),
    )


def with_head(batch: Batch, trajectory: Trajectory, features: Tensor, head: Head) -> ForwardPass:
    """A forward pass whose head, including the readout's gradients, was computed by one kernel."""
    gradients = {"weight": head.weight}
    if head.bias is not None:
        gradients["bias"] = head.bias
    return ForwardPass(
        batch,
        trajectory,
        features,
        head.outputs,
        head.errors,
        head.loss,
        head.accuracy,
        gradients,
    )


def readout_gradients(network: Network, forward: ForwardPass) -> Gradients:
    """The readout's gradients by the exact delta rule, under the network's names for its parameters."""
    gradients = forward.readout_gradients
    if gradients is None:
        gradients = readout.readout_gradients(
            network.readout, forward.features, forward.outputs, forward.errors
        )
    return {f"readout.{name}": gradient for name, gradient in gradients.items()}


def readout_signal(network: Network, forward: ForwardPass) -> Tensor:
    """The signal at the top layer's states h (n, h·directions): the error carried back to them.

    Through the readout, and through Dᵀ if the network decorrelates.
    """
    signal = readout.readout_signal(
        network.readout, forward.features, forward.outputs, forward.errors
    )
    return network.signal_at_states(signal, network.num_layers - 1)


def read_outputs(
    network: Network, at: Place, inputs: Tensor, lengths: Tensor | None, initial: States | None
) -> Tensor:
    """The outputs at the entries of the loss, in the user's layout: from (t, b, i) to (b, o) or (b, t, o)."""
    trajectory = network.unroll(inputs, lengths, initial)
    if at == "last":
        return read(network.readout, trajectory.last())[1].detach()
    valid = None if trajectory.valid is None else trajectory.valid.flatten()
    rows = read(network.readout, trajectory.outputs.flatten(0, 1), valid)[1].detach()
    stepwise = rows.unflatten(0, inputs.shape[:2])
    if at == "mean":
        return mean_over_steps(stepwise, lengths).to(rows.dtype)
    return stepwise.transpose(0, 1) if network.batch_first else stepwise
