"""Signs for node noise whose directions are orthogonal: rows of a Hadamard matrix, shuffled by random signs.

    ξ_k,j = s_j (−1)^{popcount(k & j)}      s_j = ±1 at random, j < P, k < P

for the P nodes (all that are perturbed, filled up to a power of two). Every ξ_k has mean 0 and covariance 1,
as Gaussian noise has, and Σ_k ξ_k ξ_kᵀ = P over all P directions, without any noise: then the estimate is a
difference quotient along every axis of a turned basis. Directions beyond the P-th begin again with new s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.kernels.noise import normal


def period(nodes: int) -> int:
    """P, the power of two that holds all nodes.

    >>> period(101), period(128)
    (128, 128)
    """
    return 1 << (nodes - 1).bit_length()


def orthogonal(
    seed: int,
    first_step: int,
    steps: int,
    place: int,
    shape: tuple[int, int, int],
    first: int,
    nodes: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """ξ (steps, k, b, n) of `shape` (k, b, n), as `normal` draws Gaussian noise, whose signs are s.

    first, nodes: the nodes of this place are first … first + n − 1 of all `nodes`.
    """
    directions, batch, here = shape
    size = period(nodes)
    draws = -(-directions // size)
    drawn = normal(seed, first_step, steps, place, (draws, batch, here), dtype, device)
    k = torch.arange(directions, device=device)
    common = (k % size)[:, None] & torch.arange(first, first + here, device=device)
    odd = torch.zeros_like(common)
    for bit in range(size.bit_length()):
        odd ^= common >> bit & 1
    signs = torch.where(drawn < 0, -1, 1).to(dtype)
    return signs[:, k // size] * (1 - 2 * odd).to(dtype)[:, None, :]
