"""The native kernels behind the twin's interface: checks and addresses on this side, loops on the other.

One extension module per instruction set is built from the same C++ source (`native/`), each of them
optional; the best one the processor can run is picked at import. `TIMELOCAL_KERNELS` chooses:
`auto` (the default), `native` (an error where none can run) or `torch` (never).
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import torch
from torch import Tensor

from timelocal.cells import (
    Cell,
    CellWeights,
    GRUResetAfter,
    GRUResetBefore,
    LayerTrajectory,
    LSTMCell,
    RNNCell,
)
from timelocal.errors import (
    ArgumentError,
    Problem,
    UnsupportedError,
    raise_problems,
    unknown_name,
)
from timelocal.typing import State

CHOICES = ("auto", "native", "torch")

_CAPABILITIES = {"AVX512": ("avx512", "avx2", "generic"), "AVX2": ("avx2", "generic")}
_CELLS: dict[type[Cell], int] = {RNNCell: 0, GRUResetAfter: 1, GRUResetBefore: 2, LSTMCell: 3}
_DTYPES = (torch.float32, torch.float64)


def _pick() -> tuple[ModuleType | None, str, str]:
    """The extension to use or None, its instruction set, and why."""
    choice = os.environ.get("TIMELOCAL_KERNELS", "auto")
    raise_problems([unknown_name("TIMELOCAL_KERNELS", choice, CHOICES)])
    if choice == "torch":
        return None, "", "TIMELOCAL_KERNELS=torch"
    capability = torch.backends.cpu.get_cpu_capability()
    for instruction_set in _CAPABILITIES.get(capability, ("generic",)):
        try:
            module = importlib.import_module(f"timelocal.kernels._native_{instruction_set}")
        except ImportError:
            continue
        return module, instruction_set, f"the best one built for this processor ({capability})"
    if choice == "native":
        raise ArgumentError(
            "TIMELOCAL_KERNELS: got 'native', expected an extension module that can run here. "
            "Install the package with a C++17 compiler (GCC or Clang) on the path, or unset it"
        )
    return None, "", "no native kernel was built: no C++17 compiler at installation"


_module, _instruction_set, _reason = _pick()


def describe() -> dict[str, str]:
    """Which path is active, and why: what `timelocal doctor` prints."""
    if _module is None:
        return {"path": "torch", "reason": _reason}
    return {
        "path": "native",
        "instruction set": _instruction_set,
        "reason": _reason,
        "threads": str(torch.get_num_threads()),
        "thread pool": "torch's" if _module.shares_torch_threads else "started for each call",
    }


def handles(cell: Cell, tensor: Tensor) -> bool:
    """Whether a native kernel can run this cell on tensors like this one."""
    return (
        _module is not None
        and type(cell) in _CELLS
        and tensor.device.type == "cpu"
        and tensor.dtype in _DTYPES
        and not torch.compiler.is_compiling()  # a traced tensor has no memory to point at
    )


def scan(
    cell: Cell,
    weights: CellWeights,
    inputs: Tensor,
    initial: State,
    node_noise: Tensor | None = None,
) -> LayerTrajectory:
    """Run the cell forward over inputs (t, b, i) from the initial state, each (b, h).

    node_noise (t, b, g) is added to the pre-activations.
    """
    weights, inputs = _dense_weights(weights), inputs.contiguous()
    initial, noise = tuple(map(_dense, initial)), _dense(node_noise)
    steps, batch, features = inputs.shape
    nodes, hidden = weights.hh.shape
    _check(
        cell,
        weights,
        features,
        ("inputs", inputs, (steps, batch, features)),
        ("node_noise", noise, (steps, batch, nodes)),
        *_states("initial", cell, initial, (batch, hidden)),
    )
    states = tuple(inputs.new_empty(steps + 1, batch, hidden) for _ in initial)
    gates = states[0][1:] if cell.gates_are_hidden else inputs.new_empty(steps, batch, nodes)
    auxiliary = inputs.new_empty(steps, batch, hidden) if cell.has_auxiliary else None
    trajectory = LayerTrajectory(inputs, states, gates, auxiliary)
    _native().scan(
        *_call(cell, weights, trajectory), inputs.data_ptr(), _address(noise), *_pair(initial)
    )
    return trajectory


def backward_scan(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: State | None,
) -> tuple[Tensor, State]:
    """Carry a signal back through time, exactly.

    signal (t, b, h) or None: ∂L/∂h_t where something sees h_t directly; final, each (b, h), or None:
    the signals at the last state from anything later.
    Returns δ (t, b, g) = ∂L/∂a_t and the signals at the initial state, each (b, h).
    """
    weights, trajectory = _dense_weights(weights), _dense_trajectory(trajectory)
    if final is None:
        carried = tuple(torch.zeros_like(state[0]) for state in trajectory.states)
    else:
        carried = tuple(state.clone(memory_format=torch.contiguous_format) for state in final)
    signal = _dense(signal)
    steps, batch, features = trajectory.inputs.shape
    hidden = weights.hh.shape[1]
    _check(
        cell,
        weights,
        features,
        ("signal", signal, (steps, batch, hidden)),
        *_states("final", cell, carried, (batch, hidden)),
        *_past(cell, trajectory, hidden),
    )
    deltas = torch.empty_like(trajectory.gates)
    _native().backward_scan(
        *_call(cell, weights, trajectory), _address(signal), deltas.data_ptr(), *_pair(carried)
    )
    return deltas, carried


def node_signals(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """δ (t, b, g) at the nodes of every step from the signal at that step's hidden state.

    signal: (t, b, h), or (b, h) for the same one at every step. lengths (b,) int64: steps from
    lengths[b] on get zeros.
    """
    weights, trajectory = _dense_weights(weights), _dense_trajectory(trajectory)
    signal, lengths = signal.contiguous(), _dense(lengths)
    steps, batch, features = trajectory.inputs.shape
    hidden = weights.hh.shape[1]
    everywhere = signal.dim() == 2
    _check(
        cell,
        weights,
        features,
        ("signal", signal, (batch, hidden) if everywhere else (steps, batch, hidden)),
        *_past(cell, trajectory, hidden),
    )
    if lengths is not None and (lengths.shape != (batch,) or lengths.dtype != torch.int64):
        got = f"{tuple(lengths.shape)} {lengths.dtype}"
        raise_problems([Problem("lengths", got, f"({batch},) torch.int64")])
    deltas = torch.empty_like(trajectory.gates)
    _native().node_signals(
        *_call(cell, weights, trajectory),
        signal.data_ptr(),
        0 if everywhere else batch * hidden,
        _address(lengths),
        deltas.data_ptr(),
    )
    return deltas


def _native() -> ModuleType:
    if _module is None:
        raise UnsupportedError(f"the native kernels are off: {_reason}. Use the torch twin")
    return _module


def _dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _dense_weights(weights: CellWeights) -> CellWeights:
    ih, hh, b_ih, b_hh = weights
    return CellWeights(ih.contiguous(), hh.contiguous(), _dense(b_ih), _dense(b_hh))


def _dense_trajectory(trajectory: LayerTrajectory) -> LayerTrajectory:
    return LayerTrajectory(
        trajectory.inputs,
        tuple(state.contiguous() for state in trajectory.states),
        trajectory.gates.contiguous(),
        _dense(trajectory.auxiliary),
    )


Expected = tuple[str, Tensor | None, tuple[int, ...]]
"""A tensor's name, the tensor if there is one, and the shape it must have."""


