import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_runs import make_run, make_runs

from timelocal.errors import ArgumentError, RunError
from timelocal.report import write_report
from timelocal.rules import RULES


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., str]:
    """The text of the page about some folders, plotly's own source left out."""

    def make(*folders: Path) -> str:
        output = write_report(folders, tmp_path / "out" / "page.html")
        html = output.read_text(encoding="utf-8")
        scripts = re.findall(r"<script>.*?</script>", html, flags=re.DOTALL)
        library = max(scripts, key=len)
        assert len(library) > 1_000_000
        return html.replace(library, "")

    return make


def test_the_page_tells_everything(tmp_path: Path, page: Callable[..., str]) -> None:
    folders = make_runs(tmp_path / "runs")
    html = page(*folders)
    assert "<h1>BPTT and DFA on digits-rows</h1>" in html
    assert html.count('class="chart"') == 2
    for text in (
        "Best validation",
        "Last epoch",
        "optimistic",
        "Difference to BPTT",
        "p = 0.25",
        "Time per step",
        "majority class",
        "readout only · GRU",
        "<code>timelocal demo</code>",
        "made-up processor",
        "no native kernel was built",
        *RULES["dfa"].spec.references[:1],
        *(folder.name for folder in folders),
    ):
        assert text in html
    assert "Runs that do not count" not in html


def test_a_rule_that_decorrelates_has_its_d_everywhere(
    tmp_path: Path, page: Callable[..., str]
) -> None:
    for rule in ("bptt", "anp"):
        make_run(tmp_path / "runs", rule=rule)
    make_run(tmp_path / "runs", rule="anp", decorrelate=1e-4)
    html = page(tmp_path / "runs")
    assert "<h1>ANP, DANP and BPTT on digits-rows</h1>" in html
    assert [html.count(f"With the RNN, {name} reaches") for name in ("ANP", "DANP")] == [1, 1]
    table = re.search(r'<table class="settings">.*?</table>', html, flags=re.DOTALL)
    assert table is not None
    assert re.findall(r"RNN · (\w+)", table[0]) == ["BPTT", "ANP", "DANP"]


def test_a_reference_that_decorrelates_is_named_so(
    tmp_path: Path, page: Callable[..., str]
) -> None:
    for rule in ("bptt", "dfa"):
        make_run(tmp_path / "runs", rule=rule, decorrelate=1e-4)
    html = page(tmp_path / "runs")
    assert "<h1>DBPTT and DDFA on digits-rows</h1>" in html
    assert re.search(r"With the RNN, DDFA reaches [^<]* and DBPTT ", html)


def test_the_page_asks_nothing_of_a_network(tmp_path: Path, page: Callable[..., str]) -> None:
    make_run(tmp_path / "runs")
    html = page(tmp_path / "runs")
    assert "default-src 'none'" in html
    assert not re.findall(r"""(?:src|href)\s*=|url\(|@import|https?://""", html)


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    folders = make_runs(tmp_path / "runs", seeds=1)
    first = write_report(folders, tmp_path / "a.html").read_bytes()
    assert write_report(folders, tmp_path / "b.html").read_bytes() == first


def test_unfinished_and_unreadable_runs_are_said(tmp_path: Path, page: Callable[..., str]) -> None:
    runs = tmp_path / "runs"
    make_run(runs, seed=0)
    make_run(runs, seed=1, status="diverged", message="loss <nan> at step 3")
    damaged = make_run(runs, seed=2)
    (damaged / "config.json").write_text("{")
    foreign = make_run(runs, seed=3)
    (foreign / "config.json").write_text('{"name": "of something else"}')
    html = page(runs, tmp_path / "nowhere")
    assert "loss &lt;nan&gt; at step 3" in html
    assert f"{damaged.name}: config.json cannot be read" in html
    assert f"{foreign.name}: left out, no dataset, cell, rule, seed in its config" in html
    assert "nowhere: no run in it" in html
    assert "1 run diverged" in html or "1 diverged" in html


