"""A stranger's first hour: a rule of 20 lines and a cell of 16 in one file, measured, trained, reported."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from plugin_files import CELL, RULE, module
from timelocal.testing import check_cell, check_rule

SOURCE = Path(__file__).parents[1] / "src"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with `pkg.py`."""
    module(tmp_path, "pkg", RULE, CELL)
    return tmp_path


@pytest.fixture
def pkg(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, as a script in that folder imports it."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("pkg")
    del sys.modules["pkg"]


def timelocal(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The installed command, which has no working folder on its path."""
    code = "from timelocal.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_rule_takes_twenty_lines_and_a_cell_sixteen() -> None:
    counts = [sum(bool(line.strip()) for line in text.splitlines()) for text in (RULE, CELL)]
    assert counts[0] <= 20
    assert counts[1] <= 16
    assert all(len(line) <= 110 for text in (RULE, CELL) for line in text.splitlines())


@pytest.mark.slow
def test_the_rule_keeps_what_it_declares(pkg: ModuleType) -> None:
    report = check_rule(pkg.Rule)
    assert "exact, tbptt1  as declared to rounding" in str(report)


def test_the_cell_keeps_its_contract(pkg: ModuleType) -> None:
    report = check_cell(pkg.Cell())
    assert not report.failures
    assert len(report.rows) > 30


@pytest.mark.slow
def test_trained_by_two_workers_and_reported(folder: Path) -> None:
    arguments = ("--rule", "pkg:Rule", "--cell", "pkg:Cell", "--seeds", 2, "--workers", 2)
    trained = timelocal(folder, "train", *arguments, "--hidden", 16, "--epochs", 3, "--lr", 0.01)
    assert "2 trials, 0 of them done" in trained.stderr
    assert trained.stderr.count("finished") == 2
    assert "pkg:Cell" in trained.stdout
    assert "pkg:Rule" in trained.stdout
    again = timelocal(folder, "train", *arguments, "--hidden", 16, "--epochs", 3, "--lr", 0.01)
    assert "2 trials, 2 of them done" in again.stderr

    records = sorted((folder / "runs").glob("*/environment.json"))
    assert len(records) == 2
    environments = [json.loads(path.read_text()) for path in records]
    digests = {own["sha256"] for one in environments for own in one["plugins"].values()}
    assert len(digests) == 1  # one file, in the working folder, seen alike by both processes
    timelocal(folder, *environments[0]["command"].split()[1:])  # the recorded command finds its run
    assert len(list((folder / "runs").glob("*/config.json"))) == 2

    timelocal(folder, "report")
    page = (folder / "runs" / "report.html").read_text()
    text = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.search(r"<h1>pkg:Rule on digits-rows</h1>", text)
    assert "With the pkg:Cell, pkg:Rule reaches" in text
    assert "pkg:Cell · pkg:Rule" in text
    assert "(2 seeds)" in text
    assert "A. Stranger. My rule. 2026." in text
    assert f"pkg.py {digests.pop()[:12]}" in text
    assert "timelocal train --dataset digits-rows --cell pkg:Cell --rule pkg:Rule" in text
    assert "--seeds 0,1" in text
    assert "Runs that do not count" not in text

    changed = folder / "pkg.py"
    changed.write_text(changed.read_text() + "\n# better now\n")
    told = timelocal(folder, "train", *arguments, "--hidden", 16, "--epochs", 3, "--lr", 0.01)
    assert told.stderr.count("pkg.py has changed since the run") == 4  # two runs, rule and cell
    listed = timelocal(folder, "runs", "--json", "--rule", "pkg:Rule")
    assert listed.stdout.count('"status": "finished"') == 2
