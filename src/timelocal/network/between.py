"""Between the layers of a stack: layer normalisation and skip connections.

    y_l = f_l, or f_l + y_{l-1} with skip        x_{l+1} = y_l, or (y_l − mean) / √(var + ε) with layer_norm

f_l: the features of layer l; x_{l+1}: the inputs of the layer above; the readout sees y of the top layer.
The normalisation has no parameters: a scale and shift of x would be absorbed by V x + b.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-5
"""ε, as in `torch.nn.LayerNorm`."""


def normalised(values: Tensor) -> Tensor:
    """(y − mean) / √(var + ε) over the last axis (Ba, Kiros & Hinton 2016)."""
    return torch.nn.functional.layer_norm(values, values.shape[-1:], eps=EPSILON)


def through_norm(values: Tensor, signal: Tensor) -> Tensor:
    """J g, with J the Jacobian of `normalised` at `values`: J = (1 − 1 1ᵀ/n − x xᵀ/n) / √(var + ε).

    J is symmetric: signals going back and tangents going forward are transformed alike. Leading axes
    broadcast.
    """
    centred = values - values.mean(-1, keepdim=True)
    scale = centred.square().mean(-1, keepdim=True).add(EPSILON).rsqrt()
    own = centred * scale
    along = (signal * own).mean(-1, keepdim=True)
    return (signal - signal.mean(-1, keepdim=True) - own * along) * scale
