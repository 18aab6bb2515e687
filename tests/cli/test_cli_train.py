"""`timelocal train`: what a run leaves behind."""

from __future__ import annotations

import inspect
import json
from itertools import product

import numpy as np
import pytest

import timelocal
from covering import covering
from timelocal import data
from timelocal.cli.train import train as train_command
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.run import run
from timelocal.model.build import CELLS
from timelocal.rules import RULES
from timelocal.studies.store import runs


def _json(path):
    return json.loads(path.read_text())


def test_a_run_leaves_a_folder(train, tmp_path):
    result = train("--out", tmp_path, "--seeds", "0,3", "--cell", "rnn")
    assert result.exit_code == 0, result.output
    assert "digits-rows" in result.stdout
    assert "±" in result.stdout
    folders = sorted(tmp_path.iterdir())
    assert [folder.name.rsplit("-", 1)[0] for folder in folders] == [
        "digits-rows-rnn-dfa-s0",
        "digits-rows-rnn-dfa-s3",
    ]
    folder = folders[1]
    config = TrainConfig(**_json(folder / "config.json"))
    assert (config.seed, config.hidden, config.cell) == (3, 8, "rnn")
    assert folder.name.endswith(config.sha256()[:8])
    status = _json(folder / "status.json")
    written = {path.name for path in folder.glob("*.json")}
    assert status.pop("sha256").keys() == written
    assert status == {"status": "finished", "message": ""}
    assert _json(folder / "environment.json")["packages"]["torch"]
    timing = _json(folder / "timing.json")
    assert len(timing["seconds"]) == 2
    assert timing["steps_per_epoch"] == 6
    assert timing["step_seconds_median"] > 0
    epochs = _json(folder / "history.json")["epochs"]
    found = _json(folder / "result.json")
    assert found["seed"] == 3
    assert found["epochs"] == len(epochs) == 2
    assert found["last"] == {key: epochs[1][key] for key in ("epoch", "test_loss", "test_accuracy")}
    best = max(epochs, key=lambda record: record["validation_accuracy"])
    assert found["best_validation"].items() <= best.items()
    assert found["max_test_accuracy"] == max(record["test_accuracy"] for record in epochs)
    model = timelocal.load(folder / "model.safetensors")
    digits = data.load("digits-rows")
    test = data.split(digits, seed=3).test
    right = model.predict(test.inputs) == np.array(digits.card.classes)[test.targets]
    assert right.mean() == pytest.approx(found["last"]["test_accuracy"])
    assert 0.05 < found["trivial"]["majority_class"] < 0.2
    assert 0.2 < found["trivial"]["readout_only"] < 1
    assert {path.suffix for path in (folder / "checkpoint").iterdir()} == {".json", ".safetensors"}


def test_a_network_that_decorrelates(train, tmp_path):
    result = train("--out", tmp_path, "--decorrelate", "1e-2", "--decorrelate-norm", "preserve")
    assert result.exit_code == 0, result.output
    (folder,) = tmp_path.iterdir()
    config = _json(folder / "config.json")
    assert (config["decorrelate"], config["decorrelate_norm"]) == (0.01, "preserve")
    assert folder.name == TrainConfig(**config).folder_name()
    epochs = _json(folder / "history.json")["epochs"]
    assert all(record["decorrelation_loss"] > 0 for record in epochs)


def test_the_norm_of_no_decorrelation_is_refused(train, tmp_path):
    result = train("--out", tmp_path, "--decorrelate-norm", "preserve")
    assert result.exit_code != 0
    assert "Also give decorrelate" in result.output


def test_a_finished_run_is_not_done_again(train, tmp_path):
    train("--out", tmp_path)
    (folder,) = tmp_path.iterdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert train("--out", tmp_path).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def _places(rule, cell):
    """Each rule and each cell; the authors' code on the cell that it is for, and refused on another."""
    authors = (rule, cell == "rnn") if rule.endswith("authors-code") else None
    return rule, cell, authors


