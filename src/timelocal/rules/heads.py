"""Which losses the kernels' head computes, and when a head is small enough for it."""

from __future__ import annotations

from torch import Tensor, nn

from timelocal import kernels
from timelocal.kernels import HeadLoss
from timelocal.losses import MSE, CrossEntropy, Loss
from timelocal.network import is_linear
from timelocal.precision import NARROW
from timelocal.rules.batch import Batch


def head_loss(loss: Loss) -> HeadLoss | None:
    """The kernels' name of exactly this loss; None for a subclass or a loss that holds tensors."""
    if type(loss) is MSE:
        return "mse"
    if type(loss) is CrossEntropy and not loss.label_smoothing and loss.class_weights is None:
        return "cross_entropy"
    return None


def small_head(
    readout: nn.Module, loss: Loss, batch: Batch, rows: int
) -> tuple[HeadLoss, Tensor, Tensor | None] | None:
    """The loss and the readout's weight and bias, if one kernel computes the head for this number of rows.

    It does so for few rows that all count, in at least float32, with a supported loss and a linear readout.
    """
    name = head_loss(loss)
    narrow = batch.inputs.dtype in NARROW
    alike = batch.at != "mean" and batch.weights is None  # each row an entry, all of one weight
    if name is None or not alike or narrow or not is_linear(readout):
        return None
    assert isinstance(readout, nn.Linear)
    weight, bias = readout.weight, readout.bias
    return (name, weight, bias) if rows * weight.numel() <= kernels.SMALL_HEAD else None
