"""From a file of one's own to predictions, without a line of Python."""

from __future__ import annotations

import json
import shlex
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score, mean_absolute_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import timelocal as tl
from pages import write_own_files
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.run import MODEL


def classes(path, count, seed):
    """Noise around a slope that tells the class; lengths differ, times come in any order."""
    draw = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        kind, slope = (("fällt", -1), ("steigt", 1))[n % 2]
        rows += [
            (f"s{n}", t, 5000 + 100 * (slope * t + draw.normal()), draw.normal(), kind)
            for t in range(int(draw.integers(4, 9)))
        ]
    frame = pd.DataFrame(rows, columns=["id", "t", "x", "z", "kind"])
    frame = frame.sample(frac=1, random_state=seed).sort_values("id", kind="stable")
    frame.to_csv(path, index=False, sep=";", decimal=",")
    return frame


CLASSES = ("--series", "id", "--time", "t", "--label", "kind")
SMALL = ("--hidden", 8, "--batch", 16, "--lr", 0.02)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only_run(folder):
    (run,) = (folder / "runs").iterdir()
    return run


@pytest.mark.parametrize(
    ("shown", "options"),
    [
        (("data", "show", "own.csv", "--label", "kind"), ("--series", "id", "--time", "t")),
        (
            ("train", "--dataset", "own.csv", "--label", "kind", *SMALL, "--epochs", 1),
            ("--series", "id", "--time", "t"),
        ),
        (
            ("sweep", "dataset=own.csv", "reading.label=kind", "hidden=4", "epochs=1"),
            ("reading.series=id", "reading.time=t"),
        ),
    ],
    ids=lambda shown: shown[0],
)
def test_steps_that_are_read_as_series_are_warned_of(call, folder, capfd, shown, options):
    write_own_files(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        told = call(*shown)
        assert told.exit_code == 0, told.output
        assert told.stderr.count("warning: own.csv: each of the 240 rows") == 1
        assert " ".join(options) in told.stderr
        assert capfd.readouterr().err == ""  # nothing from a worker
        assert "warning" not in call(*shown, *options).stderr


def test_a_csv_of_classes_is_trained_on_evaluated_and_predicted(call, folder):
    classes(folder / "train.csv", 60, 0)
    frame = classes(folder / "test.csv", 30, 1)
    told = (
        "train",
        "--dataset",
        "train.csv",
        "--test",
        "test.csv",
        *CLASSES,
        *SMALL,
        "--epochs",
        12,
    )
    options = (
        "--metric",
        "macro_f1",
        "--class-weight",
        "balanced",
        "--scheduler",
        "cosine",
        "--patience",
        8,
    )
    done = call(*told, *options)
    assert done.exit_code == 0, done.output
    run = only_run(folder)
    evaluated = json.loads(call("evaluate", run, "test.csv", "--json").stdout)
    assert evaluated["accuracy"] > 0.9
    always = {"accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}
    result = json.loads((run / "result.json").read_text())
    (majority,) = (name for name in evaluated["floors"] if name.startswith("always "))
    assert evaluated["floors"][majority] == always
    # the test part of the run is this file: its floors, and those of its metric, are these
    ridge = evaluated["floors"]["readout only"]
    assert ridge["accuracy"] == pytest.approx(result["trivial"]["readout_only"])
    assert result["trivial_metric"] == {
        "majority_class": always["macro_f1"],
        "readout_only": pytest.approx(ridge["macro_f1"]),
    }
    table = call("evaluate", run, "test.csv").output
    assert "readout only" in table
    bare = json.loads(call("evaluate", run / MODEL, "test.csv", "--json").stdout)
    assert bare["floors"].keys() in ({"always fällt"}, {"always steigt"})
    assert bare["accuracy"] == evaluated["accuracy"]
    assert result["best_validation"]["test_macro_f1"] == pytest.approx(evaluated["macro_f1"])
    frame.drop(columns="kind").to_csv("new.csv", index=False)  # other form, no labels
    assert call("predict", run, "new.csv", "-o", "out.csv").exit_code == 0
    out = pd.read_csv("out.csv").set_index("series")
    assert list(out.columns) == ["class", "p(fällt)", "p(steigt)"]
    right = frame.groupby("id")["kind"].first()
    assert f1_score(right, out["class"][right.index], average="macro") == pytest.approx(
        evaluated["macro_f1"]
    )
    np.testing.assert_allclose(out.iloc[:, 1:].sum(axis=1), 1, rtol=1e-5)
    one = tl.load(run / MODEL)
    rows = [group.sort_values("t")[["x", "z"]].to_numpy() for _, group in frame.groupby("id")]
    np.testing.assert_array_equal(
        one.predict(rows), out["class"][[name for name, _ in frame.groupby("id")]]
    )
    exported = call("export", run, "--onnx", "m.onnx", "--torch", "alone")
    assert exported.exit_code == 0, exported.output
    assert exported.stdout.count("differs from the model by at most") == 2
    assert call("evaluate", run, "test.csv").stdout.count("│") > 20
    # the same command finds the run again; another file is told
    assert "finished" in call(*told, *options).output
    classes(folder / "test.csv", 30, 2)
    assert "test.csv has changed since the run" in call(*told, *options).output


@pytest.mark.parametrize("at", ["every", "ramp", "mean"])
def test_one_label_asked_at_other_places_is_one_row_a_series(call, folder, at):
    classes(folder / "train.csv", 40, 0)
    frame = classes(folder / "test.csv", 20, 1)
    done = call("train", "--dataset", "train.csv", *CLASSES, *SMALL, "--epochs", 2, "--at", at)
    assert done.exit_code == 0, done.output
    run = only_run(folder)
    found = json.loads(call("evaluate", run, "test.csv", "--json").stdout)
    assert call("predict", run, "test.csv", "-o", "out.csv").exit_code == 0
    out = pd.read_csv("out.csv").set_index("series")
    right = frame.groupby("id")["kind"].first()
    assert found["sequences"] == len(out) == 20
    assert found["accuracy"] == pytest.approx((right == out["class"][right.index]).mean())
    exported = call("export", run, "--torch", "alone", *(() if at == "mean" else ("--onnx", "m")))
    assert exported.exit_code == 0, exported.output


def test_the_recorded_command_is_that_of_the_run(call, folder):
    classes(folder / "own.csv", 30, 0)
    assert call(
        "train", "--dataset", "own.csv", *CLASSES, *SMALL, "--epochs", 1, "--no-standardize",
        "--features", "x,z",
    ).exit_code == 0  # fmt: skip
    run = only_run(folder)
    command = json.loads((run / "environment.json").read_text())["command"]
    again = call(*shlex.split(command)[1:])
    assert again.exit_code == 0, again.output
    assert only_run(folder) == run
    assert json.loads((run / "config.json").read_text())["reading"] == {
        "series": "id", "time": "t", "label": "kind", "features": ["x", "z"],
    }  # fmt: skip


def test_a_forecast_stands_beside_its_floors(call, folder):
    steps = np.arange(400)
    draw = np.random.default_rng(0)
    load = 1000 + 50 * np.sin(steps / 4) + 5 * draw.normal(size=400)
    when = pd.date_range("2026-01-01", periods=400, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"when": when, "load": load, "other": draw.normal(size=400)})
    frame.to_csv("load.csv", index=False)
    options = ("--time", "when", "--target", "load", "--horizon", 3, "--window", 12)
    done = call("train", "--dataset", "load.csv", *options, *SMALL, "--epochs", 15)
    assert done.exit_code == 0, done.output
    run = only_run(folder)
    result = json.loads((run / "result.json").read_text())
    assert result["trivial"].keys() == {"mean of training", "persistence", "ridge on the window"}
    # floors anew, in plain NumPy: persistence over the windows whose targets lie in the last fifth
    first = np.arange(320, 398)
    wanted = np.stack([load[first + n] for n in range(3)], 1)
    held = np.repeat(load[first - 1, None], 3, 1)
    train = np.arange(12, 238)
    deviation = np.stack([load[train + n] for n in range(3)], 1).std(0)
    expected = np.square((held - wanted) / deviation).mean()
    assert result["trivial"]["persistence"] == pytest.approx(expected, rel=1e-4)
    assert result["last"]["test_loss"] < 0.5 * result["trivial"]["persistence"]
    model = tl.load(run / MODEL)
    inputs = np.stack([frame[["load", "other"]].to_numpy()[n - 12 : n] for n in first])
    values = model.predict(inputs)
    assert result["metrics"]["mse"] == pytest.approx(np.square(values - wanted).mean(), rel=1e-4)
    assert call("predict", run, "load.csv", "-o", "next.csv").exit_code == 0
    ahead = pd.read_csv("next.csv")
    assert list(ahead.columns) == ["series", "load +1", "load +2", "load +3"]
    now = frame[["load", "other"]].to_numpy()[None, -12:]
    np.testing.assert_allclose(ahead.iloc[0, 1:].to_numpy(float), model.predict(now)[0], rtol=1e-6)
    found = json.loads(call("evaluate", run, "load.csv", "--json").stdout)
    whole = np.lib.stride_tricks.sliding_window_view(load, 15)
    inputs = np.stack([frame[["load", "other"]].to_numpy()[n : n + 12] for n in range(len(whole))])
    values = model.predict(inputs)
    assert found["mae"] == pytest.approx(mean_absolute_error(whole[:, 12:], values), rel=1e-4)
    assert found["r2"] == pytest.approx(r2_score(whole[:, 12:].ravel(), values.ravel()), rel=1e-4)
    ridge = make_pipeline(StandardScaler(), Ridge(1.0))
    ridge.fit(inputs[:226].reshape(226, -1), whole[:226, 12:])  # targets in the first 60 %
    told = ridge.predict(inputs.reshape(len(inputs), -1))
    assert found["floors"]["ridge on the window"]["mae"] == pytest.approx(
        mean_absolute_error(whole[:, 12:], told), rel=1e-3
    )
    assert found["floors"].keys() == {"mean of training", "persistence", "ridge on the window"}
    # where the training data are gone, or others, the floors that these data have
    frame.iloc[50:].to_csv("load.csv", index=False)
    changed = call("evaluate", run, "load.csv")
    assert (
        "without the floors of the training part: dataset load.csv: load.csv has changed"
        in changed.output
    )
    assert "their mean" in changed.output
    (folder / "load.csv").rename("moved.csv")
    gone = call("evaluate", run, "moved.csv")
    assert "without the floors of the training part: load.csv: no longer there" in gone.output
    assert "ridge" not in gone.stdout


def test_what_is_behind_the_end_of_a_series_counts_nowhere(call, folder):
    """Values at every step, of series of unequal length, far from the zeros that pad them."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 12, 60)
    frame = pd.DataFrame({"id": np.repeat(np.arange(60), lengths)})
    frame["x"] = draw.normal(size=len(frame))
    frame["y"] = 100 + frame["x"] + 0.1 * draw.normal(size=len(frame))
    frame[frame["id"] < 40].to_csv("train.csv", index=False)
    test = frame[frame["id"] >= 40]
    test.to_csv("test.csv", index=False)
    done = call(
        "train", "--dataset", "train.csv", "--test", "test.csv", "--series", "id", *SMALL, "--epochs", 3,
        "--metric", "mae",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    run = only_run(folder)
    result = json.loads((run / "result.json").read_text())
    floor = result["trivial_metric"]["mean of training"]
    assert 0.5 < floor < 1.2  # the mean of all is near 100, and y differs by about 0.8
    assert 0.5 < result["trivial"]["mean of training"] < 2
    found = json.loads(call("evaluate", run, "test.csv", "--json").stdout)
    # y = 100 + x + noise, whose mean absolute value is 0.1 √(2/π): a line through each step's x sees it
    for one in (
        result["trivial_metric"]["ridge on each step"],
        found["floors"]["ridge on each step"]["mae"],
    ):
        assert one == pytest.approx(0.08, abs=0.015)
    assert 0.05 < found["floors"]["readout only"]["mae"] < floor
    assert found["floors"]["mean of training"]["mae"] == pytest.approx(floor, rel=1e-4)
    assert found["floors"]["mean of training"]["r2"] == pytest.approx(0, abs=0.1)
    assert found["rmse"] ** 2 == pytest.approx(result["metrics"]["mse"], rel=1e-4)


def test_a_class_at_every_step(call, folder):
    """Three classes that the present input tells, in series of unequal length."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 12, 60)
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(60), lengths), "x": draw.normal(size=lengths.sum())}
    )
    frame["kind"] = np.select([frame["x"] > 0.8, frame["x"] > 0.2], ["high", "middle"], "low")
    frame[frame["id"] < 40].to_csv("train.csv", index=False)
    test = frame[frame["id"] >= 40]
    test.to_csv("test.csv", index=False)
    reading = ("--series", "id", "--label", "kind", "--task", "classes")
    told = ("train", "--dataset", "train.csv", "--test", "test.csv", *reading, *SMALL)
    done = call(*told, "--epochs", 12, "--metric", "macro_f1", "--class-weight", "balanced")
    assert done.exit_code == 0, done.output
    run = only_run(folder)
    result = json.loads((run / "result.json").read_text())
    found = json.loads(call("evaluate", run, "test.csv", "--json").stdout)
    test.drop(columns="kind").to_csv("new.csv", index=False)
    assert call("predict", run, "new.csv", "-o", "out.csv").exit_code == 0
    out = pd.read_csv("out.csv")
    assert list(out.columns) == ["series", "step", "class", "p(high)", "p(low)", "p(middle)"]
    assert out["series"].tolist() == test["id"].tolist()
    assert out["step"].tolist() == test.groupby("id").cumcount().tolist()
    right = test["kind"].to_numpy()
    accuracy = (out["class"] == right).mean()
    assert accuracy > 0.7
    assert (found["sequences"], found["steps"]) == (20, len(test))
    assert found["accuracy"] == pytest.approx(accuracy)
    assert result["last"]["test_accuracy"] == pytest.approx(accuracy)
    macro = f1_score(right, out["class"], average="macro")
    assert result["last"]["test_macro_f1"] == pytest.approx(macro)
    assert found["classes"]["middle"]["count"] == (right == "middle").sum()
    # floors: the class that most steps of the training part have, and a line through the present input
    floors = found["floors"]
    assert floors.keys() == {"always low", "ridge on each step", "readout only"}
    assert floors["always low"]["accuracy"] == pytest.approx((right == "low").mean())
    assert result["trivial"]["majority_class"] == pytest.approx((right == "low").mean())
    ridge = result["trivial"]["ridge_on_each_step"]
    assert floors["ridge on each step"]["accuracy"] == pytest.approx(ridge)
    assert ridge > (right == "low").mean()
    exported = call("export", run, "--onnx", "m.onnx", "--torch", "alone")
    assert exported.stdout.count("differs from the model by at most") == 2, exported.output
    # a file in which no class changes is still one of steps, and labels of steps are none of series
    alike = test.assign(kind="low")
    alike.to_csv("alike.csv", index=False)
    found = json.loads(call("evaluate", run, "alike.csv", "--json").stdout)
    assert found["accuracy"] == pytest.approx((out["class"] == "low").mean())
    alike.assign(kind=np.where(alike["id"] % 2, "low", "high")).to_csv("series.csv", index=False)
    assert (
        call(
            "train", "--dataset", "series.csv", *reading, *SMALL, "--epochs", 1, "--out", "b"
        ).exit_code
        == 0
    )
    (run,) = (folder / "b").iterdir()
    assert (
        "got labels per step, expected one for each series"
        in call("evaluate", run, "test.csv").output
    )


