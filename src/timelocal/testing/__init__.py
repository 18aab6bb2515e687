"""For authors of rules and cells: the oracle (`reference`), the grid of cases, the contracts.

from timelocal.testing import check_cell, check_rule
check_rule(MyRule)
check_cell(MyCell())
"""

from timelocal.testing import reference
from timelocal.testing.cases import CELLS, Case, cases
from timelocal.testing.cell_contract import CellReport, check_cell
from timelocal.testing.contract import CHECKS, ORACLES, ContractReport, check_case, check_rule

__all__ = [
    "CELLS",
    "CHECKS",
    "ORACLES",
    "Case",
    "CellReport",
    "ContractReport",
    "cases",
    "check_case",
    "check_cell",
    "check_rule",
    "reference",
]
