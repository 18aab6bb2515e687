"""The LSTM (Hochreiter & Schmidhuber 1997, with forget gate), as torch.nn.LSTM.

    i, f, o = σ(V x_t + W h_{t-1} + b)   g = tanh(V_g x_t + W_g h_{t-1} + b_g)
    c_t = f ⊙ c_{t-1} + i ⊙ g            h_t = o ⊙ tanh c_t

Nodes: a_i, a_f, a_g, a_o in this order, torch's. States: (h, c). Auxiliary: tanh c_t.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.cells.cell import (
    Cell,
    LayerTrajectory,
    LocalJacobian,
    ReducedJacobian,
    StepBuffers,
    Trace,
)
from timelocal.cells.weights import CellWeights
from timelocal.typing import State


class LSTMCell(Cell):
    """c_t = f ⊙ c_{t-1} + i ⊙ g, h_t = o ⊙ tanh c_t."""

    name = "lstm"
    label = "LSTM"
    gate_names = ("i", "f", "g", "o")
    state_names = ("h", "c")
    has_auxiliary = True

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> None:
        previous, previous_cell = state
        assert out.auxiliary is not None
        size = previous.shape[-1]
        torch.addmm(drive, weights.decorrelated(previous), weights.hh.t(), out=out.gates)
        i, f, g, o = out.gates.split(size, -1)
        out.gates[:, : 2 * size].sigmoid_()
        g.tanh_()
        o.sigmoid_()
        hidden, cell = out.states
        torch.mul(f, previous_cell, out=cell)
        cell.addcmul_(i, g)
        torch.tanh(cell, out=out.auxiliary)
        torch.mul(o, out.auxiliary, out=hidden)

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """∂h/∂c, ∂c/∂a_i, ∂c/∂a_f, ∂c/∂a_g, ∂h/∂a_o, and f = ∂c_t/∂c_{t-1}."""
        i, f, g, o = trajectory.gates.chunk(4, -1)
        squashed = trajectory.auxiliary
        assert squashed is not None
        previous_cell = trajectory.states[1][:-1]
        return (
            (squashed * squashed).neg_().add_(1).mul_(o),
            (1 - i).mul_(i).mul_(g),
            (1 - f).mul_(f).mul_(previous_cell),
            (g * g).neg_().add_(1).mul_(i),
            (1 - o).mul_(o).mul_(squashed),
            f,
        )

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        return _from_cell_signal(jacobian, signal, signal * jacobian[0])

    def node_signal_of_states(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> Tensor:
        signal, carried = signals
        return _from_cell_signal(jacobian, signal, torch.addcmul(carried, signal, jacobian[0]))

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        signal, carried = signals
        cell_signal = torch.addcmul(carried, signal, jacobian[0])
        delta = _from_cell_signal(jacobian, signal, cell_signal)
        return delta, (weights.carried_back(delta @ weights.hh), cell_signal * jacobian[-1])

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        moved, moved_cell = tangents
        by_cell, by_input, by_forget, by_candidate, by_output, forget = jacobian
        nodes = weights.decorrelated(moved) @ weights.hh.t()
        nodes = nodes if node_tangent is None else nodes + node_tangent
        i, f, g, o = nodes.chunk(4, -1)
        cell = forget * moved_cell + by_input * i + by_forget * f + by_candidate * g
        return by_output * o + by_cell * cell, cell

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        """h_t depends on the previous states through c_t, and on h_{t-1} also through the output gate."""
        by_cell, by_input, by_forget, by_candidate, by_output, forget = jacobian
        from_cell = by_cell * forget
        if trace == "leak":
            return (None, from_cell), (None, forget)
        own_input, own_forget, own_candidate, own_output = weights.of_itself()
        cell = (by_input * own_input).addcmul_(by_forget, own_forget)
        cell.addcmul_(by_candidate, own_candidate)
        hidden = torch.addcmul(by_output * own_output, by_cell, cell)
        return (hidden, from_cell), (cell, forget)


def _from_cell_signal(jacobian: LocalJacobian, signal: Tensor, cell_signal: Tensor) -> Tensor:
    """δ from the signal at h_t (through the output gate) and the one at c_t (the other three)."""
    _, by_input, by_forget, by_candidate, by_output, _ = jacobian
    return torch.cat(
        (
            cell_signal * by_input,
            cell_signal * by_forget,
            cell_signal * by_candidate,
            signal * by_output,
        ),
        -1,
    )
