"""The benchmark of whole sequences measures perturbations beside torch, and judges by its bars."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from timelocal.bench import sequences
from timelocal.bench.measure import Timing
from timelocal.bench.shapes import Shape
from timelocal.cli.app import app


def timing(seconds):
    return Timing(seconds, seconds, seconds)


def test_bars_are_ratios_of_medians():
    times = {"torch": timing(5e-3), **dict.fromkeys(sequences.RULES, timing(1e-3))}
    slow = {**times, "wp": timing(4e-3)}
    found = {"rnn, last": times, "lstm, every": slow}
    shape = sequences.LARGE["lstm"]
    large = {"lstm": {"torch": timing(1.0), "dfa": timing(0.5)}}
    flops = 2 * 2 * 64 * 50 * 4 * 512 * (512 + 8) + 2 * 2 * 64 * 512 * 10
    assert (shape.batch, shape.steps, shape.hidden) == (64, 50, 512)
    judged = {bar["what"]: bar for bar in sequences.bars(found, large, {"lstm": 4 * flops})}
    assert judged["rnn, last: np against BPTT by torch"]["measured"] == pytest.approx(5)
    assert judged["lstm, H = 512: DFA, of the multiply-add peak"]["measured"] == pytest.approx(0.5)
    assert {what for what, bar in judged.items() if not bar["met"]} == {
        "lstm, every: wp against BPTT by torch",
        "lstm, H = 512: DFA, of the multiply-add peak",
    }


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(sequences, "SMALL", Shape("small", 2, 3, 2, 4, 3))
    monkeypatch.setattr(
        sequences,
        "LARGE",
        {cell: replace(shape, hidden=4) for cell, shape in sequences.LARGE.items()},
    )
    options = ["bench", "--sequences", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "sequences.json").read_text(encoding="utf-8"))
    assert set(record["microseconds"]) == {
        f"{cell}, {at}" for cell in sequences.BARS for at in sequences.PLACES
    }
    assert all(
        set(times) == {"torch", *sequences.RULES} for times in record["microseconds"].values()
    )
    assert len(record["bars"]) == 6 * 3 + 2
