"""The independently recurrent network (IndRNN; Li et al. 2018), with tanh units.

    h_t = tanh(u ⊙ h_{t-1} + V x_t + b)

Nodes: the pre-activations, one per unit. Gates: h itself. With decorrelation, D h replaces h in u ⊙ h, as it
does in W h elsewhere: the Jacobian diag(1 − h²) diag(u) D is then dense.
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from timelocal.arguments import as_real
from timelocal.cells.cell import LayerTrajectory, LocalJacobian, Outer, StepBuffers, outer_sum
from timelocal.cells.elementwise import ByNode, ElementwiseCell
from timelocal.cells.weights import CellWeights
from timelocal.errors import Problem, described, raise_problems
from timelocal.typing import State


class IndRNNCell(ElementwiseCell):
    """h_t = tanh(u ⊙ h_{t-1} + V x_t + b).

    steps: at initialisation, a signal at most doubles over this many steps on its way back: u ~
    U(0, 2^{1/steps}).
    """

    name = "indrnn"
    label = "IndRNN"
    gate_names = ("a",)
    leaks = False
    gates_are_hidden = True

    def __init__(self, steps: float = 100.0) -> None:
        self.steps = as_real(steps)
        if not 1 <= self.steps < inf:
            raise_problems([Problem("steps", described(steps), "a number of at least 1")])

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return {
            "weight_ih": (hidden_size, input_size),
            "u": (hidden_size,),
            "bias": (hidden_size,),
        }

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        if name == "u":
            parameter.uniform_(0, 2 ** (1 / self.steps), generator=generator)
        else:
            super().initialise(name, parameter, hidden_size, generator)

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> None:
        torch.addcmul(drive, _u(weights), weights.decorrelated(state[0]), out=out.gates)
        out.gates.tanh_()

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        change = super().node_change(weights, before, after, noise)
        return change.addcmul_(_u(weights), after.recurrent_input - before.recurrent_input)

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """φ'(a_t)."""
        return ((trajectory.gates * trajectory.gates).neg_().add_(1),)

    def by_state(
        self, weights: CellWeights, jacobian: LocalJacobian
    ) -> tuple[tuple[Tensor, ...], ...]:
        own = _u(weights)
        if weights.decorrelation is not None:
            own = own * weights.decorrelation.diagonal()
        return ((jacobian[0] * own,),)

    def by_node(self, weights: CellWeights, jacobian: LocalJacobian) -> ByNode:
        return ((jacobian[0],),)

    def is_diagonal(self, decorrelated: bool) -> bool:
        return not decorrelated

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        delta = signals[0] * jacobian[0]
        return delta, (weights.carried_back(delta * _u(weights)),)

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        nodes = weights.decorrelated(tangents[0]) * _u(weights)
        nodes = nodes if node_tangent is None else nodes + node_tangent
        return (nodes * jacobian[0],)

    def gradient(
        self,
        weights: CellWeights,
        name: str,
        trajectory: LayerTrajectory,
        delta: Tensor,
        outer: Outer = outer_sum,
    ) -> Tensor:
        if name == "u":
            return outer(delta * trajectory.recurrent_input, None)
        return super().gradient(weights, name, trajectory, delta, outer)

    def __repr__(self) -> str:
        return f"IndRNNCell(steps={self.steps:g})"


def _u(weights: CellWeights) -> Tensor:
    own: Tensor = weights.u  # type: ignore[attr-defined]
    return own
