"""A newcomer's journeys, from the built wheel alone, in an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import journeys

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("journeys")]  # one wheel for all


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's package, made without a compiler and out of a copy."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    leave = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=leave)
    shutil.copytree(ROOT / "native", source / "native")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    environment = {**os.environ, "CC": "false", "CXX": "false"}
    subprocess.run([*pip, *build], check=True, env=environment, capture_output=True)
    (wheel,) = folder.glob("timelocal-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    where = [sys.executable, "-P", "-c", "import timelocal; print(timelocal.__file__)"]
    environment["PYTHONPATH"] = str(folder / "site")
    found = subprocess.run(where, check=True, env=environment, capture_output=True, text=True)
    assert found.stdout.startswith(str(folder / "site"))
    return folder / "site"


@pytest.mark.parametrize("name", journeys.JOURNEYS)
def test_a_journey(name: str, site: Path, tmp_path: Path) -> None:
    shutil.copy(journeys.__file__, tmp_path / "session.py")
    known = {key: value for key, value in os.environ.items() if not key.startswith("TIMELOCAL")}
    done = subprocess.run(
        [sys.executable, "-P", tmp_path / "session.py", name],
        cwd=tmp_path,
        env={**known, "PYTHONPATH": str(site), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith(": done\n")
