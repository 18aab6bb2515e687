"""The core trains, streams and resumes with its own requirements alone; the rest names its extra."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import core_environment

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"scikit-learn": "sklearn"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that can import timelocal, from this checkout, and what its core requires."""
    folder = tmp_path_factory.mktemp("core")
    made = core_environment.build(folder, PROJECT["dependencies"])
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "timelocal").symlink_to(ROOT / "src" / "timelocal")
    return made


@pytest.mark.slow
def test_the_core_stands_alone(python: Path, tmp_path: Path) -> None:
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, ROOT / "tests" / "core_session.py"],
        cwd=tmp_path,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the core stands alone")


def test_the_environment_is_not_empty_by_mistake() -> None:
    names = {one.metadata["Name"] for one in core_environment.needed(PROJECT["dependencies"])}
    assert {"torch", "numpy", "safetensors", "filelock"} <= names
    assert not names & {"scipy", "scikit-learn", "pydantic", "typer", "rich", "pooch", "matplotlib"}
    assert len(names) < 20


def packages_of(extra: str) -> set[str]:
    """What an extra brings, by the names to import, the extras it leans on included."""
    found: set[str] = set()
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "timelocal":
            found |= set().union(*map(packages_of, requirement.extras))
        else:
            found.add(IMPORTED_AS.get(requirement.name, requirement.name))
    return found


@cache
def sources() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "src").rglob("*.py"))}


def calls_of_require() -> list[tuple[str, set[str], str]]:
    """File, packages and extra of every `require(...)` in the package."""
    found = []
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "require":
                packages = {ast.literal_eval(argument) for argument in node.args}
                given = {one.arg: ast.literal_eval(one.value) for one in node.keywords}
                found.append((path.name, packages, given["extra"]))
    return found


def test_the_extra_that_is_named_brings_what_is_missing() -> None:
    calls = calls_of_require()
    assert {extra for _, _, extra in calls} == {
        "cli",
        "data",
        "report",
        "tensorboard",
        "ray",
        "slurm",
        "search",
        "river",
        "sklearn",
        "onnx",
        "ucr",
        "aeon",
        "sktime",
    }
    assert len(calls) >= 10
    for file, packages, extra in calls:
        assert packages <= packages_of(extra), (file, extra)


def test_all_is_all() -> None:
    extras = set(PROJECT["optional-dependencies"]) - {
        "all",
        "dev",
        "docs",
        "aeon",
        "sktime",
        "ucr",
        "forecast",
    }  # ask for an older pandas
    assert packages_of("all") == set().union(*map(packages_of, extras))
    assert packages_of("all") <= packages_of("dev")


def test_nothing_is_imported_that_is_not_asked_for() -> None:
    """Every package that any file imports is in the core's requirements or in those of an extra."""
    core = {Requirement(text).name for text in PROJECT["dependencies"]}
    extras = packages_of("all") | packages_of("aeon") | packages_of("sktime")
    known = core | extras | {"timelocal", "jax", "pydantic_core", *sys.stdlib_module_names}
    imported: dict[str, str] = {}
    for path, tree in sources().items():
        for node in ast.walk(tree):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            imported |= {name.split(".")[0]: str(path) for name in names}
    assert {"torch", "filelock", "jinja2"} <= imported.keys()
    assert {name: path for name, path in imported.items() if name not in known} == {}
