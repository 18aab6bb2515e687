"""A layer over a whole sequence, in plain torch: any device, any float type, any cell.

The only place with a loop over time. Everything that does not wait for the previous step is done for
all t at once, before and after the loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.cells import Cell, CellWeights, LayerTrajectory, StepBuffers, Trace
from timelocal.typing import State


def scan(
    cell: Cell,
    weights: CellWeights,
    inputs: Tensor,
    initial: State,
    node_noise: Tensor | None = None,
) -> LayerTrajectory:
    """Run the cell forward over inputs (t, b, i) from the initial state, each (b, h).

    node_noise (t, b, g) is added to the pre-activations.
    """
    steps, batch, _ = inputs.shape
    hidden = initial[0].shape[-1]
    nodes = len(cell.gate_names) * hidden
    drives = cell.drives(weights, inputs, node_noise)
    states = tuple(inputs.new_empty(steps + 1, batch, hidden) for _ in cell.state_names)
    for state, start in zip(states, initial, strict=True):
        state[0] = start
    gates = states[0][1:] if cell.gates_are_hidden else inputs.new_empty(steps, batch, nodes)
    auxiliary = inputs.new_empty(steps, batch, hidden) if cell.has_auxiliary else None

    rows = list(zip(*(state.unbind(0) for state in states), strict=True))
    auxiliaries = auxiliary.unbind(0) if auxiliary is not None else (None,) * steps
    for t, (drive_t, gates_t, auxiliary_t) in enumerate(
        zip(drives, gates.unbind(0), auxiliaries, strict=True)
    ):
        cell.step(weights, drive_t, rows[t], StepBuffers(rows[t + 1], gates_t, auxiliary_t))
    decorrelated = None if weights.decorrelation is None else weights.decorrelated(states[0])
    return LayerTrajectory(inputs, states, gates, auxiliary, decorrelated)


def backward_scan(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: State | None,
) -> tuple[Tensor, State]:
    """Carry a signal back through time, exactly.

    signal (t, b, h) or None: ∂L/∂h_t where something sees h_t directly; final, each (b, h), or None:
    the signals at the last state from anything later.
    Returns δ (t, b, g) = ∂L/∂a_t and the signals at the initial state, each (b, h).
    """
    jacobian = cell.local_jacobian(trajectory)
    factors = list(zip(*(factor.unbind(0) for factor in jacobian), strict=True))
    direct = None if signal is None else signal.unbind(0)
    carried = (
        tuple(torch.zeros_like(state[0]) for state in trajectory.states) if final is None else final
    )
    deltas = torch.empty_like(trajectory.gates)
    for t, delta_t in reversed(list(enumerate(deltas.unbind(0)))):
        if direct is not None:
            carried = (carried[0] + direct[t], *carried[1:])
        delta, carried = cell.backward_step(weights, factors[t], carried)
        delta_t.copy_(delta)
    return deltas, carried


def traced_scan(
    cell: Cell,
    weights: CellWeights,
    trace: Trace,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: Tensor | None,
) -> Tensor:
    """δ (t, b, g) of a signal carried back by what `trace` keeps of the Jacobian.

    S_{t-1} = G_{t-1} + J_tᵀ S_t, elementwise, then from S_t at the states to δ_t at the nodes, all at once.
    signal G (t, b, h) or None; final (b, h) or None: a signal at the last hidden state.
    """
    jacobian = cell.local_jacobian(trajectory)
    reduced = cell.reduced_jacobian(weights, jacobian, trace)
    signals = tuple(torch.zeros_like(state[1:]) for state in trajectory.states)
    if signal is not None:
        signals[0].copy_(signal)
    if final is not None:
        signals[0][-1] += final
    rows = [state.unbind(0) for state in signals]
    kept = [
        (rows[new], rows[old], factor.unbind(0))
        for new, factors in enumerate(reduced)
        for old, factor in enumerate(factors)
        if factor is not None
    ]
    for t in range(len(signals[0]) - 1, 0, -1):
        for later, earlier, factor in kept:
            earlier[t - 1].addcmul_(later[t], factor[t])
    return cell.node_signal_of_states(weights, jacobian, signals)


def node_signals(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """δ (t, b, g) at the nodes of every step from the signal at that step's hidden state.

    signal: (t, b, h), or (b, h) for the same one at every step; lengths (b,): steps from lengths[b] on get
    zeros.
    """
    deltas = cell.node_signal(weights, cell.local_jacobian(trajectory), signal)
    if lengths is not None:
        steps = torch.arange(len(deltas), device=deltas.device)
        deltas[steps[:, None] >= lengths.to(deltas.device)] = 0
    return deltas


def weight_gradients(
    cell: Cell, weights: CellWeights, trajectory: LayerTrajectory, deltas: Tensor
) -> CellWeights:
    """Σ_t δ_t ⊗ (what entered each parameter at t), in the parameters' shapes; deltas (t, b, g)."""
    return cell.gradients(weights, trajectory, deltas)


def credit(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> CellWeights:
    """The weight gradients of the node signals that a signal at the hidden states makes.

    signal and lengths: as in `node_signals`.
    """
    deltas = node_signals(cell, weights, trajectory, signal, lengths)
    return weight_gradients(cell, weights, trajectory, deltas)
