"""A layer over a whole sequence: forward, back through time, to node signals and to gradients.

Each function runs the native kernel where one is built for this cell, type and device, and its
plain-torch twin in `torch_scan`, which defines it, everywhere else. `TIMELOCAL_KERNELS=torch` forces
the twin.
"""

from __future__ import annotations

from torch import Tensor

from timelocal.cells import Cell, CellWeights, LayerTrajectory
from timelocal.kernels import native, torch_scan
from timelocal.kernels.native import describe
from timelocal.typing import State

__all__ = ["backward_scan", "credit", "describe", "node_signals", "scan", "weight_gradients"]

_NARROW = 512
"""Up to this many hidden units one pass over δ beats the matrix products of the library behind torch."""


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
    path = native if native.handles(cell, weights.hh) else torch_scan
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
    path = native if native.handles(cell, weights.hh) else torch_scan
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
    path = native if native.handles(cell, weights.hh) else torch_scan
    return path.node_signals(cell, weights, trajectory, signal, lengths)


def weight_gradients(
    cell: Cell, weights: CellWeights, trajectory: LayerTrajectory, deltas: Tensor
) -> CellWeights:
    """Σ_t δ_t ⊗ (what entered each parameter at t), in the parameters' shapes; deltas (t, b, g)."""
    narrow = weights.hh.shape[1] <= _NARROW
    path = native if narrow and native.handles(cell, weights.hh) else torch_scan
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
    path = native if native.handles(cell, weights.hh) else torch_scan
    return path.credit(cell, weights, trajectory, signal, lengths)
