"""Backpropagation through time, in closed form: the exact gradient, with which other rules are compared."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.network import Network, Trajectory, Weights, at_last_valid, flip
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.forward import readout_signal
from timelocal.rules.rule import Rule
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
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`.
        seed: of the dropout masks between layers, the only random draws.

    Exact: equal to autograd to rounding. Needs the whole sequence, the transposed weights, and memory
    that grows with its length. Every other rule gives up some of this exactness to avoid one of these needs.

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(3, 8, output_size=2)
    >>> rule = tl.BPTT(network, loss="cross_entropy", at="last")
    >>> rule(torch.randn(4, 10, 3), torch.tensor([0, 1, 1, 0])).backward()
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
        weight_transport=True,
        bidirectional=True,
        references=(
            "P. J. Werbos. Backpropagation through time: what it does and how to do it. "
            "Proceedings of the IEEE 78(10):1550–1560, 1990.",
        ),
    )

    carries_back_to: ClassVar[tuple[str, ...]] = ("inputs", "initial")

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        network, trajectory, batch = self.network, forward.trajectory, forward.batch
        signal = readout_signal(network, forward)
        deltas, at_start = backpropagate(network, trajectory, signal, batch.at)
        gradients = network.parameter_gradients(trajectory, deltas)
        if "inputs" in batch.wanted:
            gradients["inputs"] = signal_at_inputs(network, trajectory, 0, deltas[0])
        if "initial" in batch.wanted:
            gradients["initial"] = at_start
        return gradients


def backpropagate(
    network: Network,
    trajectory: Trajectory,
    signal: Tensor,
    at: Place,
    weights: Weights | None = None,
) -> tuple[list[list[Tensor]], Tensor]:
    """Node signals δ [l][d] (t, b, g) from the signal at the top layer's states.

    And the signals at the initial states, (states, l·directions, b, h). weights[l][d]: the weights that
    signals go back through, if not the network's own.
    """
    own_weights = weights or network.weights()
    lengths, steps = trajectory.lengths, len(trajectory.outputs)
    entering: list[tuple[Tensor | None, State | None]]
    leaving: Tensor | None = None
    if at != "last" or network.recurrent.skip:
        leaving = at_every_step(network, trajectory, signal, at)
        entering = _own_time(network, leaving, lengths)
    else:
        entering = [_at_last(network, part, steps, lengths) for part in _parts(network, signal)]
    deltas: list[list[Tensor]] = []
    at_start: list[State] = []
    for layer in reversed(range(network.num_layers)):
        found = [
            kernels.backward_scan(
                network.cell, own_weights[layer][direction], own, *entering[direction]
            )
            for direction, own in enumerate(trajectory.layers[layer])
        ]
        deltas.insert(0, [delta for delta, _ in found])
        at_start = [start for _, start in found] + at_start
        if layer > 0:
            leaving = signal_below(network, trajectory, layer, deltas[0], leaving, weights)
            entering = _own_time(network, leaving, lengths)
    return deltas, torch.stack([torch.stack(states) for states in zip(*at_start, strict=True)])


def at_every_step(network: Network, trajectory: Trajectory, signal: Tensor, at: Place) -> Tensor:
    """A signal (n, f·directions) at the entries of the loss, placed in time as (t, b, f·directions)."""
    steps, lengths = len(trajectory.outputs), trajectory.lengths
    if at != "last":
        return signal.unflatten(0, (steps, -1))
    forward, *backward = (at_last_valid(own, steps, lengths) for own in _parts(network, signal))
    return torch.cat((forward, *(flip(own, lengths) for own in backward)), -1)


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
    """A signal (b, f) that enters at a direction's own last valid step."""
    if lengths is not None or not network.cell.features_are_hidden:
        return at_last_valid(signal, steps, lengths), None
    others = (torch.zeros_like(signal) for _ in network.cell.state_names[1:])
    return None, (signal, *others)


def signal_at_inputs(
    network: Network,
    trajectory: Trajectory,
    layer: int,
    deltas: list[Tensor],
    weights: Weights | None = None,
) -> Tensor:
    """The signal at the inputs of a layer, (t, b, i): Vᵀ δ over the directions.

    deltas[d] (t, b, g): of the first t steps, or of all, in each direction's own time. weights: as in
    `backpropagate`.
    """
    total: Tensor | None = None
    for direction, delta in enumerate(deltas):
        through = (weights or network.weights())[layer][direction]
        own = trajectory.layers[layer][direction].steps(0, len(delta))
        signal = network.cell.input_signal(through, own, delta)
        signal = flip(signal, trajectory.lengths) if direction else signal
        total = signal if total is None else total + signal
    assert total is not None
    return total


def signal_below(
    network: Network,
    trajectory: Trajectory,
    layer: int,
    deltas: list[Tensor],
    leaving: Tensor | None,
    weights: Weights | None = None,
) -> Tensor:
    """The signal at the states of layer − 1, (t, b, h·directions), from the deltas of a layer.

    leaving: the signal at that layer's outputs, which a network with skip connections passes on, or None.
    weights: as in `backpropagate`.
    """
    total = signal_at_inputs(network, trajectory, layer, deltas, weights)
    total = network.signal_between(trajectory, layer, total)
    if network.recurrent.skip and leaving is not None:
        total = total + leaving
    return network.signal_at_states(total, layer - 1, weights)
