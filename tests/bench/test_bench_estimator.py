"""The benchmark of estimators: fits of the same network by this package and by torch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from timelocal import data
from timelocal.bench import estimator
from timelocal.cli.app import app


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    own = data.Dataset(
        "strawberry",
        torch.tensor(draw.normal(size=(40, 6, 1)), dtype=torch.float32),
        torch.arange(40) % 2,
        data.card("strawberry"),
    )
    monkeypatch.setattr(estimator.data, "load", lambda name: own)
    monkeypatch.setattr(estimator.data, "split", lambda loaded, seed: data.Split(*[_part(own)] * 3))
    monkeypatch.setattr(estimator, "find_spec", lambda name: None)
    monkeypatch.setattr(estimator, "EPOCHS", 1)
    told = ["bench", "--estimator", "--repeats", "2", "--threads", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, told)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "estimator.json").read_text(encoding="utf-8"))
    times = {name: one["a fit"] for name, one in record["microseconds"].items()}
    assert list(times) == [
        "RecurrentClassifier, DFA", "RecurrentClassifier, BPTT", "a loop of torch, BPTT"
    ]  # fmt: skip
    (bar,) = record["bars"]
    first, _, loop = times.values()
    assert bar["measured"] == pytest.approx(loop / first)
    assert bar["met"] == (bar["measured"] >= 5)
    assert record["series"] == [40, 6]


def _part(own: data.Dataset) -> data.Sequences:
    return data.Sequences(own.inputs, own.targets)
