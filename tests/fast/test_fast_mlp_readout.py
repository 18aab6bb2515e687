"""Streams into a readout with a hidden layer: the native stages make the steps that the loop makes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_fast_stages import (
    INPUTS,
    LOSSES,
    OPTIMIZERS,
    OUTPUTS,
    alike,
    by_the_loop,
    calls_of,
    data,
    kept,
)
from torch import nn

import timelocal as tl
from timelocal import kernels
from timelocal.cells import CELLS

pytestmark = pytest.mark.skipif(
    kernels.describe()["path"] != "native", reason="no native kernel is active"
)

NETWORKS = ("rnn", "gru", "gru-reset-before", "lstm", "lru", "rtu", "mingru")
RULES = {
    "dfa": tl.DFA,
    "dfa exact": partial(tl.DFA, feedback="exact"),
    "snap1": tl.SnAp1,
    "rtrl": tl.RTRL,
    "tbptt": partial(tl.TBPTT, k=1),
}


def a_stream(rule, cell, loss="mse", optimizer="sgd", layers=1, batch=2, hidden=11, clip=None):
    network = tl.from_cell(
        CELLS[cell](), INPUTS, 9, OUTPUTS, num_layers=layers, readout_hidden=hidden, seed=1
    ).double()
    made = RULES[rule](network, loss=LOSSES[loss], at="every")
    return tl.Stream(made, OPTIMIZERS[optimizer](made.parameters()), batch, clip=clip)


def can(rule: str, cell: str) -> bool:
    elementwise = cell in ("lru", "rtu", "mingru")
    return (rule != "rtrl" or elementwise) and (rule, cell) != ("snap1", "gru-reset-before")


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    rule=st.sampled_from(sorted(RULES)),
    cell=st.sampled_from(NETWORKS),
    loss=st.sampled_from(sorted(LOSSES)),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    layers=st.integers(1, 3),
    batch=st.integers(1, 5),
    masked=st.booleans(),
    hidden=st.integers(1, 20),
    clip=st.sampled_from([None, 0.01, 1.0]),
)
@example("rtrl", "lru", "mse", "adam", 1, 1, False, 16, None)
@example("snap1", "lstm", "smoothed", "adamw", 2, 3, True, 5, 0.1)
@example("dfa", "gru", "cross-entropy", "momentum", 2, 2, True, 19, None)
@example("tbptt", "rnn", "bce", "rmsprop", 1, 4, False, 1, 0.01)
@example("dfa exact", "gru-reset-before", "mse", "nesterov", 2, 2, True, 8, None)
def test_native_stages_are_the_loop(
    rule, cell, loss, optimizer, layers, batch, masked, hidden, clip
):
    if not can(rule, cell):
        return
    native, loop = (
        a_stream(rule, cell, loss, optimizer, layers, batch, hidden, clip) for _ in range(2)
    )
    inputs, targets, *mask = data(loss, batch, 7, masked)
    counts = mask[0] if mask else None
    with pytest.MonkeyPatch.context() as patch:
        calls = calls_of(patch)
        losses = native.run(inputs, targets, mask=counts).loss
    assert calls[-1] >= 3  # but for the optimizer's own first step, and masked ones before it
    expected = by_the_loop(loop, inputs, targets, counts)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-11)
    alike(kept(native), kept(loop), rtol=1e-7, atol=1e-9)


def test_predicting_first_changes_nothing():
    streams = [a_stream("snap1", "gru", optimizer="adam") for _ in range(2)]
    inputs, targets = data("mse", 2, 6)
    expected = streams[0].run(inputs, targets).outputs
    for t in range(6):
        torch.testing.assert_close(streams[1].predict(inputs[:, t]), expected[:, t])
        streams[1].learn(targets[:, t])
    alike(*map(kept, streams), rtol=1e-9, atol=1e-11)


def test_the_result_does_not_depend_on_threads():
    """So large that two threads share it."""
    found = []
    for threads in (1, 2):
        network = tl.from_cell(CELLS["gru"](), 300, 500, 17, readout_hidden=301, seed=1)
        rule = tl.TBPTT(network, k=1, loss="mse", at="every")
        stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=1e-3), 2)
        draw = torch.Generator().manual_seed(2)
        inputs, targets = (torch.randn(2, 4, n, generator=draw) for n in (300, 17))
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            outputs = stream.run(inputs, targets).outputs
        finally:
            torch.set_num_threads(before)
        found.append({**kept(stream), "outputs": outputs})
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def hooked(readout: nn.Sequential) -> nn.Module:
    readout[1].register_forward_hook(lambda *_: None)
    return readout


@pytest.mark.parametrize(
    "change",
    [
        hooked,
        lambda own: nn.Sequential(own[0], nn.Tanh(), own[2]),
        lambda own: nn.Sequential(own[0], nn.ReLU(), nn.ReLU(), own[2]),
        lambda own: nn.Sequential(own[0], own[1], nn.Linear(11, OUTPUTS, bias=False)).double(),
    ],
)
def test_other_readouts_take_the_loop(change, monkeypatch):
    network = tl.from_cell(CELLS["gru"](), INPUTS, 9, OUTPUTS, readout_hidden=11, seed=1).double()
    network.readout = change(network.readout)
    rule = tl.SnAp1(network, loss="mse")
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), 2)
    calls = calls_of(monkeypatch)
    stream.run(*data("mse", 2, 4))
    assert set(calls) == {0}


@pytest.mark.parametrize("frozen", ["0.weight", "2.bias"])
def test_a_frozen_part_stays(frozen, monkeypatch):
    native, loop = (a_stream("snap1", "gru") for _ in range(2))
    for stream in (native, loop):
        stream.rule.network.readout.get_parameter(frozen).requires_grad_(False)
    before = native.rule.network.readout.get_parameter(frozen).clone()
    calls = calls_of(monkeypatch)
    inputs, targets = data("mse", 2, 6)
    native.run(inputs, targets)
    assert calls[-1] >= 4
    by_the_loop(loop, inputs, targets)
    assert torch.equal(native.rule.network.readout.get_parameter(frozen), before)
    alike(kept(native), kept(loop), rtol=1e-7, atol=1e-9)