def _states(prefix: str, cell: Cell, states: State, shape: tuple[int, ...]) -> list[Expected]:
    names = cell.state_names
    return [(f"{prefix} {n}", s, shape) for n, s in zip(names, states, strict=True)]


def _past(cell: Cell, trajectory: LayerTrajectory, hidden: int) -> list[Expected]:
    steps, batch, _ = trajectory.inputs.shape
    return [
        *_states("states", cell, trajectory.states, (steps + 1, batch, hidden)),
        ("gates", trajectory.gates, (steps, batch, len(cell.gate_names) * hidden)),
        ("auxiliary", trajectory.auxiliary, (steps, batch, hidden)),
    ]


def _check(cell: Cell, weights: CellWeights, features: int, *tensors: Expected) -> None:
    """Refuse what the kernels would read wrongly: another shape, dtype or device."""
    hidden = weights.hh.shape[1]
    nodes = len(cell.gate_names) * hidden
    dtype = weights.hh.dtype
    problems = []
    for name, tensor, shape in (
        ("weight_ih", weights.ih, (nodes, features)),
        ("weight_hh", weights.hh, (nodes, hidden)),
        ("bias_ih", weights.b_ih, (nodes,)),
        ("bias_hh", weights.b_hh, (nodes,)),
        *tensors,
    ):
        if tensor is not None and (
            tensor.shape != shape or tensor.dtype != dtype or not tensor.is_cpu
        ):
            got = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
            problems.append(Problem(name, got, f"{shape} {dtype} on cpu"))
    if not handles(cell, weights.hh):
        known = ", ".join(repr(kind.name) for kind in _CELLS)
        got = f"{cell!r} with {dtype}"
        problems.append(Problem("cell", got, f"one of {known} with float32 or float64"))
    raise_problems(problems)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _pair(states: State) -> tuple[int, int]:
    return states[0].data_ptr(), states[1].data_ptr() if len(states) > 1 else 0


def _call(cell: Cell, weights: CellWeights, trajectory: LayerTrajectory) -> tuple[int | float, ...]:
    """What every kernel takes first. The caller keeps the tensors alive until it returns."""
    return (
        weights.hh.element_size(),
        _CELLS[type(cell)],
        torch.get_num_threads(),
        *trajectory.inputs.shape,
        weights.hh.shape[1],
        1 / cell.tau if isinstance(cell, RNNCell) else 1.0,
        *map(_address, weights),
        *_pair(trajectory.states),
        trajectory.gates.data_ptr(),
        _address(trajectory.auxiliary),
    )
