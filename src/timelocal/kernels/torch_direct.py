"""Direct feedback alignment of one layer from a loss at the last step, as the sum of its parts."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from torch import Tensor

from timelocal.cells import Cell, CellWeights, LayerTrajectory, zero_state
from timelocal.kernels.torch_head import Head, HeadLoss, head, project
from timelocal.kernels.torch_scan import credit, scan
from timelocal.typing import State


class DirectCall(NamedTuple):
    """The arguments of `direct`.

    inputs (t, b, i); initial, each (b, h), or None for zeros; loss, readout (o, h), its bias and targets: as
    in `head`; feedback (h, o): G = F e at every step.
    """

    cell: Cell
    weights: CellWeights
    inputs: Tensor
    initial: State | None
    loss: HeadLoss
    readout: Tensor
    bias: Tensor | None
    targets: Tensor
    feedback: Tensor


Direct: TypeAlias = tuple[LayerTrajectory, Head, CellWeights]
"""The results of `direct`: the run, its head and the gradients in the parameters' shapes."""


def direct(call: DirectCall) -> Direct:
    """Forward, the head at the last state, G = F e at every step, and the layer's gradients from G."""
    cell, weights, inputs, initial, loss, readout, bias, targets, feedback = call
    start = zero_state(cell, inputs, len(feedback)) if initial is None else initial
    trajectory = scan(cell, weights, inputs, start)
    made = head(loss, trajectory.leaving[-1], readout, bias, targets)
    return trajectory, made, credit(cell, weights, trajectory, project(made.errors, feedback))
