"""The states that a stream carries, as one tensor with the batch first; and signals at them."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.cells import at_states
from timelocal.errors import UnsupportedError
from timelocal.network import Network, Trajectory
from timelocal.typing import Memory, State, States


def no_states(network: Network, batch_size: int, copies: int = 1) -> Tensor:
    """Zero states of `copies` runs, (b, copies, states, l, h)."""
    names, like = network.cell.state_names, network.recurrent.like
    return like.new_zeros(batch_size, copies, len(names), network.num_layers, network.hidden_size)


def packed(states: States, copies: int = 1) -> Tensor:
    """States (l, copies·b, h) as one tensor with the batch first, (b, copies, states, l, h)."""
    stacked = torch.stack((states,) if isinstance(states, Tensor) else states)
    return stacked.unflatten(2, (copies, -1)).permute(3, 2, 0, 1, 4).contiguous()


def unpacked(memory: Tensor) -> States:
    """The inverse of `packed`."""
    states = memory.permute(2, 3, 1, 0, 4).flatten(2, 3).unbind(0)
    return states[0] if len(states) == 1 else states


def signals_at_states(network: Network, layer: int, run: Trajectory, signal: Tensor) -> State:
    """A signal (…, b, f) at a layer's features after one step, as a signal at its first states, (…, b, h)."""
    (own,) = run.layers[layer]
    return at_states(network.cell, tuple(state[1] for state in own.states), signal)


def clean_states(memory: Memory) -> States:
    """The states of the run without noise in what a stream carries: "clean", or copy 0 of "states".

    Raises:
        UnsupportedError: for a rule that carries neither.
    """
    if "clean" in memory:
        return unpacked(memory["clean"])
    if "states" in memory:
        return unpacked(memory["states"][:, :1])
    raise UnsupportedError(
        f"predict: got a rule that carries {sorted(memory)}, expected 'states' among them, as "
        "`timelocal.rules.packed` makes them. Name them so in its `begin`."
    )
