"""What the documents show runs as it stands there."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import textwrap
import tomllib
from glob import glob
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import timelocal as tl
from timelocal.cli.app import app
from timelocal.experiments.beyond.gap import MARGINS
from timelocal.testing import Case, ContractReport, Oracle, check_case

ROOT = Path(__file__).parents[1]


def readme_text() -> str:
    """In one line."""
    return " ".join((ROOT / "README.md").read_text().split())


def readme_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_readme_trains_in_a_dozen_lines() -> None:
    exact, own, loop = (block.replace('"epochs": 30', '"epochs": 2') for block in readme_blocks())
    for block in (exact, own):
        assert len([line for line in block.splitlines() if line.strip()]) <= 12
    scope: dict[str, object] = {}
    exec(compile(exact, "README.md", "exec"), scope)
    assert scope["rule"].spec.estimates == "exact"
    epochs = scope["history"].epochs
    assert epochs[1]["train_loss"] < epochs[0]["train_loss"]
    exec(compile(own, "README.md", "exec"), scope)
    rule, train = scope["rule"], scope["parts"].train
    before = rule.evaluate(train.inputs, train.targets).loss
    for _ in range(3):  # the same by hand
        exec(compile(loop, "README.md", "exec"), scope)
    assert rule.evaluate(train.inputs, train.targets).loss < 0.9 * before


def test_the_readme_s_speeds_are_those_of_the_records() -> None:
    text = readme_text()
    bench, online, fit = (
        json.loads((ROOT / "results" / "bench" / f"{name}.json").read_text())
        for name in ("bench", "online", "fit")
    )
    shapes = [one["ratios"] for one in bench["results"]]
    times = [
        (row["torch"] / microseconds, microseconds)
        for row in online["microseconds"].values()
        for name, microseconds in row.items()
        if name.partition(",")[0] != "torch" and "," not in name  # chunks, not single steps
    ]
    measured = {
        r"a DFA estimate is ([\d.]+) \(.*?\) to ([\d.]+) \(.*?\) times": [
            one["dfa_vs_torch"] for one in shapes
        ],
        r"and ([\d.]+) to ([\d.]+) times as fast as BPTT with jitted": [
            one["dfa_vs_jax"] for one in shapes
        ],
        r"our own BPTT is ([\d.]+) to ([\d.]+) times": [one["bptt_vs_torch"] for one in shapes],
        r"a stream takes ([\d.]+) to ([\d.]+) µs": [microseconds for _, microseconds in times],
        r": ([\d.]+) to ([\d.]+) times as fast as `torch.nn` on one": [ratio for ratio, _ in times],
        r"`tl.fit` takes ([\d.]+) to ([\d.]+) times as long": [
            one["fit"] / one["bare"] for one in fit["microseconds"].values()
        ],
    }
    for pattern, values in measured.items():
        told = re.search(pattern, text)
        assert told is not None, pattern
        assert [float(number) for number in told.groups()] == pytest.approx(
            [min(values), max(values)], rel=0.05
        ), pattern
    ends = re.search(r"\((\d+) units, batch (\d+)\) to [\d.]+ \((\d+) units, batch (\d+)\)", text)
    assert ends is not None
    by_ratio = sorted(bench["results"], key=lambda one: one["ratios"]["dfa_vs_torch"])
    named = [by_ratio[place]["shape"][size] for place in (0, -1) for size in ("hidden", "batch")]
    assert list(map(int, ends.groups())) == named


def test_the_readme_s_margins_are_those_of_the_claims_that_hold() -> None:
    page = (ROOT / "docs" / "gap.md").read_text()
    text = readme_text()
    (told,) = re.findall(r"RTRL loses at most (.*?)\. [A-Z]", text)
    margins = {
        name.lower(): float(points)
        for points, names in re.findall(
            r"([\d.]+)(?: points)? on (.+?)(?=,? (?:and )?[\d.]+ on|$)", told
        )
        for name in re.split(", | and ", names)
    }
    assert margins == {name: pytest.approx(100 * margin) for name, margin in MARGINS.items()}
    claims = re.findall(
        r"\*\*(.+?)\*\*: On (\S+), the exact rule .*? within ([\d.]+) points\.", page
    )
    assert {name: (float(points), verdict) for verdict, name, points in claims} == {
        name: (points, "holds") for name, points in margins.items()
    }


def test_the_readme_s_memory_is_that_of_the_record() -> None:
    record = json.loads((ROOT / "results" / "reliability" / "streams.json").read_text())
    steps, *kib = record["attacks"]["streams"]["e-prop on a GRU, Adam, step by step"].values()
    (told,) = re.findall(r"holds (\d+) MiB after 2,000 steps", (ROOT / "README.md").read_text())
    assert steps == 1_000_000
    assert {round(one / 1024) for one in kib} == {int(told)}


def test_what_the_recurrence_gains_is_on_the_page_of_the_gap() -> None:
    page = (ROOT / "docs" / "gap.md").read_text()
    text = readme_text()
    (told,) = re.findall(r"only the readout learns: (.*?)\. Dashed", text)
    gains = {
        name.lower(): float(points)
        for points, name in re.findall(r"([\d.]+)(?: points worse than RTRL)? on ([\w-]+)", told)
    }
    means = {
        line: {
            name: float(mean)
            for name, mean in re.findall(
                rf"{line}, the better element-wise cell on (\S+) ([\d.]+)[,;]", page
            )
        }
        for line in ("RTRL", "readout alone")
    }
    assert gains.keys() == means["RTRL"].keys() == {"ecg200", "libras", "strawberry", "row-mnist"}
    for name, points in gains.items():
        exact, frozen = means["RTRL"][name], means["readout alone"][name]
        assert points == pytest.approx(100 * (exact - frozen), abs=0.06)


def test_what_rules_lack_on_a_gru_is_on_the_page_of_the_gap() -> None:
    page = (ROOT / "docs" / "gap.md").read_text()
    text = readme_text()
    said = re.findall(
        r"DFA stays (\d+) to (\d+) points below BPTT, e-prop (\d+) to (\d+) and SnAp-1 (\d+) to (\d+)",
        text,
    )
    told = list(map(int, said[0]))
    for rule in ("DFA", "e-prop", "SnAp-1"):
        pair = rf"{rule}, GRU on (\S+) ([\d.]+), BPTT, GRU on \1 ([\d.]+)"
        found = {
            name: 100 * (float(bptt) - float(own)) for name, own, bptt in re.findall(pair, page)
        }
        assert found.keys() == {"ecg200", "libras", "strawberry", "row-mnist"}
        assert [round(min(found.values())), round(max(found.values()))] == told[:2]
        del told[:2]


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_every_extra_is_in_the_table_and_marked_if_all_leaves_it_out(page: str) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = pyproject["project"]["optional-dependencies"]
    (everything,) = extras.pop("all")
    included = set(re.findall(r"[a-z]+", everything.partition("[")[2]))
    rows = re.findall(r"^\| (`[^|]*) \|", (ROOT / page).read_text(), re.MULTILINE)
    marked = dict(found for row in rows for found in re.findall(r"`([a-z]+)`( \*)?(?=,|$)", row))
    assert {name: not star for name, star in marked.items() if name in extras} == {
        name: name in included for name in extras if name not in ("dev", "docs")
    }


@pytest.mark.slow
def test_the_readme_ends_where_it_says() -> None:
    """The accuracies in its comments, BPTT's among them: the same lines with another rule."""
    exact, own, _ = readme_blocks()
    scope: dict[str, object] = {}
    told, bptt, ridge, chance = map(float, re.findall(r"0\.\d+", exact[exact.index("# about") :]))
    floor = exact[: exact.index("rule = ")] + (
        "states = [network.scan(p.inputs).outputs[-1].detach() for p in (parts.train, parts.test)]"
    )
    exec(compile(floor, "README.md", "exec"), scope)
    parts, (seen, unseen) = scope["parts"], scope["states"]
    untrained = make_pipeline(StandardScaler(), RidgeClassifier()).fit(seen, parts.train.targets)
    assert untrained.score(unseen, parts.test.targets) == pytest.approx(ridge, abs=0.015)
    labels = scope["digits"].targets
    assert labels.bincount().max() / len(labels) == pytest.approx(chance, abs=0.015)
    same = exact.replace("tl.RTU", "tl.GRU").replace("tl.RTRL", "tl.BPTT")
    assert last_accuracy(same, scope) == pytest.approx(bptt, abs=0.015)
    assert last_accuracy(exact, scope) == pytest.approx(told, abs=0.015)
    told, bptt = map(float, re.findall(r"0\.\d+", own[own.index("# about") :]))
    assert last_accuracy(own, scope) == pytest.approx(told, abs=0.015)
    assert last_accuracy(own.replace("tl.DFA", "tl.BPTT"), scope) == pytest.approx(bptt, abs=0.015)


