"""Backpropagation through time, in closed form: the exact gradient, and the rule others are held to."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.network import Network, Trajectory, at_last_valid, flip
from timelocal.rules.batch import Batch
from timelocal.rules.rule import ForwardPass, Rule, RuleSpec
from timelocal.typing import Gradients, Place, State


class BPTT(Rule):
    """Backpropagation through time (Werbos 1990) without an autograd graph.

    The output error enters where the loss sees the hidden state and is carried back through the
    cell's full Jacobian, step by step, then down through the layers:

        G_t = ∂L/∂h_t (direct) + (∂h_{t+1}/∂h_t)ᵀ G_{t+1},   δ_t = (∂h_t/∂a_t)ᵀ G_t,   dW = Σ_t δ_t ⊗ pre_t

    Args:
        network: any timelocal network.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last" or "every" step.
        seed: of the dropout masks between layers, all it ever draws.

    Exact: equal to autograd to rounding. Needs the whole sequence, the transposed weights, and memory
    that grows with its length; every other rule here gives up some of this exactness to be rid of one
    of these needs.

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(3, 8, output_size=2)
    >>> rule = tl.BPTT(network, loss="cross_entropy", at="last")
    >>> loss = rule(torch.randn(4, 10, 3), torch.tensor([0, 1, 1, 0]))
    >>> network.readout.weight.grad.shape
    torch.Size([2, 8])
    """

    spec = RuleSpec(
        name="bptt",
        summary="the exact gradient, carried back through time",
        estimates="exact",
        target="bptt",
        online=False,
        autograd_free=True,
        memory="linear",
        weight_transport=True,
        bidirectional=True,
        references=(
            "P. J. Werbos. Backpropagation through time: what it does and how to do it. "
            "Proceedings of the IEEE 78(10):1550–1560, 1990.",
        ),
    )

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward = self.forward_pass(batch, self.generator)
        gradients = self.readout_gradients(forward)
        signal = self.readout_signal(forward)
        deltas = backpropagate(self.network, forward.trajectory, signal, batch.at)
        gradients |= self.network.parameter_gradients(forward.trajectory, deltas)
        return forward, gradients


def backpropagate(
    network: Network, trajectory: Trajectory, signal: Tensor, at: Place
) -> list[list[Tensor]]:
    """Node signals δ [l][d] (t, b, g) from the signal at the top layer's states, top layer first."""
    lengths, steps = trajectory.lengths, len(trajectory.outputs)
    entering: list[tuple[Tensor | None, State | None]]
    if at == "every":
        entering = _own_time(network, signal.unflatten(0, (steps, -1)), lengths)
    else:
        entering = [_at_last(network, part, steps, lengths) for part in _parts(network, signal)]
    deltas: list[list[Tensor]] = []
    for layer in reversed(range(network.num_layers)):
        found = [
            kernels.backward_scan(
                network.cell, network.recurrent.weights(layer, direction), own, *entering[direction]
            )[0]
            for direction, own in enumerate(trajectory.layers[layer])
        ]
        deltas.insert(0, found)
        if layer > 0:
            below = signal_below(network, trajectory, layer, found)
            entering = _own_time(network, below, lengths)
    return deltas


def _parts(network: Network, signal: Tensor) -> tuple[Tensor, ...]:
    """Each direction's share of a signal (…, h·directions)."""
    return signal.chunk(network.directions, -1)


def _own_time(
    network: Network, signal: Tensor, lengths: Tensor | None
) -> list[tuple[Tensor | None, State | None]]:
    """A signal at every step (t, b, h·directions), each direction's share in its own time."""
    forward, *backward = _parts(network, signal)
    return [(forward, None), *((flip(part, lengths), None) for part in backward)]


def _at_last(
    network: Network, signal: Tensor, steps: int, lengths: Tensor | None
) -> tuple[Tensor | None, State | None]:
    """A signal (b, h) that enters at a direction's own last valid step."""
    if lengths is not None:
        return at_last_valid(signal, steps, lengths), None
    others = (torch.zeros_like(signal) for _ in network.cell.state_names[1:])
    return None, (signal, *others)


def signal_below(
    network: Network, trajectory: Trajectory, layer: int, deltas: list[Tensor]
) -> Tensor:
    """The signal at the states of layer − 1, (t, b, h·directions): Vᵀ δ over the directions.

    deltas[d] (t, b, g): of the first t steps, or of all.
    """
    total: Tensor | None = None
    for direction, delta in enumerate(deltas):
        signal = delta @ network.recurrent.weights(layer, direction).ih
        signal = flip(signal, trajectory.lengths) if direction else signal
        total = signal if total is None else total + signal
    assert total is not None
    mask = trajectory.dropout[layer - 1]
    total = total if mask is None else total * mask[: len(total)]
    return network.signal_at_states(total, layer - 1)
