"""Which networks and losses the native stages support, and how they are written into a call."""

from __future__ import annotations

from torch import Tensor

from timelocal.kernels import native, native_elementwise, native_stream
from timelocal.kernels.native_perturbed import NoisyCall
from timelocal.losses import BCE, MSE, CrossEntropy, Loss
from timelocal.network import Network, Recurrent, as_mlp, is_linear

LOSSES: dict[type[Loss], str] = {MSE: "mse", CrossEntropy: "cross_entropy", BCE: "bce"}
"""Keyed by exact type: a subclass may compute something else."""


def serves(network: Network, loss: Loss, *, of_streams: bool = False) -> bool:
    """Whether the stages support this network in its current form, and this loss.

    of_streams: the stages of a stream, which also support element-wise cells and a readout with a hidden
    layer.
    """
    recurrent = network.recurrent
    plain = recurrent.decorrelate is None
    units = of_streams and plain and native_elementwise.knows(recurrent.cell, recurrent.like)
    return (
        type(loss) in LOSSES
        and type(recurrent) is Recurrent
        and (units or native.handles(recurrent.cell, recurrent.like))
        and recurrent.directions == 1
        and (recurrent.decorrelate is None or not recurrent.decorrelate.sync)
        and not (recurrent.layer_norm or recurrent.skip)
        and not (recurrent.dropout and network.training and recurrent.num_layers > 1)
        and (is_linear(network.readout) or (of_streams and as_mlp(network.readout) is not None))
    )


def write_network(call: NoisyCall, network: Network, loss: Loss) -> None:
    """Write into a call the sizes and kinds of a supported network and loss."""
    recurrent = network.recurrent
    like = recurrent.like
    call.bytes = like.element_size()
    call.inputs, call.hidden = recurrent.input_size, recurrent.hidden_size
    call.outputs, call.layers = network.output_size, recurrent.num_layers
    if native_elementwise.knows(recurrent.cell, like):
        code, _ = native_elementwise.kind_of(recurrent.cell)
        call.cell, call.gain = native_stream.FIRST_UNITS + code, 1.0
    else:
        call.cell, call.gain = native.kind_of(recurrent.cell)
    call.loss = native_stream.LOSSES.index(LOSSES[type(loss)])


def write_loss(call: NoisyCall, loss: Loss, like: Tensor) -> Tensor | None:
    """Write into a call the options of cross-entropy; returns the class weights, which must be kept alive."""
    call.class_weights = 0
    if not isinstance(loss, CrossEntropy):
        return None
    call.label_smoothing = loss.label_smoothing
    if loss.class_weights is None:
        return None
    weights = loss.class_weights.to(like).contiguous()
    call.class_weights = weights.data_ptr()
    return weights
