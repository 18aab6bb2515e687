"""A layer over a whole sequence, in plain torch: any device, any float type, any cell.

This is the only place with a loop over time. Everything that does not depend on the previous step is computed
for all t at once, before and after the loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.cells import (
    Cell,
    CellWeights,
    LayerTrajectory,
    ReducedJacobian,
    StepBuffers,
    Trace,
    at_states,
    seen_of,
)
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
    return LayerTrajectory(inputs, states, gates, auxiliary, seen_of(cell, weights, states))


def backward_scan(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: State | None,
) -> tuple[Tensor, State]:
    """Carry a signal back through time, exactly.

    signal (t, b, f) or None: at the features of each step, without later steps' share; final, each (b, h), or
    None: the signals at the last state from later steps.
    Returns δ (t, b, g) = ∂L/∂a_t and the signals at the initial state, each (b, h).
    """
    jacobian = cell.local_jacobian(trajectory)
    if cell.is_diagonal(weights.decorrelation is not None):  # no step has to wait for its nodes
        kept = cell.reduced_jacobian(weights, jacobian, "diagonal")
        signals = _carried_back(kept, _entering(cell, trajectory, signal, final))
        deltas = cell.node_signal_of_states(weights, jacobian, tuple(s[1:] for s in signals))
        return deltas, tuple(s[0] for s in signals)
    factors = list(zip(*(factor.unbind(0) for factor in jacobian), strict=True))
    after = tuple(state[1:] for state in trajectory.states)
    entering = [] if signal is None else [s.unbind(0) for s in at_states(cell, after, signal)]
    carried = (
        tuple(torch.zeros_like(state[0]) for state in trajectory.states) if final is None else final
    )
    deltas = torch.empty_like(trajectory.gates)
    for t, delta_t in reversed(list(enumerate(deltas.unbind(0)))):
        direct = [own[t] for own in entering]
        carried = (*map(torch.add, carried, direct), *carried[len(direct) :])
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
    """δ (t, b, g) of a signal carried back by the part of the Jacobian that `trace` keeps.

    S_{t-1} = G_{t-1} + J_tᵀ S_t, elementwise, then from S_t at the states to δ_t at the nodes, all at once.
    signal (t, b, f) or None: at the features; final (b, f) or None: at the features of the last step.
    """
    last = tuple(state[-1] for state in trajectory.states)
    at_end = None if final is None else at_states(cell, last, final)
    return traced_states(
        cell, weights, trace, trajectory, _entering(cell, trajectory, signal, at_end)
    )


def traced_states(
    cell: Cell, weights: CellWeights, trace: Trace, trajectory: LayerTrajectory, signals: State
) -> Tensor:
    """`traced_scan` of signals at all states (t + 1, b, h), with the initial ones; changes them in place."""
    jacobian = cell.local_jacobian(trajectory)
    followed = _carried_back(cell.reduced_jacobian(weights, jacobian, trace), signals)
    return cell.node_signal_of_states(weights, jacobian, tuple(s[1:] for s in followed))


def _entering(
    cell: Cell, trajectory: LayerTrajectory, signal: Tensor | None, final: State | None
) -> State:
    """Signals at all states (t + 1, b, h), with the initial ones, from those at features and at the end."""
    signals = tuple(torch.zeros_like(state) for state in trajectory.states)
    after = tuple(state[1:] for state in trajectory.states)
    direct = () if signal is None else at_states(cell, after, signal)
    for own, entering in zip(signals, direct, strict=False):
        own[1:] = entering
    for own, entering in zip(signals, final or (), strict=False):
        own[-1] += entering
    return signals


def _carried_back(reduced: ReducedJacobian, signals: State) -> State:
    """S_{t-1} = G_{t-1} + J_tᵀ S_t in place, elementwise, from the last states to the initial ones."""
    rows = [state.unbind(0) for state in signals]
    kept = [
        (rows[new], rows[old], factor.unbind(0))
        for new, factors in enumerate(reduced)
        for old, factor in enumerate(factors)
        if factor is not None
    ]
    for t in range(len(signals[0]) - 1, 0, -1):
        for later, earlier, factor in kept:
            earlier[t - 1].addcmul_(later[t], factor[t - 1])
    return signals


def node_signals(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """δ (t, b, g) at the nodes of every step from the signal at that step's features.

    signal: (t, b, f), or (b, f) for the same signal at every step; lengths (b,): δ is zero from step
    lengths[b] on.
    """
    jacobian = cell.local_jacobian(trajectory)
    if cell.features_are_hidden:
        deltas = cell.node_signal(weights, jacobian, signal)
    else:
        after = tuple(state[1:] for state in trajectory.states)
        signals = cell.features_signal(after, signal)
        deltas = cell.node_signal_of_states(weights, jacobian, signals)
    if lengths is not None:
        steps = torch.arange(len(deltas), device=deltas.device)
        deltas[steps[:, None] >= lengths.to(deltas.device)] = 0
    return deltas


def weight_gradients(
    cell: Cell, weights: CellWeights, trajectory: LayerTrajectory, deltas: Tensor
) -> CellWeights:
    """Σ_t δ_t ⊗ (input of each parameter at t), in the parameters' shapes; deltas (t, b, g)."""
    return cell.gradients(weights, trajectory, deltas)


def credit(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> CellWeights:
    """The weight gradients from a signal at the features.

    signal and lengths: as in `node_signals`.
    """
    deltas = node_signals(cell, weights, trajectory, signal, lengths)
    return weight_gradients(cell, weights, trajectory, deltas)
