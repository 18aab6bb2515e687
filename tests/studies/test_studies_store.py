"""Run folders are read however they were left."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from timelocal.experiments.config import TrainConfig
from timelocal.experiments.run import run
from timelocal.files import write_json
from timelocal.studies.measures import value
from timelocal.studies.store import RunRecord, read
from timelocal.studies.table import table


def record(folder: Path, losses: list[object], **result: object) -> RunRecord:
    """A run written by hand, as any version of this package may have left it."""
    folder.mkdir()
    epochs = [{"epoch": n, "test_loss": loss} for n, loss in enumerate(losses, 1)]
    files = {
        "config": {"seed": 0},
        "environment": {},
        "status": {"status": "finished"},
        "history": {"epochs": epochs},
        "timing": {},
        "result": {"seed": 0, **result},
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return read(folder)


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_null_is_not_a_number(tmp_path: Path, nothing: float | None) -> None:
    found = record(tmp_path / "run", [0.5, nothing], last={"test_accuracy": nothing})
    assert not found.problems
    assert found.epochs[0]["test_loss"] == 0.5
    assert math.isnan(found.epochs[1]["test_loss"])
    assert value(found, "test_loss") is None
    assert value(found, "last_accuracy") is None
    line = table([found]).splitlines()[1]
    assert '""test_accuracy"":null' in line


@pytest.mark.parametrize(
    ("losses", "loss", "status"),
    [
        ([0.05, 0.04, 2.9e11], "mse", "diverged"),
        ([2e15, 3e15], "mse", "diverged"),  # in its first epoch already
        ([0.05, 0.04, 40.0], "mse", "finished"),
        ([1e-9, 1e-7], "mse", "finished"),
        ([0.7, 3e3], "cross_entropy", "diverged"),
        ([0.7, 3.0], "cross_entropy", "finished"),
    ],
)
def test_a_run_that_explodes_has_diverged(
    tmp_path: Path, losses: list[float], loss: str, status: str
) -> None:
    record(tmp_path / "run", [], trivial={"persistence": 0.12, "linear on 50 lags": 1e-14})
    epochs = [{"epoch": n, "train_loss": one} for n, one in enumerate(losses, 1)]
    (tmp_path / "run" / "history.json").write_text(json.dumps({"epochs": epochs}))
    (tmp_path / "run" / "config.json").write_text(json.dumps({"seed": 0, "loss": loss}))
    found = read(tmp_path / "run")
    assert found.status == status
    assert ("the training loss ended at" in found.message) == (status == "diverged")
    assert (value(found, "train_loss") is None) == (status == "diverged")


def test_a_run_that_explodes_says_so_itself(tmp_path: Path) -> None:
    given = {"dataset": "copying", "cell": "rnn", "hidden": 4, "loss": "mse", "at": "every"}
    config = TrainConfig(**given, rule="bptt", optimizer="sgd", lr=30.0, epochs=3)
    folder = run(config, tmp_path)
    assert json.loads((folder / "status.json").read_text())["status"] == "diverged"
    assert read(folder).status == "diverged"


@pytest.mark.parametrize(
    "damage",
    [
        "[]",
        '{"epochs": 3}',
        '{"epochs": [3]}',
        "{",
        '{"epochs": [{"epoch": 1, "train_loss": "x"}]}',
    ],
)
def test_a_damaged_history_is_told(tmp_path: Path, damage: str) -> None:
    record(tmp_path / "run", [0.5])
    (tmp_path / "run" / "history.json").write_text(damage)
    found = read(tmp_path / "run")
    assert found.epochs == ()
    assert any(problem.startswith("history.json") for problem in found.problems)


def test_every_file_of_a_run_that_diverged_is_strict_json(tmp_path: Path) -> None:
    given = {"dataset": "copying", "cell": "rnn", "hidden": 4, "loss": "mse", "at": "every"}
    config = TrainConfig(**given, rule="bptt", optimizer="sgd", lr=3e38, epochs=2)
    folder = run(config, tmp_path)
    assert read(folder).status == "diverged"
    names = {path.name for path in folder.rglob("*.json")}
    assert {"history.json", "result.json", "predictions.json"} <= names
    for path in folder.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))


def test_outputs_that_overflow_do_not_keep_a_run_from_being_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"dataset": "copying", "cell": "rnn", "hidden": 4, "loss": "mse", "at": "every"}
    unbounded = {"mse": math.inf, "nrmse": math.nan}
    monkeypatch.setattr("timelocal.experiments.run.measured", lambda *_: unbounded)
    found = read(run(TrainConfig(**given, rule="bptt", epochs=1), tmp_path))
    assert (found.status, found.problems) == ("finished", ())
    assert found.result is not None
    assert found.result["metrics"] == {"mse": None, "nrmse": None}
    assert value(found, "nrmse") is None


def test_a_record_can_be_written_again(tmp_path: Path) -> None:
    found = record(tmp_path / "run", [0.5, None])
    write_json(tmp_path / "again.json", {"epochs": found.epochs})
    assert '"test_loss": null' in (tmp_path / "again.json").read_text()


def test_an_error_stands_beside_that_of_ridge(tmp_path: Path) -> None:
    trivial = {"persistence": 8.0, "ridge on the past": 2.0}
    found = record(tmp_path / "run", [3.0], metrics={"mse": 3.0}, trivial=trivial)
    assert value(found, "of_ridge") == 1.5
    assert value(record(tmp_path / "other", [3.0], metrics={"mse": 3.0}), "of_ridge") is None
