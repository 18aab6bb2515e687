"""Train recurrent networks without backpropagation through time.

    network = timelocal.GRU(28, 512, output_size=10)
    rule = timelocal.DFA(network, feedback="gaussian", seed=0)
    loss = rule(inputs, targets)      # fills .grad; then any torch optimizer

Networks: `RNN`, `GRU`, `LSTM`, `from_torch`. Rules: `RULES`, such as `DFA` and `BPTT`. A loop: `fit`.
"""

from timelocal import data, losses
from timelocal.errors import (
    ArgumentError,
    DataError,
    RunError,
    TimelocalError,
    UnsupportedError,
)
from timelocal.network import GRU, LSTM, RNN, Network, Trajectory, from_torch, to_torch
from timelocal.rules import (
    BPTT,
    DFA,
    RFLO,
    RTRL,
    RULES,
    TBPTT,
    DFAAuthorsCode,
    EProp,
    Estimate,
    Evaluation,
    Rule,
    RuleSpec,
)
from timelocal.training import fit

__version__ = "0.1.0"

__all__ = [
    "BPTT",
    "DFA",
    "GRU",
    "LSTM",
    "RFLO",
    "RNN",
    "RTRL",
    "RULES",
    "TBPTT",
    "ArgumentError",
    "DFAAuthorsCode",
    "DataError",
    "EProp",
    "Estimate",
    "Evaluation",
    "Network",
    "Rule",
    "RuleSpec",
    "RunError",
    "TimelocalError",
    "Trajectory",
    "UnsupportedError",
    "data",
    "fit",
    "from_torch",
    "losses",
    "to_torch",
]
