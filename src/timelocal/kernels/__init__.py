"""A layer over a whole sequence: forward, back through time, to node signals and to gradients.

Each function runs the native kernel if one is built for this cell, dtype and device. Otherwise it runs the
plain-torch twin in `torch_scan`, which defines the result. `TIMELOCAL_KERNELS=torch` forces the twin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from timelocal.cells import (
    BlackBox,
    Cell,
    CellWeights,
    GRUResetBefore,
    LayerTrajectory,
    Trace,
    check_report,
    seen_of,
)
from timelocal.kernels import (
    native,
    native_direct,
    native_elementwise,
    native_head,
    torch_direct,
    torch_head,
    torch_scan,
)
from timelocal.kernels.native import describe, serves
from timelocal.kernels.native_online import (
    KINDS,
    OnlineSettings,
    OnlineState,
    OnlineWeights,
    online,
)
from timelocal.kernels.noise import normal
from timelocal.kernels.orthogonal import orthogonal
from timelocal.kernels.torch_direct import Direct, DirectCall
from timelocal.kernels.torch_head import Head, HeadLoss
from timelocal.typing import State

__all__ = [
    "KINDS",
    "SMALL_HEAD",
    "Direct",
    "DirectCall",
    "Head",
    "HeadLoss",
    "OnlineSettings",
    "OnlineState",
    "OnlineWeights",
    "backward_scan",
    "credit",
    "describe",
    "direct",
    "head",
    "node_signals",
    "normal",
    "online",
    "orthogonal",
    "project",
    "repeated_direct",
    "scan",
    "serves",
    "traced_gradients",
    "traced_scan",
    "traced_states",
    "weight_gradients",
]

_NARROW = 512
"""Up to this many hidden units, one pass over δ is faster than the matrix products of torch's BLAS."""

SMALL_HEAD = 600_000
"""Up to this many multiply-adds, the native `head` and `project`, which use one thread, are worthwhile."""


def _path(cell: Cell, weights: CellWeights, inputs: Tensor) -> ModuleType:
    """The native kernels if they can run this cell on inputs (t, b, i), otherwise the twin."""
    if native_elementwise.handles(cell, weights, inputs):
        return native_elementwise
    if not native.handles(cell, inputs):
        return torch_scan
    if weights.decorrelation is not None:
        # The kernels need D folded into weight_hh. This is impossible if a gate stands between them, and
        # does not pay off for few rows, since it costs as much as `hidden` rows of a scan.
        steps, batch, _ = inputs.shape
        if isinstance(cell, GRUResetBefore) or steps * batch < weights.hh.shape[1]:
            return torch_scan
    return native


def scan(
    cell: Cell,
    weights: CellWeights,
    inputs: Tensor,
    initial: State,
    node_noise: Tensor | None = None,
) -> LayerTrajectory:
    """Run the cell forward over inputs (t, b, i) from the initial state, each (b, h).

    node_noise (t, b, g) is added to the pre-activations.
    """
    if isinstance(cell, BlackBox):
        run = cell.scan(weights, inputs, initial, node_noise)
        check_report(cell, run, inputs, initial)
        return replace(run, seen=seen_of(cell, weights, run.states))
    path = _path(cell, weights, inputs)
    return path.scan(cell, weights, inputs, initial, node_noise)


def backward_scan(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: State | None,
) -> tuple[Tensor, State]:
    """Carry a signal back through time, exactly.

    signal (t, b, f) or None: at the features of each step, without later steps' share; final, each (b, h), or
    None: the signals at the last state from later steps.
    Returns δ (t, b, g) = ∂L/∂a_t and the signals at the initial state, each (b, h).
    """
    path = _path(cell, weights, trajectory.inputs)
    return path.backward_scan(cell, weights, trajectory, signal, final)


