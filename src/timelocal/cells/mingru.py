"""The minimal GRU (minGRU; Feng et al. 2024): gates that see the input alone.

    z_t = σ(V_z x_t + b_z)        h_t = (1 − z_t) ⊙ h_{t-1} + z_t ⊙ (V_c x_t + b_c)

Nodes: a_z and a_c in this order. Gates: z, c. Here z is the share that is written, as in the paper; in the
GRU of torch.nn it is the share that is kept.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from timelocal.arguments import as_real
from timelocal.cells.cell import LayerTrajectory, LocalJacobian, ReducedJacobian, StepBuffers
from timelocal.cells.elementwise import ByNode, ElementwiseCell
from timelocal.cells.weights import CellWeights
from timelocal.errors import Problem, described, raise_problems
from timelocal.typing import State


class MinGRUCell(ElementwiseCell):
    """h_t = (1 − z_t) ⊙ h_{t-1} + z_t ⊙ c_t.

    update: z at the start, where the input is zero; a small one remembers 1/update steps.
    """

    name = "mingru"
    label = "minGRU"
    gate_names = ("z", "c")

    def __init__(self, update: float = 0.5) -> None:
        self.update = as_real(update)
        if not 0 < self.update < 1:
            raise_problems([Problem("update", described(update), "a number between 0 and 1")])

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        super().initialise(name, parameter, hidden_size, generator)
        if name == "bias":
            parameter[:hidden_size] = math.log(self.update / (1 - self.update))

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> None:
        out.gates.copy_(drive)
        update, candidate = out.gates.chunk(2, -1)
        update.sigmoid_()
        torch.lerp(state[0], candidate, update, out=out.states[0])

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """∂h_t/∂h_{t-1} = 1 − z, ∂h/∂a_z = (c − h_{t-1}) z (1 − z), ∂h/∂a_c = z."""
        update, candidate = trajectory.gates.chunk(2, -1)
        keep = 1 - update
        return keep, (candidate - trajectory.previous).mul_(update).mul_(keep), update

    def by_state(self, weights: CellWeights, jacobian: LocalJacobian) -> ReducedJacobian:
        return ((jacobian[0],),)

    def by_node(self, weights: CellWeights, jacobian: LocalJacobian) -> ByNode:
        return (jacobian[1:],)

    def __repr__(self) -> str:
        return f"MinGRUCell(update={self.update:g})"
