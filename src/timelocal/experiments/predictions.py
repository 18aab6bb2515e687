"""Predictions of a network for the test part next to the targets, for values at every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, r2_score
from torch import Tensor

from timelocal import data
from timelocal.data import Sequences, metrics
from timelocal.errors import ArgumentError
from timelocal.losses import Loss
from timelocal.model.model import Scale
from timelocal.rules import Rule

STEPS = 500
"""How much of the first test sequence is shown, as in the perturbation paper's figures 4 to 6."""

METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "mse": metrics.mse,
    "nrmse": metrics.nrmse,
    "bit_errors": metrics.bit_errors,
}

CLASS_METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "balanced_accuracy": lambda classes, targets: balanced_accuracy_score(targets, classes),
    "macro_f1": lambda classes, targets: f1_score(targets, classes, average="macro"),
}
"""Measures of classes (n,) and targets (n,), as scikit-learn has them."""

VALUE_METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "mae": lambda values, targets: float((values - targets).abs().mean()),
    "r2": lambda values, targets: r2_score(targets, values),
    "rmse": lambda values, targets: float((values - targets).square().mean().sqrt()),
}
"""Measures of values (n, o) and targets (n, o), in their own units."""


def metric_of(name: str, loss: Loss, scale: Scale | None) -> Callable[[Tensor, Tensor], float]:
    """The measure of this name, as a function of a network's outputs (n, o) and its targets.

    scale: mean and deviation by which targets were standardized: values are measured in their own units.
    """

    def classified(outputs: Tensor, targets: Tensor) -> float:
        return float(CLASS_METRICS[name](outputs.argmax(-1).cpu(), targets.cpu()))

    def valued(outputs: Tensor, targets: Tensor) -> float:
        values, wanted = loss.point(outputs).cpu(), targets.cpu()
        if scale is not None:
            values, wanted = (scale[0] + scale[1] * one for one in (values, wanted))
        return float(VALUE_METRICS[name](values, wanted))

    return classified if name in CLASS_METRICS else valued


def predicted(rule: Rule, part: Sequences) -> Tensor:
    """The present network's predictions for `part`, one number per target: (n, t, o), or (n, o)."""
    batches = data.minibatches(part, 64)
    first = 0 if rule.network.batch_first else 1
    made = [rule.evaluate(batch.inputs, batch.targets, batch.lengths).outputs for batch in batches]
    first = first if made[0].dim() == 3 else 0
    outputs = rule.loss.point(torch.cat(made, first))
    return outputs.transpose(0, 1) if first else outputs


def measured(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """All measures that these targets (n, t, o), values at every step, have."""
    found = {}
    for name, measure in METRICS.items():
        if name == "bit_errors" and not _is_one_hot(targets):
            continue
        try:
            found[name] = measure(outputs, targets)
        except ArgumentError:  # targets that are all equal have no scale, blanks alone no symbol
            continue
    return found


def _is_one_hot(targets: Tensor) -> bool:
    return targets.shape[-1] > 1 and bool(
        ((targets == 0) | (targets == 1)).all() and (targets.sum(-1) == 1).all()
    )


def shown(targets: Tensor, before: Tensor, after: Tensor) -> dict[str, object]:
    """Targets and outputs (t, o) of a sequence before and after training, as JSON: [t][o], five digits."""

    def rows(values: Tensor) -> list[list[float]]:
        return [[float(f"{x:.5g}") for x in row] for row in values[:STEPS].tolist()]

    return {"target": rows(targets), "before": rows(before), "after": rows(after)}
