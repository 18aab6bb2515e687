"""The command line with rules, cells and data sets from outside the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin_files import CELL, DATA, RULE, in_folder, module, package
from timelocal.cli.rule_options import decorrelated


@pytest.fixture(autouse=True)
def _imports_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """In a folder with `mine.py`; what a test imports goes with it."""
    module(tmp_path, "mine", RULE, CELL, DATA)
    with in_folder(tmp_path, monkeypatch):
        yield


def test_the_list_names_what_packages_add_and_what_is_wrong_with_it(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # messages hold paths, and would be cut anywhere
    assert "from installed packages" not in call("list").stdout
    site = tmp_path / "site"
    package(site, "fine", rules={"their-rule": "mine:Rule"}, datasets={"pulses": "mine:pulses"})
    package(site, "pirate", rules={"dfa": "mine:Rule"}, cells={"none": "mine:Rule"})
    package(site, "faulty", rules={"faulty": "absent_module:Rule"}, datasets={"typo": "mine:pulse"})
    sys.path[:0] = [str(site), str(tmp_path)]
    listed = call("list")
    assert listed.exit_code == 0
    _, table = listed.stdout.split("from installed packages")
    for words in (
        (
            "their-rule",
            "within its own step",
            "gradient: exact, of tbptt1",
            "fine 1.2",
            "mine:Rule",
        ),
        ("pulses", "which came first"),
        ("'dfa' is a rule of timelocal", "pirate 1.2"),
        ("the class Rule, expected a subclass of timelocal.Cell",),
        ("No module named 'absent_module'", "faulty 1.2"),
        ("Did you mean 'pulses'?",),
        ("package.module:Name",),
    ):
        assert all(word in " ".join(table.replace("│", " ").split()) for word in words), words
    assert "which came first" in call("data", "list").stdout
    facts = " ".join(call("doctor").stdout.split())
    assert "rule: their-rule mine:Rule, of fine 1.2" in facts
    assert "rule: dfa refused" in facts


def test_a_data_set_is_shown_and_used_by_its_name(call, train, tmp_path: Path) -> None:
    shown = call("data", "show", "mine:pulses")
    assert shown.exit_code == 0, shown.output
    assert "left (100), right (100)" in shown.stdout
    assert "120 train, 40 validation, 40 test" in shown.stdout
    assert call("data", "fetch", "mine:pulses").exit_code == 0
    done = train("--dataset", "mine:pulses", "--rule", "mine:Rule", "--out", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert "mine:pulses" in "".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--rule", "mine:Rul"), "Did you mean 'Rule'?"),
        (("--rule", "min:Rule"), "No module named 'min'. Change to the folder that contains it"),
        (("--cell", "mine:pulses"), "a function that returns a Dataset, expected a subclass"),
        (("--dataset", "mine:Rule"), "expected a function that returns a timelocal.data.Dataset"),
        (("--rule", "mine:Rule", "--layers", "2"), "mine: got several layers"),
    ],
)
def test_mistakes_are_told_in_words(train, arguments: tuple[str, ...], text: str) -> None:
    done = train(*arguments, "--out", "runs")
    assert done.exit_code != 0
    assert text in done.output
    assert "Traceback" not in done.output


def test_a_d_in_front_is_decorrelation_unless_it_is_a_name(tmp_path: Path) -> None:
    assert decorrelated("dmine:Rule", None) == ("dmine:Rule", None)
    package(tmp_path / "site", "theirs", rules={"theirs": "mine:Rule", "dbptt": "mine:Rule"})
    assert decorrelated("dbptt", None) == ("bptt", 1e-4)
    assert decorrelated("dtheirs", None) == ("dtheirs", None)
    sys.path.append(str(tmp_path / "site"))
    assert decorrelated("dtheirs", None) == ("theirs", 1e-4)
    assert decorrelated("dbptt", None) == ("dbptt", None)


@pytest.mark.slow
def test_workers_tell_what_failed_and_do_the_rest(train, tmp_path: Path) -> None:
    fails = """
class Fails(Rule):
    def recurrent_gradients(self, forward):
        if self.seed == 1: raise RuntimeError("no luck")
        return super().recurrent_gradients(forward)
"""
    module(tmp_path, "luck", RULE, fails)
    arguments = ("--rule", "luck:Fails", "--seeds", 3, "--workers", 2, "--out", tmp_path / "runs")
    done = train(*arguments)
    assert done.exit_code != 0
    assert "1 of 3 runs failed, such as digits-rows-gru-luck.Fails-s1-" in done.output
    assert "RuntimeError: no luck" in done.output
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 2
    assert train("--workers", 0).exit_code == 2
