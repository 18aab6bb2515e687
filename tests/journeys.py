"""What newcomers do with a file of their own: `python journeys.py NAME`, in an empty folder.

The package is the installed one, and every step is a command or a program as a user would write it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

RULE = '''\
"""A third party's rule: the readout learns, the recurrence stays as it was drawn."""
import timelocal as tl


class Rule(tl.Rule):
    spec = tl.RuleSpec(
        name="echo", summary="the readout alone", estimates="biased", target="bptt", online=False,
        autograd_free=True, weight_transport=False, references=("A. Stranger. Echo states. 2026.",),
    )

    def __init__(self, network, *, loss="cross_entropy", at="last", seed=0, gain=1.0):
        super().__init__(network, loss=loss, at=at, seed=seed)
        self.gain = gain

    def recurrent_gradients(self, forward):
        return self.network.recurrent_zeros()
'''


def timelocal(*arguments: object) -> str:
    """What the command says on its standard output; what it says of a mistake is raised."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "timelocal", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def only(folder: str) -> Path:
    (found,) = (one for one in Path(folder).iterdir() if one.is_dir())
    return found


def classes(path: str, count: int, seed: int) -> pd.DataFrame:
    """Series of unequal length that rise or fall, as a spreadsheet of a German writes them."""
    draw = np.random.default_rng(seed)
    rows = [
        (f"Probe {n}", t, 20 + sign * t + draw.normal(), draw.normal(), kind)
        for n in range(count)
        for kind, sign in [(("fällt", -0.5), ("steigt", 0.5))[int(draw.integers(2))]]
        for t in range(int(draw.integers(5, 12)))
    ]
    frame = pd.DataFrame(rows, columns=["wer", "t", "Wärme", "Druck", "was"])
    frame.to_csv(path, index=False, sep=";", decimal=",", encoding="utf-8-sig")
    return frame


def series_of(frame: pd.DataFrame) -> tuple[list[np.ndarray], np.ndarray]:
    """The series as a list of arrays (t, 2), and their classes."""
    groups = [group for _, group in frame.groupby("wer", sort=False)]
    inputs = [one[["Wärme", "Druck"]].to_numpy(np.float32) for one in groups]
    return inputs, np.array([one["was"].iloc[0] for one in groups])


ALONE = """\
import json, sys
sys.modules["timelocal"] = None  # cannot be imported here
sys.path.insert(0, sys.argv[1])
import model, torch
series = [torch.tensor(one) for one in json.load(open("series.json"))]
lengths = torch.tensor([len(one) for one in series])
inputs = torch.nn.utils.rnn.pad_sequence(series, batch_first=True)
print(json.dumps(model.load()(inputs, lengths).tolist()))
"""


def told_alone(folder: str, series: list[np.ndarray]) -> np.ndarray:
    """What the exported module says, in a process that has torch and not this package."""
    Path("series.json").write_text(json.dumps([one.tolist() for one in series]))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout))


def told_by_onnxruntime(file: str, series: list[np.ndarray]) -> np.ndarray:
    import onnxruntime

    lengths = np.array([len(one) for one in series])
    inputs = np.zeros((len(series), lengths.max(), series[0].shape[1]), np.float32)
    for row, one in zip(inputs, series, strict=True):
        row[: len(one)] = one
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"inputs": inputs, "lengths": lengths})[0]


def a_table_of_classes() -> None:
    """csv → train → evaluate → predict → export → plain PyTorch and onnxruntime."""
    classes("train.csv", 80, 0)
    frame = classes("test.csv", 40, 1)
    columns = ("--series", "wer", "--time", "t", "--label", "was")
    assert "80" in timelocal("data", "show", "train.csv", *columns)
    small = ("--hidden", 16, "--epochs", 15, "--lr", 0.01, "--batch", 16)
    timelocal("train", "--dataset", "train.csv", "--test", "test.csv", *columns, *small)
    run = only("runs")
    found = json.loads(timelocal("evaluate", run, "test.csv", "--json"))
    floors = {name: scores["accuracy"] for name, scores in found["floors"].items()}
    assert "readout only" in floors
    assert found["accuracy"] > 0.85, found["accuracy"]
    assert len(floors) == 2
    frame.drop(columns="was").to_csv("new.csv", index=False)
    timelocal("predict", run, "new.csv", "-o", "out.csv")
    series, right = series_of(frame)
    out = pd.read_csv("out.csv")
    assert (out["class"] == right).mean() == found["accuracy"]
    timelocal("export", run, "--torch", "alone", "--onnx", "model.onnx")
    shares = out[["p(fällt)", "p(steigt)"]].to_numpy()
    np.testing.assert_allclose(told_alone("alone", series), shares, atol=2e-5)
    np.testing.assert_allclose(told_by_onnxruntime("model.onnx", series), shares, atol=2e-5)


def the_estimator() -> None:
    """The same in a Pipeline and GridSearchCV → a saved model → plain PyTorch and onnxruntime."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    import timelocal as tl
    from timelocal.integrations.sklearn import RecurrentClassifier

    train, test = classes("train.csv", 80, 0), classes("test.csv", 40, 1)
    X, y = series_of(train)
    estimator = RecurrentClassifier(hidden=16, epochs=20, batch_size=16, random_state=0)
    pipeline = make_pipeline(FunctionTransformer(lambda X: [x / 10 for x in X]), estimator)
    grid = {
        "recurrentclassifier__rule": ["dfa", "bptt"],
        "recurrentclassifier__cell": ["gru", "lstm"],
    }
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    new, right = series_of(test)
    assert search.score(new, right) > 0.85
    shares = search.predict_proba(new)
    assert (search.classes_[shares.argmax(1)] == search.predict(new)).all()
    tl.save(search.best_estimator_[-1].model_, "model.safetensors")
    timelocal("export", "model.safetensors", "--torch", "alone", "--onnx", "model.onnx")
    entering = [x / 10 for x in new]
    np.testing.assert_allclose(told_alone("alone", entering), shares, atol=2e-5)
    np.testing.assert_allclose(told_by_onnxruntime("model.onnx", entering), shares, atol=2e-5)


def a_forecast() -> None:
    """An own series against persistence and ridge, with a backtest."""
    draw = np.random.default_rng(0)
    hours = pd.date_range("2026-01-01", periods=600, freq="h", tz="Europe/Berlin")
    load = 500 + 80 * np.sin(2 * np.pi * np.arange(600) / 24) + 5 * draw.normal(size=600)
    pd.DataFrame({"when": hours, "load": load}).to_csv("load.csv", index=False)
    columns = ("--time", "when", "--target", "load", "--horizon", 3, "--window", 24)
    small = ("--hidden", 16, "--epochs", 15, "--lr", 0.01)
    timelocal("train", "--dataset", "load.csv", *columns, *small)
    run = only("runs")
    result = json.loads((run / "result.json").read_text())
    floors = result["trivial"]
    assert {"persistence", "ridge on the window"} <= floors.keys()
    assert result["last"]["test_loss"] < floors["persistence"]
    found = json.loads(timelocal("evaluate", run, "load.csv", "--json"))
    assert found["mae"] < found["floors"]["persistence"]["mae"]
    assert "ridge on the window" in found["floors"]
    timelocal("predict", run, "load.csv", "-o", "next.csv")
    ahead = pd.read_csv("next.csv").iloc[0, 1:].to_numpy(float)
    true = 500 + 80 * np.sin(2 * np.pi * np.arange(600, 603) / 24)
    assert np.abs(ahead - true).max() < 40, (ahead, true)
    told = timelocal(
        "backtest", "load.csv", *columns, *small, "--blocks", 2, "--season", 24, "--json"
    )
    whole = json.loads(told)["whole"]
    assert {"model", "persistence", "ridge on the window", "seasonal naive"} <= whole.keys()
    assert whole["model"]["mae"] < whole["persistence"]["mae"]


def a_sweep_of_a_third_partys_rule() -> None:
    """A rule in a file of its own, two seeds, over two processes."""
    classes("own.csv", 60, 0)
    Path("echo.py").write_text(RULE)
    told = timelocal(
        "sweep", "rule=echo:Rule,dfa", "dataset=own.csv", "reading.series=wer", "reading.time=t",
        "reading.label=was", "hidden=8", "epochs=2", "batch=16", "--seeds", 2, "--engine", "processes",
        "--workers", 2,
    )  # fmt: skip
    assert told.count("2 of 2") == 2, told
    assert "echo:Rule" in told
    assert "majority class" in told
    statuses = [json.loads(one.read_text())["status"] for one in Path("runs").glob("*/status.json")]
    assert statuses == ["finished"] * 4


JOURNEYS = {
    journey.__name__: journey
    for journey in (a_table_of_classes, the_estimator, a_forecast, a_sweep_of_a_third_partys_rule)
}

if __name__ == "__main__":
    for name in sys.argv[1:] or JOURNEYS:
        JOURNEYS[name]()
        print(f"{name.replace('_', ' ')}: done")
