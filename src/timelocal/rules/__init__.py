"""Learning rules, one small file each: what signal reaches each node at each time.

To add one, write its file and add it to `RULES`: the contract suite of `timelocal.testing` then runs
over it.
"""

from timelocal.rules.activity_perturbation import ANP
from timelocal.rules.bptt import BPTT
from timelocal.rules.dfa import DFA
from timelocal.rules.dfa_authors_code import DFAAuthorsCode
from timelocal.rules.eprop import EProp
from timelocal.rules.node_perturbation import NP
from timelocal.rules.perturbation_authors_code import (
    ANPAuthorsCode,
    NPAuthorsCode,
    WPAuthorsCode,
)
from timelocal.rules.rflo import RFLO
from timelocal.rules.rtrl import RTRL
from timelocal.rules.rule import Estimate, Evaluation, Learner, Rule, RuleSpec
from timelocal.rules.tbptt import TBPTT
from timelocal.rules.weight_perturbation import WP

RULES: dict[str, type[Rule]] = {
    rule.spec.name: rule
    for rule in (
        BPTT,
        TBPTT,
        RTRL,
        DFA,
        DFAAuthorsCode,
        RFLO,
        EProp,
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
    "WP",
    "ANPAuthorsCode",
    "DFAAuthorsCode",
    "EProp",
    "Estimate",
    "Evaluation",
    "Learner",
    "NPAuthorsCode",
    "Rule",
    "RuleSpec",
    "WPAuthorsCode",
]
