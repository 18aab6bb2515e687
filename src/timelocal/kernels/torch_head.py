"""The head of an estimate in plain torch: outputs, loss and gradients of a linear readout for a few rows."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

HeadLoss: TypeAlias = Literal["cross_entropy", "mse"]
"""A loss that the kernels support, with class indices (n,) or values (n, o) as its targets."""


class Head(NamedTuple):
    """Outputs y (n, o), errors e = ∂L/∂y (n, o) of the mean loss L (), and ∂L/∂ the readout's parameters.

    accuracy: (), None for the squared error; weight (o, h); bias (o,), None for a readout without.
    """

    outputs: Tensor
    errors: Tensor
    loss: Tensor
    accuracy: Tensor | None
    weight: Tensor
    bias: Tensor | None


def head(
    kind: HeadLoss, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Head:
    """The head of features (n, h) through a linear readout, weight (o, h) and bias (o,) or None."""
    outputs = F.linear(features, weight, bias)
    rows, accuracy = len(outputs), None
    if kind == "mse":
        difference = outputs - targets
        loss, errors = difference.square().mean(), difference * (2 / outputs.numel())
    else:
        log_probabilities = F.log_softmax(outputs, -1)
        loss = F.nll_loss(log_probabilities, targets)
        errors = log_probabilities.exp() - F.one_hot(targets, outputs.shape[1])
        errors /= rows
        accuracy = (outputs.argmax(-1) == targets).mean(dtype=outputs.dtype)
    return Head(
        outputs,
        errors,
        loss,
        accuracy,
        errors.t() @ features,
        None if bias is None else errors.sum(0),
    )


def project(errors: Tensor, matrix: Tensor) -> Tensor:
    """Output errors e (n, o) through a feedback matrix F (h, o): e Fᵀ (n, h)."""
    return errors @ matrix.t()
