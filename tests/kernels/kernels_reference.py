"""The cells once more, written from their equations, in float64 under autograd: what kernels must equal.

The derivative of a scalar by the noise added to a node is that node's signal δ, so autograd through
`run` gives δ without a word about how the package computes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def run(
    name: str,
    tau: float,
    weights: Sequence[Tensor | None],
    inputs: Tensor,
    initial: Sequence[Tensor],
    noise: Tensor,
    *,
    through_time: bool = True,
) -> tuple[list[Tensor], list[Tensor]]:
    """States h_1 … h_T and, for the LSTM, c_1 … c_T; `through_time=False` cuts each step from the last."""
    ih, hh, b_ih, b_hh = weights[:4]
    nodes, size = hh.shape
    b_ih = torch.zeros(nodes, dtype=hh.dtype) if b_ih is None else b_ih
    b_hh = torch.zeros(nodes, dtype=hh.dtype) if b_hh is None else b_hh
    h = initial[0]
    c = initial[1] if len(initial) > 1 else torch.zeros_like(h)
    hs, cs = [], []
    for x, xi in zip(inputs, noise, strict=True):
        if not through_time:
            h, c = h.detach(), c.detach()
        drive = x @ ih.T + b_ih + xi
        if name == "rnn":
            h = (1 - 1 / tau) * h + torch.tanh(drive + h @ hh.T + b_hh) / tau
        elif name == "lstm":
            i, f, g, o = (drive + h @ hh.T + b_hh).split(size, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        else:
            d_r, d_z, d_n = drive.split(size, -1)
            w_r, w_z, w_n = hh.split(size)
            b_r, b_z, b_n = b_hh.split(size)
            r = torch.sigmoid(d_r + h @ w_r.T + b_r)
            z = torch.sigmoid(d_z + h @ w_z.T + b_z)
            if name == "gru":
                n = torch.tanh(d_n + r * (h @ w_n.T + b_n))
            else:
                n = torch.tanh(d_n + (r * h) @ w_n.T + b_n)
            h = (1 - z) * n + z * h
        hs.append(h)
        cs.append(c)
    return hs, cs
