"""Element-wise cells over a whole sequence in native code, with the interface of `torch_scan`.

No unit depends on another: one product computes the inputs' share, and all other operations are on vectors of
units. `traced_gradients` computes what the rules' traces (`rules/eligibility.py`) compute step by step.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from timelocal.cells import (
    Cell,
    CellWeights,
    IndRNNCell,
    LayerTrajectory,
    LRUCell,
    MinGRUCell,
    MinLSTMCell,
    RTUCell,
    Trace,
    at_states,
)
from timelocal.kernels import native, torch_scan
from timelocal.kernels.named_call import agree, integers
from timelocal.kernels.native import address, check
from timelocal.kernels.torch_scan import credit, node_signals, weight_gradients
from timelocal.typing import State

__all__ = [
    "backward_scan",
    "credit",
    "handles",
    "kind_of",
    "knows",
    "node_signals",
    "scan",
    "traced_gradients",
    "traced_scan",
    "weight_gradients",
]

_CODES: dict[type[Cell], int] = {
    IndRNNCell: 0,
    LRUCell: 1,
    RTUCell: 1,  # features aside
    MinGRUCell: 2,
    MinLSTMCell: 3,
}
_SQUASHES = ("", "relu", "tanh")
_OWN: tuple[tuple[str, ...], ...] = (("u",), ("nu", "theta"), (), ())
"""The parameters of each unit, by the cell's code."""


class ElementwiseCall(ctypes.Structure):
    """The arguments of one call, as listed in `native/elementwise/call.h`."""

    _fields_ = [
        *integers("bytes cell threads steps batch inputs hidden squash weight bias"),
        ("own", ctypes.c_int64 * 2),
        *integers("x noise"),
        ("initial", ctypes.c_int64 * 2),
        *integers("states features gates auxiliary signal last lengths delta"),
        ("carried", ctypes.c_int64 * 2),
        *integers("made_weight made_bias"),
        ("made_own", ctypes.c_int64 * 2),
    ]


def knows(cell: Cell, tensor: Tensor) -> bool:
    """Whether native code knows this cell's units, for tensors like this one."""
    return type(cell) in _CODES and native.serves(tensor.dtype, tensor.device)


def kind_of(cell: Cell) -> tuple[int, int]:
    """The kernels' numbers for the units of a known cell and for the function from states to features."""
    nonlinearity = cell.nonlinearity if isinstance(cell, RTUCell) else ""
    return _CODES[type(cell)], _SQUASHES.index(nonlinearity)


def handles(cell: Cell, weights: CellWeights, tensor: Tensor) -> bool:
    """Whether a kernel runs this cell on tensors like this one; none does with a D in the recurrence."""
    return (
        knows(cell, tensor)
        and cell.is_diagonal(weights.decorrelation is not None)
        and not torch.compiler.is_compiling()
    )


def scan(
    cell: Cell,
    weights: CellWeights,
    inputs: Tensor,
    initial: State,
    node_noise: Tensor | None = None,
) -> LayerTrajectory:
    """Run the cell forward over inputs (t, b, i) from the initial state, each (b, h).

    node_noise (t, b, g) is added to the pre-activations. The states of a complex cell are views of one tensor
    (t + 1, b, 2h), which also contains its gates and features.
    """
    steps, batch, _ = inputs.shape
    hidden, nodes = initial[0].shape[-1], len(cell.gate_names) * initial[0].shape[-1]
    inputs, node_noise, *start = native.dense(inputs, node_noise, *initial)
    states = inputs.new_empty(steps + 1, batch, hidden * len(start))
    gates = states[1:]
    if not (cell.gates_are_hidden or len(start) > 1):
        gates = inputs.new_empty(steps, batch, nodes)
    auxiliary = inputs.new_empty(steps, batch, hidden) if cell.has_auxiliary else None
    check(
        inputs,
        ("node_noise", node_noise, (steps, batch, nodes)),
        *(("initial state", state, (batch, hidden)) for state in start),
    )
    call, kept = _call(cell, weights, inputs, hidden)
    features = torch.empty_like(states) if call.squash else states
    call.noise, call.initial[:] = address(node_noise), _two(start)
    call.states, call.features = states.data_ptr(), features.data_ptr()
    call.gates, call.auxiliary = gates.data_ptr(), address(auxiliary)
    native.extension().elementwise_scan(ctypes.addressof(call))
    del kept  # until here
    seen = None
    if not cell.features_are_hidden or weights.decorrelation is not None:
        seen = weights.decorrelated(features)
    return LayerTrajectory(inputs, states.chunk(len(start), -1), gates, auxiliary, seen)


def backward_scan(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: State | None,
) -> tuple[Tensor, State]:
    """Carry a signal back through time, exactly.

    signal (t, b, f) or None: at the features of each step, without later steps' share; final, each (b, h), or
    None: the signals at the last state from later steps.
    Returns δ (t, b, g) = ∂L/∂a_t and the signals at the initial state, each (b, h).
    """
    like = trajectory.states[0][0]
    last = [torch.zeros_like(like) for _ in trajectory.states] if final is None else final
    carried = [state.clone(memory_format=torch.contiguous_format) for state in last]
    (signal,) = native.dense(signal)
    steps, batch, nodes = trajectory.gates.shape
    deltas = trajectory.gates.new_empty(steps, batch, nodes)
    call, kept = _past(cell, weights, trajectory)
    check(
        deltas,
        ("signal", signal, (steps, batch, like.shape[-1] * len(carried))),
        *(("final signal", state, tuple(like.shape)) for state in carried),
    )
    call.signal, call.delta, call.carried[:] = address(signal), deltas.data_ptr(), _two(carried)
    native.extension().elementwise_back(ctypes.addressof(call))
    del kept  # until here
    return deltas, tuple(carried)


