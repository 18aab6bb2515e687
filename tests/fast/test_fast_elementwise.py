"""Streams of element-wise cells: the native stages make the steps that the loop makes."""

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

import timelocal as tl
from timelocal import kernels

pytestmark = pytest.mark.skipif(
    kernels.describe()["path"] != "native", reason="no native kernel is active"
)

NETWORKS = {
    "indrnn": tl.IndRNN,
    "lru": tl.LRU,
    "rtu": tl.RTU,
    "rtu tanh": partial(tl.RTU, nonlinearity="tanh"),
    "mingru": tl.MinGRU,
    "minlstm": tl.MinLSTM,
}
RULES = {
    "rtrl": tl.RTRL,
    "eprop exact": partial(tl.EProp, feedback="exact"),
    "eprop": tl.EProp,
    "snap1": tl.SnAp1,
    "rflo": tl.RFLO,
    "dfa": tl.DFA,
    "dfa exact": partial(tl.DFA, feedback="exact"),
    "tbptt": partial(tl.TBPTT, k=1),
}


def a_stream(rule, cell, loss="mse", optimizer="sgd", layers=1, batch=2, bias=True, hidden=19):
    network = NETWORKS[cell](INPUTS, hidden, OUTPUTS, num_layers=layers, bias=bias, seed=1).double()
    made = RULES[rule](network, loss=LOSSES[loss])
    return tl.Stream(made, OPTIMIZERS[optimizer](made.parameters()), batch)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    rule=st.sampled_from(sorted(RULES)),
    cell=st.sampled_from(sorted(NETWORKS)),
    loss=st.sampled_from(sorted(LOSSES)),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    layers=st.integers(1, 3),
    batch=st.integers(1, 4),
    masked=st.booleans(),
    bias=st.booleans(),
    hidden=st.integers(1, 20),
)
@example("rtrl", "lru", "mse", "adam", 1, 1, False, True, 16)
@example("rtrl", "rtu", "cross-entropy", "nesterov", 2, 3, True, False, 19)
@example("eprop", "rtu tanh", "bce", "adamw", 2, 2, True, True, 7)
@example("snap1", "minlstm", "smoothed", "rmsprop", 3, 2, True, True, 9)
@example("dfa", "lru", "mse", "momentum", 2, 2, True, True, 9)
@example("tbptt", "indrnn", "mse", "sgd", 2, 2, True, True, 9)
@example("rflo", "mingru", "mse", "decay", 1, 2, True, True, 9)
def test_native_stages_are_the_loop(
    rule, cell, loss, optimizer, layers, batch, masked, bias, hidden
):
    native, loop = (
        a_stream(rule, cell, loss, optimizer, layers, batch, bias, hidden) for _ in range(2)
    )
    inputs, targets, *mask = data(loss, batch, 7, masked)
    counts = mask[0] if mask else None
    with pytest.MonkeyPatch.context() as patch:
        calls = calls_of(patch)
        losses = native.run(inputs, targets, mask=counts).loss
    assert (
        calls[-1] >= 3
    )  # but for the optimizer's own first step, and those before it that are masked
    expected = by_the_loop(loop, inputs, targets, counts)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-11)
    alike(kept(native), kept(loop), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("cell", NETWORKS)
def test_predicting_first_changes_nothing(cell):
    streams = [a_stream("rtrl", cell, optimizer="adam") for _ in range(2)]
    inputs, targets = data("mse", 2, 6)
    expected = streams[0].run(inputs, targets).outputs
    for t in range(6):
        torch.testing.assert_close(streams[1].predict(inputs[:, t]), expected[:, t])
        streams[1].learn(targets[:, t])
    alike(*map(kept, streams), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cell", NETWORKS)
def test_the_result_does_not_depend_on_threads(cell):
    """So large that two threads share it."""
    found = []
    for threads in (1, 2):
        network = NETWORKS[cell](300, 700, 17, num_layers=2, seed=1)
        rule = tl.RTRL(network, loss="mse")
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


@pytest.mark.parametrize("rule", ["np", "anp", "wp"])
def test_noise_on_these_cells_takes_the_loop(rule, monkeypatch):
    make = {"np": tl.NP, "anp": tl.ANP, "wp": tl.WP}[rule]
    made = make(tl.MinGRU(INPUTS, 5, OUTPUTS).double(), loss="mse")
    stream = tl.Stream(made, torch.optim.SGD(made.parameters(), lr=0.1), 2)
    calls = calls_of(monkeypatch)
    stream.run(*data("mse", 2, 4))
    assert set(calls) == {0}
