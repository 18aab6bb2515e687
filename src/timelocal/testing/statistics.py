"""Do random vectors have a given mean? A test that is valid for covariances of low rank.

For m draws with mean x̄ and sample covariance S, and a target t, the statistic is

    ‖x̄ − t‖² / (tr S / m).

If the target is the mean, the statistic has, by the approximation of Welch and Satterthwaite, the
distribution F(ν, ν (m − 1)) with ν = (tr S)² / tr S² degrees of freedom. A covariance of low rank has few of
them, so a fixed bound would be wrong. A few draws underestimate ν and never overestimate it, which makes the
bound wider.

What the test detects: draws that are c times too large have c² times the variance, and their mean is off by
(c − 1) t. They are rejected, except once in a thousand times, if |1 − 1/c| is at least the `reach`

    η = (√q + z ν^(−1/4)) / √(m ‖t‖² / tr S),

with q the bound of the statistic and z a normal quantile: the variance of the mean along one direction
is at most ν^(−1/2) of the total. So η < 2 detects a flipped sign, η < 1 detects noise around zero that is as
large as the draws, and 1 / (1 − η) is the smallest factor above 1 that is detected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MISSED = 3.09
"""z: a normal variable exceeds it once in a thousand times."""


@dataclass(frozen=True)
class Verdict:
    """The verdict of draws on a target: the statistic, its bound, and the smallest detectable error."""

    draws: int
    statistic: float
    bound: float
    degrees: float
    reach: float

    @property
    def rejected(self) -> bool:
        return self.statistic > self.bound

    @property
    def smallest_factor(self) -> float:
        """The smallest factor above 1 that the draws would have detected; infinite if none."""
        return 1 / (1 - self.reach) if self.reach < 1 else math.inf

    def caught(self) -> str:
        """In words: the factors, the sign, the noise."""
        found = [f"×{self.smallest_factor:.2f}"] if self.reach < 1 else []
        found += [f"×{1 / (1 + self.reach):.2f}"] if math.isfinite(self.reach) else []
        found += ["sign"] if self.reach < 2 else []
        found += ["noise"] if self.reach < 1 else []
        return ", ".join(found) or "nothing"


def judge(draws: Tensor, target: Tensor, error: float, rounding: float = 1e-9) -> Verdict:
    """Whether draws (m, n), independent of each other, have the mean target (n,).

    error: the probability with which a correct target may be rejected. rounding: relative; draws that differ
    by less count as one constant vector and are compared with the target directly.
    """
    m = len(draws)
    mean = draws.mean(0)
    away, size = float((mean - target).norm()), float(target.norm())
    centred = draws - mean
    total = float(centred.square().sum()) / (m - 1)
    if total <= (rounding * max(size, float(mean.norm()))) ** 2:
        return Verdict(m, away / max(size, 1e-300), rounding, 0.0, rounding)
    covariance = centred.t() @ centred / (m - 1)
    degrees = total**2 / float(covariance.square().sum())
    bound = quantile(degrees, m, error)
    signal = math.sqrt(m / total) * size
    reach = (math.sqrt(bound) + _MISSED * degrees**-0.25) / signal if signal else math.inf
    return Verdict(m, m * away**2 / total, bound, degrees, reach)


def quantile(degrees: float, draws: int, error: float) -> float:
    """The value that F(ν, ν (m − 1)) exceeds with probability `error`."""
    low, high = 0.0, 1.0
    while tail(degrees, draws, high) > error:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(degrees, draws, middle) > error else (low, middle)
    return high


def tail(degrees: float, draws: int, value: float) -> float:
    """P(F > value) for F(ν, ν (m − 1)): the χ² tail, averaged over the distribution of S."""
    spread = degrees * (draws - 1)
    log_ratio = torch.linspace(-12, 12, 241, dtype=torch.float64) * math.sqrt(2 / spread)
    weights = torch.softmax(spread / 2 * (log_ratio - log_ratio.exp()), 0)
    half = torch.full_like(log_ratio, degrees / 2)
    return float(weights @ torch.special.gammaincc(half, half * value * log_ratio.exp()))
