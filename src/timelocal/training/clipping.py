"""Gradient clipping: a gradient with too large a norm is scaled down before the optimizer sees it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from timelocal.arguments import as_real
from timelocal.errors import Problem, described
from timelocal.precision import NARROW


def clip_problem(clip: object) -> Problem | None:
    """A problem unless `clip` is a valid largest norm, or None for no clipping."""
    if clip is None or 0 < as_real(clip) < math.inf:
        return None
    return Problem("clip", described(clip), "a positive finite number, or None")


def clip_gradient(parameters: Iterable[Parameter], largest: float) -> None:
    """Scale `.grad` of all parameters, in place, to a norm of at most `largest`: `clip_grad_norm_`.

    The norm is that of all gradients together, computed in at least float32.
    """
    given = [parameter for parameter in parameters if parameter.grad is not None]
    if not any(parameter.dtype in NARROW for parameter in given):
        torch.nn.utils.clip_grad_norm_(given, largest)
        return
    norms = [torch.linalg.vector_norm(p.grad, dtype=torch.float32) for p in given]
    whole = torch.linalg.vector_norm(torch.stack(norms))
    torch.nn.utils.clip_grads_with_norm_(given, largest, whole)