def test_mistakes_are_told_before_anything_is_made(call, folder):
    classes(folder / "own.csv", 12, 0)
    for options, message in (
        (("--label", "kimd", "--series", "id"), "'kimd', expected one of id, t, x, z, kind. Did you"),
        ((*CLASSES, "--metric", "mae"), "metric: got 'mae', expected one of 'balanced_accuracy', 'macro_f1'"),
        ((*CLASSES, "--scheduler", "cosin"), "Did you mean 'cosine'"),
        ((*CLASSES, "--device", "gpu"), "device: got 'gpu'"),
        ((*CLASSES, "--test", "nowhere.csv"), "nowhere.csv: no such file"),
        (("--target", "x", "--label", "kind"), "label: got 'kind', expected None with target="),
        (("--missing", "drop"), "missing: got 'drop'"),
    ):  # fmt: skip
        done = call("train", "--dataset", "own.csv", *options)
        assert done.exit_code == 2, done.output
        assert message in done.output
        assert "Traceback" not in done.output
    assert not (folder / "runs").exists()
    with pytest.raises(tl.ArgumentError, match="reading: got series"):
        TrainConfig(reading={"series": "id"})
    done = call("train", "--series", "id")
    assert "reading: got series, expected none" in done.output


def test_what_predict_cannot_use_is_told(call, folder):
    classes(folder / "own.csv", 12, 0)
    call("train", "--dataset", "own.csv", *CLASSES, *SMALL, "--epochs", 1)
    run = only_run(folder)
    (folder / "other.csv").write_text("id;t;x;kind\na;1;2;u\n")
    assert "'z', expected one of" in call("predict", run, "other.csv").output
    (folder / "labels.csv").write_text("id;t;x;z;kind\na;1;2;3;anders\n")
    assert "got the labels ['anders']" in call("evaluate", run, "labels.csv").output
    assert "Give one of its runs: own.csv-gru-dfa-s0" in call("predict", "runs", "own.csv").output
    assert torch.is_tensor(tl.load(run / MODEL).network.readout.weight)


