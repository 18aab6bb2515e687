"""A layer over a whole sequence: forward, back through time, to node signals and to gradients.

Each function runs the native kernel where one is built for this cell, type and device, and its
plain-torch twin in `torch_scan`, which defines it, everywhere else. `TIMELOCAL_KERNELS=torch` forces
the twin.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from torch import Tensor

from timelocal.cells import BlackBox, Cell, CellWeights, GRUResetBefore, LayerTrajectory
from timelocal.kernels import native, torch_scan
from timelocal.kernels.native import describe
from timelocal.kernels.torch_noise import normal
from timelocal.typing import State

__all__ = [
    "backward_scan",
    "credit",
    "describe",
    "node_signals",
    "normal",
    "scan",
    "weight_gradients",
]

_NARROW = 512
"""Up to this many hidden units one pass over δ beats the matrix products of the library behind torch."""


def _path(cell: Cell, weights: CellWeights, inputs: Tensor) -> ModuleType:
    """The native kernels where they run this cell on inputs (t, b, i), else the twin."""
    if not native.handles(cell, weights.hh):
        return torch_scan
    if weights.decorrelation is not None:
        # The kernels run with D folded into weight_hh: impossible where a gate stands between them,
        # and no gain for few rows, for it costs as much as `hidden` rows of a scan.
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
        seen = weights.decorrelation is not None
        return replace(run, decorrelated=weights.decorrelated(run.states[0])) if seen else run
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

    signal (t, b, h) or None: ∂L/∂h_t where something sees h_t directly; final, each (b, h), or None:
    the signals at the last state from anything later.
    Returns δ (t, b, g) = ∂L/∂a_t and the signals at the initial state, each (b, h).
    """
    path = _path(cell, weights, trajectory.inputs)
    return path.backward_scan(cell, weights, trajectory, signal, final)


def node_signals(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """δ (t, b, g) at the nodes of every step from the signal at that step's hidden state.

    signal: (t, b, h), or (b, h) for the same one at every step; lengths (b,): steps from lengths[b] on get
    zeros. Nothing is sequential here.
    """
    path = _path(cell, weights, trajectory.inputs)
    return path.node_signals(cell, weights, trajectory, signal, lengths)


def weight_gradients(
    cell: Cell, weights: CellWeights, trajectory: LayerTrajectory, deltas: Tensor
) -> CellWeights:
    """Σ_t δ_t ⊗ (what entered each parameter at t), in the parameters' shapes; deltas (t, b, g)."""
    narrow = weights.hh.shape[1] <= _NARROW
    path = _path(cell, weights, trajectory.inputs) if narrow else torch_scan
    return path.weight_gradients(cell, weights, trajectory, deltas)


def credit(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> CellWeights:
    """`node_signals`, then `weight_gradients`, in one pass: δ is not kept.

    signal and lengths: as in `node_signals`. Returns gradients in the parameters' shapes.
    """
    path = _path(cell, weights, trajectory.inputs)
    return path.credit(cell, weights, trajectory, signal, lengths)
