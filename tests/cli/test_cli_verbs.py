"""list, doctor, data, report, demo."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import timelocal
from timelocal import data
from timelocal.model.build import CELLS, OPTIMIZERS
from timelocal.rules import RULES


def test_list_names_everything(call, train, tmp_path):
    train("--out", tmp_path)
    result = call("list", "--out", tmp_path)
    assert result.exit_code == 0
    for name in (*data.names(), *RULES, *CELLS, *OPTIMIZERS, "finished"):
        assert name in result.stdout
    assert "no runs under" in call("list", "--out", tmp_path / "nowhere").stdout


def test_doctor(call, monkeypatch, tmp_path):
    monkeypatch.delenv("TIMELOCAL_DATA", raising=False)
    monkeypatch.setenv("TIMELOCAL_CACHE", str(tmp_path))
    result = call("doctor")
    assert result.exit_code == 0
    for word in (timelocal.__version__, "torch threads", "kernels: ", str(tmp_path), "built in"):
        assert word in result.stdout
    in_files = [name for name in data.names() if data.locate(name) is None]
    assert 0 < len(in_files) < len(data.names())
    assert result.stdout.count("fetched at first use") == len(in_files)


def test_data(call):
    assert all(name in call("data", "list").stdout for name in data.names())
    shown = call("data", "show", "digits-rows").stdout
    for word in ("1,797 × 8 × 8", "1,078 train, 360 validation, 359 test", "train/test: 0"):
        assert word in shown
    fixed = call("data", "show", "copying-fixed").stdout
    for word in ("3 × 210 × 10", "parts, given", "1 train, 1 validation, 1 test", "MSE: 0.0417"):
        assert word in fixed
    assert "1,797 sequences, checked" in call("data", "fetch", "digits-rows").stdout


def test_data_that_are_not_here_are_shown_by_their_card(call, monkeypatch, tmp_path):
    monkeypatch.setenv("TIMELOCAL_DATA", str(tmp_path))
    result = call("data", "show", "libras")
    assert result.exit_code == 0
    assert "360 × 45 × 2" in result.stdout
    assert "timelocal data fetch" in result.stdout


def test_report(call, train, tmp_path):
    train("--out", tmp_path)
    result = call("report", tmp_path)
    assert result.exit_code == 0, result.output
    assert "<html" in (tmp_path / "report.html").read_text()
    call("report", tmp_path, "--output", tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()


def test_help_and_version_of_the_module():
    done = subprocess.run(
        [sys.executable, "-m", "timelocal", "--help"], capture_output=True, text=True, check=True
    )
    for verb in ("demo", "train", "report", "list", "doctor", "data"):
        assert verb in done.stdout


@pytest.mark.slow
def test_demo(call, tmp_path):
    result = call("demo", "--out", tmp_path)
    assert result.exit_code == 0
    assert str(tmp_path / "report.html") in result.stdout
    assert len(list(tmp_path.glob("digits-rows-*"))) == 12


@pytest.mark.parametrize(
    ("name", "at", "floor"),
    [("adding:steps=4", "last", "mean of the training part"),
     pytest.param("copying-memory:length=1,delay=1-2", "every", "blank, then uniform over 8",
                  marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_task_of_a_family_trains(call, tmp_path, name, at, floor):
    """Its numbers stand in the name; an interrupted or repeated run finds it by that."""
    options = [
        "--cell",
        "rnn",
        "--hidden",
        "2",
        "--epochs",
        "1",
        "--batch",
        "1000",
        "--out",
        tmp_path,
    ]
    for _ in range(2):
        done = call("train", "--dataset", name, *options)
        assert done.exit_code == 0, done.output
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    config = json.loads((folder / "config.json").read_text())
    assert (config["loss"], config["at"]) == ("mse", at)
    result = json.loads((folder / "result.json").read_text())
    assert result["last"]["test_loss"] > 0
    assert list(result["trivial"]) == [floor]
    assert "plugins" not in json.loads((folder / "environment.json").read_text())
    assert call("report", tmp_path).exit_code == 0
    assert call("data", "show", name).exit_code == 0


def test_a_task_with_values_at_every_step_trains(call, tmp_path):
    """Its loss and its place follow from the data set; its floor stands in the result."""
    options = ["--cell", "rnn", "--hidden", "4", "--epochs", "2", "--batch", "1", "--out", tmp_path]
    done = call("train", "--dataset", "copying-fixed", *options)
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.glob("copying-fixed-*")
    config = json.loads((folder / "config.json").read_text())
    assert (config["loss"], config["at"]) == ("mse", "every")
    result = json.loads((folder / "result.json").read_text())
    assert result["last"]["test_loss"] > 0
    assert "test_accuracy" not in result["last"]
    assert result["trivial"] == {"blank, then uniform over 8": pytest.approx(0.0417, abs=1e-4)}
    assert call("report", tmp_path).exit_code == 0


def test_a_file_of_ones_own_is_shown(call, tmp_path):
    file = tmp_path / "own.csv"
    file.write_text(
        "id;t;x;kind\na;1;1,5;up\na;2;;up\nb;1;3,5;down\nb;1;4;down\nb;5;4;down\nb;6;4;down\n"
    )
    options = ("--series", "id", "--time", "t", "--label", "kind")
    shown = " ".join(call("data", "show", file, *options).stdout.split())
    for text in (
        "1 of 6 (x: 1)",
        "2 to 4",
        "1, such as 1 (line 5)",
        "3 steps missing",
        "down (1), up (1)",
    ):
        assert text in shown
    assert "problem" in shown
    file.write_text("kind,a,b\nup,1,2\ndown,3,4\nup,1,2\n")
    shown = " ".join(call("data", "show", file, "--label", "kind").stdout.split())
    assert "3 × 2 × 1" in shown
    assert "problem" not in shown
