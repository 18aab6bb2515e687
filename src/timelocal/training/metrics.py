"""User metrics, computed on whole parts of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from timelocal.data import Sequences
from timelocal.errors import Problem, raise_problems
from timelocal.network import valid_steps
from timelocal.rules import Rule
from timelocal.rules.batch import STEPWISE
from timelocal.training.parts import judged_at

Metric: TypeAlias = Callable[[Tensor, Tensor], float]
"""(outputs (n, o), targets (n, ...)) of all valid entries -> a number."""


def scores(
    metrics: Mapping[str, Metric], rule: Rule, part: Sequences, outputs: Sequence[Tensor]
) -> dict[str, float]:
    """Every metric of a part, whose `outputs` were computed batch by batch.

    Raises:
        ArgumentError: a metric does not return a number.
    """
    stepwise = judged_at(rule, part) in STEPWISE
    batch = 0 if rule.network.batch_first or not stepwise else 1
    all_outputs, targets = torch.cat(list(outputs), batch), part.targets
    if stepwise:
        all_outputs = all_outputs.transpose(0, batch)
        counted = torch.ones(all_outputs.shape[:2], dtype=torch.bool, device=all_outputs.device)
        if part.lengths is not None:
            counted = valid_steps(part.lengths, counted.shape[1], counted.device).t()
        all_outputs, targets = all_outputs[counted], targets[counted]
    return {
        name: number(f"metric {name!r}", metric(all_outputs, targets))
        for name, metric in metrics.items()
    }


def number(what: str, value: object) -> float:
    """A plain number from a Python, NumPy or torch number.

    Raises:
        ArgumentError: for anything else.

    >>> number("watch", np.float32(0.5)), number("watch", torch.tensor(2))
    (0.5, 2)
    """
    single = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
    plain = value.item() if single or isinstance(value, np.generic) else value  # type: ignore[attr-defined]
    if not isinstance(plain, Real):
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise_problems([Problem(what, got, "a number")])
    return plain  # type: ignore[return-value]
