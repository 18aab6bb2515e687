"""What a network says of the test part beside what it should have said, for values at every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from timelocal import data
from timelocal.data import Sequences, metrics
from timelocal.errors import ArgumentError
from timelocal.rules import Rule

STEPS = 500
"""How much of the first test sequence is shown, as in the perturbation paper's figures 4 to 6."""

METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "mse": metrics.mse,
    "nrmse": metrics.nrmse,
    "bit_errors": metrics.bit_errors,
}


def predicted(rule: Rule, part: Sequences) -> Tensor:
    """Outputs (n, t, o) of the network as it is on `part`."""
    batches = data.minibatches(part, 64)
    first = 0 if rule.network.batch_first else 1
    outputs = torch.cat(
        [rule.evaluate(batch.inputs, batch.targets, batch.lengths).outputs for batch in batches],
        first,
    )
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
