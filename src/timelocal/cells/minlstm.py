"""The minimal LSTM (minLSTM; Feng et al. 2024): gates that see only the input and sum to one.

    f, i = σ(V x_t + b)        h_t = (f ⊙ h_{t-1} + i ⊙ (V_c x_t + b_c)) / (f + i)

Nodes: a_f, a_i and a_c in this order. Gates: f, i, c. Auxiliary: i / (f + i), the fraction that is written.
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from timelocal.arguments import as_real
from timelocal.cells.cell import LayerTrajectory, LocalJacobian, ReducedJacobian, StepBuffers
from timelocal.cells.elementwise import ByNode, ElementwiseCell
from timelocal.cells.weights import CellWeights
from timelocal.errors import Problem, described, raise_problems
from timelocal.typing import State


class MinLSTMCell(ElementwiseCell):
    """h_t = f' ⊙ h_{t-1} + i' ⊙ c_t with f' = f / (f + i) and i' = i / (f + i).

    forget_bias: the initial b_f; a larger value remembers longer.
    """

    name = "minlstm"
    label = "minLSTM"
    gate_names = ("f", "i", "c")
    has_auxiliary = True

    def __init__(self, forget_bias: float = 0.0) -> None:
        self.forget_bias = as_real(forget_bias)
        if not -inf < self.forget_bias < inf:
            raise_problems([Problem("forget_bias", described(forget_bias), "a finite number")])

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        super().initialise(name, parameter, hidden_size, generator)
        if name == "bias":
            parameter[:hidden_size] = self.forget_bias

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> None:
        assert out.auxiliary is not None
        out.gates.copy_(drive)
        forget, write, candidate = out.gates.chunk(3, -1)
        # by the logarithms of f and i, whose sum may be too small for a number
        torch.sigmoid(logsigmoid(write) - logsigmoid(forget), out=out.auxiliary)
        forget.sigmoid_()
        write.sigmoid_()
        torch.lerp(state[0], candidate, out.auxiliary, out=out.states[0])

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """f', ∂h/∂a_f = (h_{t-1} − c) f' i' (1 − f), ∂h/∂a_i = (c − h_{t-1}) f' i' (1 − i), ∂h/∂a_c = i'."""
        assert trajectory.auxiliary is not None
        forget, write, candidate = trajectory.gates.chunk(3, -1)
        written = trajectory.auxiliary
        keep = 1 - written
        by_share = (candidate - trajectory.previous).mul_(written).mul_(keep)
        return keep, -by_share * (1 - forget), by_share * (1 - write), written

    def by_state(self, weights: CellWeights, jacobian: LocalJacobian) -> ReducedJacobian:
        return ((jacobian[0],),)

    def by_node(self, weights: CellWeights, jacobian: LocalJacobian) -> ByNode:
        return (jacobian[1:],)

    def __repr__(self) -> str:
        return f"MinLSTMCell(forget_bias={self.forget_bias:g})"
