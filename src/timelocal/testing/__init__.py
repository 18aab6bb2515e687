"""For authors of rules: the oracle (`reference`), the grid of cases, and the contract of a rule.

from timelocal.testing import check_rule
check_rule(MyRule)
"""

from timelocal.testing import reference
from timelocal.testing.cases import CELLS, Case, cases
from timelocal.testing.contract import CHECKS, ORACLES, ContractReport, check_case, check_rule

__all__ = [
    "CELLS",
    "CHECKS",
    "ORACLES",
    "Case",
    "ContractReport",
    "cases",
    "check_case",
    "check_rule",
    "reference",
]
