"""For authors of rules, cells and black boxes: oracles, the grid of cases, and contracts that measure.

from timelocal.testing import check_cell, check_rule
print(check_rule(MyRule))
print(check_cell(MyCell()))
"""

from timelocal.testing import reference
from timelocal.testing.black_box import check_black_box
from timelocal.testing.cases import CELLS, Case, cases
from timelocal.testing.cell_contract import CellReport, check_cell
from timelocal.testing.contract import CHECKS, check_case, check_rule
from timelocal.testing.measure import MEASURES
from timelocal.testing.oracles import ORACLES, Oracle
from timelocal.testing.report import ContractReport, Finding
from timelocal.testing.setting import batch_of

__all__ = [
    "CELLS",
    "CHECKS",
    "MEASURES",
    "ORACLES",
    "Case",
    "CellReport",
    "ContractReport",
    "Finding",
    "Oracle",
    "batch_of",
    "cases",
    "check_black_box",
    "check_case",
    "check_cell",
    "check_rule",
    "reference",
]
