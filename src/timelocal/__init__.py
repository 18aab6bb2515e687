"""Train recurrent networks without backpropagation through time.

    network = timelocal.GRU(28, 512, output_size=10)
    rule = timelocal.DFA(network, feedback="gaussian", seed=0)
    loss = rule(inputs, targets)
    loss.backward()                   # fills .grad by the rule; then any torch optimizer

Networks: `RNN`, `GRU`, `LSTM`, `from_torch`, `from_cell`. Rules: `RULES`, such as `DFA`.
Loops: `fit`, `Stream`.
"""

from timelocal import data, losses
from timelocal.cells import AutogradCell, BlackBox, Cell
from timelocal.errors import (
    ArgumentError,
    DataError,
    RunError,
    TimelocalError,
    UnsupportedError,
)
from timelocal.network import (
    GRU,
    LIF,
    LSTM,
    RNN,
    Decorrelation,
    Network,
    Trajectory,
    black_box,
    decorrelation_loss,
    from_cell,
    from_torch,
    to_torch,
)
from timelocal.rules import (
    ANP,
    BPTT,
    DFA,
    NP,
    RFLO,
    RTRL,
    RULES,
    TBPTT,
    WP,
    ANPAuthorsCode,
    DFAAuthorsCode,
    EProp,
    Estimate,
    Evaluation,
    NPAuthorsCode,
    Rule,
    RuleSpec,
    WPAuthorsCode,
)
from timelocal.training import Stream, fit

__version__ = "0.1.0"

__all__ = [
    "ANP",
    "BPTT",
    "DFA",
    "GRU",
    "LIF",
    "LSTM",
    "NP",
    "RFLO",
    "RNN",
    "RTRL",
    "RULES",
    "TBPTT",
    "WP",
    "ANPAuthorsCode",
    "ArgumentError",
    "AutogradCell",
    "BlackBox",
    "Cell",
    "DFAAuthorsCode",
    "DataError",
    "Decorrelation",
    "EProp",
    "Estimate",
    "Evaluation",
    "NPAuthorsCode",
    "Network",
    "Rule",
    "RuleSpec",
    "RunError",
    "Stream",
    "TimelocalError",
    "Trajectory",
    "UnsupportedError",
    "WPAuthorsCode",
    "black_box",
    "data",
    "decorrelation_loss",
    "fit",
    "from_cell",
    "from_torch",
    "losses",
    "to_torch",
]
