"""A user's mistake: a message, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from timelocal import files
from timelocal.cli.seeds import parse_seeds
from timelocal.errors import ArgumentError, RunError
from timelocal.experiments.config import TrainConfig

MISTAKES = {
    "dataset": (["--dataset", "digit-rows"], ["dataset", "'digit-rows'", "'digits-rows'?"]),
    "cell": (["--cell", "gruu"], ["cell", "'gru'?"]),
    "rule": (["--rule", "dfaa"], ["rule", "'dfa'?"]),
    "optimizer": (["--optimizer", "adamm"], ["optimizer", "Did you mean 'adam"]),
    "feedback": (["--feedback", "gausian"], ["feedback", "'gaussian'?"]),
    "feedback of BPTT": (["--rule", "bptt", "--feedback", "sign"], ["rule 'bptt'", "'feedback'"]),
    "normalize": (["--normalize", "l2"], ["normalize", "'l2'", "frobenius"]),
    "option": (["--option", "sigma"], ["option", "'sigma'", "NAME=VALUE"]),
    "option twice": (
        ["--rule", "np", "--option", "sigma=.1", "--option", "sigma=.2"],
        ["option 'sigma'", "--option sigma=.1 and --option sigma=.2", "one value"],
    ),
    "option and flag": (
        ["--feedback-per", "layer", "--option", "feedback_per=parameter", "--option", "x"],
        ["2 problems", "--feedback-per layer and --option feedback_per=parameter", "'x'"],
    ),
    "option null": (["--option", "feedback=null"], ["feedback", "None", "gaussian"]),
    "hidden": (["--hidden", "0"], ["hidden", "0", "greater than or equal to 1"]),
    "lr": (["--lr", "-1"], ["lr", "-1.0", "greater than 0"]),
    "lr nan": (["--lr", "nan"], ["lr", "nan"]),
    "lr inf": (["--lr", "inf"], ["lr", "inf", "finite"]),
    "epochs": (["--epochs", "0"], ["epochs"]),
    "threads": (["--threads", "0"], ["threads"]),
    "clip": (["--clip", "0"], ["clip"]),
    "no number": (["--hidden", "many"], ["--hidden", "integer"]),
    "seeds": (["--seeds", "two"], ["--seeds", "'two'", "0,3,7"]),
    "seeds zero": (["--seeds", "0"], ["--seeds"]),
    "seeds twice": (["--seeds", "1,1"], ["different seeds"]),
    "unknown option": (["--hiden", "8"], ["--hiden"]),
    "data folder": (
        ["--dataset", "ecg200", "--data-dir", "nowhere"],
        ["nowhere", "no such folder"],
    ),
    "several": (
        ["--cell", "gruu", "--lr", "0", "--batch", "-3", "--rule", "dfa", "--feedback", "x"],
        ["3 problems", "cell", "lr", "batch"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(train, tmp_path, name):
    arguments, words = MISTAKES[name]
    result = train("--out", tmp_path / "runs", *arguments)
    assert result.exit_code == 2, result.output
    assert not [word for word in words if word not in result.stderr], result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()


def test_an_unwritable_out(train, tmp_path):
    (tmp_path / "file").write_text("")
    result = train("--out", tmp_path / "file" / "runs")
    assert result.exit_code == 2
    assert "Choose another folder" in result.stderr


def test_a_full_disk(train, tmp_path, monkeypatch):
    def full(path, data):
        raise files.run_error(path, OSError(28, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", full)
        result = train("--out", tmp_path)
    assert result.exit_code == 2
    assert "No space left on device. Free some space" in result.stderr
    assert train("--out", tmp_path).exit_code == 0


def test_ctrl_c_says_how_to_go_on(train, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("timelocal.experiments.run.fit", stop)
        result = train("--out", tmp_path)
    assert result.exit_code == 130
    assert "Run the same command again" in result.stderr
    assert train("--out", tmp_path).exit_code == 0


def test_a_bug_is_not_dressed_up_as_a_mistake(train, tmp_path, monkeypatch):
    def crash(*arguments, **options):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("timelocal.experiments.run.fit", crash)
    assert isinstance(train("--out", tmp_path).exception, ZeroDivisionError)


def test_a_run_that_another_process_is_doing(train, tmp_path):
    train("--out", tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "status.json").write_text('{"status": "running", "message": ""}')
    with files.exclusive(folder / ".lock"):
        result = train("--out", tmp_path)
    assert result.exit_code == 2
    assert "another process" in result.stderr
    assert '"running"' in (folder / "status.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nowhere"], ["nowhere", "timelocal train"]),
        (["report", "."], ["at least one run folder"]),
        (["data", "show", "ecg"], ["dataset", "'ecg200'?"]),
        (["data", "fetch", "minst"], ["dataset"]),
        (["trian"], ["trian"]),
    ],
)
def test_mistakes_of_the_other_verbs(call, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert not [word for word in words if word not in result.stderr], result.stderr


def test_the_command_exits_with_2_and_no_traceback():
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-m", "timelocal", "train", "--cell", "gruu"],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: cell: got 'gruu'")
    assert done.stdout == ""


@pytest.mark.parametrize("text", ["", "-1", "1,,2", "1.5", "0", "10001", ",", "²"])
def test_seeds_that_are_none(text):
    with pytest.raises(ArgumentError, match="--seeds"):
        parse_seeds(text)


def test_all_problems_of_a_config_at_once():
    with pytest.raises(ArgumentError) as raised:
        TrainConfig(
            hiden=3,
            cell=5,
            epochs=2.5,
            lr="fast",
            seed=-1,
            rule_options={"feedbak": "sign", "normalise": None},
            at="end",
            loss="mse",
        )
    message = str(raised.value)
    for word in ("'hidden'?", "cell", "epochs", "2.5", "lr", "'fast'", "seed", "'end'"):
        assert word in message
    with pytest.raises(ArgumentError, match=r"2 problems(.|\n)*'feedback'(.|\n)*'normalize'"):
        TrainConfig(rule_options={"feedbak": "sign", "normalise": None})


def test_a_config_is_frozen_and_known_by_its_hash():
    config = TrainConfig()
    with pytest.raises(Exception, match="frozen"):
        config.lr = 1.0
    assert config.sha256() == TrainConfig(lr=1e-3).sha256()
    assert config.sha256() != TrainConfig(seed=1).sha256()
    assert TrainConfig(**config.model_dump()) == config
    assert TrainConfig(rule_options={"feedback": "gaussian"}) == config  # the default by its name
    assert config.rule_options == {
        "feedback": "gaussian",
        "feedback_per": "layer",
        "trace": "none",
        "decay": 0.9,
        "normalize": None,
        "feedback_lr": 1e-3,
        "feedback_decay": 1e-2,
        "sync": False,
        "slope": None,
    }
    assert "trace" not in config.canonical()  # runs keep the names they had before there was any
    leak = TrainConfig(rule_options={"trace": "leak"})
    assert '"trace":"leak"' in leak.canonical()
    assert leak.sha256() != config.sha256()


def test_run_errors_name_the_path(tmp_path):
    error = files.run_error(tmp_path, OSError(13, "Permission denied"))
    assert isinstance(error, RunError)
    assert str(tmp_path) in str(error)


def test_the_engine_has_an_old_name(call):
    old = call("reproduce", "no-such-paper", "--engine", "joblib")
    assert "--engine joblib is now called processes" in old.output
    assert "engine: got" not in old.output  # only the experiment is unknown
    assert "engine: got 'job'" in call("reproduce", "dfa", "--engine", "job").output
