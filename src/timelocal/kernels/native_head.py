"""`torch_head` behind the same interface, in one native call."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.errors import Problem, raise_problems
from timelocal.kernels import native
from timelocal.kernels.torch_head import Head, HeadLoss


def head(
    kind: HeadLoss, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> Head:
    """As `torch_head.head`, on one thread; of a class out of range nothing is told."""
    classifies = kind == "cross_entropy"
    rows, (outputs, hidden) = len(features), weight.shape
    features, targets = features.contiguous(), targets.contiguous()
    weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
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
    made = Head(
        features.new_empty(rows, outputs),
        features.new_empty(rows, outputs),
        features.new_empty(()),
        features.new_empty(()) if classifies else None,
        features.new_empty(outputs, hidden),
        None if bias is None else features.new_empty(outputs),
    )
    address = targets.data_ptr()
    native.extension().head(
        features.element_size(), 0 if classifies else 1, rows, hidden, outputs,
        features.data_ptr(), weight.data_ptr(), native.address(bias),
        address if classifies else 0, 0 if classifies else address,
        *map(native.address, made),
    )  # fmt: skip
    return made


def project(errors: Tensor, matrix: Tensor) -> Tensor:
    """As `torch_head.project`, on one thread: BLAS would wake the others for this."""
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
