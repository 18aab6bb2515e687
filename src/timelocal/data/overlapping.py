"""Overlapping windows as views of the same rows: one sequence per window, in the memory of the rows."""

from __future__ import annotations

import torch
from torch import Tensor


def windows_over(rows: Tensor, steps: int) -> Tensor:
    """Every window of `steps` rows: (R, I) as (R − steps + 1, steps, I), without a copy.

    >>> windows_over(torch.arange(4.0)[:, None], 3)[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    """
    return rows.unfold(0, steps, 1).transpose(1, 2)


def rows_under(inputs: Tensor) -> Tensor | None:
    """The rows (N + T − 1, I) whose windows `inputs` (N, T, I) are; None if sequences do not overlap.

    >>> rows_under(windows_over(torch.arange(4.0)[:, None], 3))[:, 0].tolist()
    [0.0, 1.0, 2.0, 3.0]
    >>> rows_under(torch.zeros(2, 3, 1))
    """
    count, steps, width = inputs.shape
    if min(count, steps) < 2 or inputs.stride(0) != inputs.stride(1):
        return None
    return inputs.as_strided((count + steps - 1, width), inputs.stride()[1:])


def times_seen(inputs: Tensor) -> Tensor:
    """The number of windows in `inputs` (N, T, I) that contain each of their rows (N + T − 1,).

    >>> times_seen(windows_over(torch.arange(4.0)[:, None], 3))
    tensor([1, 2, 2, 1])
    """
    count, steps, _ = inputs.shape
    place = torch.arange(count + steps - 1)
    return torch.minimum(place + 1, place.flip(0) + 1).clamp(max=min(count, steps))
