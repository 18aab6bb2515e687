"""Missing values (NaN) in a stream's inputs: reported, filled in, or their rows left out."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from timelocal.errors import Problem

Missing = Literal["raise", "hold", "skip"]


class Entered(NamedTuple):
    """Inputs without NaN, which rows are present (None for all), and problems with missing values.

    inputs: of the shape that was given; present: the same without the channels, bool.
    """

    inputs: Tensor
    present: Tensor | None = None
    problem: Problem | None = None


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite, by one sum; also False if finite values overflow it.

    >>> is_finite(torch.tensor([1.0, torch.nan]))
    False
    """
    return math.isfinite(values.sum().item())


def filled(inputs: Tensor, missing: Missing, last: Tensor | None, where: str) -> Entered:
    """Inputs (t, b, i) without their NaN.

    Args:
        last: the last known values (b, i) before these, for "hold".
        where: the description of a step in the problem, with `{}` for its number.
    """
    if inputs.is_meta or is_finite(inputs) or not bool(inputs.isnan().any()):
        return Entered(inputs)
    absent = inputs.isnan()
    if missing == "hold":
        assert last is not None
        steps = torch.arange(1, len(inputs) + 1, device=inputs.device)[:, None, None]
        source = steps.masked_fill(absent, 0).cummax(0).values
        return Entered(torch.cat((last[None], inputs)).gather(0, source))
    zeros = inputs.masked_fill(absent, 0)
    if missing == "skip":
        return Entered(zeros, ~absent.any(-1))
    t, row, channel = absent.nonzero()[0].tolist()
    others = int(absent.sum()) - 1
    got = f"NaN at {where.format(t)}, row {row}, channel {channel}"
    got += f", and {others} more" if others else ""
    remedy = "Use missing='hold' for the last known value, missing='skip' to leave the row out."
    return Entered(zeros, None, Problem("inputs", got, "finite numbers", remedy))