def traced_scan(
    cell: Cell,
    weights: CellWeights,
    trace: Trace,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: Tensor | None,
) -> Tensor:
    """Carry a signal back through time by the part of the Jacobian that `trace` ("leak", "diagonal") keeps.

    signal (t, b, f) or None: at the features of each step, without later steps' share; final (b, f) or None:
    at the features of the last step. Returns δ (t, b, g).
    """
    # If a cell does not act locally, units reach themselves through others: matrix products for all steps.
    path = _path(cell, weights, trajectory.inputs)
    if path is not native_elementwise:
        path = (
            native if cell.acts_locally and native.handles(cell, trajectory.gates) else torch_scan
        )
    return path.traced_scan(cell, weights, trace, trajectory, signal, final)


def traced_states(
    cell: Cell, weights: CellWeights, trace: Trace, trajectory: LayerTrajectory, signals: State
) -> Tensor:
    """`traced_scan` of signals at all states after each step, (t, b, h) each, not at the features alone."""
    padded = tuple(torch.cat((torch.zeros_like(own[:1]), own)) for own in signals)
    return torch_scan.traced_states(cell, weights, trace, trajectory, padded)


def traced_gradients(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> CellWeights | None:
    """Σ_t G_t ⊙ E_t, with the diagonal traces E of all parameters carried from the first step to the last.

    signal: at the features, (t, b, f), or (b, f) at each sequence's last valid step only. Returns None if no
    kernel carries the traces of this cell; rules then carry them step by step.
    """
    if not native_elementwise.handles(cell, weights, trajectory.gates):
        return None
    return native_elementwise.traced_gradients(cell, weights, trajectory, signal, lengths)


def node_signals(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """δ (t, b, g) at the nodes of every step from the signal at that step's features.

    signal: (t, b, f), or (b, f) for the same signal at every step; lengths (b,): δ is zero from step
    lengths[b] on. No step depends on another here.
    """
    path = _path(cell, weights, trajectory.inputs)
    return path.node_signals(cell, weights, trajectory, signal, lengths)


def weight_gradients(
    cell: Cell, weights: CellWeights, trajectory: LayerTrajectory, deltas: Tensor
) -> CellWeights:
    """Σ_t δ_t ⊗ (input of each parameter at t), in the parameters' shapes; deltas (t, b, g)."""
    narrow = trajectory.states[0].shape[-1] <= _NARROW
    path = _path(cell, weights, trajectory.inputs) if narrow else torch_scan
    return path.weight_gradients(cell, weights, trajectory, deltas)


def credit(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> CellWeights:
    """`node_signals`, then `weight_gradients`, in one pass that does not store δ.

    signal and lengths: as in `node_signals`. Returns gradients in the parameters' shapes.
    """
    path = _path(cell, weights, trajectory.inputs)
    return path.credit(cell, weights, trajectory, signal, lengths)


def head(
    kind: HeadLoss, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Head:
    """A linear readout of a few rows, its mean loss and its gradients, all at once.

    features (n, h), weight (o, h), bias (o,) or None; targets: class indices (n,) for "cross_entropy",
    values (n, o) for "mse".
    """
    path = native_head if serves(features.dtype, features.device) else torch_head
    return path.head(kind, features, weight, bias, targets)


def project(errors: Tensor, matrix: Tensor) -> Tensor:
    """Output errors (n, o), projected by a feedback matrix (h, o) to signals at hidden units (n, h)."""
    small = len(errors) * matrix.numel() <= SMALL_HEAD and serves(errors.dtype, errors.device)
    path = native_head if small else torch_head
    return path.project(errors, matrix)


def direct(call: DirectCall) -> Direct:
    """`scan`, the `head` of the last states, `project` and `credit`, all in one call."""
    path = native_direct if _path(call.cell, call.weights, call.inputs) is native else torch_direct
    return path.direct(call)


def repeated_direct(call: DirectCall) -> tuple[Direct, Callable[[], None]] | None:
    """Preallocated outputs of `direct`, and a function that recomputes them in place from the call's tensors.

    The tensors must be contiguous and keep their memory. None if this would not be faster.
    """
    if _path(call.cell, call.weights, call.inputs) is not native:
        return None
    return native_direct.prepared(call)
