"""Signs for node noise whose directions are orthogonal: rows of a Hadamard matrix, shuffled by random signs.

    ξ_k,j = s_j (−1)^{popcount(k & j)}      s_j = ±1 at random, j < P, k < P

for P nodes (all perturbed nodes, padded to a power of two). Every ξ_k has mean 0 and covariance 1, like
Gaussian noise, and over all P directions Σ_k ξ_k ξ_kᵀ = P exactly: the estimate is then a difference quotient
along every axis of a rotated basis. Directions beyond the P-th start again with new s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.kernels.noise import normal


def period(nodes: int) -> int:
    """P, the smallest power of two that is at least the number of nodes.

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
    """ξ (steps, k, b, n) of `shape` (k, b, n); s are the signs of the noise that `normal` draws.

    first, nodes: the nodes of this place are number first … first + n − 1 of all `nodes`.
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
