"""Rules, cells and data sets from outside this package, found by the name they are given.

    "dfa"                  built in
    "my-rule"              of an installed package: an entry point of the group `timelocal.rules`,
                           `timelocal.cells` or `timelocal.datasets`
    "package.module:Name"  an attribute of a module, which the working folder may hold

Names stay text, in records and on the way to other processes: each process finds the object itself. Only a
name that the user gives is looked up. Reading a record imports nothing that the record names.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from timelocal.errors import (
    ArgumentError,
    Problem,
    TimelocalError,
    described,
    did_you_mean,
    raise_problems,
    unknown_name,
)

if TYPE_CHECKING:  # it takes a tenth of a second to import, and few commands need it
    from importlib.metadata import EntryPoint

What: TypeAlias = Literal["rule", "cell", "dataset"]

GROUPS: dict[What, str] = {
    "rule": "timelocal.rules",
    "cell": "timelocal.cells",
    "dataset": "timelocal.datasets",
}
"""The groups of entry points."""


def find(what: What, name: str, built_in: Mapping[str, Any]) -> Any:
    """The rule, cell or data set of this name. The caller checks that it is one.

    A built-in name always means the built-in object. `module:name` is looked for in the working folder first,
    as `python -m` does, and the folder stays on `sys.path`.

    Args:
        what: for messages, and the group of entry points.
        name: built in, of an entry point, or `module:name`.
        built_in: the objects of this package by name.

    Raises:
        ArgumentError: an unknown name; a module that cannot be imported; a module without that attribute; a
            name that two installed packages claim.

    >>> find("rule", "fractions:Fraction", {})
    <class 'fractions.Fraction'>
    >>> find("rule", "fractions:Fractoin", {})
    Traceback (most recent call last):
    timelocal.errors.ArgumentError: rule: got 'fractions:Fractoin', but module fractions has no...
    """
    if not isinstance(name, str):
        raise_problems([Problem(what, described(name), "a name")])
    if name in built_in:
        return built_in[name]
    if ":" in name:
        return attribute(f"{what}: got {name!r}", name)
    points = [point for point in _entry_points(what) if point.name == name]
    if len(points) > 1:
        claims = " and ".join(sorted(f"{point.value!r} of {_package(point)}" for point in points))
        raise ArgumentError(
            f"{what}: got {name!r}, a name that several packages claim: {claims}. Give module:name instead."
        )
    if points:
        point = points[0]
        return attribute(f"{what}: got {name!r}, of {_package(point)}", point.value)
    names = {*built_in, *(point.name for point in _entry_points(what))}
    problem = unknown_name(what, name, names)
    assert problem is not None
    own = f"For a {what} of your own, give module:name."
    raise ArgumentError(str(replace(problem, remedy=problem.remedy or own)))


@dataclass(frozen=True)
class Installed:
    """An entry point: its name, `module:name`, its package, and why its name is refused, if it is."""

    name: str
    value: str
    package: str
    refused: str = ""


def installed(what: What, built_in: Iterable[str]) -> list[Installed]:
    """What installed packages add, sorted by name. Nothing of it is imported.

    >>> installed("rule", ["dfa"])
    []
    """
    points = sorted(_entry_points(what), key=lambda point: (point.name, point.value))
    names = [point.name for point in points]
    found = []
    for point in points:
        refused = ""
        if point.name in built_in:
            refused = f"refused: {point.name!r} is a {what} of timelocal"
        elif names.count(point.name) > 1:
            refused = "refused: several packages claim this name"
        found.append(Installed(point.name, point.value, _package(point), refused))
    return found


def origin(what: What, name: str, found: Any) -> dict[str, str | None]:
    """Where an object that `find` found comes from, for the record of a run.

    Returns:
        `name` as given, the `module` and `file` name its source is in, the `sha256` of that file, and
        `distribution` and `version` of the installed package; None for what does not exist.

    >>> from fractions import Fraction
    >>> known = origin("rule", "fractions:Fraction", Fraction)
    >>> known["module"], known["file"], known["distribution"], len(known["sha256"])
    ('fractions', 'fractions.py', None, 64)
    """
    from importlib.metadata import version

    distribution: str | None
    if ":" in name:
        named = name.split(":", 1)[0]
        distribution = _distribution_of(named)
    else:
        point = next(point for point in _entry_points(what) if point.name == name)
        named = point.module
        distribution = None if point.dist is None else point.dist.name
    is_defined = inspect.isclass(found) or inspect.isroutine(found)
    module = found.__module__ if is_defined else named
    file = _file(sys.modules.get(module))
    return {
        "name": name,
        "module": module,
        "file": None if file is None else file.name,
        "sha256": None if file is None else hashlib.sha256(file.read_bytes()).hexdigest(),
        "distribution": distribution,
        "version": None if distribution is None else version(distribution),
    }


@contextmanager
def running(what: What, name: str, built_in: Iterable[str]) -> Iterator[None]:
    """Around a call into a plug-in's code: its error becomes an `ArgumentError` that names plug-in and line.

    Errors of this package, and of built-in objects, pass as they are.

    >>> with running("rule", "mine:Rule", ["dfa"]):
    ...     1 / 0
    Traceback (most recent call last):
    timelocal.errors.ArgumentError: rule: got 'mine:Rule', which raised ZeroDivisionError: division by zero...
    """
    try:
        yield
    except TimelocalError:
        raise
    except Exception as error:
        if name in built_in:
            raise
        raise ArgumentError(f"{what}: got {name!r}, which raised {_how(error)}.") from error


def search_path() -> list[str]:
    """Where this process imports from, for one that starts elsewhere: `search_also` there."""
    return [path or os.getcwd() for path in sys.path]


def search_also(paths: Iterable[str]) -> None:
    """Import from these folders too, after those of this process."""
    sys.path += [path for path in paths if path not in sys.path]


def attribute(given: str, name: str) -> Any:
    """What `name`, `module:attribute`, names; `given` begins the message of what is wrong with it."""
    module, _, own = name.partition(":")
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    if not module or module.startswith(".") or not own:
        raise ArgumentError(f"{given}, expected module:name, such as 'package.module:MyRule'.")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        remedy = ""
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            remedy = " Change to the folder that contains it, put that folder on PYTHONPATH, or install it."
        raise ArgumentError(
            f"{given}, but module {module} cannot be imported: {_how(error)}.{remedy}"
        ) from error
    try:
        return attrgetter(own)(found)
    except AttributeError as error:
        public = [name for name in vars(found) if not name.startswith("_")]
        remedy = did_you_mean(own, public) or "Give one of its names."
        where = getattr(found, "__file__", None) or "built into Python"
        raise ArgumentError(
            f"{given}, but module {module} has no {own!r} ({where}). {remedy}"
        ) from error


def _how(error: BaseException) -> str:
    """The error as one line, with the line of code that raised it."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    lines = traceback.extract_tb(error.__traceback__)
    frames = [line for line in lines if not line.filename.startswith("<frozen importlib")]
    is_ours = not frames or frames[-1].filename in (__file__, importlib.__file__)
    if is_ours or isinstance(error, SyntaxError):  # which tells the line itself
        return text
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})"


def _entry_points(what: What) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points

    return tuple(entry_points(group=GROUPS[what]))


def _package(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _file(module: ModuleType | None) -> Path | None:
    """The source file of a module; None for one that has none, such as a notebook."""
    path = getattr(module, "__file__", None)
    return Path(path) if path is not None and Path(path).is_file() else None


def _distribution_of(module: str) -> str | None:
    """The installed package that a module is of; None for one that just lies in a folder."""
    top = module.partition(".")[0]
    file = _file(sys.modules.get(top))
    if file is None:
        return None
    folder = file.parent.parent if file.name == "__init__.py" else file.parent
    if folder == Path.cwd() and not any(folder.glob("*-info")):
        return None  # the usual case, told without reading the file lists of all packages
    names = _distributions(tuple(sys.path)).get(top)
    return names[0] if names else None


@lru_cache(maxsize=1)
def _distributions(paths: tuple[str, ...]) -> Mapping[str, list[str]]:
    from importlib.metadata import packages_distributions

    return packages_distributions()
