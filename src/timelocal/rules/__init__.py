"""Learning rules, one small file each: what signal reaches each node at each time.

To add one, write its file and add it to `RULES`: the contract suite of `timelocal.testing` then runs
over it.
"""

from timelocal.rules.activity_perturbation import ANP
from timelocal.rules.batch import (
    Batch,
    arrange,
    arrange_entries,
    check_batch,
    make_batch,
    own_precision,
    weight_problem,
)
from timelocal.rules.bptt import BPTT
from timelocal.rules.carried_rule import CarriedRule
from timelocal.rules.dfa import DFA
from timelocal.rules.dfa_authors_code import DFAAuthorsCode
from timelocal.rules.eprop import EProp
from timelocal.rules.estimate import Estimate, Evaluation, ForwardPass, RuleSpec
from timelocal.rules.feedback_alignment import FeedbackAlignment
from timelocal.rules.forward import forward_pass, readout_gradients, readout_signal
from timelocal.rules.node_perturbation import NP
from timelocal.rules.perturbation import draw_key
from timelocal.rules.perturbation_authors_code import (
    ANPAuthorsCode,
    NPAuthorsCode,
    WPAuthorsCode,
)
from timelocal.rules.rflo import RFLO
from timelocal.rules.rtrl import RTRL
from timelocal.rules.rule import (
    Rule,
    estimate_batch,
    estimate_from,
    evaluate_batch,
    update_locally,
)
from timelocal.rules.snap1 import SnAp1
from timelocal.rules.sparse_rtrl import SparseRTRL
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.rules.tbptt import TBPTT
from timelocal.rules.uoro import UORO
from timelocal.rules.weight_mirror import WeightMirror
from timelocal.rules.weight_perturbation import WP

RULES: dict[str, type[Rule]] = {
    rule.spec.name: rule
    for rule in (
        BPTT,
        TBPTT,
        RTRL,
        SparseRTRL,
        UORO,
        SnAp1,
        DFA,
        DFAAuthorsCode,
        RFLO,
        EProp,
        FeedbackAlignment,
        WeightMirror,
        NP,
        ANP,
        WP,
        NPAuthorsCode,
        ANPAuthorsCode,
        WPAuthorsCode,
    )
}

__all__ = [
    "ANP",
    "BPTT",
    "DFA",
    "NP",
    "RFLO",
    "RTRL",
    "RULES",
    "TBPTT",
    "UORO",
    "WP",
    "ANPAuthorsCode",
    "Batch",
    "CarriedRule",
    "DFAAuthorsCode",
    "EProp",
    "Estimate",
    "Evaluation",
    "FeedbackAlignment",
    "ForwardPass",
    "NPAuthorsCode",
    "Rule",
    "RuleSpec",
    "SnAp1",
    "SparseRTRL",
    "WPAuthorsCode",
    "WeightMirror",
    "arrange",
    "arrange_entries",
    "check_batch",
    "draw_key",
    "estimate_batch",
    "estimate_from",
    "evaluate_batch",
    "forward_pass",
    "make_batch",
    "no_states",
    "own_precision",
    "packed",
    "readout_gradients",
    "readout_signal",
    "unpacked",
    "update_locally",
    "weight_problem",
]
