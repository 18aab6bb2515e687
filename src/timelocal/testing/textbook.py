"""The element-wise cells' equations, one sequence and one step at a time, complex where the cells are.

    a = nodes(x, states before)     states = update(a, states before)     features(states)

Nothing here is shared with the cells it judges.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from timelocal.cells import (
    AutogradCell,
    Cell,
    IndRNNCell,
    LRUCell,
    MinGRUCell,
    MinLSTMCell,
    RTUCell,
)
from timelocal.typing import State


def nodes(cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, entering: State) -> Tensor:
    """The pre-activations (gates · h,) of one step of one sequence.

    entering: the states before, (h,) each; D h in place of h, for cells in which it enters the nodes.
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
    raise TypeError(f"no textbook equations for {cell!r}")


def update(cell: Cell, own_nodes: Tensor, state: State) -> State:
    """The new states (h,) from the nodes and the states before."""
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
    raise TypeError(f"no textbook equations for {cell!r}")


def features(cell: Cell, state: State) -> Tensor:
    """What reads the layer sees of its states, (…, h) each, before any D."""
    if isinstance(cell, RTUCell):
        seen = torch.cat(state, -1)
        return seen.tanh() if cell.nonlinearity == "tanh" else seen.clamp_min(0)
    if isinstance(cell, LRUCell):
        return torch.cat(state, -1)
    return state[0] if cell.features_are_hidden else cell.features(state)
