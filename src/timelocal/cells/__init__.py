"""Recurrent cells: one step, its local Jacobian, and the way from node signals to gradients.

One file per cell. To add one, write its file and add it to `CELLS`.
"""

from timelocal.cells.black_box import BlackBox, check_report
from timelocal.cells.cell import (
    Cell,
    CellWeights,
    LayerTrajectory,
    LocalJacobian,
    ReducedJacobian,
    StepBuffers,
    Trace,
    outer_each,
    outer_sum,
    zero_state,
)
from timelocal.cells.gru import GRUResetAfter, GRUResetBefore
from timelocal.cells.lif import LIFCell
from timelocal.cells.lstm import LSTMCell
from timelocal.cells.rnn import RNNCell

CELLS: dict[str, type[Cell]] = {
    cell.name: cell for cell in (RNNCell, GRUResetAfter, GRUResetBefore, LSTMCell)
}

__all__ = [
    "CELLS",
    "BlackBox",
    "Cell",
    "CellWeights",
    "GRUResetAfter",
    "GRUResetBefore",
    "LIFCell",
    "LSTMCell",
    "LayerTrajectory",
    "LocalJacobian",
    "RNNCell",
    "ReducedJacobian",
    "StepBuffers",
    "Trace",
    "check_report",
    "outer_each",
    "outer_sum",
    "zero_state",
]
