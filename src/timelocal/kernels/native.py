"""The native kernels, with the interface of `torch_scan`: Python checks arguments, C++ runs the loops.

One extension module per instruction set is built from the same C++ source (`native/`), each of them
optional; the best one that the processor can run is picked at import. `TIMELOCAL_KERNELS` is
`auto` (the default), `native` (an error if no module can run) or `torch` (never native).

Under `torch.compile` and `torch.export` the kernels appear as the operators `timelocal::scan`,
`timelocal::backward_scan`, `timelocal::node_signals`, `timelocal::weight_gradients` and
`timelocal::credit`; elsewhere they are called directly.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

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
    Trace,
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
_CODES: dict[type[Cell], int] = {RNNCell: 0, GRUResetAfter: 1, GRUResetBefore: 2, LSTMCell: 3}
_GATES = (1, 3, 3, 4)
_STATES = (1, 1, 1, 2)
DTYPES = (torch.float32, torch.float64)
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


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
    """Which implementation is active, and why, as `timelocal doctor` prints it."""
    if _module is None:
        return {"path": "torch", "reason": _reason}
    return {
        "path": "native",
        "instruction set": _instruction_set,
        "reason": _reason,
        "threads": str(torch.get_num_threads()),
        "thread pool": "torch's" if _module.shares_torch_threads() else "started for each call",
    }


def serves(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether native code can run on tensors of this type on this device."""
    return _module is not None and device.type == "cpu" and dtype in DTYPES


def multiply_adds(dtype: torch.dtype, threads: int, rounds: int) -> float:
    """Run a loop of multiply-adds only, on `threads` threads; returns the number of operations."""
    return float(extension().multiply_adds(dtype.itemsize, threads, rounds))


def handles(cell: Cell, tensor: Tensor) -> bool:
    """Whether a native kernel can run this cell on tensors like this one."""
    return type(cell) in _CODES and serves(tensor.dtype, tensor.device)


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
    inputs = inputs.contiguous()
    run: Any = torch.ops.timelocal.scan if torch.compiler.is_compiling() else _scan
    parameters = (weights.ih, _folded(weights), weights.b_ih, weights.b_hh)
    done = run(*kind_of(cell), inputs, *parameters, list(initial), node_noise)
    return trajectory_of(cell, weights, inputs, done)


def trajectory_of(
    cell: Cell, weights: CellWeights, inputs: Tensor, done: list[Tensor]
) -> LayerTrajectory:
    """The results of the scan operator as a trajectory."""
    count = len(cell.state_names)
    gates = done[0][1:] if cell.gates_are_hidden else done[count]
    auxiliary = done[count + 1] if cell.has_auxiliary else None
    decorrelated = None if weights.decorrelation is None else weights.decorrelated(done[0])
    return LayerTrajectory(inputs, tuple(done[:count]), gates, auxiliary, decorrelated)


def backward_scan(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: State | None,
) -> tuple[Tensor, State]:
    """Carry a signal back through time, exactly.

    signal (t, b, h) or None: the part of ∂L/∂h_t that does not pass through later steps; final, each (b, h),
    or None: the signals at the last state from later steps.
    Returns δ (t, b, g) = ∂L/∂a_t and the signals at the initial state, each (b, h).
    """
    run: Any = (
        torch.ops.timelocal.backward_scan if torch.compiler.is_compiling() else _backward_scan
    )
    past = (list(trajectory.states), trajectory.gates, trajectory.auxiliary)
    last = [torch.zeros_like(s[0]) for s in trajectory.states] if final is None else list(final)
    deltas, *carried = run(*kind_of(cell), _folded(weights), *past, signal, last)
    return deltas, tuple(carried)


def traced_scan(
    cell: Cell,
    weights: CellWeights,
    trace: Trace,
    trajectory: LayerTrajectory,
    signal: Tensor | None,
    final: Tensor | None,
) -> Tensor:
    """δ (t, b, g) of a signal carried back by the part of the Jacobian that `trace` keeps.

    signal (t, b, h) or None; final (b, h) or None: a signal at the last hidden state.
    """
    code, gain = kind_of(cell)
    gates, auxiliary, signal, *states = dense(
        trajectory.gates, trajectory.auxiliary, signal, *trajectory.states
    )
    hidden, _ = _sizes(code, weights.hh)
    steps, batch, _ = gates.shape
    own = weights.of_itself().contiguous() if trace == "diagonal" else None
    carried = (
        torch.zeros_like(states[0][0])
        if final is None
        else final.clone(memory_format=torch.contiguous_format)
    )
    check(
        weights.hh,
        *_expected(code, weights.hh, states, gates, auxiliary),
        ("signal", signal, (steps, batch, hidden)),
        ("final signal", carried, (batch, hidden)),
    )
    deltas = gates.new_empty(gates.shape)
    extension().traced_scan(
        *_past(code, gain, gates.shape, weights.hh, states, gates, auxiliary),
        address(signal),
        address(own),
        deltas.data_ptr(),
        carried.data_ptr(),
    )
    return deltas


