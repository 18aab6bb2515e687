"""Losses of distributions: errors are those of autograd, values those of torch, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import mean_pinball_loss

import timelocal as tl
from timelocal.errors import ArgumentError
from timelocal.losses import Gaussian, Loss, Quantile

LEVELS = (0.05, 0.5, 0.8)


def batch(each: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(30, 4 * each, generator=draw, dtype=torch.float64)
    return outputs, torch.randn(30, 4, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("loss", [Quantile(LEVELS), Gaussian()], ids=["quantile", "gaussian"])
def test_errors_are_those_of_autograd(loss: Loss):
    outputs, targets = batch(loss.outputs_per_target)
    leaf = outputs.clone().requires_grad_()
    losses = loss.losses(leaf, targets)
    (expected,) = torch.autograd.grad(losses.sum(), leaf)
    found, errors = loss.losses_and_errors(outputs, targets)
    torch.testing.assert_close(errors, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, losses.detach(), rtol=0, atol=0)


def test_the_pinball_loss_is_that_of_scikit_learn():
    outputs, targets = batch(3)
    quantiles = outputs.view(30, 4, 3).numpy()
    each = [
        mean_pinball_loss(targets.numpy(), quantiles[..., place], alpha=level)
        for place, level in enumerate(LEVELS)
    ]
    assert float(Quantile(LEVELS).losses(outputs, targets).mean()) == pytest.approx(np.mean(each))


def test_the_likelihood_and_the_quantiles_are_those_of_scipy():
    outputs, targets = batch(2)
    mean, log_deviation = outputs.view(30, 4, 2).unbind(-1)
    known = stats.norm(mean.numpy(), log_deviation.exp().numpy())
    expected = -known.logpdf(targets.numpy()).mean(1)
    np.testing.assert_allclose(Gaussian().losses(outputs, targets), expected)
    found = Gaussian().quantiles(outputs, LEVELS)
    for place, level in enumerate(LEVELS):
        np.testing.assert_allclose(found[..., place], known.ppf(level))


def test_a_deviation_beyond_all_reason_is_kept_within_it():
    outputs = torch.tensor([[0.0, 1e4], [0.0, -1e4]])
    losses, errors = Gaussian().losses_and_errors(outputs, torch.ones(2, 1))
    assert losses.isfinite().all()
    assert errors[:, 1].tolist() == [0, 0]


@pytest.mark.parametrize("levels", [(), (0.5, 0.1), (0.0, 0.5), 0.5, (0.2, "b")])
def test_levels_that_are_none_are_told(levels):
    with pytest.raises(ArgumentError, match="levels"):
        Quantile(levels)


@pytest.mark.parametrize("name", ["dfa", "bptt", "np"])
def test_rules_learn_quantiles_that_hold(name):
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(400, 3, 1, generator=draw)
    targets = inputs[:, -1] + torch.randn(400, 1, generator=draw)
    rule = tl.RULES[name](tl.RNN(1, 8, output_size=2), loss=Quantile((0.1, 0.9)))
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.02)
    tl.fit(rule, optimizer, (inputs, targets), epochs=60, batch_size=100)
    low, high = rule.outputs(inputs).unbind(-1)
    inside = (targets[:, 0] > low) & (targets[:, 0] < high)
    assert 0.7 < inside.float().mean() < 0.9
    with pytest.raises(ArgumentError, match="3 outputs, expected 2 for each target"):
        tl.DFA(tl.RNN(1, 8, output_size=3), loss=Gaussian())(inputs, targets)
