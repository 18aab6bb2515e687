"""Element-wise cells: each unit sees its own past and the layer's input, and no other unit.

The Jacobian of the states is diagonal, one small block for each unit. The diagonal eligibility trace is then
the whole of RTRL's influence matrix: exact credit, forward in time, with as many numbers as parameters.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import sqrt
from typing import TypeAlias

import torch
from torch import Tensor

from timelocal.cells.cell import (
    Cell,
    LayerTrajectory,
    LocalJacobian,
    Outer,
    ReducedJacobian,
    Trace,
    outer_sum,
)
from timelocal.cells.weights import CellWeights
from timelocal.typing import State

ByNode: TypeAlias = tuple[tuple[Tensor | None, ...], ...]
"""[new][gate]: ∂(new state)/∂(node), elementwise, (…, b, h); None is 0."""


class ElementwiseCell(Cell):
    """A cell with parameters `weight_ih` (g, i) and `bias` (g,), and per-unit derivatives.

    A subclass writes `step`, `local_jacobian`, and from that `by_state` and `by_node`; `gradient` for
    parameters of its own. All derivatives of the step are derived from these here. D, if the layer
    decorrelates, is applied between the features and their readers, not in the recurrence: the Jacobian
    stays diagonal.
    """

    elementwise = True
    biases = ("bias",)

    # --- parameters -------------------------------------------------------------------------

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        nodes = len(self.gate_names) * hidden_size
        return {"weight_ih": (nodes, input_size), "bias": (nodes,)}

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        """weight_ih from U(−1/√i, 1/√i), as in `torch.nn.Linear`; the bias is zero."""
        if name == "bias":
            parameter.zero_()
        else:
            bound = 1 / sqrt(parameter.shape[1])
            parameter.uniform_(-bound, bound, generator=generator)

    # --- the forward step -------------------------------------------------------------------

    def drive_bias(self, weights: CellWeights) -> Tensor | None:
        bias: Tensor | None = weights.bias  # type: ignore[attr-defined]
        return bias

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        """V (x' − x) + ξ, for a cell whose nodes do not see its past."""
        return self.input_tangent(weights, before, after.inputs - before.inputs).add_(noise)

    # --- the derivatives of one step --------------------------------------------------------

    @abstractmethod
    def by_state(self, weights: CellWeights, jacobian: LocalJacobian) -> ReducedJacobian:
        """[new][old]: ∂(new state)/∂(previous state) of each unit by itself, along every path."""

    @abstractmethod
    def by_node(self, weights: CellWeights, jacobian: LocalJacobian) -> ByNode:
        """[new][gate]: ∂(new state)/∂(node), each unit's own."""

    def is_diagonal(self, decorrelated: bool) -> bool:
        return True

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        others = (torch.zeros_like(signal) for _ in self.state_names[1:])
        return self.node_signal_of_states(weights, jacobian, (signal, *others))

    def node_signal_of_states(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> Tensor:
        gates = zip(*self.by_node(weights, jacobian), strict=True)
        return torch.cat([_dot(signals, gate) for gate in gates], -1)

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        olds = zip(*self.by_state(weights, jacobian), strict=True)
        carried = tuple(_dot(signals, old) for old in olds)
        return self.node_signal_of_states(weights, jacobian, signals), carried

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        moved = tuple(_dot(tangents, row) for row in self.by_state(weights, jacobian))
        if node_tangent is None:
            return moved
        gates = node_tangent.chunk(len(self.gate_names), -1)
        by_node = self.by_node(weights, jacobian)
        return tuple(own + _dot(gates, row) for own, row in zip(moved, by_node, strict=True))

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        """The whole Jacobian; a "leak" is the part of it with the nodes held constant."""
        if trace == "leak" and not self.leaks:
            return tuple(tuple(None for _ in self.state_names) for _ in self.state_names)
        return self.by_state(weights, jacobian)

    # --- node signal -> weight gradients ----------------------------------------------------

    def gradient(
        self,
        weights: CellWeights,
        name: str,
        trajectory: LayerTrajectory,
        delta: Tensor,
        outer: Outer = outer_sum,
    ) -> Tensor:
        return outer(delta, trajectory.inputs if name == "weight_ih" else None)


def _dot(parts: Sequence[Tensor], factors: Sequence[Tensor | None]) -> Tensor:
    """Σ part ⊙ factor over the factors that there are."""
    total: Tensor | None = None
    for part, factor in zip(parts, factors, strict=True):
        if factor is not None:
            total = part * factor if total is None else torch.addcmul(total, part, factor)
    return torch.zeros_like(parts[0]) if total is None else total
