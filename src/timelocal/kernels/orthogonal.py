"""Signs for node noise whose directions are orthogonal: rows of a Hadamard matrix, shuffled by random signs.

    ξ_k,j = s_j (−1)^{popcount(k & j)}      s_j = ±1 at random, j < P, k < P

for the P nodes (all that are perturbed, filled up to a power of two). Every ξ_k has mean 0 and covariance 1,
as Gaussian noise has, and Σ_k ξ_k ξ_kᵀ = P over all P directions, without any noise: then the estimate is a
difference quotient along every axis of a turned basis. Directions beyond the P-th begin again with new s.
"""

from __future__ import annotations

import torch
from torch import Tensor


def period(nodes: int) -> int:
    """P, the power of two that holds all nodes.

    >>> period(101), period(128)
    (128, 128)
    """
    return 1 << (nodes - 1).bit_length()


def draws(directions: int, nodes: int) -> int:
    """How many random signs each node needs.

    >>> draws(100, 101), draws(129, 101)
    (1, 2)
    """
    return -(-directions // period(nodes))


def orthogonal(drawn: Tensor, directions: int, first: int, nodes: int) -> Tensor:
    """ξ (…, k, b, n) of nodes first … first + n − 1 of all `nodes`, from Gaussian noise (…, draws, b, n)."""
    size = period(nodes)
    k = torch.arange(directions, device=drawn.device)
    j = torch.arange(first, first + drawn.shape[-1], device=drawn.device)
    common = (k % size)[:, None] & j
    odd = torch.zeros_like(common)
    for bit in range(size.bit_length()):
        odd ^= common >> bit & 1
    signs = torch.where(drawn < 0, -1, 1).to(drawn.dtype)
    return signs[..., k // size, :, :] * (1 - 2 * odd).to(drawn.dtype)[:, None, :]
