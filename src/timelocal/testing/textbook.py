"""The equations of element-wise and spiking cells, one sequence and one step at a time; complex where the
cell is.

    a = nodes(x, states before)     states = update(a, states before)     features(states)

Nothing here is shared with the cells it judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from timelocal.cells import (
    AutogradCell,
    Cell,
    IndRNNCell,
    LIFCell,
    LRUCell,
    MinGRUCell,
    MinLSTMCell,
    RTUCell,
)
from timelocal.typing import State


def nodes(cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, entering: State) -> Tensor:
    """The pre-activations (gates · h,) of one step of one sequence.

    entering: the previous states, (h,) each, with D h instead of h for cells whose nodes read D h.
    """
    if isinstance(cell, AutogradCell):
        before = tuple(part[None] for part in entering)
        return cell.nodes(cell.weights(parameters), x[None], before)[0]
    own = parameters["weight_ih"] @ x
    own = own + parameters["bias"] if "bias" in parameters else own
    if isinstance(cell, IndRNNCell):
        return own + parameters["u"] * entering[0]
    if isinstance(cell, LRUCell):
        nu, theta = parameters["nu"], parameters["theta"]
        eigenvalue = torch.exp(torch.complex(-nu.exp(), theta.exp()))
        gamma = (1 - eigenvalue.abs() ** 2).sqrt()
        h = eigenvalue * torch.complex(*entering) + gamma * torch.complex(*own.chunk(2))
        return torch.cat((h.real, h.imag))
    if isinstance(cell, MinGRUCell | MinLSTMCell):
        return own
    if isinstance(cell, LIFCell):
        own = own + parameters["weight_hh"] @ entering[0]
        return (
            own
            if "bias_ih" not in parameters
            else own + parameters["bias_ih"] + parameters["bias_hh"]
        )
    raise TypeError(f"no textbook equations for {cell!r}")


def update(cell: Cell, own_nodes: Tensor, state: State) -> State:
    """The new states (h,) from the nodes and the previous states."""
    if isinstance(cell, AutogradCell):
        before = tuple(part[None] for part in state)
        return tuple(new[0] for new in cell.update(own_nodes[None], before))
    if isinstance(cell, IndRNNCell):
        return (own_nodes.tanh(),)
    if isinstance(cell, LRUCell):
        re, im = own_nodes.chunk(2)
        return re, im
    if isinstance(cell, MinGRUCell):
        z, c = own_nodes.chunk(2)
        return ((1 - z.sigmoid()) * state[0] + z.sigmoid() * c,)
    if isinstance(cell, MinLSTMCell):
        f, i, c = own_nodes.chunk(3)
        total = f.sigmoid() + i.sigmoid()
        return (f.sigmoid() / total * state[0] + i.sigmoid() / total * c,)
    if isinstance(cell, LIFCell):
        return _spiking(cell, own_nodes, *state)
    raise TypeError(f"no textbook equations for {cell!r}")


class _Spike(torch.autograd.Function):
    """1 above 0 and 0 below, with the slope passed as a second argument."""

    @staticmethod
    def forward(ctx: Any, above: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
        return signals[0] * ctx.saved_tensors[0], None


def _spiking(cell: LIFCell, current: Tensor, z: Tensor, v: Tensor, f: Tensor, *a: Tensor) -> State:
    """(Adaptive) leaky integrate-and-fire, with the surrogates as printed in their papers."""
    reset = z.detach() if cell.detach_reset else z
    v = cell.membrane * v + current - cell.threshold * reset
    a = tuple(cell.adaptation_decay * own + z for own in a)
    above = v - cell.threshold - sum(cell.adaptation * own for own in a)
    u = cell.sharpness * above / cell.threshold
    if cell.surrogate == "triangular":
        bump, graded = (
            torch.relu(1 - u.abs()),
            torch.where(u < 0, torch.relu(1 + u) ** 2 / 2, 1 - torch.relu(1 - u) ** 2 / 2),
        )
    elif cell.surrogate == "sigmoid":
        bump, graded = 1 / torch.cosh(2 * u) ** 2, (1 + torch.tanh(2 * u)) / 2
    elif cell.surrogate == "fast_sigmoid":
        bump, graded = 1 / (1 + 10 * u.abs()) ** 2, u / (1 + 10 * u.abs())
    else:
        bump, graded = 1 / (1 + (torch.pi * u) ** 2), (torch.pi * u).arctan() / torch.pi
    if cell.graded:
        z = cell.dampening / cell.sharpness * graded
    else:
        slope = (cell.dampening / cell.threshold * bump).detach()
        z = _Spike.apply(above, slope)  # type: ignore[no-untyped-call]
    return z, v, cell.readout_decay * f + (1 - cell.readout_decay) * z, *a


def features(cell: Cell, state: State) -> Tensor:
    """The features that a readout or upper layer reads, from states (…, h) each, before any D."""
    if isinstance(cell, RTUCell):
        seen = torch.cat(state, -1)
        return seen.tanh() if cell.nonlinearity == "tanh" else seen.clamp_min(0)
    if isinstance(cell, LRUCell):
        return torch.cat(state, -1)
    if isinstance(cell, LIFCell):
        return state[2]
    return state[0] if cell.features_are_hidden else cell.features(state)