def test_nothing_but_unfinished_runs_still_makes_a_page(
    tmp_path: Path, page: Callable[..., str]
) -> None:
    make_run(tmp_path / "runs", status="running", epochs=2)
    failed = make_run(tmp_path / "runs", seed=1, status="failed", message="out of memory")
    for name in ("history", "timing", "environment"):
        (failed / f"{name}.json").unlink()
    html = page(tmp_path / "runs")
    assert "No run has finished" in html
    assert "out of memory" in html


def test_regression_shows_losses_only(tmp_path: Path, page: Callable[..., str]) -> None:
    make_runs(tmp_path / "runs", "mackey-glass", seeds=2, regression=True)
    html = page(tmp_path / "runs")
    assert "Test loss on mackey-glass" in html
    assert html.count('class="chart"') == 1
    assert "ccuracy" not in html.split("<body>")[1].split("<details>")[0]


def test_settings_that_differ_are_in_a_table(tmp_path: Path, page: Callable[..., str]) -> None:
    make_runs(tmp_path / "runs", seeds=1)
    html = page(tmp_path / "runs")
    table = re.search(r'<table class="settings">.*?</table>', html, flags=re.DOTALL)
    assert table is not None
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', table[0])
    assert heads == ["Cell · rule", "lr", "feedback", "normalize", "seeds"]
    assert "hidden&nbsp;<code>128</code>" in html


def test_no_run_at_all_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match=r"empty: no run in it.*timelocal train"):
        write_report([tmp_path / "empty"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_failed_write_leaves_the_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "runs")
    output = tmp_path / "page.html"
    output.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunError, match="No space left"):
        write_report([tmp_path / "runs"], output)
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "runs"]


def test_figures_are_strict_json(tmp_path: Path, page: Callable[..., str]) -> None:
    folder = make_run(tmp_path / "runs", status="diverged", message="</script><script>alert(1)")
    history = json.loads((folder / "history.json").read_text())
    history["epochs"][-1]["test_loss"] = float("nan")
    (folder / "history.json").write_text(json.dumps(history))
    html = page(tmp_path / "runs")
    specs = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    assert len(specs) == 2
    for spec in specs:
        json.loads(spec, parse_constant=lambda name: pytest.fail(name))
    assert "<script>alert" not in html


HOSTILE = "<script>alert(1)</script><b>%{y}</b>&amp;"


def test_html_in_names_options_and_errors_is_text(tmp_path: Path, page: Callable[..., str]) -> None:
    runs = tmp_path / "runs"
    named = {"cell": f"m:{HOSTILE}", "rule": f"m:{HOSTILE}", "dataset": f"d{HOSTILE}"}
    for seed in (0, 1):
        run = make_run(runs, seed=seed)
        other = make_run(runs, seed=seed, rule="bptt")
        for folder in (run, other):
            config = json.loads((folder / "config.json").read_text())
            config |= {
                **named,
                "seed": seed,
                "rule_options": {"feedback": f"f{folder is run}{HOSTILE}"},
            }
            (folder / "config.json").write_text(json.dumps(config))
            result = json.loads((folder / "result.json").read_text())
            result["trivial"] = {f"t{HOSTILE}": 0.1}
            (folder / "result.json").write_text(json.dumps(result))
    failed = make_run(runs, seed=7, status="failed", message=f"ValueError: {HOSTILE}")
    environment = json.loads((failed / "environment.json").read_text())
    (failed / "environment.json").write_text(
        json.dumps(environment | {"command": f"timelocal train {HOSTILE}", "processor": HOSTILE})
    )
    html = page(runs, tmp_path / "<script>nowhere")
    assert "<script>alert" not in html
    assert "<script>nowhere" not in html
    assert "<b>" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    specs = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    shown = [
        text
        for spec in map(json.loads, specs)
        for text in (
            *(trace.get("name", "") for trace in spec["data"]),
            *(trace.get("hovertemplate", "") for trace in spec["data"]),
            *(note["text"] for note in spec["layout"].get("annotations", ())),
        )
    ]
    assert any("&lt;script&gt;" in text for text in shown)  # as plotly escapes: it reads entities
    assert not [text for text in shown if "<script" in text or "<b>" in text or "%{y}<" in text]
    assert not [
        trace["name"]
        for spec in map(json.loads, specs)
        for trace in spec["data"]
        if "%{" in trace.get("name", "")
    ]