def node_signals(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """δ (t, b, g) at the nodes of every step from the signal at that step's hidden state.

    signal: (t, b, h), or (b, h) for the same signal at every step. lengths (b,) int64: δ is zero from step
    lengths[b] on.
    """
    run: Any = torch.ops.timelocal.node_signals if torch.compiler.is_compiling() else _node_signals
    past = (list(trajectory.states), trajectory.gates, trajectory.auxiliary)
    deltas: Tensor = run(*kind_of(cell), weights.hh, *past, signal, lengths)
    return deltas


def weight_gradients(
    cell: Cell, weights: CellWeights, trajectory: LayerTrajectory, deltas: Tensor
) -> CellWeights:
    """Σ_t δ_t ⊗ (input of each parameter at t), in the parameters' shapes; deltas (t, b, g)."""
    run: Any = (
        torch.ops.timelocal.weight_gradients if torch.compiler.is_compiling() else _weight_gradients
    )
    past = (list(trajectory.states), trajectory.gates, trajectory.auxiliary)
    biased = weights.b_ih is not None
    made = run(*kind_of(cell), weights.hh, *past, trajectory.inputs, deltas, biased)
    return named_gradients(made, weights)


def credit(
    cell: Cell,
    weights: CellWeights,
    trajectory: LayerTrajectory,
    signal: Tensor,
    lengths: Tensor | None = None,
) -> CellWeights:
    """The weight gradients from a signal at the hidden states, without storing the node signals δ.

    signal and lengths: as in `node_signals`.
    """
    if isinstance(cell, GRUResetBefore):  # δ_r of one unit needs δ_n of all units first
        deltas = node_signals(cell, weights, trajectory, signal, lengths)
        return weight_gradients(cell, weights, trajectory, deltas)
    run: Any = torch.ops.timelocal.credit if torch.compiler.is_compiling() else _credit
    past = (list(trajectory.states), trajectory.gates, trajectory.auxiliary)
    biased = weights.b_ih is not None
    made = run(*kind_of(cell), weights.hh, *past, trajectory.inputs, signal, lengths, biased)
    return named_gradients(made, weights)


def _folded(weights: CellWeights) -> Tensor:
    """W D. The kernels do not know D; W (D h) equals (W D) h, unless a gate stands between W and D."""
    return weights.hh if weights.decorrelation is None else weights.hh @ weights.decorrelation


def named_gradients(made: list[Tensor], weights: CellWeights) -> CellWeights:
    """The kernels' gradients by name. They give the gradient of W D; times Dᵀ, it is that of W."""
    ih, hh, *biases = made
    b_ih, b_hh = biases if biases else (None, None)
    return CellWeights(ih, weights.decorrelated(hh), b_ih, b_hh)


def kind_of(cell: Cell) -> tuple[int, float]:
    """The cell as the kernels identify it: its code, and 1/τ, the share by which its state moves per step."""
    if _module is None or type(cell) not in _CODES:
        why = _reason if _module is None else f"no native kernel supports {cell!r}"
        raise UnsupportedError(f"{why}. Use the torch twin")
    return _CODES[type(cell)], 1 / cell.tau if isinstance(cell, RNNCell) else 1.0


# --- the operators: tensors in, new tensors out ---------------------------------------------


def _scan(
    code: int,
    gain: float,
    inputs: Tensor,
    ih: Tensor,
    hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    initial: list[Tensor],
    noise: Tensor | None,
) -> list[Tensor]:
    weights = CellWeights(*dense(ih, hh, b_ih, b_hh))
    inputs, noise, *initial = dense(inputs, noise, *initial)
    made, call = ready_to_scan(code, gain, inputs, weights, initial, noise)
    extension().scan(*call, inputs.data_ptr(), address(noise), *addresses_of(initial))
    return made


def ready_to_scan(
    code: int,
    gain: float,
    inputs: Tensor,
    weights: CellWeights,
    initial: list[Tensor],
    noise: Tensor | None,
) -> tuple[list[Tensor], tuple[int | float, ...]]:
    """Check everything that a scan reads; return an empty trajectory and the scan's first arguments.

    initial: may be empty, for zeros, if the kernel accepts that.
    """
    steps, batch, features = inputs.shape
    hh = weights.hh
    hidden, nodes = _sizes(code, hh)
    check(
        hh,
        ("inputs", inputs, (steps, batch, features)),
        ("weight_ih", weights.ih, (nodes, features)),
        ("weight_hh", weights.hh, (nodes, hidden)),
        ("bias_ih", weights.b_ih, (nodes,)),
        ("bias_hh", weights.b_hh, (nodes,)),
        ("node_noise", noise, (steps, batch, nodes)),
        *(("initial state", state, (batch, hidden)) for state in initial),
    )
    made, count = _empty_trajectory(code, gain, inputs, hh), _STATES[code]
    states, rest = made[:count], [tensor.data_ptr() for tensor in made[count:]]
    if not rest:  # a plain RNN's gates are its states after the initial one
        rest = [states[0].data_ptr() + batch * hidden * hh.element_size()]
    gates, auxiliary = rest if len(rest) == 2 else (rest[0], 0)
    return made, _call(code, gain, inputs.shape, weights, states, gates, auxiliary)


def _backward_scan(
    code: int,
    gain: float,
    hh: Tensor,
    states: list[Tensor],
    gates: Tensor,
    auxiliary: Tensor | None,
    signal: Tensor | None,
    final: list[Tensor],
) -> list[Tensor]:
    steps, batch, _ = gates.shape
    hidden, _ = _sizes(code, hh)
    hh, gates, auxiliary, signal, *states = dense(hh, gates, auxiliary, signal, *states)
    carried = [state.clone(memory_format=torch.contiguous_format) for state in final]
    check(
        hh,
        *_expected(code, hh, states, gates, auxiliary),
        ("signal", signal, (steps, batch, hidden)),
        *(("final signal", state, (batch, hidden)) for state in carried),
    )
    deltas = gates.new_empty(gates.shape)
    extension().backward_scan(
        *_past(code, gain, gates.shape, hh, states, gates, auxiliary),
        address(signal),
        deltas.data_ptr(),
        *addresses_of(carried),
    )
    return [deltas, *carried]


def _node_signals(
    code: int,
    gain: float,
    hh: Tensor,
    states: list[Tensor],
    gates: Tensor,
    auxiliary: Tensor | None,
    signal: Tensor,
    lengths: Tensor | None,
) -> Tensor:
    steps, batch, _ = gates.shape
    hidden, _ = _sizes(code, hh)
    hh, gates, auxiliary, signal, lengths, *states = dense(
        hh, gates, auxiliary, signal, lengths, *states
    )
    check(
        hh,
        *_expected(code, hh, states, gates, auxiliary),
        ("signal", signal, _signal_shape(signal, steps, batch, hidden)),
    )
    _check_lengths(lengths, batch)
    deltas = gates.new_empty(gates.shape)
    extension().node_signals(
        *_past(code, gain, gates.shape, hh, states, gates, auxiliary),
        signal.data_ptr(),
        _step_stride(signal),
        address(lengths),
        deltas.data_ptr(),
    )
    return deltas


def _weight_gradients(
    code: int,
    gain: float,
    hh: Tensor,
    states: list[Tensor],
    gates: Tensor,
    auxiliary: Tensor | None,
    inputs: Tensor,
    deltas: Tensor,
    biased: bool,
) -> list[Tensor]:
    steps, batch, features = inputs.shape
    gates, auxiliary, inputs, deltas, *states = dense(gates, auxiliary, inputs, deltas, *states)
    check(
        hh,
        *_expected(code, hh, states, gates, auxiliary),
        ("inputs", inputs, (steps, batch, features)),
        ("deltas", deltas, tuple(gates.shape)),
    )
    made = empty_gradients(hh, inputs, biased)
    extension().weight_gradients(
        *_past(code, gain, inputs.shape, hh, states, gates, auxiliary),
        inputs.data_ptr(),
        deltas.data_ptr(),
        *gradient_addresses(made),
    )
    return made


def _credit(
    code: int,
    gain: float,
    hh: Tensor,
    states: list[Tensor],
    gates: Tensor,
    auxiliary: Tensor | None,
    inputs: Tensor,
    signal: Tensor,
    lengths: Tensor | None,
    biased: bool,
) -> list[Tensor]:
    steps, batch, features = inputs.shape
    hidden, _ = _sizes(code, hh)
    gates, auxiliary, inputs, signal, lengths, *states = dense(
        gates, auxiliary, inputs, signal, lengths, *states
    )
    check(
        hh,
        *_expected(code, hh, states, gates, auxiliary),
        ("inputs", inputs, (steps, batch, features)),
        ("signal", signal, _signal_shape(signal, steps, batch, hidden)),
    )
    _check_lengths(lengths, batch)
    made = empty_gradients(hh, inputs, biased)
    extension().credit(
        *_past(code, gain, inputs.shape, hh, states, gates, auxiliary),
        signal.data_ptr(),
        _step_stride(signal),
        address(lengths),
        inputs.data_ptr(),
        *gradient_addresses(made),
    )
    return made


def gradient_addresses(made: list[Tensor]) -> tuple[int, ...]:
    """The addresses of the gradients of both weights and, if there are biases, of both biases."""
    return tuple(made[i].data_ptr() if i < len(made) else 0 for i in range(4))


def extension() -> ModuleType:
    """The extension module in use; call this only if `serves` returns True."""
    assert _module is not None
    return _module


def _sizes(code: int, hh: Tensor) -> tuple[int, int]:
    """The numbers of hidden units and nodes."""
    hidden = hh.shape[-1]
    return hidden, _GATES[code] * hidden


def dense(*tensors: Any) -> list[Any]:
    """Each tensor in contiguous memory, as the kernels read it."""
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _empty_trajectory(code: int, gain: float, inputs: Tensor, hh: Tensor) -> list[Tensor]:
    """The states, then the other stored values of the cell: none (plain RNN), gates, auxiliary."""
    steps, batch, _ = inputs.shape
    hidden, nodes = _sizes(code, hh)
    made = [inputs.new_empty(steps + 1, batch, hidden) for _ in range(_STATES[code])]
    if code > 0 or gain != 1.0:
        made.append(inputs.new_empty(steps, batch, nodes))
    if code > 0:
        made.append(inputs.new_empty(steps, batch, hidden))
    return made


def empty_gradients(hh: Tensor, inputs: Tensor, biased: bool) -> list[Tensor]:
    """Empty tensors for the gradients of both weights, then of both biases."""
    nodes, hidden = hh.shape
    made = [inputs.new_empty(nodes, inputs.shape[-1]), inputs.new_empty(nodes, hidden)]
    return [*made, inputs.new_empty(nodes), inputs.new_empty(nodes)] if biased else made


Expected = tuple[str, Tensor | None, tuple[int, ...]]
"""A tensor's name, the tensor if there is one, and the shape it must have."""


def _expected(
    code: int, hh: Tensor, states: list[Tensor], gates: Tensor, auxiliary: Tensor | None
) -> list[Expected]:
    steps, batch, _ = gates.shape
    hidden, nodes = _sizes(code, hh)
    return [
        ("weight_hh", hh, (nodes, hidden)),
        *(("states", state, (steps + 1, batch, hidden)) for state in states),
        ("gates", gates, (steps, batch, nodes)),
        ("auxiliary", auxiliary, (steps, batch, hidden)),
    ]


def _signal_shape(signal: Tensor, steps: int, batch: int, hidden: int) -> tuple[int, ...]:
    """The shape of a signal: the same one at every step, or one per step."""
    return (batch, hidden) if signal.dim() == 2 else (steps, batch, hidden)


def _step_stride(signal: Tensor) -> int:
    """The distance in memory between the signals of neighbouring steps."""
    return 0 if signal.dim() == 2 else signal.shape[1] * signal.shape[2]


def _check_lengths(lengths: Tensor | None, batch: int) -> None:
    if lengths is not None and (lengths.shape != (batch,) or lengths.dtype != torch.int64):
        got = f"{tuple(lengths.shape)} {lengths.dtype}"
        raise_problems([Problem("lengths", got, f"({batch},) torch.int64")])


def check(like: Tensor, *tensors: Expected) -> None:
    """Refuse tensors of any other shape, dtype or device, which the kernels would misread."""
    dtype = like.dtype
    wrong = [
        (name, tensor, shape)
        for name, tensor, shape in tensors
        if tensor is not None
        and (tensor.shape != shape or tensor.dtype != dtype or not tensor.is_cpu)
    ]
    if dtype not in DTYPES:
        wrong = [(name, tensor, shape) for name, tensor, shape in tensors if tensor is not None]
    if wrong:
        expected = dtype if dtype in DTYPES else "torch.float32 or float64"
        raise_problems(
            Problem(
                name,
                f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}",
                f"{shape} {expected} on cpu",
            )
            for name, tensor, shape in wrong
        )


