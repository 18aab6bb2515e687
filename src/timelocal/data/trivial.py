"""What can be had without learning: the floor under every result."""

from __future__ import annotations

from torch import Tensor

from timelocal.errors import Problem, raise_problems


def majority_class(train_targets: Tensor, test_targets: Tensor) -> float:
    """Accuracy on the test part of always answering the most frequent class of the training part.

    Args:
        train_targets: labels, int64, any shape; of equally frequent classes the smallest is taken.
        test_targets: labels, int64, any shape.

    Returns:
        The share of test labels that equal it, in 0..1.

    Raises:
        ArgumentError: a part is empty, or its targets are not classes.

    >>> import torch
    >>> majority_class(torch.tensor([0, 1, 1]), torch.tensor([1, 1, 1, 0]))
    0.75
    """
    raise_problems(
        None
        if targets.numel() and not targets.is_floating_point()
        else Problem(name, f"{tuple(targets.shape)} {targets.dtype}", "at least one integer label")
        for name, targets in (("train_targets", train_targets), ("test_targets", test_targets))
    )
    majority = train_targets.flatten().bincount().argmax()
    return (test_targets == majority).double().mean().item()
