"""Recurrent cells: one step, its local Jacobian, and the way from node signals to gradients.

One file per cell. To add one, write its file and add it to `CELLS`.
"""

from timelocal.cells.black_box import BlackBox, check_report
from timelocal.cells.by_autograd import AutogradCell
from timelocal.cells.cell import (
    Cell,
    LayerTrajectory,
    LocalJacobian,
    ReducedJacobian,
    StepBuffers,
    Trace,
    outer_each,
    outer_sum,
    zero_state,
)
from timelocal.cells.checks import cell_problems
from timelocal.cells.gru import GRUResetAfter, GRUResetBefore
from timelocal.cells.lif import LIFCell
from timelocal.cells.lstm import LSTMCell
from timelocal.cells.rnn import RNNCell
from timelocal.cells.weights import CellWeights, weights_type

CELLS: dict[str, type[Cell]] = {
    cell.name: cell for cell in (RNNCell, GRUResetAfter, GRUResetBefore, LSTMCell, LIFCell)
}
"""All cells by name, from simple to complex: networks by name, cases of the contracts, the command line and
reports read this."""

__all__ = [
    "CELLS",
    "AutogradCell",
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
    "cell_problems",
    "check_report",
    "outer_each",
    "outer_sum",
    "weights_type",
    "zero_state",
]
