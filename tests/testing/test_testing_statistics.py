"""The test of a mean: its bound is sound for covariances of any rank, and it catches what it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from timelocal.testing.statistics import judge, quantile, tail

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("degrees", [1.0, 1.5, 7.3, 60.0])
@pytest.mark.parametrize("draws", [64, 1000])
@pytest.mark.parametrize("error", [1e-2, 1e-6, 1e-10])
def test_the_bound_is_the_quantile_of_f(degrees: float, draws: int, error: float) -> None:
    wanted = scipy_stats.f.isf(error, degrees, degrees * (draws - 1))
    assert quantile(degrees, draws, error) == pytest.approx(wanted, rel=1e-5)
    assert tail(degrees, draws, wanted) == pytest.approx(error, rel=1e-5)


def normal(rank: int, size: int, draws: int, seed: int) -> Tensor:
    """Draws (m, n) around zero with a covariance of this rank and unequal eigenvalues."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(rank, size, generator=g, dtype=torch.float64)
    mix = mix * torch.logspace(0, -1, rank, dtype=torch.float64)[:, None]
    return torch.randn(draws, rank, generator=g, dtype=torch.float64) @ mix


@pytest.mark.parametrize("rank", [1, 2, 20])
def test_a_right_target_is_rejected_no_more_often_than_it_says(rank: int) -> None:
    error, trials = 0.05, 300
    zero = torch.zeros(20, dtype=torch.float64)
    rejected = sum(
        judge(normal(rank, 20, 64, seed), zero, error).rejected for seed in range(trials)
    )
    assert rejected <= trials * error + 4 * math.sqrt(trials * error)
    assert rejected >= 2, "a bar nobody reaches tells nothing"


def test_a_bar_that_knows_nothing_of_the_rank_would_be_wrong() -> None:
    """With one degree of freedom the statistic is often beyond what 20 would allow."""
    zero = torch.zeros(20, dtype=torch.float64)
    bar = quantile(20, 64, 0.02)
    beyond = sum(judge(normal(1, 20, 64, seed), zero, 0.02).statistic > bar for seed in range(300))
    assert beyond > 5 * 0.02 * 300


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 3, 20])
@pytest.mark.parametrize("which", ["larger", "smaller", "flipped", "noise"])
def test_what_it_says_it_catches_it_catches(rank: int, which: str) -> None:
    missed = 0
    for seed in range(100):
        centred = normal(rank, 20, 256, seed)
        g = torch.Generator().manual_seed(10_000 + seed)
        target = torch.randn(20, generator=g, dtype=torch.float64)
        target *= 0.9 * centred.norm(dim=1).mean() / target.norm()
        found = judge(centred + target, target, 1e-6)
        assert not found.rejected
        assert found.reach < 1
        factor = {
            "larger": found.smallest_factor,
            "smaller": 1 / (1 + found.reach),
            "flipped": -1,
            "noise": 1,
        }[which]
        wrong = centred if which == "noise" else factor * (centred + target)
        missed += not judge(wrong, target, 1e-6).rejected
    assert missed <= 1


def test_it_says_that_too_few_draws_catch_nothing() -> None:
    centred, target = normal(3, 5, 64, 0), torch.full((5,), 1e-3, dtype=torch.float64)
    found = judge(centred + target, target, 1e-6)
    assert not found.rejected
    assert found.smallest_factor == math.inf
    assert "noise" not in found.caught()
    assert "sign" not in found.caught()


def test_draws_that_are_all_the_same_are_a_number() -> None:
    target = torch.arange(4, dtype=torch.float64)
    assert not judge(target.expand(64, 4), target, 1e-6).rejected
    assert judge(1.001 * target.expand(64, 4), target, 1e-6).rejected
    assert judge(torch.zeros(64, 4, dtype=torch.float64), target, 1e-6).rejected
