"""What a page says of rules, cells and data sets from outside the package: only what the runs recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import make_run

from timelocal.report import write_report
from timelocal.report.provenance import environment, plugins, references
from timelocal.report.runs import load
from timelocal.report.style import rule_colours


def recorded(folder: Path, environment: object) -> None:
    path = folder / "environment.json"
    before: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps(before | {"plugins": environment}))


def origin(name: str = "mine:Rule", sha256: str = "ab" * 32, **more: object) -> dict[str, object]:
    known = {"name": name, "module": "mine", "file": "mine.py", "sha256": sha256, "version": None}
    return known | {"distribution": None, "summary": "by <luck>", "references": []} | more


def test_each_source_has_a_row(tmp_path: Path) -> None:
    for seed, digest in enumerate(("ab" * 32, "cd" * 32, "cd" * 32)):
        folder = make_run(tmp_path, rule="mine:Rule", seed=seed)
        recorded(folder, {"rule": origin(sha256=digest, references=["A. Stranger. 2026."])})
    found, _ = load([tmp_path])
    rows = plugins(found)
    assert [(row.source, row.runs, row.package) for row in rows] == [
        ("mine.py abababababab", 1, ""),
        ("mine.py cdcdcdcdcdcd", 2, ""),
    ]
    assert references(["dfa"], found)[-1] == "A. Stranger. 2026."
    assert not any("plugins" in key for key in environment(found))
    page = write_report([tmp_path], tmp_path / "report.html").read_text()
    assert "by &lt;luck&gt;" in page
    assert "by <luck>" not in page
    assert page.count("<code>mine") == 0
    assert "mine" not in sys.modules  # the page is made of records alone


def test_a_run_that_went_on_with_another_source_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path, rule="mine:Rule")
    recorded(folder, {"rule": origin(distribution="theirs", version="1.2")})
    path = folder / "environment.json"
    earlier = {"earlier_plugins": [{"rule": origin(sha256="00" * 32)}]}
    path.write_text(json.dumps(json.loads(path.read_text()) | earlier))
    (row,) = plugins(load([tmp_path])[0])
    assert row.package == "theirs 1.2"
    assert row.note == "it changed before these runs ended"
    page = write_report([tmp_path], tmp_path / "report.html").read_text()
    assert row.note in page


@pytest.mark.parametrize(
    "nonsense", [None, [], "text", {"rule": 3}, {"rule": {"references": None}}]
)
def test_records_that_are_none_are_passed_over(tmp_path: Path, nonsense: object) -> None:
    recorded(make_run(tmp_path, rule="mine:Rule"), nonsense)
    assert write_report([tmp_path], tmp_path / "report.html").exists()


def test_pages_without_plugins_have_no_table_of_them(tmp_path: Path) -> None:
    make_run(tmp_path)
    page = write_report([tmp_path], tmp_path / "report.html").read_text()
    assert "From outside timelocal" not in page


def test_unknown_rules_have_colours_that_no_rule_beside_them_has() -> None:
    rules = ["mine:Rule", "theirs:Rule", "a:B", "anp", "wp", "np", "dfa", "bptt"]
    colours = rule_colours(rules)
    assert len({colours[rule] for rule in rules}) == len(rules)
    colours = rule_colours(["mine:Rule"])
    assert colours["mine:Rule"] == colours["anp"]
    many = rule_colours([f"m:R{number}" for number in range(40)])
    assert len(many) >= 40
