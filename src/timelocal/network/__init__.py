"""Networks: layers of cells and a readout; `scan` runs them forward and keeps what rules need."""

from timelocal.network.build import GRU, LSTM, RNN, black_box, from_cell, from_torch, to_torch
from timelocal.network.checks import initial_problems, input_problems
from timelocal.network.decorrelation import (
    Decorrelation,
    decorrelation_loss,
    mean_decorrelation_loss,
)
from timelocal.network.elementwise import LRU, RTU, IndRNN, MinGRU, MinLSTM
from timelocal.network.lengths import (
    at_last_valid,
    flip,
    last_state,
    masked,
    mean_over_steps,
    step_shares,
    valid_steps,
)
from timelocal.network.network import Network, Weights
from timelocal.network.readout import (
    as_mlp,
    evaluation_mode,
    is_linear,
    read,
    readout_gradients,
    readout_signal,
)
from timelocal.network.recurrent import Recurrent, parameter_name
from timelocal.network.spiking import ALIF, LIF
from timelocal.network.trajectory import Trajectory

__all__ = [
    "ALIF",
    "GRU",
    "LIF",
    "LRU",
    "LSTM",
    "RNN",
    "RTU",
    "Decorrelation",
    "IndRNN",
    "MinGRU",
    "MinLSTM",
    "Network",
    "Recurrent",
    "Trajectory",
    "Weights",
    "as_mlp",
    "at_last_valid",
    "black_box",
    "decorrelation_loss",
    "evaluation_mode",
    "flip",
    "from_cell",
    "from_torch",
    "initial_problems",
    "input_problems",
    "is_linear",
    "last_state",
    "masked",
    "mean_decorrelation_loss",
    "mean_over_steps",
    "parameter_name",
    "read",
    "readout_gradients",
    "readout_signal",
    "step_shares",
    "to_torch",
    "valid_steps",
]
