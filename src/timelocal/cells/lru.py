"""The linear recurrent unit (LRU; Orvieto et al. 2023): complex, diagonal, and stable by its parametrisation.

    h_t = λ ⊙ h_{t-1} + γ ⊙ (V x_t + b)        |λ| = exp(−exp ν),  arg λ = exp θ,  γ = √(1 − |λ|²)

States: re and im of h. Nodes: re and im of the whole right-hand side, 2H of them; the states are the nodes.
Features: re and im side by side, 2H numbers. V and b are complex: the rows of re first, then those of im.
γ is not a separate parameter: it follows from ν, and its gradient is part of that of ν.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from timelocal.arguments import as_real
from timelocal.cells.cell import (
    LayerTrajectory,
    LocalJacobian,
    Outer,
    ReducedJacobian,
    StepBuffers,
    outer_sum,
)
from timelocal.cells.elementwise import ByNode, ElementwiseCell
from timelocal.cells.weights import CellWeights
from timelocal.errors import Problem, described, raise_problems
from timelocal.typing import State


class LRUCell(ElementwiseCell):
    """h_t = λ ⊙ h_{t-1} + γ ⊙ (V x_t + b), complex.

    Initially λ is uniform on the ring r_min ≤ |λ| ≤ r_max, 0 ≤ arg λ ≤ max_phase, and the parts of V are
    N(0, 1 / 2i), as in the paper.
    """

    name = "lru"
    label = "LRU"
    gate_names = ("re", "im")
    state_names = ("re", "im")
    leaks = False

    def __init__(
        self, r_min: float = 0.0, r_max: float = 1.0, max_phase: float = 2 * math.pi
    ) -> None:
        self.r_min, self.r_max, self.max_phase = map(as_real, (r_min, r_max, max_phase))
        problems = []
        if not 0 <= self.r_min < self.r_max <= 1:
            got = f"{described(r_min)} and {described(r_max)}"
            problems.append(Problem("r_min and r_max", got, "0 ≤ r_min < r_max ≤ 1"))
        if not 0 < self.max_phase <= 2 * math.pi:
            problems.append(Problem("max_phase", described(max_phase), "an angle in (0, 2π]"))
        raise_problems(problems)

    # --- parameters -------------------------------------------------------------------------

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return {
            "nu": (hidden_size,),
            "theta": (hidden_size,),
            "weight_ih": (2 * hidden_size, input_size),
            "bias": (2 * hidden_size,),
        }

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        if name == "bias":
            parameter.zero_()
        elif name == "weight_ih":
            parameter.normal_(0, 1 / math.sqrt(2 * parameter.shape[1]), generator=generator)
        else:
            parameter.uniform_(0, 1, generator=generator).clamp_(1e-6, 1 - 1e-6)
            if name == "theta":
                parameter.mul_(self.max_phase).log_()
            else:  # uniform on the ring: |λ|² is uniform
                squared = parameter.mul_(self.r_max**2 - self.r_min**2).add_(self.r_min**2)
                squared.log_().mul_(-0.5).log_()

    # --- what of the states is seen ---------------------------------------------------------

    def features_size(self, hidden_size: int) -> int:
        return 2 * hidden_size

    def features(self, states: State) -> Tensor:
        return torch.cat(states, -1)

    def features_signal(self, states: State, signal: Tensor) -> State:
        return signal.chunk(2, -1)

    def features_tangent(self, states: State, tangents: State) -> Tensor:
        return torch.cat(tangents, -1)

    # --- the forward step -------------------------------------------------------------------

    def drive(self, weights: CellWeights, inputs: Tensor, node_noise: Tensor | None) -> Tensor:
        """γ ⊙ (V x_t + b) + ξ_t."""
        drive = _entered(weights, inputs) * _gamma(weights).repeat(2)
        return drive if node_noise is None else drive.add_(node_noise)

    def drives(
        self, weights: CellWeights, inputs: Tensor, node_noise: Tensor | None
    ) -> Sequence[Any]:
        """The rows of `drive`, each with λ."""
        eigenvalues = _eigenvalues(weights)
        return [(row, *eigenvalues) for row in self.drive(weights, inputs, node_noise).unbind(0)]

    def step(self, weights: CellWeights, drive: Any, state: State, out: StepBuffers) -> None:
        (written, re, im), (before_re, before_im) = drive, state
        new_re, new_im = out.states
        written_re, written_im = written.chunk(2, -1)
        torch.addcmul(written_re, re, before_re, out=new_re).addcmul_(im, before_im, value=-1)
        torch.addcmul(written_im, re, before_im, out=new_im).addcmul_(im, before_re)
        torch.cat(out.states, -1, out=out.gates)

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        change = super().node_change(weights, before, after, noise)
        pasts = zip(_before(after), _before(before), strict=True)
        return change.add_(torch.cat(_turned(weights, *(new - old for new, old in pasts)), -1))

    # --- the derivatives of one step --------------------------------------------------------

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """Only the shape of a step: the Jacobian is λ at every step."""
        return (trajectory.states[0][1:],)

    def by_state(self, weights: CellWeights, jacobian: LocalJacobian) -> ReducedJacobian:
        """The rotation and shrinking by λ, a block of 2×2 for each unit."""
        re, im = (part.expand_as(jacobian[0]) for part in _eigenvalues(weights))
        return (re, -im), (im, re)

    def by_node(self, weights: CellWeights, jacobian: LocalJacobian) -> ByNode:
        one = torch.ones_like(jacobian[0])
        return (one, None), (None, one)

    def node_signal_of_states(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> Tensor:
        return torch.cat(torch.broadcast_tensors(jacobian[0], *signals)[1:], -1)

    # --- node signal -> inputs and weight gradients -----------------------------------------

    def input_tangent(
        self, weights: CellWeights, trajectory: LayerTrajectory, tangent: Tensor
    ) -> Tensor:
        return super().input_tangent(weights, trajectory, tangent) * _gamma(weights).repeat(2)

    def input_signal(
        self, weights: CellWeights, trajectory: LayerTrajectory, delta: Tensor
    ) -> Tensor:
        return super().input_signal(weights, trajectory, delta * _gamma(weights).repeat(2))

    def gradient(
        self,
        weights: CellWeights,
        name: str,
        trajectory: LayerTrajectory,
        delta: Tensor,
        outer: Outer = outer_sum,
    ) -> Tensor:
        """∂λ/∂ν = −e^ν λ, ∂λ/∂θ = i e^θ λ and ∂γ/∂ν = e^ν |λ|² / γ."""
        if name in ("weight_ih", "bias"):
            delta = delta * _gamma(weights).repeat(2)
            return super().gradient(weights, name, trajectory, delta, outer)
        by_re, by_im = delta.chunk(2, -1)
        turned_re, turned_im = _turned(weights, *_before(trajectory))
        nu, theta = _exponents(weights)
        if name == "theta":
            return outer((by_im * turned_re - by_re * turned_im) * theta.exp(), None)
        entered_re, entered_im = _entered(weights, trajectory.inputs).chunk(2, -1)
        shrunk = by_re * turned_re + by_im * turned_im
        written = by_re * entered_re + by_im * entered_im
        ratio = (-2 * nu.exp()).exp() / _gamma(weights)
        return outer((written * ratio - shrunk) * nu.exp(), None)

    def __repr__(self) -> str:
        options = f"r_min={self.r_min:g}, r_max={self.r_max:g}, max_phase={self.max_phase:g}"
        return f"{type(self).__name__}({options})"


def _exponents(weights: CellWeights) -> tuple[Tensor, Tensor]:
    nu: Tensor = weights.nu  # type: ignore[attr-defined]
    theta: Tensor = weights.theta  # type: ignore[attr-defined]
    return nu, theta


def _eigenvalues(weights: CellWeights) -> tuple[Tensor, Tensor]:
    """Re λ and Im λ, (h,) each."""
    nu, theta = _exponents(weights)
    size, angle = (-nu.exp()).exp(), theta.exp()
    return size * angle.cos(), size * angle.sin()


def _gamma(weights: CellWeights) -> Tensor:
    """γ = √(1 − |λ|²), (h,), of |λ| near 1 too."""
    return torch.expm1(-2 * _exponents(weights)[0].exp()).neg_().sqrt_()


def _entered(weights: CellWeights, inputs: Tensor) -> Tensor:
    """V x + b, (…, 2h)."""
    return torch.nn.functional.linear(inputs, weights.weight_ih, weights.bias)  # type: ignore[attr-defined]


def _before(trajectory: LayerTrajectory) -> State:
    return tuple(state[:-1] for state in trajectory.states)


def _turned(weights: CellWeights, re: Tensor, im: Tensor) -> State:
    """λ ⊙ (re + i im)."""
    own_re, own_im = _eigenvalues(weights)
    return re * own_re - im * own_im, im * own_re + re * own_im