@pytest.mark.parametrize("loss", ["quantile", "gaussian"])
def test_forecasts_with_their_quantiles(call, folder, loss):
    draw = np.random.default_rng(0)
    load = 1000 + 50 * np.sin(np.arange(600) / 4) + 20 * draw.normal(size=600)
    pd.DataFrame({"load": load}).to_csv("load.csv", index=False)
    told = ("train", "--dataset", "load.csv", "--target", "load", "--horizon", 2, "--window", 12)
    done = call(*told, *SMALL, "--epochs", 30, "--loss", loss, "--metric", "mae")
    assert done.exit_code == 0, done.output
    run = only_run(folder)
    found = json.loads(call("evaluate", run, "load.csv", "--json").stdout)
    assert found["expected_coverage"] == pytest.approx(0.8)
    assert 0.65 < found["coverage"] < 0.92
    assert found["mae"] < 0.7 * found["floors"]["mean of training"]["mae"]
    assert call("predict", run, "load.csv", "-o", "next.csv").exit_code == 0
    row = pd.read_csv("next.csv").iloc[0]
    assert row["load +1 q0.1"] < row["load +1"] < row["load +1 q0.9"]
    assert 900 < row["load +2 q0.1"] < row["load +2 q0.9"] < 1100
    trivial = json.loads((run / "result.json").read_text())["trivial"]
    if loss == "quantile":
        assert "persistence" in trivial
    else:  # of the windows whose targets lie in the training part: 60 % of the time
        train = np.stack([load[12:359], load[13:360]], 1)
        mean, deviation = train.mean(0), train.std(0)
        test = (np.stack([load[480:-1], load[481:]], 1) - mean) / deviation
        likelihood = np.log(2 * np.pi) / 2 + (np.square(test) / 2).mean()
        assert trivial == {"normal distribution of training": pytest.approx(likelihood, rel=1e-3)}
    model = tl.load(run / MODEL)
    inputs = np.lib.stride_tricks.sliding_window_view(load, 12)[:587, :, None]
    ends = model.predict_quantiles(inputs, levels=(0.1, 0.9))
    assert ends.shape == (587, 2, 2)
    ahead = np.stack([load[12:-1], load[13:]], 1)
    inside = (ahead > ends[..., 0]) & (ahead < ends[..., 1])
    assert inside.mean() == pytest.approx(found["coverage"], abs=0.01)
    assert "predict_quantiles" in call("export", run, "--onnx", "m.onnx").output
