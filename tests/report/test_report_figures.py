import json
import math
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import make_run, make_runs, predict

from timelocal.report import figures, tables
from timelocal.report.runs import load
from timelocal.report.style import rule_colours


def curves(*folders: Path) -> list[figures.Figure]:
    [section] = tables.sections(load(folders)[0])
    return figures.learning_curves(section)


def thick(figure: figures.Figure) -> list[dict[str, Any]]:
    return [trace for trace in figure.spec["data"] if trace["line"]["width"] == 3]


def thin(figure: figures.Figure) -> list[dict[str, Any]]:
    return [trace for trace in figure.spec["data"] if trace["line"]["width"] == 1]


def test_networks_that_decorrelate_have_a_curve_of_their_own(tmp_path: Path) -> None:
    make_run(tmp_path, cell="gru")
    folder = make_run(tmp_path, cell="rnn", decorrelate=0.1)
    history = json.loads((folder / "history.json").read_text())
    for epoch in history["epochs"]:
        epoch["decorrelation_loss"] = 0.5 ** epoch["epoch"]
    (folder / "history.json").write_text(json.dumps(history))
    *_, figure = curves(tmp_path)
    assert figure.caption == "Decorrelation loss per epoch"
    make_run(tmp_path, cell="rnn")
    labels = [group.label for group in tables.sections(load([tmp_path])[0])[0].groups]
    assert labels[:2] == ["RNN · DDFA", "RNN · DFA"]
    assert figure.spec["layout"]["yaxis"]["type"] == "log"
    [line] = thick(figure)
    assert line["y"] == pytest.approx([0.5**epoch for epoch in line["x"]], rel=1e-4)
    assert figure.spec["layout"]["shapes"] == []


def test_every_seed_is_a_thin_line_and_the_mean_a_thick_one(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=3)
    accuracy, loss = curves(tmp_path)
    for figure, scale, key in ((accuracy, 100, "test_accuracy"), (loss, 1, "test_loss")):
        assert len(thin(figure)) == 12
        assert len(thick(figure)) == 4
        histories = [
            json.loads(path.read_text())["epochs"]
            for path in sorted(tmp_path.glob("*-rnn-bptt-*/history.json"))
        ]
        means = [sum(epoch[key] for epoch in epochs) / 3 for epochs in zip(*histories, strict=True)]
        assert thick(figure)[0]["y"] == pytest.approx([scale * mean for mean in means], rel=1e-4)
        assert thick(figure)[0]["x"] == list(range(1, 21))


def test_a_rule_is_a_colour_and_a_cell_a_dash(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=1)
    looks = {trace["name"]: trace["line"] for trace in thick(curves(tmp_path)[0])}
    assert looks["RNN · DFA"]["color"] == looks["GRU · DFA"]["color"]
    assert looks["RNN · DFA"]["color"] != looks["RNN · BPTT"]["color"]
    assert looks["RNN · DFA"]["dash"] == looks["RNN · BPTT"]["dash"]
    assert looks["RNN · DFA"]["dash"] != looks["GRU · DFA"]["dash"]


def test_variants_of_a_cell_and_rule_are_told_apart_by_markers(tmp_path: Path) -> None:
    for lr in (0.001, 0.01, 0.1):
        make_run(tmp_path, lr=lr)
    means = thick(curves(tmp_path)[0])
    symbols = [trace.get("marker", {}).get("symbol") for trace in means]
    assert symbols == [None, "square", "diamond"]


def test_unknown_rules_get_colours_of_their_own() -> None:
    colours = rule_colours(["dfa", "bptt", "rflo", "np"])
    assert len({colours[rule] for rule in ("dfa", "bptt", "rflo", "np")}) == 4


def test_trivial_predictors_are_dotted_lines_in_the_accuracy_only(tmp_path: Path) -> None:
    make_runs(tmp_path)
    accuracy, loss = curves(tmp_path)
    heights = [shape["y0"] for shape in accuracy.spec["layout"]["shapes"]]
    assert heights == pytest.approx([10.4, 86.5, 81.4])
    assert {shape["line"]["dash"] for shape in accuracy.spec["layout"]["shapes"]} == {"dot"}
    assert not loss.spec["layout"]["shapes"]


