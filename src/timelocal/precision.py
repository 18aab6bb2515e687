"""Low precision: float16 and bfloat16 hold weights and states; sums, means, norms and noise are float32.

float16 ends at 65,504 and bfloat16 has 8 bits: neither can count the entries of a large batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

NARROW = (torch.float16, torch.bfloat16)


def summing_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which values of this type are summed, counted and drawn: at least float32.

    >>> summing_type(torch.bfloat16), summing_type(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.float32 if dtype in NARROW else dtype


def at_least_float32(values: Tensor) -> Tensor:
    """The same values in their `summing_type`: themselves, unless float16 or bfloat16."""
    return values.float() if values.dtype in NARROW else values
