"""The readout: from the recurrent stack's features to the outputs, one step at a time.

A plain `nn.Linear` in closed form. Any other module by ordinary autograd on its own input, where every
step is a row of one batch: never through time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from timelocal.typing import Gradients


def is_linear(readout: nn.Module) -> bool:
    """Whether the readout is W h + b and nothing else: no subclass, no reparametrisation."""
    names = {name for name, _ in readout.named_parameters()}
    return type(readout) is nn.Linear and names <= {"weight", "bias"}


def read(readout: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """The features (n, h) as they enter, and the outputs (n, o).

    Unless the readout is linear they carry the autograd graph of this one call, for
    `readout_gradients`: a readout with chance in it (dropout) is asked once only.
    """
    if is_linear(readout):
        return features, readout(features)
    with torch.enable_grad():
        entered = features.detach().requires_grad_()
        return entered, readout(entered)


def readout_gradients(
    readout: nn.Module, features: Tensor, outputs: Tensor, error: Tensor
) -> tuple[Gradients, Tensor]:
    """Gradients of the readout's parameters, and the signal at its input.

    features (n, h) and outputs (n, o) as `read` returned them, error e = ∂L/∂outputs (n, o). Returns the
    gradients by the readout's own parameter names, and ∂L/∂features (n, h).
    """
    if is_linear(readout):
        assert isinstance(readout, nn.Linear)
        found = {"weight": error.t() @ features}
        if readout.bias is not None:
            found["bias"] = error.sum(0)
        return found, error @ readout.weight
    trained = {name: p for name, p in readout.named_parameters() if p.requires_grad}
    signal, *rest = torch.autograd.grad(
        outputs, (features, *trained.values()), error, materialize_grads=True
    )
    return dict(zip(trained, rest, strict=True)), signal


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """The module in eval mode for a while; every part of it then returns to the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
