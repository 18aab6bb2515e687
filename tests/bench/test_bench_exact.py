"""The benchmark of exact learning times the same cells in torch, and judges by its bars."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from timelocal.bench import exact
from timelocal.bench.measure import Timing
from timelocal.cli.app import app


@pytest.mark.parametrize("name", exact.CELLS)
def test_the_cells_in_torch_are_ours(name, monkeypatch):
    monkeypatch.setattr(exact, "HIDDEN", 6)
    network = exact.CELLS[name](3, 6, 2, seed=1)
    inputs = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(exact.by_torch(name, network, inputs), network(inputs))


def test_bars_are_ratios():
    times = {
        "sequence": 2.0,
        "autograd": 5.0,
        "GRU, BPTT": 17.0,
        "stream": 1.0,
        "loop in torch": 26.0,
    }
    found = exact.bars({"lru": times})
    assert [bar["measured"] for bar in found] == [8.5, 2.5, 26.0]
    assert [bar["met"] for bar in found] == [True, False, True]


def test_bytes_are_those_of_weights_moments_and_traces(monkeypatch):
    monkeypatch.setattr(exact, "HIDDEN", 3)
    monkeypatch.setattr(exact, "INPUTS", 2)
    cell, readout = 2 * 3 * 2 + 2 * 3, 3 + 1  # minGRU
    assert exact.bytes_of_a_step("mingru") == 4 * 2 * (3 * (cell + readout) + cell)


def test_streaming_counts_each_number_once_read_and_once_written(monkeypatch):
    times = {"all": Timing(3e-6, 0, 0), "one": Timing(1e-6, 0, 0)}
    sizes = {}

    def interleaved(calls, repeats):
        sizes.update({name: len(call()) for name, call in calls.items()})
        return times

    monkeypatch.setattr(exact, "interleaved", interleaved)
    assert exact.streaming(8000, 3) == pytest.approx(4.0)
    assert sizes == {"all": 1000, "one": 1}


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch):
    for size in ("HIDDEN", "BATCH", "STEPS"):
        monkeypatch.setattr(exact, size, 4)
    options = ["bench", "--exact", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "exact.json").read_text(encoding="utf-8"))
    assert set(record["microseconds"]) == set(record["memory"]) == set(exact.CELLS)
    assert all(own["streaming, GB/s"] > 0 for own in record["memory"].values())
    assert len(record["bars"]) == 3 * len(exact.CELLS)
