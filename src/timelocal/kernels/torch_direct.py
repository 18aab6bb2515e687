"""Direct feedback alignment of one layer from a loss at the last step, as the sum of its parts."""

from __future__ import annotations

from torch import Tensor

from timelocal.cells import Cell, CellWeights, LayerTrajectory, zero_state
from timelocal.kernels.torch_head import Head, HeadLoss, head, project
from timelocal.kernels.torch_scan import credit, scan
from timelocal.typing import State


def direct(
    cell: Cell,
    weights: CellWeights,
    inputs: Tensor,
    initial: State | None,
    loss: HeadLoss,
    readout: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    feedback: Tensor,
) -> tuple[LayerTrajectory, Head, CellWeights]:
    """Forward, the head at the last state, G = F e at every step, and what the layer learns from it."""
    start = zero_state(cell, inputs, weights.hh.shape[1]) if initial is None else initial
    trajectory = scan(cell, weights, inputs, start)
    made = head(loss, trajectory.leaving[-1], readout, bias, targets)
    return trajectory, made, credit(cell, weights, trajectory, project(made.errors, feedback))
