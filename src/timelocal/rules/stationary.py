"""The stationary trace: a unit's past is credited with a constant decay factor λ per step.

    S_{t-1} = G_{t-1} + λ ⊙ S_t,      that is   S_s = Σ_{t ≥ s} λ^{t-s} ⊙ G_t

a convolution in time that involves no state and no weight. With one λ per unit, it has a spectrum of time
constants 1 / (1 − λ).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from timelocal.arguments import as_real, as_tensor
from timelocal.errors import Problem, described

_SPAN = re.compile(r"([0-9.eE]+|[0-9.]+[eE]-[0-9]+)-([0-9.eE]+|[0-9.]+[eE]-[0-9]+)")


def discounted(signal: Tensor, decays: Tensor) -> Tensor:
    """S (t, b, h) of signals G (t, b, h) and λ (h,)."""
    found = signal.clone()
    for t in range(len(found) - 2, -1, -1):
        found[t].addcmul_(decays, found[t + 1])
    return found


def decay_problem(decay: object, units: int) -> Problem | None:
    """A problem unless `decay` gives a λ in [0, 1) for each unit."""
    expected = f"a number in [0, 1), {units} of them, or a range such as '0.5-0.99'"
    try:
        values = decays(decay, units)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        return Problem("decay", described(decay), expected)
    if values.shape == (units,) and bool(((values >= 0) & (values < 1)).all()):
        return None
    return Problem("decay", described(decay), expected)


def decays(decay: float | str | Sequence[float] | Tensor, units: int) -> Tensor:
    """λ (h,): one number for all units, one per unit, or spread over a range.

    In a range "a-b" the time constants 1 / (1 − λ) grow geometrically from unit to unit.

    >>> decays("0.5-0.875", 3)
    tensor([0.5000, 0.7500, 0.8750], dtype=torch.float64)
    """
    if isinstance(decay, str):
        found = _SPAN.fullmatch(decay)
        if found is None:
            raise ValueError
        first, last = (math.log(1 - float(end)) for end in found.groups())
        return 1 - torch.linspace(first, last, units, dtype=torch.float64).exp()
    if isinstance(decay, Tensor | list | tuple):
        double = torch.empty(0, dtype=torch.float64)
        return as_tensor("decay", decay, like=double, floating=True).detach().to(double)
    return torch.full((units,), as_real(decay), dtype=torch.float64)
