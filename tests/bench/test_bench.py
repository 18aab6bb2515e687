"""The benchmark measures what it says: the same work for everyone, sums that add up, a page."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from timelocal.bench import Comparison, Shape, benchmark, summary
from timelocal.bench.contestants import MAKERS, contestants, jax_bptt, torch_bptt
from timelocal.bench.measure import Timing, interleaved
from timelocal.rules import BPTT
from timelocal.training.memory import peak_memory

TINY = Shape("tiny", 3, 5, 2, 4, 3)


@pytest.mark.parametrize("cell", MAKERS)
def test_flops_are_those_of_the_products(cell: str) -> None:
    network = MAKERS[cell](TINY.inputs, TINY.hidden, TINY.outputs)
    weights = network.recurrent.weights(0, 0)
    per_step = 2 * (weights.ih.numel() + weights.hh.numel())
    expected = TINY.batch * (TINY.steps * per_step + 2 * network.readout.weight.numel())
    assert TINY.forward_flops(cell) == expected


@pytest.mark.parametrize("cell", MAKERS)
def test_the_baselines_compute_the_gradient_that_ours_computes(cell: str) -> None:
    network = MAKERS[cell](TINY.inputs, TINY.hidden, TINY.outputs)
    inputs = torch.randn(TINY.batch, TINY.steps, TINY.inputs)
    targets = torch.tensor([0, 2, 1])
    found = BPTT(network).estimate(inputs, targets)
    torch_bptt(network, inputs, targets)()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, found.gradients[name])
    if importlib.util.find_spec("jax") is None:
        return
    call = jax_bptt(cell, network, inputs, targets)
    assert call is not None
    loss, gradients = call()
    torch.testing.assert_close(torch.tensor(float(loss)), found.loss, rtol=1e-5, atol=1e-6)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        theirs = torch.tensor(gradients[name].tolist())
        ours = found.gradients[f"recurrent.{name}_l0"]
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


def test_interleaved_calls_everyone_in_turn() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timed = interleaved(calls, repeats=3, at_least=0.0)
    assert order[-6:] == ["a", "b"] * 3
    assert timed["a"].low <= timed["a"].median <= timed["a"].high


def test_ratios_and_shares_come_from_the_medians() -> None:
    times = {"scan": 1.0, "dfa": 2.0, "bptt": 4.0, "torch": 20.0}
    timings = {name: Timing(t, t, t) for name, t in times.items()}
    flops = TINY.forward_flops("rnn")
    comparison = Comparison(TINY, "rnn", 2, 2 * flops, timings, {"scan": Timing(1.8, 1, 2)}, {})
    assert comparison.ratio("torch", "dfa") == 10
    assert comparison.ratio("jax", "dfa") is None
    assert comparison.roofline("scan") == 0.5
    assert comparison.roofline("dfa") == 0.5
    assert comparison.scaling("scan") == 1.8


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_peak_memory_sees_what_is_freed_before_the_call_ends() -> None:
    needed = 64 * 2**20

    def call() -> float:
        return float(torch.ones(needed // 4).sum())

    for _ in range(2):  # memory that an earlier call left with the allocator must not hide it
        found = peak_memory(call)
        assert found is not None
        assert 0.9 * needed < found < 1.5 * needed


def test_threads_are_put_back_and_everyone_is_measured() -> None:
    before = torch.get_num_threads()
    (found,) = benchmark([TINY], ["gru"], threads=1, repeats=1)
    assert torch.get_num_threads() == before
    assert {*contestants(TINY, "gru")} == {*found.timings}
    assert all(timing.median > 0 for timing in found.timings.values())
    json.dumps(summary(found))


def test_the_command_leaves_numbers_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from timelocal import bench
    from timelocal.cli.app import app

    monkeypatch.setitem(bench.SHAPES, "ecg200", TINY)
    arguments = ["bench", "--shape", "ecg200", "--cell", "rnn", "--repeats", "1", "--threads", "1"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "bench.json").read_text())
    assert record["results"][0]["shape"]["name"] == "tiny"
    page = (tmp_path / "bench.html").read_text()
    assert "tiny" in page
    assert "torch.nn BPTT" in page
    refused = CliRunner().invoke(app, ["bench", "--shape", "ecg20"])
    assert refused.exit_code == 2