def last_accuracy(block: str, scope: dict[str, object]) -> float:
    exec(compile(block, "README.md", "exec"), scope)
    return scope["history"].epochs[-1]["test_accuracy"]


def test_contributing_shows_a_whole_cell_of_at_most_sixteen_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    cell = example[example.index("class ") : example.index("print(")]
    assert len([line for line in cell.splitlines() if line.strip()]) <= 16
    scope: dict[str, object] = {}
    exec(compile(example, "CONTRIBUTING.md", "exec"), scope)
    assert "gradient of u " in capsys.readouterr().out
    assert scope["rule"].network is scope["network"]


def test_contributing_s_oracle_is_that_of_a_rule_by_feedback() -> None:
    """On a few cases: all that `check_rule` looks at take minutes."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"^   ```python\n(.*?)^   ```", text, re.DOTALL | re.MULTILINE)
    told: list[tuple[type[tl.Rule], Oracle]] = []
    block = textwrap.dedent(block).replace(
        "check_rule(MyRule, oracle=oracle)", "tell(MyRule, oracle)"
    )
    scope = {"MyRule": tl.DFA, "tell": lambda *asked: told.append(asked)}
    exec(compile(block, "CONTRIBUTING.md", "exec"), scope)
    ((rule, oracle),) = told
    for case in (Case("rnn", at="every", loss="mse"), Case("gru", unequal=True)):
        check_case(rule, case, ContractReport("MyRule"), oracle=oracle)
        with pytest.raises(AssertionError):
            check_case(tl.EProp, case, ContractReport("MyRule"), oracle=oracle)


def test_the_page_of_river_s_block_runs() -> None:
    pytest.importorskip("river")
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "river.md").read_text(), re.DOTALL
    )
    *imports, call = block.strip().splitlines()
    scope: dict[str, object] = {}
    exec(compile("\n".join(imports), "river.md", "exec"), scope)
    assert eval(call, scope).get() > 0.8


def test_the_page_of_estimators_searches_over_rules_and_cells() -> None:
    text = (ROOT / "docs" / "estimators.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(block.replace("epochs=30", "epochs=10"), "estimators.md", "exec"), scope)
    assert scope["search"].best_score_ > 0.8
    assert scope["model"].classes == ("falls", "rises")


@pytest.mark.slow
def test_the_page_of_own_data_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snippets and commands one after the other, in an empty folder."""
    text = (ROOT / "docs" / "own-data.md").read_text()
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    said = {}
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL):
        if language == "python":
            exec(compile(block, "own-data.md", "exec"), scope)
            continue
        for line in block.strip().splitlines():
            program, verb, *arguments = shlex.split(line)
            assert program == "timelocal"
            expanded = [name for one in arguments for name in (glob(one) if "*" in one else [one])]
            done = CliRunner().invoke(app, [verb, *expanded])
            assert done.exit_code == 0, (line, done.output)
            said[verb, arguments[0]] = done.stdout
    assert said["data", "show"].count("60") >= 1
    assert "readout only" in said["evaluate", "runs/sensors*"]
    out = pd.read_csv("predictions.csv", dtype=str)
    assert list(out.columns) == ["series", "class", "p(falls)", "p(rises)"]
    assert len(out) == 20
    assert Path("exported", "model.py").is_file()
    assert Path("model.onnx").is_file()
    frame = scope["frame"]
    right = frame.groupby("id")["kind"].first()
    assert (scope["classes"] == right).mean() > 0.8
    assert scope["probabilities"].shape == (80, 2)
    assert len(scope["own"]) == 60
    assert "load +3 q0.9" in said["predict", "runs/load*"]
    assert "seasonal naive" in said["backtest", "load.csv"]
    assert said["sweep", "rule=dfa,bptt"].count("2 of 2") == 4


@pytest.mark.slow
def test_the_lstm_example_learns() -> None:
    path = ROOT / "examples" / "lstm_unequal_lengths.py"
    spec = importlib.util.spec_from_file_location("example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    accuracies = module.main(epochs=12)
    assert 0.6 < accuracies["dfa"] < 0.99
    assert 0.7 < accuracies["bptt"] < 0.999


def test_the_page_of_estimators_has_the_numbers_of_the_record() -> None:
    text = (ROOT / "docs" / "estimators.md").read_text()
    record = json.loads((ROOT / "results" / "bench" / "estimator.json").read_text())
    seconds = {name: one["a fit"] / 1e6 for name, one in record["microseconds"].items()}
    first = next(iter(seconds.values()))
    assert len(seconds) == 4
    for name, own in seconds.items():
        assert f"| {name} | {own:.2f} | {own / first:.1f} |" in text
