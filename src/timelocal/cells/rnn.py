"""The tanh RNN (Elman 1990), plain or leaky.

    a_t = V x_t + W h_{t-1} + b        h_t = (1 − 1/τ) h_{t-1} + (1/τ) tanh a_t

τ = 1 is `torch.nn.RNN`. Nodes: a, one per unit. Gates: tanh a.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from timelocal.arguments import as_real, flag_problem
from timelocal.cells.cell import (
    Cell,
    LayerTrajectory,
    LocalJacobian,
    ReducedJacobian,
    StepBuffers,
    Trace,
)
from timelocal.cells.weights import CellWeights
from timelocal.errors import Problem, described, raise_problems
from timelocal.typing import State


class RNNCell(Cell):
    """h_t = (1 − 1/τ) h_{t-1} + (1/τ) tanh(V x_t + W h_{t-1} + b).

    orthogonal: whether W is initialised as a random orthogonal matrix (Saxe et al. 2014).
    """

    name = "rnn"
    label = "RNN"
    gate_names = ("a",)

    def __init__(self, tau: float = 1.0, orthogonal: bool = False) -> None:
        self.tau = as_real(tau)
        fits = 1 <= self.tau < math.inf
        raise_problems(
            [
                None
                if fits
                else Problem("tau", described(tau), "a number of at least 1, in steps"),
                flag_problem("orthogonal", orthogonal),
            ]
        )
        self.orthogonal = bool(orthogonal)
        self.gates_are_hidden = self.tau == 1.0
        self.leaks = self.tau != 1.0

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        if not self.orthogonal or name != "weight_hh":
            super().initialise(name, parameter, hidden_size, generator)
            return
        drawn = torch.empty(parameter.shape, dtype=torch.float64)  # low precision has no QR
        parameter.copy_(torch.nn.init.orthogonal_(drawn, generator=generator))

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> None:
        (hidden,) = state
        torch.addmm(drive, weights.decorrelated(hidden), weights.hh.t(), out=out.gates)
        out.gates.tanh_()
        if not self.gates_are_hidden:
            torch.lerp(hidden, out.gates, 1 / self.tau, out=out.states[0])

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """(1/τ) φ'(a_t)."""
        slope = (trajectory.gates * trajectory.gates).neg_().add_(1)
        return (slope if self.tau == 1.0 else slope.div_(self.tau),)

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        return signal * jacobian[0]

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        (signal,) = signals
        delta = signal * jacobian[0]
        carried = weights.carried_back(delta @ weights.hh)
        if self.tau == 1.0:
            return delta, (carried,)
        return delta, (torch.add(carried, signal, alpha=1 - 1 / self.tau),)

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        (moved,) = tangents
        nodes = weights.decorrelated(moved) @ weights.hh.t()
        nodes = nodes if node_tangent is None else nodes + node_tangent
        hidden = nodes * jacobian[0]
        return (hidden if self.tau == 1.0 else torch.add(hidden, moved, alpha=1 - 1 / self.tau),)

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        (slope,) = jacobian
        leak = 1 - 1 / self.tau
        if trace == "leak":
            return ((torch.full_like(slope, leak) if self.leaks else None,),)
        return (((slope * weights.of_itself()[0]).add_(leak),),)

    def __repr__(self) -> str:
        return f"RNNCell(tau={self.tau})"
