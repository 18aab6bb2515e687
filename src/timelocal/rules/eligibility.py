"""Eligibility traces: the effect of each weight on its unit's states, carried forward in time.

    E_t = J_t E_{t-1} + ∂(states at t)/∂θ within the step

with the reduced, element-wise Jacobian J: one trace per synapse, sequence and state, (b, *parameter). The
sum over time of G_t ⊙ E_t, with the signals G_t at the states, is what a backward pass through J gives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.cells import CellWeights, LayerTrajectory, Trace, outer_each
from timelocal.errors import UnsupportedError
from timelocal.network import Network, Trajectory, parameter_name
from timelocal.rules.states import signals_at_states
from timelocal.typing import Memory


def trace_name(state: str, kind: str, layer: int) -> str:
    """The name of one trace in a session's memory, such as "trace_h_weight_ih_l0"."""
    return f"trace_{state}_{parameter_name(kind, layer, 0)}"


def no_traces(network: Network, batch_size: int) -> Memory:
    """All traces at the start of a stream: zero.

    Raises:
        UnsupportedError: for a cell in which a weight acts on several units within a step.
    """
    cell, recurrent = network.cell, network.recurrent
    shared = row_problems(network)
    if shared:
        raise UnsupportedError(
            f"stream: got the parameter {shared[0]} of {cell!r}, expected rows in blocks of "
            f"{network.hidden_size}, one for each unit: a trace belongs to one unit. Use trace='none', RTRL, "
            "or whole sequences."
        )
    if not cell.acts_locally:
        raise UnsupportedError(
            f"stream: got {cell!r}, expected a cell whose nodes act only on their own unit: its reset gates "
            "act on all units, so traces would need a number per synapse and unit. Use reset_after=True, "
            "trace='none', or whole sequences."
        )
    traces = {}
    for layer in range(network.num_layers):
        for kind in recurrent.parameter_kinds:
            parameter = recurrent.get_parameter(parameter_name(kind, layer, 0))
            for state in cell.state_names:
                traces[trace_name(state, kind, layer)] = parameter.new_zeros(
                    batch_size, *parameter.shape
                )
    return traces


def advance(
    network: Network, layer: int, own: LayerTrajectory, trace: Trace | Tensor, traces: Memory
) -> Memory:
    """A layer's traces after one more step, `own` (t = 1), from the previous ones.

    trace: which part of the Jacobian is kept; or λ (h,) of the hidden states in its place.
    """
    cell, weights = network.cell, network.recurrent.weights(layer, 0)
    jacobian = cell.local_jacobian(own)
    if isinstance(trace, Tensor):
        reduced = _of_hidden_states(trace, own)
    else:
        reduced = cell.reduced_jacobian(weights, jacobian, trace)
    nothing, unit = torch.zeros_like(own.hidden), torch.ones_like(own.hidden)
    after = {}
    for index, (state, kept) in enumerate(zip(cell.state_names, reduced, strict=True)):
        signals = tuple(unit if other == index else nothing for other in range(len(reduced)))
        slope = cell.node_signal_of_states(weights, jacobian, signals)
        for kind in network.recurrent.parameter_kinds:
            total = cell.gradient(weights, kind, own, slope, outer_each)[0]
            for before, factor in zip(cell.state_names, kept, strict=True):
                if factor is not None:
                    past = traces[trace_name(before, kind, layer)]
                    by_node = factor[0].repeat(1, total.shape[1] // factor.shape[-1])
                    total = torch.addcmul(
                        total, by_node.view(*by_node.shape, *(1,) * (past.dim() - 2)), past
                    )
            after[trace_name(state, kind, layer)] = total
    return after


def _of_hidden_states(
    decays: Tensor, own: LayerTrajectory
) -> tuple[tuple[Tensor | None, ...], ...]:
    """A Jacobian of λ (h,) at the hidden states, and nothing between and of the others."""
    states = range(len(own.states))
    kept = decays.expand_as(own.hidden)
    return tuple(tuple(kept if i == j == 0 else None for j in states) for i in states)


def met(
    network: Network, layer: int, run: Trajectory, signal: Tensor, traces: Memory
) -> CellWeights:
    """Σ_b G ⊙ E over all states, in the parameters' shapes.

    signal (b, f): at the layer's features after `run`, the trajectory of this step alone.
    """
    cell, found = network.cell, {}
    signals = signals_at_states(network, layer, run, signal)
    for kind in network.recurrent.parameter_kinds:
        total: Tensor | None = None
        for state, own in zip(cell.state_names, signals, strict=False):
            trace = traces[trace_name(state, kind, layer)]
            by_row = own.repeat(1, trace.shape[1] // own.shape[-1])
            part = torch.einsum("bg,bg...->g...", by_row, trace)
            total = part if total is None else total + part
        assert total is not None
        found[kind] = total
    return cell.weights(found)


def check_one_row_a_node(network: Network) -> None:
    """Raise an `UnsupportedError` if a gate's own feedback cannot be matched to rows of a parameter."""
    recurrent, nodes = network.recurrent, len(network.cell.gate_names) * network.hidden_size
    for kind in recurrent.parameter_kinds:
        shape = tuple(recurrent.get_parameter(parameter_name(kind, 0, 0)).shape)
        if shape[0] != nodes:
            raise UnsupportedError(
                f"stream: got feedback_per='parameter' and the parameter {kind} {shape} of {network.cell!r}, "
                f"expected {nodes} rows, one for each node. Use feedback_per='layer', or trace='none'."
            )


def row_problems(network: Network) -> list[str]:
    """The parameters with rows that do not each belong to a single unit, as traces must."""
    recurrent, units = network.recurrent, network.hidden_size
    shapes = {
        kind: tuple(recurrent.get_parameter(parameter_name(kind, 0, 0)).shape)
        for kind in recurrent.parameter_kinds
    }
    return [f"{kind} {shape}" for kind, shape in shapes.items() if not shape or shape[0] % units]
