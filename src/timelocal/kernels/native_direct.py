"""`direct` in one native call: between its parts nothing goes back to Python."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from timelocal.cells import Cell, CellWeights, LayerTrajectory
from timelocal.kernels import native
from timelocal.kernels.native_head import empty_head, head_arguments
from timelocal.kernels.torch_head import Head, HeadLoss
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
    """As `torch_direct.direct`, for a layer that does not decorrelate."""
    found, run = prepared(cell, weights, inputs, initial, loss, readout, bias, targets, feedback)
    run()
    return found


def prepared(
    cell: Cell,
    weights: CellWeights,
    inputs: Tensor,
    initial: State | None,
    loss: HeadLoss,
    readout: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    feedback: Tensor,
) -> tuple[tuple[LayerTrajectory, Head, CellWeights], Callable[[], None]]:
    """Room for what `direct` returns, and what fills it, every time from what these tensors then hold.

    That goes for tensors without gaps; of others it is the copies made here.
    """
    weights = CellWeights(*native.dense(*weights))
    inputs, targets, readout, bias, feedback, *start = native.dense(
        inputs, targets, readout, bias, feedback, *(initial or ())
    )
    code, gain = native.kind_of(cell)
    done, call = native.ready_to_scan(code, gain, inputs, weights, start, None)
    trajectory = native.trajectory_of(cell, weights, inputs, done)
    features = done[0][-1]
    head = empty_head(loss, features, readout, bias, targets)
    native.check(weights.hh, ("feedback", feedback, readout.shape[::-1]))
    made = native.empty_gradients(weights.hh, inputs, weights.b_ih is not None)
    arguments = (
        *call,
        *head_arguments(loss, features, readout, bias, targets, head),
        inputs.data_ptr(),
        *native.addresses_of(start),
        feedback.data_ptr(),
        *native.gradient_addresses(made),
    )
    alive = (weights, inputs, targets, readout, bias, feedback, start, done, head, made)

    def run(alive: object = alive) -> None:
        native.extension().direct(*arguments)

    return (trajectory, head, native.named_gradients(made, weights)), run
