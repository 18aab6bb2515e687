"""Every command that the documents show is one that the program takes; the README's run in their order."""

from __future__ import annotations

from glob import glob
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from pages import commands, write_own_files
from plugin_files import CELL, RULE
from timelocal.cli.app import app
from timelocal.experiments.catalogue import EXPERIMENTS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("results/*/README.md")),
]
PROGRAM = typer.main.get_command(app)
LONG = {"reproduce", "claims", "bench"}
"""Verbs whose work is tested elsewhere, or takes hours."""
KNOWN = {part for name in EXPERIMENTS for part in (name, name.split("/")[-1])} | {
    "dfa",
    "perturbation",
}
"""What `reproduce` takes: experiments, with their folder or without it, and the two papers."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_every_command_is_one_that_the_program_takes(page: Path) -> None:
    for _, verb, *arguments in commands(page.read_text()):
        with PROGRAM.make_context("timelocal", [verb]) as context:
            found = PROGRAM.get_command(context, verb)
            assert found is not None, verb
            if verb == "data":
                kind, *arguments = arguments
                with found.make_context(verb, [kind], parent=context) as inner:
                    found = found.get_command(inner, kind)
            with found.make_context(verb, arguments, parent=context) as asked:
                names = asked.params.get("names") if verb == "reproduce" else None
        assert set(names or ()) <= KNOWN


def test_a_command_with_an_unknown_option_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("    timelocal train --dataset ecg200 --no-such-option 3   # a comment\n")
    with pytest.raises(Exception, match="no-such-option"):
        test_every_command_is_one_that_the_program_takes(page)


@pytest.mark.slow
@pytest.mark.data
def test_the_commands_of_the_readme_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    """In a folder that holds the files they name; trained for one epoch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIMELOCAL_DATA", str(data_dir))
    write_own_files(tmp_path)
    Path("mine.py").write_text(
        RULE.replace("class Rule", "class MyRule") + CELL.replace("class Cell", "class MyCell")
    )
    for _, verb, *arguments in commands((ROOT / "README.md").read_text()):
        if verb in LONG and "--list" not in arguments:
            continue
        given = [
            path
            for one in arguments
            for path in (sorted(glob(one.replace("…", "*"))) if "…" in one else [one])
        ]
        if verb in ("train", "backtest"):
            given += ["--epochs", "1"]
        done = CliRunner().invoke(app, [verb, *given])
        assert done.exit_code == 0, (verb, given, done.output)
    assert len(pd.read_csv("out.csv")) == 30
    assert Path("paper").is_dir()
    assert Path("runs.parquet").is_file()
