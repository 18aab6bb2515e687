"""The site of reproductions: its numbers, its links, and that any number leads to its runs."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shlex
import statistics
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from made_up_reproductions import ACCURACIES, BPTT, CODE, DFA, costs, everything, reproduction
from matplotlib.textpath import TextPath
from typer.testing import CliRunner

from timelocal import files
from timelocal.cli.app import app
from timelocal.errors import BusyError, RunError, UnsupportedError
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.claims import reaches
from timelocal.experiments.command import command_of
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import Experiment
from timelocal.report import line_figures, site
from timelocal.report.citations import PAPERS
from timelocal.report.figures import band
from timelocal.report.line_figures import figures
from timelocal.report.lines import anchor, rows, trivial, with_links
from timelocal.report.markdown import write_markdown
from timelocal.report.site import page_name, write_site
from timelocal.studies.measures import MEASURES
from timelocal.studies.reproduction import LineResult, Reproduction


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
    assert len(pages) == 7  # two are of one name: the later one stands
    papers = {paper.address for paper in PAPERS.values()}
    for page in pages:
        seen = Seen(page.read_text())
        assert page == index or seen.links
        for link in seen.links:
            if link in papers:
                continue
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
    assert [(choice, run.values, run.seed) for choice, run in dfa.tried] == [
        ("lr 0.1", ("10.0",), 0),
        ("lr 0.01", ("1.0",), 0),
    ]


def page(made: Reproduction, folder: Path) -> str:
    return (
        write_site([made], folder / "site").parent / page_name(made.experiment.name)
    ).read_text()


def places(text: str) -> dict[str, str]:
    """What can be opened on a page: the text of every details element by its name, with all it holds."""
    found, open_ = {}, []
    for tag in re.finditer(r"<details(?: id=\"([^\"]*)\")?[^>]*>|</details>", text):
        if tag[0] == "</details>":
            name, start = open_.pop()
            found[name] = text[start : tag.start()]
        else:
            open_.append((tag[1], tag.end()))
    return found


@pytest.mark.parametrize("made", everything()[:-1], ids=lambda made: made.experiment.name)
def test_any_number_leads_to_run_seed_and_command_in_two_clicks(
    made: Reproduction, tmp_path: Path
) -> None:
    text = page(made, tmp_path)
    opened = places(text)
    tables = re.findall(r'<table class="results">.*?</table>', text, flags=re.DOTALL)
    cells = [
        cell for table in tables for cell in re.findall(r"<td.*?</td>", table, flags=re.DOTALL)
    ]
    numbers = [cell for cell in cells if re.search(r">[^<]*[0-9]", cell)]
    assert len(numbers) >= 3 * len(made.lines)
    verdicts = "".join(re.findall(r'<td class="found">.*?</td>', text, flags=re.DOTALL))
    for cell in [*numbers, *re.findall(r"<a .*?</a>", verdicts)]:
        plain = re.sub(r"<a .*?</a>", "", cell, flags=re.DOTALL)
        assert not re.search(r">[^<]*[0-9]", plain), cell  # no number without a link
        for place in re.findall(r'href="#([^"]*)"', cell):
            if place == "the-paper":
                assert PAPERS["dfa"].citation in text
                assert "Table 1 of the paper, as printed" in text
                continue
            run = re.search(
                r'<th scope="row">\d</th>.*?href="(runs/[^"]*)".*?<code>(.*?)<',
                opened[place],
                re.DOTALL,
            )
            assert run is not None, place
            record = json.loads((tmp_path / "site" / run[1]).read_text())
            assert {"config", "environment", "result", "epochs"} <= record.keys()
            assert run[2].startswith("timelocal ")


def test_every_run_is_there_with_its_seed_and_command(tmp_path: Path) -> None:
    made = reproduction()
    text = page(made, tmp_path)
    opened = places(text)
    for row in rows(made):
        for place, runs in (
            (row.anchor, row.runs),
            (f"{row.anchor}-search", [r for _, r in (*row.tried, *row.finals)]),
        ):
            for run in runs:
                commands = {
                    re.sub(rf"--seeds (?:\d+,)*{run.seed}(?:,\d+|,)*", f"--seeds {run.seed},", line)
                    for line in re.findall(r"<code>(.*?)</code>", html.unescape(opened[place]))
                }
                assert f"runs/{run.name}.json" in opened[place]
                assert run.command in commands
                assert (tmp_path / "site" / "runs" / f"{run.name}.json").is_file()
    assert "the loss is nan &lt;&amp;&gt;" in text
    word = "cannot be decided with 3 seeds"
    assert '<th scope="row">BPTT is better than DFA.</th>' in text
    assert f'<span class="badge cannot-be-decided">{word}</span>' in text


def test_settings_leave_open_what_is_not_chosen_yet() -> None:
    made = reproduction("settings")
    assert (
        rows(made)[0].settings == "hidden units 4, batch 32, epochs 20, adam, learning rate 0.001"
    )
    undone = replace(made, lines=(replace(made.lines[0], chosen=None),))
    assert (
        rows(undone)[0].settings
        == "hidden units 4, batch 32, epochs 20, adam, learning rate not chosen yet"
    )


@pytest.mark.slow
def test_anchors_are_names_of_their_own() -> None:
    for experiment in EXPERIMENTS.values():
        lines = experiment.lines("paper")
        assert len({anchor(*line.key) for line in lines}) == len(lines)


def test_a_claim_is_decided_in_the_measure_it_names() -> None:
    made = reproduction()
    claims = (
        reaches("So accurate.", [(DFA, 0.6)]),
        reaches("And so lossy.", [(DFA, 0.6)], "test_loss"),
    )
    made = replace(made, experiment=replace(made.experiment, claims=claims))
    words = [(verdict.summary, verdict.because) for _, verdict in made.verdicts()]
    assert words == [
        (
            "cannot be decided",
            "DFA on digits · RNN 0.65 of 0.6; p = 0.5; at least 6 seeds are needed",
        ),
        (
            "cannot be decided",
            "DFA on digits · RNN 0.3333 of 0.6 (not so); p = 1; at least 6 seeds are needed",
        ),
    ]


def test_a_verdict_leads_to_the_lines_it_names() -> None:
    found = rows(reproduction())
    text = with_links(
        "DFA on digits · RNN 0.65, BPTT on digits · RNN 0.85; DDFA on digits · RNN <", found
    )
    dfa, _, bptt = found
    assert f'<a href="#{dfa.anchor}">DFA on digits · RNN 0.65</a>, ' in text
    assert f'<a href="#{bptt.anchor}">BPTT on digits · RNN 0.85</a>; ' in text
    assert text.endswith("; DDFA on digits · RNN &lt;")


def test_trivial_predictors_name_the_runs_that_hold_them() -> None:
    made = reproduction()
    (row,) = trivial(made)
    assert (row.label, row.score, row.panel) == ("majority class", "10.0", "digits · RNN")
    assert [run.seed for run in row.runs] == [0, 1, 2]
    assert all(run.there and run.values == ("10.0",) for run in row.runs)
    # where the size of the network makes a difference there is a row for each
    dfa, _, bptt = made.lines
    larger = bptt.line.config.model_copy(update={"hidden": 8})
    record = bptt.runs[0][1]
    changed = replace(record, result={**record.result, "trivial": {"majority_class": 0.2}})
    lines = (dfa, replace(bptt, runs=((larger, changed),)))
    assert [(one.label, one.score) for one in trivial(replace(made, lines=lines))] == [
        ("majority class, 4 units", "10.0"),
        ("majority class, 8 units", "20.0"),
    ]


def test_what_diverged_is_drawn_as_far_as_it_came_and_marked() -> None:
    as_in_code = figures(reproduction())[2:4]
    for figure in as_in_code:
        assert figure.caption.endswith("as in the authors' code")
        crosses = [t for t in figure.spec["data"] if "x" in str(t.get("marker", {}).get("symbol"))]
        (cross,) = crosses
        assert cross["x"] == [1, 2]  # the third is not a number
        assert cross["marker"]["size"] == [0, 8]
        assert "seed 1" in cross["hovertemplate"]
        assert "diverged after epoch 2" in cross["hovertemplate"]
        assert cross["name"] == "DFA (as in the authors' code), 2 of 3"
        assert figure.note == (
            "✕ ended early, not in any mean: DFA (as in the authors' code): 1 of 3 diverged after 3 epochs."
        )
        (mean,) = [
            t
            for t in figure.spec["data"]
            if t["meta"] == cross["meta"] and "mean of 2" in t.get("hovertemplate", "")
        ]
        assert len(mean["x"]) == 3
    accuracy = as_in_code[0].spec["data"]
    (mean,) = [t for t in accuracy if "mean of 2" in t.get("hovertemplate", "")]
    assert (
        mean["y"] == [pytest.approx(100 * (0.4 + 0.6) / 2)] * 3
    )  # the one that diverged is not in it


def test_a_line_that_diverged_altogether_is_still_in_the_picture() -> None:
    made = reproduction()
    code = next(one for one in made.lines if one.line.key == CODE)
    wild = tuple({"epoch": n, "test_loss": 10.0 ** (9 * n), "test_accuracy": 0.1} for n in (1, 2))
    runs = tuple(
        (config, replace(run, status="diverged", result=None, epochs=wild))
        for config, run in code.runs
    )
    lines = tuple(replace(one, runs=runs) if one is code else one for one in made.lines)
    for view in ("curves", "sizes"):
        experiment = replace(made.experiment, view=view, measures=("test_loss",))
        *curves, last = figures(replace(made, experiment=experiment, lines=lines))
        drawn = curves[-1] if curves else last
        assert any(
            t.get("marker", {}).get("symbol") == "x" or "lines+" in t["mode"]
            for t in drawn.spec["data"]
        )
        assert "3 of 3 diverged after 2 epochs" in drawn.note
        if view == "sizes":  # the axis shows what finished, from which the wild one leaves
            assert last.spec["layout"]["yaxis"]["range"][1] < 9
            continue
        name = "DFA (as in the authors' code), 0 of 3"
        labels = [note["text"] for note in last.spec["layout"]["annotations"]]
        assert name in labels
        assert "✕ 3" in labels


def test_bands_are_the_intervals_of_the_means() -> None:
    values = {1: [0.5, 0.75, 0.7], 2: [0.9, 0.85, 0.8], 3: [0.4]}
    (shape,) = band(values, "#0072B2")
    assert shape["x"] == [1, 2, 2, 1]
    half = [4.302652729911275 * statistics.stdev(values[n]) / 3**0.5 for n in (1, 2)]
    mean = [statistics.mean(values[n]) for n in (1, 2)]
    ends = [mean[0] - half[0], mean[1] - half[1], mean[1] + half[1], mean[0] + half[0]]
    assert shape["y"] == pytest.approx(ends, rel=1e-3)
    assert band({1: [0.5], 2: [0.6]}, "#0072B2") == []


def test_all_lines_of_a_figure_are_read_over_the_same_budget() -> None:
    made = reproduction()
    lines = []
    for one in made.lines:
        longer = one.line.key == BPTT
        config = one.line.config.model_copy(update={"epochs": 400 if longer else 200})
        epochs = [
            {"epoch": n, "test_accuracy": 0.5 + n / 1000} for n in range(1, config.epochs + 1)
        ]
        runs = tuple((c, replace(r, epochs=tuple(epochs))) for c, r in one.runs if r is not None)
        lines.append(replace(one, chosen=config, line=replace(one.line, config=config), runs=runs))
    figure = figures(replace(made, lines=tuple(lines)))[0]
    assert {max(trace["x"]) for trace in figure.spec["data"]} == {200}
    assert all(len(trace["x"]) < 210 for trace in figure.spec["data"])
    assert figure.note == "BPTT continues to epoch 400; the final values show where it ends."


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_two_lines_of_an_experiment_look_alike(name: str) -> None:
    experiment = EXPERIMENTS[name]
    results = [LineResult(line, line.config, (), (), ()) for line in experiment.lines("laptop")]
    looks = line_figures._looks(results)
    assert looks.keys() == {one.line.key.label for one in results}
    frozen = {one.line.key.label for one in results if one.line.config.frozen}
    seen = [(look.colour, look.dash) for label, look in looks.items() if label not in frozen]
    assert len(set(seen)) == len(seen)
    assert len({colour for colour, _ in seen}) == len(seen)
    assert len({looks[label].colour for label in frozen}) == len(frozen)


@pytest.mark.parametrize(
    ("least", "most"),
    [
        *((0.0236, 0.031), (0.0005, 0.025), (0.0102, 0.0103), (1, 1), (30, 120), (8, 512)),
        *((1234, 5678), (180, 250), (51, 3500)),
    ],
)
def test_labels_below_an_axis_do_not_touch_on_a_phone(least: float, most: float) -> None:
    axis = line_figures.log_places([least, most])
    low, high = axis["range"]
    assert 10**low < least <= most < 10**high
    places = [220 * (math.log10(tick) - low) / (high - low) for tick in axis["tickvals"]]
    assert len(places) >= 2
    assert min(places) >= 0
    assert max(places) <= 220
    assert [float(label) for label in axis["ticktext"]] == axis["tickvals"]
    # the widths that the labels have in DejaVu Sans, 13 pixels high
    widths = [TextPath((0, 0), label, size=13).get_extents().width for label in axis["ticktext"]]
    for (left, before), (right, after) in pairwise(zip(places, widths, strict=True)):
        assert right - left > (before + after) / 2 + 4


def test_an_axis_over_many_decades_has_few_powers_of_ten() -> None:
    assert line_figures.log_places([1e-4, 1e-1])["dtick"] == 1
    assert line_figures.log_places([1e-9, 1e9])["dtick"] == 4


@pytest.mark.parametrize("measure", MEASURES)
def test_titles_beside_an_axis_are_no_longer_than_it(measure: str) -> None:
    made = reproduction("sizes", measure)
    (figure,) = figures(made)
    title = figure.spec["layout"]["yaxis"]["title"]["text"]
    # a plot is at least 260 pixels high, its title 16
    rows = title.split("<br>")
    assert max(TextPath((0, 0), row, size=16).get_extents().width for row in rows) < 300


def test_seeds_are_fainter_the_more_there_are() -> None:
    made = reproduction()
    many = tuple(replace(one, runs=20 * one.runs) for one in made.lines)

    def opacity(lines: tuple[LineResult, ...]) -> float:
        drawn = figures(replace(made, lines=lines))[0].spec["data"]
        return min(trace.get("opacity", 1) for trace in drawn)

    assert opacity(many) < opacity(made.lines) == 0.25


def test_no_stroke_crosses_the_name_above_it() -> None:
    finals = figures(reproduction())[-1].spec
    lowest = min(note["yshift"] for note in finals["layout"]["annotations"])
    # plotly draws this symbol 1.4 times as long as its size
    sizes = [trace["marker"]["size"] for trace in finals["data"] if trace["mode"] == "markers"]
    assert sizes
    assert 1.4 * max(sizes) / 2 < lowest


def test_no_figure_is_lower_than_it_needs_to_be() -> None:
    for made in everything():
        for figure in figures(made):
            margins = figure.spec["layout"]["margin"]
            assert (figure.height or 352) - margins["t"] - margins["b"] >= 260


def test_the_best_mean_of_a_column_is_marked() -> None:
    assert [row.best[0] for row in rows(reproduction())] == [False, False, True]
    # what is as in the authors' code is on other data, some of it
    better = replace(reproduction(), lines=reproduction().lines[:2])
    assert [row.best[0] for row in rows(better)] == [True, False]


def test_records_and_figures_are_strict_json(tmp_path: Path) -> None:
    made = reproduction()
    specs = re.findall(
        r'<script type="application/json">(.*?)</script>', page(made, tmp_path), flags=re.DOTALL
    )
    records = [path.read_text() for path in (tmp_path / "site" / "runs").glob("*.json")]
    assert specs
    found = [
        json.loads(text, parse_constant=lambda name: pytest.fail(name))
        for text in [*specs, *records]
    ]
    diverged = [one for one in found if one.get("status") == "diverged"]
    assert [one["epochs"][-1]["test_loss"] for one in diverged] == [None]


@pytest.mark.slow
def test_the_command_of_a_cost_makes_that_very_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for run in rows(costs())[0].runs:
        assert run.command == "timelocal reproduce perturbation/made-up-costs --profile quick"
    with pytest.raises(UnsupportedError, match="timelocal reproduce"):
        command_of(costs().lines[0].line.config)
    made = replace(costs(), optuna=7)
    assert (
        rows(made)[0].runs[0].command.endswith("--profile quick --search optuna --search-trials 7")
    )
    # and the command line takes the profile for what it is
    for name in ("perturbation/figure10", "perturbation/figure12"):
        experiment = EXPERIMENTS[name]
        command = Reproduction(experiment, "quick", ()).command
        asked: list[object] = []

        def only_told(
            chosen: list[Experiment], profile: str, *_: object, asked=asked, **__: object
        ) -> list[object]:
            asked += [line.config for one in chosen for line in one.lines(profile)]
            return []

        monkeypatch.setattr("timelocal.studies.reproduce.reproduce", only_told)
        monkeypatch.setattr("timelocal.report.site.write_site", lambda *_: "")
        assert CliRunner().invoke(app, shlex.split(command)[1:]).exit_code == 0
        assert asked == [line.config for line in experiment.lines("quick")]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_interrupted_site_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    write_site([reproduction()], folder)
    before = tree(folder)
    real, count = site.render, []

    def interrupted(template: str, **content: object) -> str:
        count.append(template)
        if template == "site.html":
            raise KeyboardInterrupt
        assert tree(folder) == before  # nothing is seen of what is being written
        return real(template, **content)

    monkeypatch.setattr(site, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_site(everything(), folder)
    assert len(count) == len(everything()) + 1
    assert tree(folder) == before
    assert sorted(os.listdir(tmp_path)) == [".site.lock", "site"]


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed"])
def test_a_new_site_takes_the_place_of_the_old_and_keeps_other_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    folder = tmp_path / "site"
    write_site([costs()], folder)
    page, kept = page_name(costs().experiment.name), folder / "dfa-table1.html"
    before = (folder / page).read_bytes()
    kept.write_text("an earlier page")
    (tmp_path / ".site.new").mkdir()  # what a process left that was killed
    index = write_site([reproduction()], folder)
    assert (folder / page).read_bytes() == before
    assert kept.read_text() == "an earlier page"
    assert '<a href="dfa-table1.html">' in index.read_text()
    assert sorted(os.listdir(tmp_path)) == [".site.lock", "site"]


def test_death_between_two_renamings_is_put_right(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_site([costs()], folder)
    before = tree(folder)
    folder.rename(tmp_path / ".site.old")
    with pytest.raises(RunError, match="cannot write"), files.replaced(folder):
        raise OSError(28, "No space left on device")
    assert tree(folder) == before
    with (
        files.exclusive(tmp_path / ".site.lock"),
        pytest.raises(BusyError, match="another process"),
    ):
        write_site([costs()], folder)


def test_the_index_tells_where_the_runs_are_from(tmp_path: Path) -> None:
    text = write_site([reproduction()], tmp_path / "site").read_text()
    assert "12 finished, 1 diverged." in text
    assert "made-up processor" in text
    assert "2026-01-01 to 2026-01-03" in text
    cited = [paper for paper in PAPERS.values() if paper.citation]
    assert len(cited) == 2
    for paper in cited:
        assert paper.citation in text
        assert f'href="{paper.address}"' in text
    assert 'href=""' not in text
    text = write_site([reproduction(done=False)], tmp_path / "site").read_text()
    assert "none; 13 not run yet" in text


def test_nothing_done_is_said_plainly(tmp_path: Path) -> None:
    made = reproduction(done=False)
    text = page(made, tmp_path)
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
    made = [costs(), reproduction(), reproduction("sizes", done=False)]
    text = write_markdown(made, tmp_path / "a.md").read_text()
    for one in made[:2]:
        for row in rows(one):
            start = f"| {row.line.key.label} | {row.line.key.column} | {' | '.join(row.cells)} |"
            (line,) = (line for line in text.splitlines() if line.startswith(start))
            assert row.interval in line
            assert row.stability in line
    assert "1. **cannot be decided with 3 seeds**: BPTT is better than DFA." in text
    assert "Not finished: DFA as in the authors' code (2 of 3 seeds: 1 diverged)." in text
    assert "| *majority class* | *no learning over time* | 10.0 |" in text
    assert "## Not run yet\n\n`dfa/made-up-sizes`" in text
    assert "2026-01-01 to 2026-01-03" in text


def test_the_contents_lead_to_every_section_of_the_markdown_page(tmp_path: Path) -> None:
    text = write_markdown(everything(), tmp_path / "a.md").read_text()
    contents = text.split("## Contents")[1].split('<a id="')[0]
    aims = re.findall(r"\]\(#([^)]*)\): (.*)", contents)
    assert [aim for aim, _ in aims] == re.findall(r'<a id="([^"]*)"></a>\n\n## ', text)
    assert len(aims) == len(everything()) - 1
    assert aims[0][1] == "cannot be decided 1; 9 of 9 runs done"
    for row in (line for line in text.splitlines() if line.startswith("|")):
        assert row.endswith("|")
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_markdown_page_is_named_by_what_is_on_it(tmp_path: Path) -> None:
    def head(*made: Reproduction) -> str:
        return write_markdown(made, tmp_path / "a.md").read_text()

    one = reproduction()
    beyond = replace(one, experiment=replace(one.experiment, name="beyond/made-up"))
    assert head(one, costs()).startswith("# Both papers, reproduced\n")
    assert head(beyond, replace(beyond)).startswith("# Beyond the papers\n")
    alone = head(beyond)
    assert alone.startswith(f"# {one.experiment.title}\n")
    assert "## References" not in alone
    assert PAPERS["dfa"].citation in head(one)