def address(tensor: Tensor | None) -> int:
    """The address of a tensor's first element, 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def addresses_of(states: list[Tensor]) -> tuple[int, int]:
    """The addresses of h and of c, 0 if there is none."""
    h, c = (*states, None, None)[:2]
    return address(h), address(c)


def _call(
    code: int,
    gain: float,
    shape: torch.Size,
    weights: CellWeights,
    states: list[Tensor],
    gates: int,
    auxiliary: int,
) -> tuple[int | float, ...]:
    """The first arguments of every kernel. The caller keeps the tensors alive until the kernel returns."""
    return (
        weights.hh.element_size(),
        code,
        torch.get_num_threads(),
        *shape,
        weights.hh.shape[1],
        gain,
        *map(address, (weights.ih, weights.hh, weights.b_ih, weights.b_hh)),
        *addresses_of(states),
        gates,
        auxiliary,
    )


def _past(
    code: int,
    gain: float,
    shape: torch.Size,
    hh: Tensor,
    states: list[Tensor],
    gates: Tensor,
    auxiliary: Tensor | None,
) -> tuple[int | float, ...]:
    """`_call` for a kernel that reads the results of a scan."""
    weights = CellWeights(hh, hh, None, None)
    return _call(code, gain, shape, weights, states, gates.data_ptr(), address(auxiliary))


def _scan_shapes(
    code: int, gain: float, inputs: Tensor, ih: Tensor, hh: Tensor, *rest: Any
) -> list[Tensor]:
    return _empty_trajectory(code, gain, inputs, hh)


def _backward_shapes(
    code: int, gain: float, hh: Tensor, states: list[Tensor], gates: Tensor, *rest: Any
) -> list[Tensor]:
    return [gates.new_empty(gates.shape), *(torch.empty_like(state) for state in rest[-1])]


def _signals_shapes(
    code: int, gain: float, hh: Tensor, states: list[Tensor], gates: Tensor, *rest: Any
) -> Tensor:
    return gates.new_empty(gates.shape)


def _gradient_shapes(
    code: int, gain: float, hh: Tensor, states: list[Tensor], gates: Tensor, *rest: Any
) -> list[Tensor]:
    return empty_gradients(hh, rest[1], rest[3])


def _credit_shapes(
    code: int, gain: float, hh: Tensor, states: list[Tensor], gates: Tensor, *rest: Any
) -> list[Tensor]:
    return empty_gradients(hh, rest[1], rest[4])


_PAST = "int code, float gain, Tensor hh, Tensor[] states, Tensor gates, Tensor? auxiliary"
_OPERATORS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "scan(int code, float gain, Tensor inputs, Tensor ih, Tensor hh, Tensor? b_ih, Tensor? b_hh, "
    "Tensor[] initial, Tensor? noise) -> Tensor[]": (_scan, _scan_shapes),
    f"backward_scan({_PAST}, Tensor? signal, Tensor[] final) -> Tensor[]": (
        _backward_scan,
        _backward_shapes,
    ),
    f"node_signals({_PAST}, Tensor signal, Tensor? lengths) -> Tensor": (
        _node_signals,
        _signals_shapes,
    ),
    f"weight_gradients({_PAST}, Tensor inputs, Tensor deltas, bool biased) -> Tensor[]": (
        _weight_gradients,
        _gradient_shapes,
    ),
    f"credit({_PAST}, Tensor inputs, Tensor signal, Tensor? lengths, bool biased) -> Tensor[]": (
        _credit,
        _credit_shapes,
    ),
}
_library = torch.library.Library("timelocal", "DEF")
for _schema, (_run, _shapes) in _OPERATORS.items():
    _name = _schema.partition("(")[0]
    _library.define(_schema)
    _library.impl(_name, _run, "CPU")
    torch.library.register_fake(f"timelocal::{_name}", _shapes, lib=_library)
