"""Gaussian noise as a function of its position: any step of any stream can be drawn again without storage.

    normal(seed, step, place, element) = Box–Muller of Threefry-2x32-13

Threefry is a counter-based generator (Salmon et al. 2011): a block cipher of a counter under a key, here
with 13 rounds, the fewest that passed their strictest tests. The key comes from the seed, the 64-bit step and
the place (which layer, which weight); the counter is the element. Every 32 elements share 16 counters:
element 32 q + j is the cosine and 32 q + 16 + j the sine of counter 16 q + j, for j < 16, so that vectors of
any width up to 16 load and store whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from timelocal.precision import summing_type

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 0xFFFFFFFF
_GROUP = 16


def normal(
    seed: int,
    first_step: int,
    steps: int,
    place: int,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise (steps, *shape) of the steps from `first_step` on.

    The values of a step depend only on (seed, step, place) and the element; narrower types get the float32
    values, rounded.
    """
    drawn_as, count = summing_type(dtype), math.prod(shape)
    step = torch.arange(first_step, first_step + steps, device=device)
    key = _key(seed, step, place)
    groups = -(-count // (2 * _GROUP))
    counter = torch.arange(groups * _GROUP, device=device)
    first, second = _threefry(
        (key[0][:, None], key[1][:, None]), (counter, torch.zeros_like(counter))
    )
    radius = _unit(first, drawn_as).log_().mul_(-2).sqrt_()
    angle = _unit(second, drawn_as).mul_(2 * math.pi)
    pairs = torch.stack((radius * angle.cos(), radius * angle.sin()), 1)  # (steps, 2, counters)
    blocks = pairs.unflatten(-1, (groups, _GROUP)).transpose(1, 2)
    return blocks.reshape(steps, -1)[:, :count].reshape(steps, *shape).to(dtype)


def _key(seed: int, step: Tensor, place: int) -> tuple[Tensor, Tensor]:
    """The key for steps and a place; from step 2³² on, the upper word of the step changes the seed."""
    of_seed = torch.tensor(seed & _WORD), torch.tensor(seed >> 32 & _WORD)
    upper = step >> 32
    of_upper = _threefry(of_seed, (upper, torch.full_like(upper, _WORD)))
    first, second = (
        torch.where(upper > 0, later, at_first)
        for later, at_first in zip(of_upper, of_seed, strict=True)
    )
    return _threefry((first, second), (step & _WORD, torch.full_like(step, place)))


def _unit(word: Tensor, dtype: torch.dtype) -> Tensor:
    """The upper 23 bits of a word as the middle of one of 2²³ cells of (0, 1): exact in float32."""
    return ((word >> 9).to(dtype) + 0.5).mul_(2.0**-23)


def _threefry(key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Threefry-2x32 with 13 rounds; 32-bit words held in int64."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = (counter[0] + keys[0]) & _WORD, (counter[1] + keys[1]) & _WORD
    for number in range(1, 14):
        block, place = divmod(number - 1, 4)
        rotation = _ROTATIONS[block % 2][place]
        x = (x + y) & _WORD
        y = ((y << rotation | y >> (32 - rotation)) & _WORD) ^ x
        if number % 4 == 0:  # the key joins after every fourth round
            x = (x + keys[(block + 1) % 3]) & _WORD
            y = (y + keys[(block + 2) % 3] + block + 1) & _WORD
    return x, y
