"""Sequences of unequal length: right-padded tensors, time first, and `lengths` (b,).

`lengths=None` means that every sequence fills all steps; nothing here then has any cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.precision import at_least_float32, summing_type


def valid_steps(lengths: Tensor, steps: int, device: torch.device) -> Tensor:
    """True where a step is not padding, (t, b)."""
    return torch.arange(steps, device=device)[:, None] < lengths.to(device)[None, :]


def mean_over_steps(values: Tensor, lengths: Tensor | None) -> Tensor:
    """The mean of each sequence's valid steps: (t, b, o) -> (b, o), in at least float32."""
    values = at_least_float32(values)
    return (values * step_shares(len(values), lengths, values)).sum(0)


def step_shares(steps: int, lengths: Tensor | None, like: Tensor) -> Tensor:
    """The weight of each step in such a mean, 1 / T if valid and 0 otherwise: (t, b, 1), or (t, 1, 1)."""
    if lengths is None:
        return like.new_full((steps, 1, 1), 1 / steps, dtype=summing_type(like.dtype))
    valid = valid_steps(lengths, steps, like.device)
    return (valid / lengths.to(like)).to(summing_type(like.dtype))[..., None]


def masked(values: Tensor, valid: Tensor) -> Tensor:
    """Values (t, b, …) with padding replaced by zero, whatever was there (NaN too)."""
    return torch.where(
        valid[..., None], values, torch.zeros((), dtype=values.dtype, device=values.device)
    )


def flip(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse the valid steps of each sequence; padding stays at the end.

    Its own inverse: it converts to the time of a backward direction and back. values (t, b, …).
    """
    if lengths is None:
        return values.flip(0)
    steps = torch.arange(values.shape[0], device=values.device)[:, None]
    lengths = lengths.to(values.device)[None, :]
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return values.gather(0, source[..., None].expand_as(values))


def last_state(states: Tensor, lengths: Tensor | None) -> Tensor:
    """The state after each sequence's last valid step: (t + 1, b, …) -> (b, …)."""
    if lengths is None:
        return states[-1]
    rows = torch.arange(states.shape[1], device=states.device)
    return states[lengths.to(states.device), rows]


def at_last_valid(values: Tensor, steps: int, lengths: Tensor | None) -> Tensor:
    """The transpose of `last_state`: (b, …) -> the last valid of (t, b, …), zero elsewhere."""
    spread = values.new_zeros(steps, *values.shape)
    if lengths is None:
        spread[-1] = values
    else:
        rows = torch.arange(values.shape[0], device=values.device)
        spread[lengths.to(values.device) - 1, rows] = values
    return spread
