"""The states a stream carries: as one tensor with the batch first, as a session keeps them."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.network import Network
from timelocal.typing import States


def no_states(network: Network, batch_size: int) -> Tensor:
    """Zero states, (b, states, l, h)."""
    names, weight = network.cell.state_names, network.recurrent.weights(0, 0).hh
    return weight.new_zeros(batch_size, len(names), network.num_layers, network.hidden_size)


def packed(states: States) -> Tensor:
    """h, or (h, c), each (l, b, h), as one tensor (b, states, l, h)."""
    stacked = torch.stack((states,) if isinstance(states, Tensor) else states)
    return stacked.permute(2, 0, 1, 3).contiguous()


def unpacked(memory: Tensor) -> States:
    """The inverse of `packed`."""
    states = memory.permute(1, 2, 0, 3).unbind(0)
    return states[0] if len(states) == 1 else states
