"""Learning rules, one small file each: what signal reaches each node at each time.

To add one, write its file and add it to `RULES`: the contract suite of `timelocal.testing` then runs
over it.
"""

from timelocal.rules.bptt import BPTT
from timelocal.rules.dfa import DFA
from timelocal.rules.dfa_authors_code import DFAAuthorsCode
from timelocal.rules.eprop import EProp
from timelocal.rules.rflo import RFLO
from timelocal.rules.rtrl import RTRL
from timelocal.rules.rule import Estimate, Evaluation, Rule, RuleSpec
from timelocal.rules.tbptt import TBPTT

RULES: dict[str, type[Rule]] = {
    rule.spec.name: rule for rule in (BPTT, TBPTT, RTRL, DFA, DFAAuthorsCode, RFLO, EProp)
}

__all__ = [
    "BPTT",
    "DFA",
    "RFLO",
    "RTRL",
    "RULES",
    "TBPTT",
    "DFAAuthorsCode",
    "EProp",
    "Estimate",
    "Evaluation",
    "Rule",
    "RuleSpec",
]
