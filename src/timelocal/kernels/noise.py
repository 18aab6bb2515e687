"""Gaussian noise as a function of its position, by the fastest available path."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from timelocal.kernels import native, torch_noise

_WORD = 2**64 - 1


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

    The values of a step depend only on (seed, step, place) and the element: they are the same on every device
    and path, up to the rounding of a logarithm and a cosine.
    """
    if not native.serves(dtype, torch.device(device)):
        return torch_noise.normal(seed, first_step, steps, place, shape, dtype, device)
    made = torch.empty((steps, *shape), dtype=dtype)
    native.extension().normal(
        made.element_size(), torch.get_num_threads(), seed & _WORD, first_step, steps, place,
        math.prod(shape), made.data_ptr(),
    )  # fmt: skip
    return made
