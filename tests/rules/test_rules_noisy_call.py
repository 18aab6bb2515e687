"""Perturbations of whole sequences in one native call are what they are in their parts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

import timelocal as tl
from oracles import NETWORKS
from timelocal import kernels
from timelocal.rules import noisy_call

pytestmark = pytest.mark.skipif(
    kernels.describe()["path"] != "native", reason="no native kernel is active"
)

RULES = {
    "np": partial(tl.NP, sigma=0.1),
    "np many": partial(tl.NP, sigma=0.1, directions=3, antithetic=True, reward="batch"),
    "anp": partial(tl.ANP, sigma=0.1),
    "anp by layer": partial(tl.ANP, sigma=0.1, norm="layer", directions=2),
    "np orthogonal": partial(tl.NP, sigma=0.1, noise="orthogonal", directions=40),
    "wp": partial(tl.WP, sigma=0.1),
    "wp many": partial(tl.WP, sigma=0.1, directions=2, antithetic=True),
}
LOSSES = {
    "mse": tl.losses.MSE(),
    "bce": tl.losses.BCE(),
    "cross_entropy": tl.losses.CrossEntropy(0.1, torch.tensor([1.0, 2.0, 0.5])),
}


def data(loss: str, at: str) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 6, 2, generator=draw, dtype=torch.float64)
    entries = (4,) if at == "last" else (4, 6)
    if loss == "cross_entropy":
        targets = torch.randint(3, entries, generator=draw)
    else:
        targets = torch.rand(*entries, 3, generator=draw, dtype=torch.float64)
    mask = torch.rand(entries, generator=draw) * (torch.rand(entries, generator=draw) > 0.3)
    return inputs, targets, mask


def both_ways(monkeypatch, make, *args, **options):
    """The estimate in one call and in its parts; the first was made by the call."""
    own, calls = noisy_call.summed, []

    def watched(*given, **named):
        calls.append(own(*given, **named))
        return calls[-1]

    monkeypatch.setattr(noisy_call, "summed", watched)
    found = make().estimate(*args, **options)
    assert calls
    assert calls[0] is not None
    monkeypatch.setattr(noisy_call, "summed", lambda *_, **__: None)
    return found, make().estimate(*args, **options)


@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", NETWORKS)
@pytest.mark.parametrize("rule", RULES)
def test_one_call_is_its_parts(monkeypatch, rule, cell, layers, at):
    loss = ("mse", "bce", "cross_entropy")[(len(rule) + len(cell) + layers) % 3]
    inputs, targets, mask = data(loss, at)
    states = 2 if cell == "lstm" else 1
    initial = torch.randn(states, layers, 4, 5, dtype=torch.float64)
    initial = tuple(initial) if cell == "lstm" else initial[0]

    def make():
        network = NETWORKS[cell](2, 5, 3, num_layers=layers, seed=1).double()
        return RULES[rule](network, loss=LOSSES[loss], at=at)

    for options in ({}, {"mask": mask, "initial": initial}):
        with monkeypatch.context() as patch:
            found, expected = both_ways(patch, make, inputs, targets, **options)
        close = partial(torch.testing.assert_close, rtol=1e-8, atol=1e-10)
        close(found.loss, expected.loss)
        close(found.outputs, expected.outputs)
        close(found.gradients, expected.gradients)
        close(found.final_states, expected.final_states)
        if loss == "cross_entropy":
            close(found.accuracy, expected.accuracy)


@pytest.mark.parametrize("why", ["lengths", "decorrelation", "subclass", "credit", "loss"])
def test_what_the_call_cannot_do_is_done_in_parts(monkeypatch, why):
    kind = type("Other", (tl.NP,), {}) if why == "subclass" else tl.NP
    network = tl.RNN(2, 5, 3, decorrelate=0.1 if why == "decorrelation" else None)
    options = {"credit": "to_go"} if why == "credit" else {}
    loss = (lambda y, t: (y - t).abs().sum(-1)) if why == "loss" else "mse"
    rule = kind(network, loss=loss, at="every", **options)
    calls = []
    own = kernels.native_stream.stream
    monkeypatch.setattr(kernels.native_stream, "stream", lambda call: (calls.append(1), own(call)))
    inputs, targets, _ = data("mse", "every")
    lengths = torch.tensor([6, 5, 4, 3]) if why == "lengths" else None
    estimate = rule.estimate(inputs.float(), targets.float(), lengths)
    assert estimate.loss.isfinite()
    assert not calls


def test_frozen_parameters_and_no_biases(monkeypatch):
    def make():
        network = tl.GRU(2, 5, 3, bias=False, seed=1).double()
        network.recurrent.weight_hh_l0.requires_grad_(False)
        return tl.ANP(network, loss="mse", at="every")

    inputs, targets, _ = data("mse", "every")
    found, expected = both_ways(monkeypatch, make, inputs, targets)
    torch.testing.assert_close(found.gradients, expected.gradients)
