"""The example package: installed as it stands, named with its origin, trained, reported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "timelocal_example"


def call(*command: object, site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT / "src"), str(site)])
    environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-P", *map(str, command)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package, without a network."""
    source = tmp_path_factory.mktemp("source") / "example"
    shutil.copytree(EXAMPLE, source)  # what a build leaves stays out of the checkout
    site = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--disable-pip-version-check", "--target", str(site), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (site / "timelocal_example" / "one_step.py").exists()
    return site


def timelocal(
    *arguments: object, site: Path, folder: Path, fails: bool = False
) -> subprocess.CompletedProcess[str]:
    done = call("-m", "timelocal", *arguments, site=site, folder=folder)
    assert (done.returncode != 0) == fails, done.stderr
    return done


@pytest.mark.slow
def test_it_is_installed_listed_trained_and_reported(site: Path, tmp_path: Path) -> None:
    listed = timelocal("list", site=site, folder=tmp_path).stdout
    table = listed[listed.index("from installed packages") :]
    for words in (
        ("rule", "one-step", "timelocal-example 0.1.0", "timelocal_example.one_step:OneStep"),
        ("cell", "update-gate", "timelocal_example.update_gate:UpdateGate"),
        ("dataset", "evidence", "pulses left and right: on which side were there more?"),
    ):
        assert all(word in table for word in words)
    names = ("--rule", "one-step", "--cell", "update-gate", "--dataset", "evidence")
    size = ("--hidden", 16, "--epochs", 30, "--lr", 0.01, "--seeds", 2, "--workers", 2)
    trained = timelocal("train", *names, *size, site=site, folder=tmp_path)
    assert trained.stderr.count("finished") == 2
    timelocal("report", site=site, folder=tmp_path)
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "<h1>one-step on evidence</h1>" in page
    assert page.count("timelocal-example 0.1.0") == 3
    assert "R. J. Williams, J. Peng." in page
    assert "evidence" in timelocal("data", "show", "evidence", site=site, folder=tmp_path).stdout
    assert "right (" in timelocal("data", "show", "evidence", site=site, folder=tmp_path).stdout


@pytest.mark.slow
def test_it_keeps_the_contract_of_cells(site: Path, tmp_path: Path) -> None:
    code = (
        "from timelocal.testing import check_cell\n"
        "from timelocal_example.update_gate import UpdateGate\n"
        "print(len(check_cell(UpdateGate()).rows))"
    )
    done = call("-c", code, site=site, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60


@pytest.mark.slow
def test_it_keeps_the_contract_of_rules(site: Path, tmp_path: Path) -> None:
    code = (
        "from timelocal.testing import check_rule\n"
        "from timelocal_example.one_step import OneStep\n"
        "print(check_rule(OneStep))"
    )
    done = call("-c", code, site=site, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exact, tbptt1" in done.stdout


@pytest.mark.slow
def test_help_and_completion_load_no_entry_point(site: Path, tmp_path: Path) -> None:
    """Not even their names are looked for."""
    shutil.copytree(site, tmp_path / "site")
    loud = tmp_path / "site" / "timelocal_example" / "__init__.py"
    loud.write_text("raise RuntimeError('loaded')")
    for arguments in (("--help",), ("train", "--help"), ("data", "--help"), ("--version",)):
        timelocal(*arguments, site=tmp_path / "site", folder=tmp_path)
    told = timelocal(
        "train", "--rule", "one-step", site=tmp_path / "site", folder=tmp_path, fails=True
    )
    assert "cannot be imported: RuntimeError: loaded" in told.stderr
    assert "Traceback" not in told.stderr
    listed = timelocal("list", site=tmp_path / "site", folder=tmp_path).stdout
    assert listed.count("RuntimeError: loaded") == 3
    assert "dfa-authors-code" in listed
    assert "adagrad" in listed
