"""The functions of `torch_head`, each as one native call."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.errors import Problem, raise_problems
from timelocal.kernels import native
from timelocal.kernels.torch_head import Head, HeadLoss


def head(
    kind: HeadLoss, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Head:
    """As `torch_head.head`, on one thread. Class indices are not range-checked here."""
    features, targets = features.contiguous(), targets.contiguous()
    weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
    made = empty_head(kind, features, weight, bias, targets)
    arguments = head_arguments(kind, features, weight, bias, targets, made)
    native.extension().head(features.element_size(), *arguments)
    return made


def empty_head(
    kind: HeadLoss, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Head:
    """Check the arguments of a head, and return empty tensors for its results."""
    classifies = kind == "cross_entropy"
    rows, (outputs, hidden) = features.shape[0], weight.shape
    expected: list[native.Expected] = [
        ("features", features, (rows, hidden)),
        ("readout weight", weight, (outputs, hidden)),
        ("readout bias", bias, (outputs,)),
    ]
    if not classifies:
        expected.append(("targets", targets, (rows, outputs)))
    elif targets.shape != (rows,) or targets.dtype != torch.int64 or not targets.is_cpu:
        got = f"{tuple(targets.shape)} {targets.dtype} on {targets.device}"
        raise_problems([Problem("targets", got, f"({rows},) torch.int64 on cpu")])
    native.check(weight, *expected)
    return Head(
        features.new_empty(rows, outputs),
        features.new_empty(rows, outputs),
        features.new_empty(()),
        features.new_empty(()) if classifies else None,
        features.new_empty(outputs, hidden),
        None if bias is None else features.new_empty(outputs),
    )


def head_arguments(
    kind: HeadLoss,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    made: Head,
) -> tuple[int, ...]:
    """The arguments of a head as the extension takes them, with contiguous tensors."""
    classifies, wanted = kind == "cross_entropy", targets.data_ptr()
    return (
        0 if classifies else 1,
        features.shape[0],
        weight.shape[1],
        weight.shape[0],
        features.data_ptr(),
        weight.data_ptr(),
        native.address(bias),
        wanted if classifies else 0,
        0 if classifies else wanted,
        *map(native.address, made),
    )


def project(errors: Tensor, matrix: Tensor) -> Tensor:
    """As `torch_head.project`, on one thread: BLAS would wake the other threads."""
    (rows, outputs), hidden = errors.shape, len(matrix)
    errors, matrix = errors.contiguous(), matrix.contiguous()
    native.check(
        matrix, ("errors", errors, (rows, outputs)), ("feedback", matrix, (hidden, outputs))
    )
    signal = errors.new_empty(rows, hidden)
    native.extension().project(
        errors.element_size(), rows, hidden, outputs, *map(native.address, (errors, matrix, signal))
    )
    return signal
