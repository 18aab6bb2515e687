"""Perturbations of whole sequences in one native call are what plain torch makes of the same noise."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import timelocal as tl
from oracles import NETWORKS
from timelocal import kernels
from timelocal.kernels import native
from timelocal.rules import noisy_call

pytestmark = pytest.mark.skipif(
    kernels.describe()["path"] != "native", reason="no native kernel is active"
)

LOSSES = {
    "mse": tl.losses.MSE(),
    "bce": tl.losses.BCE(),
    "cross_entropy": tl.losses.CrossEntropy(0.1, torch.tensor([1.0, 2.0, 0.5])),
}


@contextmanager
def plain_torch():
    """No native code at all: neither the call, nor scans, nor noise."""
    with (
        mock.patch.object(native, "serves", return_value=False),
        mock.patch.object(kernels, "serves", return_value=False),
    ):
        yield


@contextmanager
def watched(name: str):
    """What the calls of a function of `noisy_call` returned."""
    returned, own = [], getattr(noisy_call, name)

    def call(*given, **named):
        returned.append(own(*given, **named))
        return returned[-1]

    with mock.patch.object(noisy_call, name, call):
        yield returned


def data(
    loss: str,
    at: str,
    sequences: int = 4,
    steps: int = 6,
    dtype: torch.dtype = torch.float64,
    features: int = 2,
) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(sequences, steps, features, generator=draw, dtype=dtype)
    entries = (sequences,) if at == "last" else (sequences, steps)
    if loss == "cross_entropy":
        targets = torch.randint(3, entries, generator=draw)
    else:
        targets = torch.rand(*entries, 3, generator=draw, dtype=dtype)
    mask = torch.rand(entries, generator=draw) * (torch.rand(entries, generator=draw) > 0.3)
    return inputs, targets, mask


def initial(cell: str, layers: int, sequences: int, hidden: int):
    draw = torch.Generator().manual_seed(2)
    shape = (2 if cell == "lstm" else 1, layers, sequences, hidden)
    states = torch.randn(shape, generator=draw, dtype=torch.float64)
    return tuple(states) if cell == "lstm" else states[0]


def assert_same(found: tl.Estimate, expected: tl.Estimate) -> None:
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
    close(found.loss, expected.loss)
    close(found.outputs, expected.outputs)
    close(found.gradients, expected.gradients)
    close(found.final_states, expected.final_states)
    close(found.accuracy, expected.accuracy)


settings_of_noise = st.fixed_dictionaries(
    {
        "credit": st.sampled_from(["local", "to_go", "global", "trace(0.7)"]),
        "directions": st.integers(1, 3),
        "antithetic": st.booleans(),
        "sigma": st.sampled_from([0.1, 0.5]),
    }
)


@given(
    rule=st.sampled_from(["np", "anp", "anp by layer", "wp"]),
    options=settings_of_noise,
    reward=st.sampled_from(["sample", "batch"]),
    cell=st.sampled_from(list(NETWORKS)),
    bias=st.booleans(),
    layers=st.integers(1, 3),
    features=st.sampled_from([2, 9]),  # of one run the products of many are kept for the others
    hidden=st.sampled_from([1, 5, 21]),
    sequences=st.integers(1, 5),
    steps=st.integers(1, 7),
    loss=st.sampled_from(list(LOSSES)),
    at=st.sampled_from(["last", "every"]),
    padded=st.booleans(),
    masked=st.booleans(),
    begun=st.booleans(),
)
@settings(max_examples=80)
def test_one_call_is_plain_torch(
    rule,
    options,
    reward,
    cell,
    bias,
    layers,
    features,
    hidden,
    sequences,
    steps,
    loss,
    at,
    padded,
    masked,
    begun,
):
    inputs, targets, mask = data(loss, at, sequences, steps, features=features)
    mask.view(-1)[0] = 1.0  # something counts
    lengths = (torch.arange(sequences) * 3 + steps // 2) % steps + 1
    if padded:
        inputs[torch.arange(steps) >= lengths[:, None]] = torch.nan
    given = {
        "lengths": lengths if padded else None,
        "mask": mask if masked else None,
        "initial": initial(cell, layers, sequences, hidden) if begun else None,
    }

    def estimate() -> tl.Estimate:
        network = NETWORKS[cell](features, hidden, 3, num_layers=layers, bias=bias, seed=1).double()
        task = {"loss": LOSSES[loss], "at": at, **options}
        if rule == "wp":
            own = tl.WP(network, **task)
        elif rule == "np":
            own = tl.NP(network, reward=reward, **task)
        else:
            norm = "layer" if rule == "anp by layer" else "network"
            own = tl.ANP(network, norm=norm, reward=reward, **task)
        return own.estimate(inputs, targets, **given)

    with watched("perturbed") as calls:
        found = estimate()
    assert calls
    assert calls[0] is not None
    with plain_torch():
        expected = estimate()
    assert_same(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_gates_of_an_lstm(dtype):
    """Of gates that share a division none may spoil the others, wherever they lie."""
    values = torch.tensor([0.0, 1.0, -1.0, 30.0, -30.0, 100.0, -100.0, 1e4, -1e4, 1e30, -1e30])
    inputs = torch.cartesian_prod(*[values.to(dtype)] * 4)[:, None].expand(-1, 2, -1)

    def outputs() -> Tensor:
        network = tl.LSTM(4, 1, 1, seed=1).to(dtype)
        with torch.no_grad():
            network.recurrent.weight_ih_l0.copy_(torch.eye(4))
        rule = tl.NP(network, loss="mse", at="every")
        return rule.estimate(inputs, torch.zeros(*inputs.shape[:2], 1, dtype=dtype)).outputs

    with watched("perturbed") as calls:
        found = outputs()
    assert calls[0] is not None
    with plain_torch():
        torch.testing.assert_close(found, outputs(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", NETWORKS)
@pytest.mark.parametrize("rule", [tl.NP, tl.ANP, tl.WP])
def test_two_threads_give_the_bits_of_one(rule, cell):
    inputs, targets, _ = data("mse", "every", sequences=13, steps=9, dtype=torch.float32)

    def estimate(threads: int) -> tl.Estimate:
        network = NETWORKS[cell](2, 70, 3, num_layers=2, seed=1)
        torch.set_num_threads(threads)
        try:
            own = rule(network, loss="mse", at="every", credit="to_go", directions=3)
            return own.estimate(inputs, targets)
        finally:
            torch.set_num_threads(1)

    one, two = estimate(1), estimate(2)
    torch.testing.assert_close(one.loss, two.loss, rtol=0, atol=0)
    torch.testing.assert_close(one.gradients, two.gradients, rtol=0, atol=0)


def test_what_does_not_count_may_be_anything():
    inputs, targets, mask = data("mse", "every")
    mask[:, 2:] = 0
    targets[:, 2:] = torch.nan

    def estimate() -> tl.Estimate:
        rule = tl.NP(tl.GRU(2, 5, 3, seed=1).double(), loss="mse", at="every", credit="to_go")
        return rule.estimate(inputs, targets, mask=mask)

    found = estimate()
    with plain_torch():
        expected = estimate()
    assert_same(found, expected)
    assert all(gradient.isfinite().all() for gradient in found.gradients.values())


@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("cell", NETWORKS)
def test_orthogonal_noise(cell, at):
    inputs, targets, mask = data("cross_entropy", at)
    begun = initial(cell, 2, 4, 5)

    def estimate() -> tl.Estimate:
        network = NETWORKS[cell](2, 5, 3, num_layers=2, seed=1).double()
        noise = {"sigma": 0.1, "noise": "orthogonal", "directions": 40}
        rule = tl.NP(network, loss=LOSSES["cross_entropy"], at=at, **noise)
        return rule.estimate(inputs, targets, mask=mask, initial=begun)

    with watched("summed") as calls:
        found = estimate()
    assert calls
    assert calls[0] is not None
    with plain_torch():
        expected = estimate()
    assert_same(found, expected)


@pytest.mark.parametrize("why", ["decorrelation", "subclass", "noise", "loss", "clean"])
def test_what_the_call_cannot_do_is_done_in_parts(why):
    kind = type("Other", (tl.NP,), {}) if why == "subclass" else tl.NP
    kind = partial(tl.ANP, clean=False) if why == "clean" else kind
    network = tl.RNN(2, 5, 3, decorrelate=0.1 if why == "decorrelation" else None)
    options = {"noise": "orthogonal", "credit": "to_go"} if why == "noise" else {}
    loss = (lambda y, t: (y - t).abs().sum(-1)) if why == "loss" else "mse"
    rule = kind(network, loss=loss, at="every", **options)
    inputs, targets, _ = data("mse", "every", dtype=torch.float32)
    with watched("perturbed") as calls:
        estimate = rule.estimate(inputs, targets)
    assert estimate.loss.isfinite()
    assert not any(calls)


def test_frozen_parameters():
    inputs, targets, _ = data("mse", "every")

    def estimate() -> tl.Estimate:
        network = tl.GRU(2, 5, 3, bias=False, seed=1).double()
        network.recurrent.weight_hh_l0.requires_grad_(False)
        return tl.ANP(network, loss="mse", at="every").estimate(inputs, targets)

    found = estimate()
    with plain_torch():
        assert_same(found, estimate())