def traced_scan(
    cell: Cell,
    weights: CellWeights,
    trace: Trace,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: Tensor | None,
) -> Tensor:
    """δ (t, b, g) of a signal carried back by the part of the Jacobian that `trace` keeps: all or nothing.

    signal (t, b, f) or None; final (b, f) or None: at the features of the last step.
    """
    if trace == "leak" and not cell.leaks:
        return torch_scan.traced_scan(cell, weights, trace, trajectory, signal, final)
    at_end = None
    if final is not None:
        last = tuple(state[-1] for state in trajectory.states)
        at_end = at_states(cell, last, final)
    deltas, _ = backward_scan(cell, weights, trajectory, signal, at_end)
    return deltas


def traced_gradients(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None,
) -> CellWeights:
    """Σ_t G_t ⊙ E_t with the traces E of all parameters carried from the first step to the last.

    signal: at the features, (t, b, f), or (b, f) at each sequence's last valid step only; lengths (b,) int64
    or None: later steps are not run.
    """
    hidden, batch = trajectory.states[0].shape[-1], len(trajectory.states[0][0])
    wide = hidden * len(trajectory.states)
    call, kept = _past(cell, weights, trajectory)
    signal = signal.contiguous()
    steps = call.steps if signal.dim() == 3 else None
    check(signal, ("signal", signal, (batch, wide) if steps is None else (steps, batch, wide)))
    if steps is None:
        call.last = signal.data_ptr()
    else:
        call.signal = signal.data_ptr()
    if lengths is not None:
        lengths = lengths.to(torch.int64).contiguous()
        assert lengths.shape == (batch,)
        call.lengths = lengths.data_ptr()
    made = {
        name: torch.empty_like(own, memory_format=torch.contiguous_format)
        for name, own in zip(cell.parameter_shapes(1, 1), weights[:-1], strict=True)
        if own is not None
    }
    call.made_weight, call.made_bias = made["weight_ih"].data_ptr(), address(made.get("bias"))
    call.made_own[:] = _two([made[name] for name in _OWN[call.cell]])
    native.extension().elementwise_trace(ctypes.addressof(call))
    del kept  # until here
    return cell.weights(made)


def _call(
    cell: Cell, weights: CellWeights, inputs: Tensor, hidden: int
) -> tuple[ElementwiseCall, list[Any]]:
    """A call with sizes and parameters, and the tensors that must stay alive while it runs."""
    named = dict(zip(cell.parameter_shapes(1, 1), native.dense(*weights[:-1]), strict=True))
    (code, squash), (steps, batch, features) = kind_of(cell), inputs.shape
    nodes = len(cell.gate_names) * hidden
    own = [named[name] for name in _OWN[code]]
    check(
        inputs,
        ("inputs", inputs, (steps, batch, features)),
        ("weight_ih", named["weight_ih"], (nodes, features)),
        ("bias", named["bias"], (nodes,)),
        *((name, vector, (hidden,)) for name, vector in zip(_OWN[code], own, strict=True)),
    )
    call = ElementwiseCall(
        inputs.element_size(), code, torch.get_num_threads(), *inputs.shape, hidden, squash
    )
    call.weight, call.bias, call.own[:] = (
        *map(address, (named["weight_ih"], named["bias"])),
        _two(own),
    )
    call.x = inputs.data_ptr()
    return call, [named, inputs]


def _past(
    cell: Cell, weights: CellWeights, trajectory: LayerTrajectory
) -> tuple[ElementwiseCall, list[Any]]:
    """`_call` for a kernel that reads the results of a scan."""
    inputs, gates, auxiliary = native.dense(
        trajectory.inputs, trajectory.gates, trajectory.auxiliary
    )
    states = _side_by_side(trajectory.states)
    hidden = trajectory.states[0].shape[-1]
    steps, batch, _ = gates.shape
    call, kept = _call(cell, weights, inputs, hidden)
    check(
        inputs,
        ("states", states, (steps + 1, batch, hidden * len(trajectory.states))),
        ("gates", gates, (len(inputs), batch, len(cell.gate_names) * hidden)),
        ("auxiliary", auxiliary, (steps, batch, hidden)),
    )
    call.states, call.gates, call.auxiliary = map(address, (states, gates, auxiliary))
    return call, [*kept, states, gates, auxiliary]


def _side_by_side(states: State) -> Tensor:
    """States (t, b, h) as one dense tensor (t, b, s h): the one whose views `scan` returned, or a new one."""
    if len(states) == 1:
        return states[0].contiguous()
    first, second = states
    hidden = first.shape[-1]
    dense = (first.shape[1] * 2 * hidden, 2 * hidden, 1)
    if (
        first.stride() == second.stride() == dense
        and second.data_ptr() - first.data_ptr() == hidden * first.element_size()
        and first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    ):
        return first.as_strided((*first.shape[:-1], 2 * hidden), dense)
    return torch.cat(states, -1)


def _two(tensors: Any) -> tuple[int, int]:
    first, second = (*tensors, None, None)[:2]
    return address(first), address(second)


if native.describe()["path"] == "native":
    agree("element-wise", (ElementwiseCall,), (native.extension().elementwise_size(),))