@pytest.mark.parametrize(("rule", "cell"), covering(product(RULES, CELLS), _places))
def test_every_cell_and_rule_runs(train, tmp_path, cell, rule):
    options = ("--epochs", 1, "--hidden", 4, "--stratified", "--standardize", "--clip", 1)
    result = train("--out", tmp_path, "--cell", cell, "--rule", rule, *options)
    if result.exit_code:  # a rule may refuse a cell, politely
        assert result.exit_code == 2
        assert "error: " in result.stderr
        assert not list(tmp_path.iterdir())
    else:
        (record,) = runs(tmp_path)
        assert record.status == "finished"
        assert not record.problems


@pytest.mark.parametrize("at", ["mean", "ramp", "every"])
def test_where_the_loss_is_may_be_chosen(train, tmp_path, at):
    online = ("--online",) if at == "every" else ()
    assert train("--out", tmp_path, "--at", at, *online).exit_code == 0
    (record,) = runs(tmp_path)
    assert record.config["at"] == at
    assert record.result["last"]["test_accuracy"] >= 0


def test_the_rules_options_reach_the_rule(train, tmp_path):
    arguments = ("--feedback", "sign", "--feedback-per", "layer", "--normalize", "frobenius")
    assert train("--out", tmp_path, *arguments).exit_code == 0
    (record,) = runs(tmp_path)
    assert record.config["rule_options"] == {
        "feedback": "sign",
        "feedback_per": "layer",
        "trace": "none",
        "decay": 0.9,
        "normalize": "frobenius",
        "feedback_lr": 1e-3,
        "feedback_decay": 1e-2,
        "sync": False,
        "slope": None,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("feedback", "sign"), ("feedback_per", "parameter"), ("normalize", "frobenius")],
)
def test_an_option_is_heard_with_or_without_a_flag_of_its_own(train, tmp_path, name, value):
    given = {"option": ("--option", f"{name}={value}"), "flag": (_flag(name), value)}
    configs = []
    for out, arguments in given.items():
        result = train("--epochs", 1, "--out", tmp_path / out, *arguments)
        assert result.exit_code == 0, result.output
        configs.append(runs(tmp_path / out)[0].config)
    assert configs[0]["rule_options"][name] == value
    assert configs[0] == configs[1]


def _flag(name):
    return "--" + name.replace("_", "-")


def test_a_diverged_run_is_recorded_as_such(train, tmp_path):
    result = train("--out", tmp_path, "--optimizer", "sgd", "--lr", 3e38)
    assert result.exit_code == 0
    assert "diverged" in result.output
    (record,) = runs(tmp_path)
    assert record.status == "diverged"
    assert record.message
    assert train("--out", tmp_path, "--optimizer", "sgd", "--lr", 3e38).exit_code == 0


def test_a_crash_is_recorded_and_the_run_can_go_on(tmp_path, monkeypatch):
    config = TrainConfig(hidden=4, epochs=1, batch=500)

    def crash(*arguments, **options):
        raise ZeroDivisionError("oh")

    with monkeypatch.context() as patch:
        patch.setattr("timelocal.experiments.run.fit", crash)
        with pytest.raises(ZeroDivisionError):
            run(config, tmp_path)
    (record,) = runs(tmp_path)
    assert (record.status, record.message) == ("failed", "ZeroDivisionError: oh")
    run(config, tmp_path)
    assert runs(tmp_path)[0].status == "finished"


def test_the_defaults_are_those_of_the_config():
    config = TrainConfig()
    for name, parameter in inspect.signature(train_command).parameters.items():
        # these are as the data set asks
        if name in TrainConfig.model_fields and name not in ("at", "loss", "standardize"):
            assert parameter.default == getattr(config, name), name


def test_the_store_reads_what_it_can(train, tmp_path):
    train("--out", tmp_path / "good")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text("{}")
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "config.json").write_text('{"dataset')
    (torn / "status.json").write_text('{"status": "finished"}')
    records = {record.folder.parent.name + record.folder.name: record for record in runs(tmp_path)}
    assert len(records) == 3
    by_status = sorted(record.status for record in records.values())
    assert by_status == ["damaged", "finished", "unknown"]
    problems = [problem for r in records.values() for problem in r.problems]
    assert any("config.json cannot be read" in problem for problem in problems)
    assert any("result.json is missing" in problem for problem in problems)
    assert any("status is None" in problem for problem in problems)
