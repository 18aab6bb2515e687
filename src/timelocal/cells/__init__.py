"""Recurrent cells: one step, its local Jacobian, and how node signals become gradients.

One file per cell. To add one, write its file and add it to `CELLS`.
"""

from timelocal.cells.alif import ALIFCell
from timelocal.cells.black_box import BlackBox, check_report
from timelocal.cells.by_autograd import AutogradCell
from timelocal.cells.cell import (
    Cell,
    LayerTrajectory,
    LocalJacobian,
    ReducedJacobian,
    StepBuffers,
    Trace,
    at_states,
    outer_each,
    outer_sum,
    seen_of,
    zero_state,
)
from timelocal.cells.checks import cell_problems
from timelocal.cells.elementwise import ElementwiseCell
from timelocal.cells.gru import GRUResetAfter, GRUResetBefore
from timelocal.cells.indrnn import IndRNNCell
from timelocal.cells.lif import LIFCell
from timelocal.cells.lru import LRUCell
from timelocal.cells.lstm import LSTMCell
from timelocal.cells.mingru import MinGRUCell
from timelocal.cells.minlstm import MinLSTMCell
from timelocal.cells.rnn import RNNCell
from timelocal.cells.rtu import RTUCell
from timelocal.cells.surrogates import SURROGATES, Surrogate
from timelocal.cells.weights import CellWeights, weights_type

CELLS: dict[str, type[Cell]] = {
    cell.name: cell
    for cell in (
        RNNCell,
        GRUResetAfter,
        GRUResetBefore,
        LSTMCell,
        LIFCell,
        IndRNNCell,
        LRUCell,
        RTUCell,
        MinGRUCell,
        MinLSTMCell,
        ALIFCell,
    )
}
"""All cells by name; used to build networks by name, by the contracts, the command line and reports.

Append new cells at the end: the position decides a cell's line style in figures.
"""

__all__ = [
    "CELLS",
    "SURROGATES",
    "ALIFCell",
    "AutogradCell",
    "BlackBox",
    "Cell",
    "CellWeights",
    "ElementwiseCell",
    "GRUResetAfter",
    "GRUResetBefore",
    "IndRNNCell",
    "LIFCell",
    "LRUCell",
    "LSTMCell",
    "LayerTrajectory",
    "LocalJacobian",
    "MinGRUCell",
    "MinLSTMCell",
    "RNNCell",
    "RTUCell",
    "ReducedJacobian",
    "StepBuffers",
    "Surrogate",
    "Trace",
    "at_states",
    "cell_problems",
    "check_report",
    "outer_each",
    "outer_sum",
    "seen_of",
    "weights_type",
    "zero_state",
]
