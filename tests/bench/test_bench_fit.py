"""The benchmark of the training loop: an epoch through `fit` against the native calls in it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from timelocal import kernels
from timelocal.bench import fit
from timelocal.cli.app import app
from timelocal.kernels import native

OPTIONS = ["bench", "--fit", "--repeats", "9", "--threads", "1", "--out"]


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch):
    if kernels.describe()["path"] != "native":
        pytest.skip("no native kernel is active")
    monkeypatch.setattr(fit, "STEPS", 3)
    result = CliRunner().invoke(app, [*OPTIONS, str(tmp_path)])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))
    assert set(record["microseconds"]) == {"RNN, SGD", "RNN, Adam", "GRU, SGD", "GRU, Adam"}
    for times, bar in zip(record["microseconds"].values(), record["bars"], strict=True):
        assert min(times["fit"], times["bare"]) > 0
        assert bar["measured"] == pytest.approx(times["fit"] / times["bare"])
        assert bar["met"] == (bar["measured"] <= 1.6)


def test_without_native_kernels_there_is_nothing_to_compare_with(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_module", None)
    result = CliRunner().invoke(app, [*OPTIONS, str(tmp_path)])
    assert result.exit_code != 0
    assert not (tmp_path / "fit.json").exists()
