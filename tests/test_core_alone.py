"""The core trains, streams and resumes with its own requirements alone; the rest names its extra."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import core_environment
from pages import commands, write_own_files

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"scikit-learn": "sklearn"}


@pytest.mark.slow
def test_the_core_stands_alone(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "core", PROJECT["dependencies"])
    session = ROOT / "tests" / "core_session.py"
    assert ran(python, session, folder=tmp_path).startswith("the core stands alone")


@pytest.mark.slow
def test_the_readme_s_first_screen_runs_with_the_extras_that_it_installs(tmp_path: Path) -> None:
    screen = (ROOT / "README.md").read_text().partition("\n## ")[0]
    (extras,) = re.findall(r'^pip install "timelocal\[([a-z,]+)\]"$', screen, re.MULTILINE)
    (block,) = re.findall(r"```python\n(.*?)```", screen, re.DOTALL)
    shown = commands(screen)
    assert len(shown) >= 2
    asked = [*PROJECT["dependencies"], *chain(*map(requirements_of, extras.split(",")))]
    python = interpreter(tmp_path / "extras", asked)
    write_own_files(tmp_path)
    ran(python, "-c", block.replace('"epochs": 30', '"epochs": 1'), folder=tmp_path)
    for _, *arguments in shown:
        ran(python, "-m", "timelocal", *arguments, "--epochs", "1", folder=tmp_path)
    assert len(list(tmp_path.glob("runs/*/model.safetensors"))) == len(shown)


def interpreter(folder: Path, requirements: Iterable[str]) -> Path:
    """A Python that can import timelocal, from this checkout, and what these requirements bring."""
    made = core_environment.build(folder, requirements)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "timelocal").symlink_to(ROOT / "src" / "timelocal")
    return made


def ran(python: Path, *arguments: object, folder: Path) -> str:
    """What a program of that Python prints in a folder, without any setting of this Python."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, *map(str, arguments)],
        cwd=folder,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_is_not_empty_by_mistake() -> None:
    names = {one.metadata["Name"] for one in core_environment.needed(PROJECT["dependencies"])}
    assert {"torch", "numpy", "safetensors", "filelock"} <= names
    assert not names & {"scipy", "scikit-learn", "pydantic", "typer", "rich", "pooch", "matplotlib"}
    assert len(names) < 20


def requirements_of(extra: str) -> list[str]:
    """What an extra brings, with what the extras it leans on bring."""
    found: list[str] = []
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "timelocal":
            found += chain(*map(requirements_of, requirement.extras))
        else:
            found.append(text)
    return found


def packages_of(extra: str) -> set[str]:
    """The same, by the names to import."""
    names = (Requirement(text).name for text in requirements_of(extra))
    return {IMPORTED_AS.get(name, name) for name in names}


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
