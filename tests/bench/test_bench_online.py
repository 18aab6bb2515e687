"""The benchmark of streams measures them beside torch's own loop, and judges by its bars."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from timelocal.bench import online
from timelocal.bench.measure import Timing
from timelocal.cli.app import app


def timing(seconds):
    return Timing(seconds, seconds, seconds)


def test_bars_are_ratios_of_medians():
    ours = (*online.RULES, "dfa, step", "dfa, predict and learn")
    times = {"torch": timing(3e-4), "torch, fused": timing(2e-4)}
    times |= {name: timing(1e-5) for name in ours}
    found = {kind.name: dict(times) for kind in online.KINDS}
    found["lstm, Adam, mse of 1"]["wp"] = timing(1e-4)
    costs = {online.PLAIN.name: timing(2e-6)}
    costs |= {kind.name: timing(2.1e-6) for kind, _ in online.COSTS.values()}
    large = {stream.name: timing(1e-5) for stream in online.LARGE}
    large["WP, H = 500, B = 1"] = timing(7e-5)
    judged = {bar["what"]: bar for bar in online.bars(found, costs, large)}
    assert len(judged) == len(online.KINDS) * len(online.RULES) + 3 + 3 + 3
    assert judged["rnn, SGD, mse of 1: dfa against torch"]["measured"] == pytest.approx(30)
    missed = {what for what, bar in judged.items() if not bar["met"]}
    assert missed == {
        "lstm, Adam, mse of 1: wp against torch",
        "noise on weights: WP over NP, H = 500",
    }
    assert judged[online.EPOCH[0]]["measured"] == pytest.approx(0.05)


def test_the_torch_loop_and_ours_learn_from_the_same_stream(monkeypatch):
    """TBPTT(1) is what the loop over torch.nn does: the same cell, the same loss at every step."""
    kind = online.Kind("gru", "SGD", outputs=2)
    inputs, targets, _ = online._data(kind, 7)
    assert inputs.shape == (1, 7, online.INPUTS)
    stream = online._stream(kind, "tbptt")
    assert stream.run(inputs, targets).loss.shape == (7,)


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch):
    kinds = (online.USED_MOST, online.KINDS[-1])
    monkeypatch.setattr(online, "HIDDEN", 4)
    monkeypatch.setattr(online, "KINDS", kinds)
    monkeypatch.setattr(
        online, "LARGE", tuple(replace(one, hidden=4, batch=2) for one in online.LARGE)
    )
    options = ["bench", "--online", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "online.json").read_text(encoding="utf-8"))
    assert set(record["microseconds"]) == {kind.name for kind in kinds}
    assert set(record["large"]) == {stream.name for stream in online.LARGE}
    assert len(record["bars"]) == len(kinds) * len(online.RULES) + 9
