"""Surrogates for the derivative of a spike, which is 0 or infinite: a bump around the threshold.

    ∂z/∂u ≈ γ S(k u)        u: the distance of the membrane to its threshold, in units of the threshold

Each shape S has the peak S(0) = 1. Its primitive is stored with it: a unit with that graded output, instead
of all-or-none spikes, has the surrogate as its true derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Surrogate(NamedTuple):
    """A shape S and its primitive ∫S, both element-wise."""

    shape: Callable[[Tensor], Tensor]
    primitive: Callable[[Tensor], Tensor]


def _triangle(u: Tensor) -> Tensor:
    return (1 - u.abs()).clamp_min(0)


def _below_the_triangle(u: Tensor) -> Tensor:
    inside = u.clamp(-1, 1)
    return 0.5 + inside - inside * inside.abs() / 2


def _sigmoid_slope(u: Tensor) -> Tensor:
    output = torch.sigmoid(4 * u)
    return 4 * output * (1 - output)


SURROGATES: dict[str, Surrogate] = {
    "triangular": Surrogate(_triangle, _below_the_triangle),
    "sigmoid": Surrogate(_sigmoid_slope, lambda u: torch.sigmoid(4 * u)),
    "fast_sigmoid": Surrogate(
        lambda u: (1 + 10 * u.abs()).square().reciprocal(), lambda u: u / (1 + 10 * u.abs())
    ),
    "arctan": Surrogate(
        lambda u: (1 + (math.pi * u).square()).reciprocal(),
        lambda u: torch.atan(math.pi * u) / math.pi,
    ),
}
"""max(0, 1 − |u|) (Esser et al. 2016; Bellec et al. 2020); 4 σ(4u) (1 − σ(4u)); 1 / (1 + 10|u|)², the fast
sigmoid's of SuperSpike (Zenke & Ganguli 2018); and 1 / (1 + (πu)²) (Fang et al. 2021)."""