def test_a_diverged_run_ends_in_a_cross_and_not_in_the_mean(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0, epochs=8)
    make_run(tmp_path, seed=1, epochs=3, status="diverged")
    accuracy, _ = curves(tmp_path)
    going, stopped = thin(accuracy)
    assert set(going["marker"]["symbol"]) == {"circle"}
    assert set(going["marker"]["size"]) == {0}
    assert stopped["marker"]["symbol"][-1] == "x"
    assert stopped["marker"]["size"] == [0, 0, 8]
    [mean] = thick(accuracy)
    assert mean["y"] == going["y"]


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    folder = make_run(tmp_path, epochs=3, status="diverged")
    records = json.loads((folder / "history.json").read_text())["epochs"]
    records[1]["test_loss"] = math.nan
    records[2]["test_loss"] = None
    (folder / "history.json").write_text(json.dumps({"epochs": records}))
    _, loss = curves(tmp_path)
    assert thin(loss)[0]["x"] == [1]


def test_a_run_of_no_epoch_draws_nothing(tmp_path: Path) -> None:
    make_run(tmp_path, epochs=1, status="failed")
    next(tmp_path.rglob("history.json")).unlink()
    accuracy, _ = curves(tmp_path)
    assert thin(accuracy)[0]["x"] == []
    assert thick(accuracy) == []
    assert "none yet" in accuracy.description


@pytest.mark.parametrize(
    ("largest", "axis"),
    [
        (5.0, {}),
        (50.0, {"type": "log", "dtick": "D2"}),
        (1e9, {"type": "log", "exponentformat": "power"}),
    ],
)
def test_a_loss_axis_is_logarithmic_when_it_must_be(
    tmp_path: Path, largest: float, axis: dict[str, str]
) -> None:
    folder = make_run(tmp_path, epochs=2, status="diverged")
    records = [{"epoch": 1, "test_loss": 1.0}, {"epoch": 2, "test_loss": largest}]
    (folder / "history.json").write_text(json.dumps({"epochs": records}))
    [loss] = curves(tmp_path)
    drawn = loss.spec["layout"]["yaxis"]
    keys = ("type", "dtick", "exponentformat")
    assert {key: drawn[key] for key in keys if key in drawn} == axis


def test_the_description_gives_the_last_values(tmp_path: Path) -> None:
    make_runs(tmp_path, "mackey-glass", seeds=2, regression=True)
    [loss] = curves(tmp_path)
    last = thick(loss)[0]["y"][-1]
    assert f"RNN · BPTT {last:.4f}" in loss.description
    assert loss.spec["layout"]["yaxis"]["type"] == "log"


@pytest.mark.parametrize("outputs", [1, 9, 20])
def test_predictions_stand_beside_their_targets(tmp_path: Path, outputs: int) -> None:
    folder = make_run(tmp_path, regression=True)
    predict(folder, outputs)
    make_run(tmp_path, rule="bptt", regression=True)
    (section,) = tables.sections(load([tmp_path])[0])
    (figure,) = figures.predictions(section)  # the other run has none
    drawn = {
        output: [one["y"] for one in figure.spec["data"] if one["yaxis"] == f"y{output or ''}"]
        for output in (0, *range(2, 30))
    }
    shown = min(outputs, 12)
    assert [len(lines) for lines in drawn.values()] == [3] * shown + [0] * (29 - shown)
    assert drawn[0] == [[0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]]
    if outputs > 1:
        assert drawn[3] == [
            [20.0, 21.0, 22.0, 23.0],
            [21.0, 22.0, 23.0, 24.0],
            [22.0, 23.0, 24.0, 25.0],
        ]
    assert figure.note == ("The first 12 of 20 outputs." if outputs == 20 else "")
    rows = [axis["domain"] for name, axis in figure.spec["layout"].items() if name[:5] == "yaxis"]
    assert len(rows) == shown
    ends = [end for low, high in reversed(rows) for end in (low, high)]
    assert ends == sorted(ends)
    assert (ends[0] >= 0, ends[-1]) == (True, 1)
