"""The benchmark of streams measures every stream on both paths and judges by its bars."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from timelocal.bench import online
from timelocal.bench.measure import Timing
from timelocal.cli.app import app


def timings(native, steps):
    return {"native": Timing(native, native, native), "steps": Timing(steps, steps, steps)}


def test_bars_are_ratios_of_medians():
    found = {stream.name: timings(1e-5, 9e-5) for stream in online.STREAMS}
    found["WP, H = 500, B = 1"] = timings(7e-5, 1.0)
    judged = {bar["what"]: bar for bar in online.bars(found)}
    assert len(judged) == 9
    assert judged["one call against step by step: ANP, H = 100, B = 10"][
        "measured"
    ] == pytest.approx(9)
    assert not judged["noise on weights: WP over NP, H = 500"]["met"]
    assert sum(bar["met"] for bar in judged.values()) == 8
    assert judged[online.EPOCH[0]]["measured"] == pytest.approx(0.05)


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch):
    small = tuple(online.Stream(s.name, s.kind, 4, 2, s.decorrelates) for s in online.STREAMS)
    monkeypatch.setattr(online, "STREAMS", small)
    options = ["bench", "--online", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "online.json").read_text(encoding="utf-8"))
    assert set(record["microseconds"]) == {stream.name for stream in online.STREAMS}
    assert len(record["bars"]) == 9
