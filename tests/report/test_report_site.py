"""The site of reproductions: its numbers, its links, and that any number leads to its runs."""

from __future__ import annotations

import html
import shlex
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_reproductions import ACCURACIES, BPTT, DFA, everything, reproduction
from typer.testing import CliRunner

from timelocal.cli.app import app
from timelocal.experiments.command import command_of
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.papers import EXPERIMENTS
from timelocal.report.lines import rows
from timelocal.report.markdown import write_markdown
from timelocal.report.site import page_name, write_site


class Seen(HTMLParser):
    """The anchors and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if "id" in given:
            self.ids.add(given["id"])
        for name in ("href", "src"):
            if name in given:
                self.links.append(given[name])


def test_every_link_leads_somewhere(tmp_path: Path) -> None:
    index = write_site(everything(), tmp_path / "site")
    pages = sorted(index.parent.glob("*.html"))
    assert len(pages) == 6  # two are of one name: the later one stands
    for page in pages:
        seen = Seen(page.read_text())
        assert page == index or seen.links
        for link in seen.links:
            file, _, anchor = link.partition("#")
            assert not file or (page.parent / file).is_file(), link
            assert not anchor or anchor in seen.ids, link


def test_numbers_are_those_of_the_runs() -> None:
    dfa, code, bptt = rows(reproduction())
    values = [100 * one for one in ACCURACIES[DFA] if one is not None]
    mean, sd = statistics.mean(values), statistics.stdev(values)
    assert dfa.cells[0] == f"{mean:.1f} ± {sd:.1f}"
    assert dfa.extent == "50.0 to 75.0"
    half = 4.302652729911275 * sd / 3**0.5
    assert dfa.interval == f"[{mean - half:.1f}, {mean + half:.1f}]"
    assert (dfa.paper, dfa.from_paper) == ("60 ± 1.5", f"+{mean - 60:.1f}")
    theirs = statistics.mean(100 * one for one in ACCURACIES[BPTT] if one is not None)
    assert dfa.from_bptt.startswith(f"−{theirs - mean:.1f} (p = 0.25")
    assert bptt.from_bptt == "–"
    # what diverged is told, not averaged
    assert code.cells[0] == "50.0 ± 14.1"
    assert (code.stability, code.stable) == ("2 of 3; 1 diverged", False)
    assert dfa.tried == (("lr 0.1", "10.0\u202f%"), ("lr 0.01", "1.0\u202f%"))


def test_a_number_leads_to_runs_seeds_and_commands(tmp_path: Path) -> None:
    made = reproduction()
    text = (write_site([made], tmp_path).parent / page_name(made)).read_text()
    for row in rows(made):
        assert text.count(f'href="#{row.anchor}"') == len(row.cells)
        details = text.split(f'<details id="{row.anchor}">')[1].split("</details>")[0]
        for run in row.runs:
            assert f"runs/{run.name}.json" in details
            assert html.escape(run.command) in details
            assert (tmp_path / "runs" / f"{run.name}.json").is_file()
    assert "the loss is nan &lt;&amp;&gt;" in text
    assert '<span class="badge holds">holds</span> BPTT is better than DFA.' in text


def test_nothing_done_is_said_plainly(tmp_path: Path) -> None:
    made = reproduction(done=False)
    text = (write_site([made], tmp_path).parent / page_name(made)).read_text()
    assert "0 of 9 runs done" in text
    assert "0 of 3; 3 not run yet" in text
    assert "untested at this size" in text
    assert 'class="chart"' not in text


CONFIGS = [
    TrainConfig(alignment=True, clip=2.0, seed=3, threads=2, stratified=True, layers=2),
    TrainConfig(
        cell="rnn", rule="dfa-authors-code", rule_options={"quirks": ["frobenius"]}, lr=0.0005
    ),
    *(line.config for line in EXPERIMENTS["dfa/table1"].lines("laptop")[:8]),
    *(line.config for line in EXPERIMENTS["perturbation/figure6"].lines("laptop")),
    *(line.config for line in EXPERIMENTS["perturbation/figure11"].lines("laptop")[-1:]),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.folder_name())
def test_the_command_makes_the_same_run_again(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainConfig] = []

    def only_told(configs: list[TrainConfig], *_: object) -> list[object]:
        asked.extend(configs)
        return []

    monkeypatch.setattr("timelocal.cli.summary.do_runs", only_told)
    monkeypatch.setattr("timelocal.cli.summary.print_summary", lambda _: None)
    result = CliRunner().invoke(app, shlex.split(command_of(config))[1:])
    assert result.exit_code == 0, result.output
    assert [one.sha256() for one in asked] == [config.sha256()]


def test_the_command_line_reproduces_lists_and_refuses(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["reproduce", "--list"])
    for name, experiment in EXPERIMENTS.items():
        assert name in listed.output
        for claim in experiment.claims:
            assert claim.text in listed.output
    out = tmp_path / "out"
    wrong = runner.invoke(
        app, ["reproduce", "dfa/table2", "--profile", "huge", "--engine", "rai", "--out", str(out)]
    )
    assert wrong.exit_code == 2
    for word in ("'dfa/table1'", "'laptop'", "'ray'"):
        assert f"Did you mean {word}" in wrong.output or word in wrong.output
    assert not out.exists()
    made = runner.invoke(app, ["reproduce", "dfa", "--report-only", "--out", str(out)])
    assert made.exit_code == 0, made.output
    assert (out / "site" / "dfa-table1.html").is_file()


def test_the_markdown_page_has_the_same_numbers(tmp_path: Path) -> None:
    text = write_markdown(
        [reproduction(), reproduction("sizes", done=False)], tmp_path / "a.md"
    ).read_text()
    for row in rows(reproduction()):
        (line,) = (
            one for one in text.splitlines() if one.startswith(f"| {' | '.join(row.line.key)} |")
        )
        assert f"| {row.cells[0]} | {row.cells[1]} | {row.interval} |" in line
        assert row.stability in line
    assert "**holds**: BPTT is better than DFA." in text
    assert "Not run yet\n\n`dfa/made-up-sizes`" in text
