"""Train recurrent networks without backpropagation through time.

    network = timelocal.GRU(28, 512, output_size=10)
    rule = timelocal.DFA(network, feedback="gaussian", seed=0)
    loss = rule(inputs, targets)
    loss.backward()                   # fills .grad by the rule; then any torch optimizer

Networks: `RNN`, `GRU`, `LSTM`, `IndRNN`, `LRU`, `RTU`, `MinGRU`, `MinLSTM`, `LIF`, `ALIF`,
`from_torch`, `from_cell`.
Rules: `RULES`, such as `DFA`. Loops: `fit`, `Stream`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from timelocal import deprecated

if TYPE_CHECKING:  # for editors and type checkers; at run time a name is imported when first used
    from timelocal import data, losses
    from timelocal.cells import AutogradCell, BlackBox, Cell
    from timelocal.errors import (
        ArgumentError,
        DataError,
        DivergedError,
        MissingExtraError,
        RunError,
        TimelocalError,
        UnsupportedError,
    )
    from timelocal.model import Model, load, save
    from timelocal.network import (
        ALIF,
        GRU,
        LIF,
        LRU,
        LSTM,
        RNN,
        RTU,
        Decorrelation,
        IndRNN,
        MinGRU,
        MinLSTM,
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
        UORO,
        WP,
        ANPAuthorsCode,
        DFAAuthorsCode,
        EProp,
        Estimate,
        Evaluation,
        FeedbackAlignment,
        NPAuthorsCode,
        Rule,
        RuleSpec,
        SnAp1,
        SparseRTRL,
        WeightMirror,
        WPAuthorsCode,
    )
    from timelocal.training import Stream, fit

__version__ = "0.2.0"

__all__ = [
    "ALIF",
    "ANP",
    "BPTT",
    "DFA",
    "GRU",
    "LIF",
    "LRU",
    "LSTM",
    "NP",
    "RFLO",
    "RNN",
    "RTRL",
    "RTU",
    "RULES",
    "TBPTT",
    "UORO",
    "WP",
    "ANPAuthorsCode",
    "ArgumentError",
    "AutogradCell",
    "BlackBox",
    "Cell",
    "DFAAuthorsCode",
    "DataError",
    "Decorrelation",
    "DivergedError",
    "EProp",
    "Estimate",
    "Evaluation",
    "FeedbackAlignment",
    "IndRNN",
    "MinGRU",
    "MinLSTM",
    "MissingExtraError",
    "Model",
    "NPAuthorsCode",
    "Network",
    "Rule",
    "RuleSpec",
    "RunError",
    "SnAp1",
    "SparseRTRL",
    "Stream",
    "TimelocalError",
    "Trajectory",
    "UnsupportedError",
    "WPAuthorsCode",
    "WeightMirror",
    "black_box",
    "data",
    "decorrelation_loss",
    "fit",
    "from_cell",
    "from_torch",
    "load",
    "losses",
    "save",
    "to_torch",
]

_ROOMS = ("errors", "cells", "network", "rules", "training", "model")
"""Where the public names are from: each is in `__all__` of one of these."""

if not TYPE_CHECKING:  # a type checker knows the names above, and no others

    def __getattr__(name: str) -> Any:
        """A submodule or a public name, imported when first used: `timelocal --help` needs no torch."""
        if not name.startswith("_") and find_spec(f"timelocal.{name}"):
            return import_module(f"timelocal.{name}")
        for room in _ROOMS if name in __all__ else ():
            module = import_module(f"timelocal.{room}")
            if name in module.__all__:
                globals()[name] = value = getattr(module, name)
                return value
        return deprecated.renamed("timelocal", name)

    def __dir__() -> list[str]:
        return sorted({*__all__, *_ROOMS, "testing", "__version__"})
