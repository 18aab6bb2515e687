"""The readout: from the recurrent stack's features to the outputs, one step at a time.

`nn.Linear` in closed form. Any other module by ordinary autograd on its own input, where every
step is a row of one batch: never through time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from timelocal.typing import Gradients


def readout_gradients(
    readout: nn.Module, features: Tensor, error: Tensor
) -> tuple[Gradients, Tensor]:
    """Gradients of the readout's parameters, and the signal at its input.

    features (n, h) as they entered, error e = ∂L/∂outputs (n, o). Returns the gradients by the
    readout's own parameter names, and ∂L/∂features (n, h).
    """
    if isinstance(readout, nn.Linear):
        found = {"weight": error.t() @ features}
        if readout.bias is not None:
            found["bias"] = error.sum(0)
        return found, error @ readout.weight
    parameters = dict(readout.named_parameters())
    with torch.enable_grad():
        entered = features.detach().requires_grad_()
        at = (entered, *(p for p in parameters.values() if p.requires_grad))
        outputs = readout(entered)
        gradients = torch.autograd.grad(outputs, at, error, materialize_grads=True)
    signal, *rest = gradients
    trained = [name for name, p in parameters.items() if p.requires_grad]
    return dict(zip(trained, rest, strict=True)), signal
