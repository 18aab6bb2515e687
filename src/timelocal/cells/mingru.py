"""The minimal GRU (minGRU; Feng et al. 2024): gates that see only the input.

    z_t = σ(V_z x_t + b_z)        h_t = (1 − z_t) ⊙ h_{t-1} + z_t ⊙ (V_c x_t + b_c)

Nodes: a_z and a_c in this order. Gates: z, c. Here z is the fraction that is written, as in the paper; in
the GRU of torch.nn it is the fraction that is kept.
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

    update: the initial z for zero input; a small value remembers for 1/update steps.
    update_max: the value of the last unit if the units differ; it grows geometrically from `update`.
    """

    name = "mingru"
    label = "minGRU"
    gate_names = ("z", "c")

    def __init__(self, update: float = 0.5, update_max: float | None = None) -> None:
        self.update = as_real(update)
        self.update_max = None if update_max is None else as_real(update_max)
        problems = []
        if not 0 < self.update < 1:
            problems.append(Problem("update", described(update), "a number between 0 and 1"))
        elif self.update_max is not None and not self.update <= self.update_max < 1:
            expected = f"None, or a number from {self.update:g}, the value of `update`, to below 1"
            problems.append(Problem("update_max", described(update_max), expected))
        raise_problems(problems)

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        super().initialise(name, parameter, hidden_size, generator)
        if name != "bias":
            return
        parameter[:hidden_size] = math.log(self.update / (1 - self.update))
        if self.update_max is not None:
            ends = math.log(self.update), math.log(self.update_max)
            updates = torch.linspace(*ends, hidden_size, dtype=torch.float64).exp()
            parameter[:hidden_size] = torch.logit(updates)

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
        spread = "" if self.update_max is None else f", update_max={self.update_max:g}"
        return f"MinGRUCell(update={self.update:g}{spread})"
