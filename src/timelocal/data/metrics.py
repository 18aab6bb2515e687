"""Metrics for targets that are values, not classes."""

from __future__ import annotations

from torch import Tensor

from timelocal.arguments import as_tensor
from timelocal.errors import Problem, raise_problems


def mse(outputs: Tensor, targets: Tensor) -> float:
    """Mean squared error over all sequences, steps and outputs.

    Args:
        outputs: any shape.
        targets: of the same shape.

    Returns:
        mean (outputs − targets)², in the square of the unit of the targets.

    Raises:
        ArgumentError: for shapes that differ, or empty arrays.

    >>> import torch
    >>> mse(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [3.0]]]))
    5.0
    """
    outputs, targets = _checked(outputs, targets)
    return (outputs - targets).square().mean().item()


def nrmse(outputs: Tensor, targets: Tensor) -> float:
    """Root mean squared error in units of the standard deviation of the targets.

    Predicting the mean of the targets gives 1.

    Args:
        outputs: any shape.
        targets: of the same shape, not all equal.

    Returns:
        √mse / √mean (targets − mean targets)².

    Raises:
        ArgumentError: shapes that differ, or targets that are all equal.

    >>> import torch
    >>> nrmse(torch.full((1, 2, 1), 2.0), torch.tensor([[[1.0], [3.0]]]))
    1.0
    """
    outputs, targets = _checked(outputs, targets)
    deviation = targets.std(correction=0).item()
    raise_problems(
        [None if deviation else Problem("targets", "all equal", "values that differ", "Use mse")]
    )
    return mse(outputs, targets) ** 0.5 / deviation


def bit_errors(outputs: Tensor, targets: Tensor) -> float:
    """The fraction of wrong symbols in the copying task.

    A "bit" of that task is one of 8 symbols. The predicted symbol at a step is the one with the largest
    output; steps whose target is the blank, class 0, do not count. Chance is 7/8.

    Args:
        outputs: (..., C).
        targets: (..., C), one-hot; class 0 is the blank.

    Returns:
        In 0..1.

    Raises:
        ArgumentError: shapes that differ, or no symbol among the targets.

    >>> import torch
    >>> one_hot = torch.eye(3)
    >>> bit_errors(one_hot[[1, 1, 1]], one_hot[[0, 1, 2]])
    0.5
    """
    outputs, targets = _checked(outputs, targets)
    raise_problems([None if targets.dim() else Problem("targets", "a number", "(..., classes)")])
    wanted = targets.argmax(-1)
    symbols = wanted != 0
    raise_problems(
        [None if symbols.any() else Problem("targets", "blanks alone", "at least one symbol")]
    )
    return (outputs.argmax(-1) != wanted)[symbols].double().mean().item()


def _checked(outputs: object, targets: object) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape, in float64."""
    given, wanted = as_tensor("outputs", outputs), as_tensor("targets", targets)
    raise_problems(
        [
            None
            if given.shape == wanted.shape and wanted.numel()
            else Problem(
                "outputs", tuple(given.shape), f"{tuple(wanted.shape)}, as the targets, not empty"
            )
        ]
    )
    return given.detach().double(), wanted.detach().double()
