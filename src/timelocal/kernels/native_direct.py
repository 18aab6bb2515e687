"""`direct` as one native call, without returning to Python between its parts."""

from __future__ import annotations

from collections.abc import Callable

from timelocal.cells import CellWeights
from timelocal.kernels import native
from timelocal.kernels.native_head import empty_head, head_arguments
from timelocal.kernels.torch_direct import Direct, DirectCall


def direct(call: DirectCall) -> Direct:
    """As `torch_direct.direct`, for a layer without decorrelation."""
    found, run = prepared(call)
    run()
    return found


def prepared(call: DirectCall) -> tuple[Direct, Callable[[], None]]:
    """Preallocated outputs of `direct`, and a function that recomputes them in place.

    Each call reads the present values of contiguous tensors; other tensors are copied once, here.
    """
    cell, loss = call.cell, call.loss
    weights = CellWeights(*native.dense(*call.weights))
    inputs, targets, readout, bias, feedback, *start = native.dense(
        call.inputs, call.targets, call.readout, call.bias, call.feedback, *(call.initial or ())
    )
    code, gain = native.kind_of(cell)
    done, layer = native.ready_to_scan(code, gain, inputs, weights, start, None)
    trajectory = native.trajectory_of(cell, weights, inputs, done)
    features = done[0][-1]
    head = empty_head(loss, features, readout, bias, targets)
    native.check(weights.hh, ("feedback", feedback, readout.shape[::-1]))
    made = native.empty_gradients(weights.hh, inputs, weights.b_ih is not None)
    arguments = (
        *layer,
        *head_arguments(loss, features, readout, bias, targets, head),
        inputs.data_ptr(),
        *native.addresses_of(start),
        feedback.data_ptr(),
        *native.gradient_addresses(made),
    )
    alive = (weights, inputs, targets, readout, bias, feedback, start, done, head, made)

    def run(alive: object = alive) -> None:  # keeps the tensors behind the addresses alive
        native.extension().direct(*arguments)

    return (trajectory, head, native.named_gradients(made, weights)), run
