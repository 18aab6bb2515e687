"""Checks of a cell, made once when a network is built from it."""

from __future__ import annotations

from keyword import iskeyword

from timelocal.arguments import is_whole
from timelocal.cells.cell import Cell
from timelocal.cells.weights import RESERVED
from timelocal.errors import Problem


def cell_problems(cell: object) -> list[Problem]:
    """Problems with a cell and its declarations, if any."""
    if isinstance(cell, type) and issubclass(cell, Cell):
        return [Problem("cell", f"the class {cell.__name__}", f"a cell: {cell.__name__}()")]
    if not isinstance(cell, Cell):
        remedy = "Subclass timelocal.AutogradCell, or timelocal.BlackBox for a layer that only runs forward."
        return [Problem("cell", f"a {type(cell).__name__}", "a timelocal cell", remedy)]
    whose, problems = type(cell).__name__, []
    if not isinstance(getattr(cell, "name", None), str):
        expected = "a class attribute `name`, a string"
        problems.append(Problem("cell", f"a {whose} without a name", expected))
    for attribute in ("gate_names", "state_names"):
        names = getattr(cell, attribute, None)
        if not (isinstance(names, tuple) and names and all(isinstance(n, str) for n in names)):
            expected = "a tuple of names, such as ('h',)"
            problems.append(Problem(f"{whose}.{attribute}", repr(names), expected))
    return problems or _parameter_problems(cell)


def _parameter_problems(cell: Cell) -> list[Problem]:
    where = f"{type(cell).__name__}.parameter_shapes"
    shapes: object = cell.parameter_shapes(3, 2)
    expected = "a dict from names to shapes, such as {'u': (hidden_size,)}"
    if not isinstance(shapes, dict) or not shapes:
        return [Problem(where, repr(shapes), expected)]
    problems = []
    for name, shape in shapes.items():
        if not isinstance(name, str) or not _can_be_a_field(name):
            expected_name = "a valid attribute name without a leading underscore"
            problems.append(Problem(where, f"a parameter {name!r}", expected_name))
        whole = isinstance(shape, tuple) and all(map(is_whole, shape))
        if not whole:
            problems.append(Problem(f"{where}: {name}", repr(shape), "a tuple of sizes"))
    missing = [name for name in cell.biases if name not in shapes]
    if missing:
        known = ", ".join(map(str, shapes))
        problems.append(Problem(f"{type(cell).__name__}.biases", repr(missing), f"some of {known}"))
    return problems


def _can_be_a_field(name: str) -> bool:
    return name.isidentifier() and name[0] != "_" and not iskeyword(name) and name not in RESERVED
