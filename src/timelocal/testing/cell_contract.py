"""The contract of a cell: what must hold for every cell with derivatives, measured and shown as a table.

    from timelocal.testing import check_cell
    print(check_cell(MyCell()))          # raises AssertionError with the whole table where anything fails

Derivatives are compared with autograd through the cell's equations, written in plain torch; for a cell
without such equations, with central differences of its own forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.cells import (
    AutogradCell,
    BlackBox,
    Cell,
    CellWeights,
    ElementwiseCell,
    GRUResetAfter,
    GRUResetBefore,
    LayerTrajectory,
    LIFCell,
    LSTMCell,
    RNNCell,
    Trace,
    cell_problems,
    outer_each,
    outer_sum,
)
from timelocal.errors import UnsupportedError, raise_problems
from timelocal.seeding import generator
from timelocal.testing import reference, textbook
from timelocal.typing import State

Equations = Callable[[Mapping[str, Tensor], Tensor, State], State]
"""One step of one sequence in plain torch: parameters by name, x (i,), states (h,) -> new states (h,).

The parameters have a "decorrelation" D (h, h) if D h enters instead of h."""

EXACT, DIFFERENCES, SINGLE = 1e-10, 1e-6, 1e-4
"""Largest error allowed for a measured value: against autograd in float64, central differences, float32."""

_KNOWN = (AutogradCell, ElementwiseCell, RNNCell, GRUResetAfter, GRUResetBefore, LSTMCell, LIFCell)
_INPUTS, _HIDDEN, _SEQUENCES, _STEPS = 3, 4, 2, 4


@dataclass(frozen=True)
class Row:
    """One property of a cell: its name, what was measured, whether it holds."""

    name: str
    measured: str
    ok: bool


@dataclass(frozen=True)
class CellReport:
    """All measurements of one cell; `str` gives the table."""

    cell: str
    rows: tuple[Row, ...]

    @property
    def failures(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.ok)

    def __str__(self) -> str:
        names = ["property", *(row.name for row in self.rows)]
        measured = ["measured", *(row.measured for row in self.rows)]
        marks = ["ok", *("yes" if row.ok else "NO" for row in self.rows)]
        wide, wider = max(map(len, names)), max(map(len, measured))
        lines = [
            f"{name:<{wide}} | {value:<{wider}} | {mark}"
            for name, value, mark in zip(names, measured, marks, strict=True)
        ]
        rule = f"{'-' * wide}-+-{'-' * wider}-+---"
        return "\n".join([self.cell, lines[0], rule, *lines[1:]])


def check_cell(
    cell: Cell | type[Cell], *, equations: Equations | None = None, seed: int = 0
) -> CellReport:
    """Measure a cell: its step, its derivatives, its gradients, what it declares.

    Args:
        cell: with derivatives, or its class if that takes no arguments.
        equations: its step in plain torch, for a `Cell` with hand-written derivatives. The derivatives are
            then compared with autograd (1e-10) instead of central differences (1e-6), and the step with the
            equations.
        seed: of the parameters and the data.

    Raises:
        AssertionError: if any property does not hold, with the whole table.
        ArgumentError: if `cell` is not a cell. UnsupportedError: for a `BlackBox`, which has no derivatives.

    >>> from timelocal.cells import RNNCell
    >>> from timelocal.testing import check_cell
    >>> check_cell(RNNCell(tau=2.0)).failures
    ()
    """
    if isinstance(cell, type) and issubclass(cell, Cell):
        cell = cell()
    raise_problems(cell_problems(cell))
    assert isinstance(cell, Cell)
    if isinstance(cell, BlackBox):
        raise UnsupportedError(
            f"check_cell: got {cell!r}, expected a cell with derivatives: it is a black box. Use "
            "timelocal.black_box with a perturbation rule; the report of its scan is checked in every call."
        )
    own = _known_equations(cell) if equations is None else equations
    smooth, rows = cell.differentiable(), list[Row]()
    for setting in _settings(cell, own, seed):
        if smooth is cell:
            rows += _measured((*STEP_CHECKS, *DERIVATIVE_CHECKS), setting)
            continue
        # Surrogates: autograd gets them from the equations, differences from a twin with a smooth output.
        rows += _measured((*STEP_CHECKS, *(SURROGATE_CHECKS if own else ())), setting)
        suffix, known = f", smooth twin{setting.suffix}", _known_equations(smooth)
        twin = replace(setting, cell=smooth, equations=known, suffix=suffix)
        rows += _measured(DERIVATIVE_CHECKS, twin)
    report = CellReport(repr(cell), tuple(rows))
    if report.failures:
        raise AssertionError(f"{len(report.failures)} of {len(rows)} properties fail\n{report}")
    return report


def _known_equations(cell: Cell) -> Equations | None:
    """The equations of a cell of this package, or of an `AutogradCell`."""
    if not isinstance(cell, _KNOWN):
        return None
    return lambda parameters, x, state: reference.step(cell, parameters, x, state)


def _measured(checks: Sequence[Check], setting: Setting) -> list[Row]:
    """The rows of these checks; an error becomes a row that does not hold."""
    found = []
    for check in checks:
        try:
            rows = list(check(setting))
        except Exception as error:  # whatever an author's code raises belongs in the table
            text = " ".join(str(error).split())
            told = f"{type(error).__name__}: {text[:100]}"
            rows = [Row(check.__name__.replace("_", " "), told, False)]
        found += [replace(row, name=row.name + setting.suffix) for row in rows]
    return found


# --- what is run -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A cell with parameters and data in float64; `suffix` names what is special about it."""

    cell: Cell
    equations: Equations | None
    parameters: dict[str, Tensor]
    decorrelation: Tensor | None
    inputs: Tensor
    initial: State
    draw: Callable[..., Tensor]
    suffix: str = ""

    def weights(self, parameters: Mapping[str, Tensor] | None = None) -> CellWeights:
        own = self.parameters if parameters is None else parameters
        return self.cell.weights(own, self.decorrelation)

    def scan(
        self,
        inputs: Tensor | None = None,
        initial: State | None = None,
        noise: Tensor | None = None,
        parameters: Mapping[str, Tensor] | None = None,
    ) -> LayerTrajectory:
        """The forward pass, of the setting's own data unless others are given."""
        return kernels.scan(
            self.cell,
            self.weights(parameters),
            self.inputs if inputs is None else inputs,
            self.initial if initial is None else initial,
            noise,
        )

    def like_states(self, *lead: int) -> State:
        """Random tensors shaped like the states, (*lead, h) each."""
        return tuple(self.draw(*lead, _HIDDEN) for _ in self.cell.state_names)

    @property
    def tolerance(self) -> float:
        return DIFFERENCES if self.equations is None else EXACT

    def gradient(
        self, signal: Tensor | None, final: State, inputs: Tensor, initial: State
    ) -> dict[str, Tensor]:
        """∂L/∂ every parameter, "inputs" and each initial state, by autograd or central differences.

        L = Σ_t ⟨signal_t, features_t⟩ + Σ ⟨final, states at the end⟩.
        """
        names = [f"initial {name}" for name in self.cell.state_names]
        at = {**self.parameters, "inputs": inputs, **dict(zip(names, initial, strict=True))}

        def value(tensors: Mapping[str, Tensor]) -> Tensor:
            states = self._states(
                {name: tensors[name] for name in self.parameters},
                tensors["inputs"],
                tuple(tensors[name] for name in names),
            )
            total = sum((end * state[-1]).sum() for end, state in zip(final, states, strict=True))
            assert isinstance(total, Tensor)
            if signal is None:
                return total
            seen = textbook.features(self.cell, tuple(state[1:] for state in states))
            return total + (signal * seen).sum()

        if self.equations is None:
            return {name: _differences(value, at, name) for name in at}
        with torch.enable_grad():
            leaves = {name: own.detach().requires_grad_() for name, own in at.items()}
            found = torch.autograd.grad(
                value(leaves), list(leaves.values()), materialize_grads=True
            )
        return dict(zip(leaves, found, strict=True))

    def _states(self, parameters: Mapping[str, Tensor], inputs: Tensor, initial: State) -> State:
        """All states, (t + 1, b, h) each, by the equations if there are any."""
        if self.equations is None:
            return self.scan(inputs, initial, None, parameters).states
        given = dict(parameters)
        if self.decorrelation is not None:
            given["decorrelation"] = self.decorrelation
        rows: list[list[State]] = []
        for b in range(inputs.shape[1]):
            states = [tuple(state[b] for state in initial)]
            for x in inputs[:, b]:
                states.append(self.equations(given, x, states[-1]))
            rows.append(states)
        return tuple(
            torch.stack([torch.stack([step[index] for step in row]) for row in rows], 1)
            for index in range(len(initial))
        )


Check = Callable[[Setting], Iterator[Row]]


def _settings(cell: Cell, equations: Equations | None, seed: int) -> Iterator[Setting]:
    """The cell as it is, with D, and without its biases, where it supports these."""
    source = generator(seed, "check_cell")

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    parameters = {}
    for name, shape in cell.parameter_shapes(_INPUTS, _HIDDEN).items():
        parameter = torch.empty(shape, dtype=torch.float64)
        cell.initialise(name, parameter, _HIDDEN, source)
        parameters[name] = parameter + draw(*shape) / 10  # no parameter stays at zero
    initial = tuple(draw(_SEQUENCES, _HIDDEN) / 2 for _ in cell.state_names)
    inputs = draw(_STEPS, _SEQUENCES, _INPUTS)
    plain = Setting(cell, equations, parameters, None, inputs, initial, draw)
    yield plain
    if cell.decorrelates:
        size = cell.features_size(_HIDDEN)
        matrix = torch.eye(size, dtype=torch.float64) + draw(size, size) / 3
        yield replace(plain, decorrelation=matrix, suffix=", with D")
    if cell.biases:
        kept = {name: own for name, own in parameters.items() if name not in cell.biases}
        yield replace(plain, parameters=kept, suffix=", no biases")


# --- the step ----------------------------------------------------------------------------------


def shapes(setting: Setting) -> Iterator[Row]:
    """Parameters, states and nodes are as declared, and finite."""
    cell, run = setting.cell, setting.scan()
    nodes = len(cell.gate_names) * _HIDDEN
    told = ", ".join(f"{name} {tuple(own.shape)}" for name, own in setting.parameters.items())
    yield Row("parameters", told, True)
    wanted = [(_STEPS + 1, _SEQUENCES, _HIDDEN)] * len(cell.state_names)
    found = [tuple(state.shape) for state in run.states]
    gates = tuple(run.gates.shape)
    right = found == wanted and gates == (_STEPS, _SEQUENCES, nodes)
    yield Row("shapes of states and nodes", f"{found[0]} × {len(found)}, {gates}", right)
    finite = all(bool(part.isfinite().all()) for part in (*run.states, run.gates))
    yield Row("finite", "yes" if finite else "no", finite)


def purity(setting: Setting) -> Iterator[Row]:
    """The same data give the same run, bit for bit, and no argument is written to."""
    given = (*setting.parameters.values(), setting.inputs, *setting.initial)
    before = [tensor.clone() for tensor in given]
    one, other = setting.scan(), setting.scan()
    same = all(map(torch.equal, (*one.states, one.gates), (*other.states, other.gates)))
    yield Row("deterministic", "bit for bit" if same else "two runs differ", same)
    left = all(map(torch.equal, before, given))
    yield Row("arguments not written to", "yes" if left else "no", left)


def independence(setting: Setting) -> Iterator[Row]:
    """No sequence of a batch sees another; a run in pieces equals one whole run."""
    whole, off = setting.scan(), 0.0
    for b in range(_SEQUENCES):
        own = slice(b, b + 1)
        alone = setting.scan(setting.inputs[:, own], tuple(s[own] for s in setting.initial))
        off = max(off, _off(alone.states, tuple(state[:, own] for state in whole.states)))
    yield _row("sequences do not see each other", off, EXACT)
    half = _STEPS // 2
    first = setting.scan(setting.inputs[:half])
    second = setting.scan(setting.inputs[half:], tuple(state[-1] for state in first.states))
    joined = tuple(map(torch.cat, zip(first.states, (s[1:] for s in second.states), strict=True)))
    yield _row("a stream in pieces is one run", _off(joined, whole.states), EXACT)


def equality_with_the_equations(setting: Setting) -> Iterator[Row]:
    """The step equals its equations, if there are any."""
    if setting.equations is not None:
        states = setting._states(setting.parameters, setting.inputs, setting.initial)
        yield _row("step = its equations", _off(setting.scan().states, states), EXACT)


def types_and_devices(setting: Setting) -> Iterator[Row]:
    """The step runs in float32, and on its tensors' device: a GPU if there is one, else "meta"."""
    exact = setting.scan()

    def moved(to: Callable[[Tensor], Tensor]) -> LayerTrajectory:
        matrix = setting.decorrelation
        there = replace(setting, decorrelation=None if matrix is None else to(matrix))
        parameters = {name: to(own) for name, own in setting.parameters.items()}
        initial = tuple(map(to, setting.initial))
        return there.scan(to(setting.inputs), initial, None, parameters)

    single = moved(Tensor.float)
    kept = all(part.dtype == torch.float32 for part in (*single.states, single.gates))
    off = _off(tuple(map(Tensor.double, single.states)), exact.states)
    yield replace(_row("float32", off, SINGLE), ok=kept and off <= SINGLE)
    device = "cuda" if torch.cuda.is_available() else "meta"
    there = moved(lambda tensor: tensor.to(device))
    followed = all(part.device.type == device for part in (*there.states, there.gates))
    yield Row("follows its tensors' device", device if followed else "no", followed)


def liveness(setting: Setting) -> Iterator[Row]:
    """Every parameter moves the states."""
    still = setting.scan().states
    idle = []
    for name, own in setting.parameters.items():
        changed = {**setting.parameters, name: own + setting.draw(*own.shape) / 10}
        if _off(setting.scan(parameters=changed).states, still) == 0:
            idle.append(name)
    told = f"not {', '.join(idle)}" if idle else "all"
    yield Row("parameters that move the states", told, not idle)


STEP_CHECKS: tuple[Check, ...] = (
    shapes,
    purity,
    independence,
    equality_with_the_equations,
    types_and_devices,
    liveness,
)


# --- the derivatives of one step ---------------------------------------------------------------


def _one_step(setting: Setting) -> tuple[LayerTrajectory, State]:
    """A step in the middle of a run, and its initial states."""
    own = setting.scan().step(_STEPS // 2)
    return own, tuple(state[0] for state in own.states)


def node_signals(setting: Setting) -> Iterator[Row]:
    """(∂s_t/∂a_t)ᵀ of a signal, compared with differences over noise on the nodes."""
    cell, weights = setting.cell, setting.weights()
    own, before = _one_step(setting)
    jacobian, signals = cell.local_jacobian(own), setting.like_states(1, _SEQUENCES)

    def value(at: Mapping[str, Tensor]) -> Tensor:
        new = setting.scan(own.inputs, before, at["noise"]).states
        return torch.stack([(s * n[1:]).sum() for s, n in zip(signals, new, strict=True)]).sum()

    wanted = _differences(value, {"noise": torch.zeros_like(own.gates)}, "noise")
    found = cell.node_signal_of_states(weights, jacobian, signals)
    yield _row("signal at the nodes", _off((found,), (wanted,)), DIFFERENCES)
    rest = tuple(torch.zeros_like(signal) for signal in signals[1:])
    alone = cell.node_signal(weights, jacobian, signals[0])
    both = cell.node_signal_of_states(weights, jacobian, (signals[0], *rest))
    yield _row("signal at the nodes from h alone", _off((alone,), (both,)), EXACT)
    all_steps = setting.scan()
    signal = setting.draw(_SEQUENCES, _HIDDEN)
    once = cell.node_signal(weights, cell.local_jacobian(all_steps), signal)
    each = [
        cell.node_signal(weights, cell.local_jacobian(all_steps.step(t)), signal)
        for t in range(_STEPS)
    ]
    yield _row("all steps at once = each step", _off((once,), (torch.cat(each),)), EXACT)


def backward_derivative(setting: Setting) -> Iterator[Row]:
    """Jᵀ v of one step."""
    cell, weights = setting.cell, setting.weights()
    own, before = _one_step(setting)
    signals = setting.like_states(_SEQUENCES)
    wanted = setting.gradient(None, signals, own.inputs, before)
    jacobian = tuple(part[0] for part in cell.local_jacobian(own))
    delta, found = cell.backward_step(weights, jacobian, signals)
    states = tuple(wanted[f"initial {name}"] for name in cell.state_names)
    yield _row("Jᵀ·v", _off(found, states), setting.tolerance)
    nodes = cell.node_signal_of_states(weights, jacobian, signals)
    yield _row("its signal at the nodes", _off((delta,), (nodes,)), EXACT)


def forward_derivative(setting: Setting) -> Iterator[Row]:
    """J v of one step by ⟨u, J v⟩ for every u; with a tangent of the nodes; with many tangents at once."""
    cell, weights = setting.cell, setting.weights()
    own, before = _one_step(setting)
    jacobian = tuple(part[0] for part in cell.local_jacobian(own))
    tangents = setting.like_states(_SEQUENCES)
    moved = cell.jvp_step(weights, jacobian, tangents)
    wanted = _along(lambda e: _new_states(setting, own, _shifted(before, tangents, e)))
    yield _row("J·v", _off(moved, wanted), DIFFERENCES)
    nodes = setting.draw(_SEQUENCES, own.gates.shape[-1])
    with_nodes = cell.jvp_step(weights, jacobian, tangents, nodes)
    wanted = _along(
        lambda e: _new_states(setting, own, _shifted(before, tangents, e), e * nodes[None])
    )
    yield _row("J·v with a tangent of the nodes", _off(with_nodes, wanted), DIFFERENCES)
    entering = setting.draw(*own.inputs.shape)
    by_inputs = cell.input_tangent(weights, own, entering)[0]
    with_inputs = cell.jvp_step(weights, jacobian, tangents, by_inputs)

    def from_other_inputs(e: float) -> State:
        shifted = replace(own, inputs=own.inputs + e * entering)
        return _new_states(setting, shifted, _shifted(before, tangents, e))

    yield _row(
        "J·v with the inputs moved", _off(with_inputs, _along(from_other_inputs)), DIFFERENCES
    )
    many = tuple(torch.stack((v, -2 * v, v + 1)) for v in tangents)
    side = cell.jvp_step(weights, jacobian, many, torch.stack((nodes, nodes, 0 * nodes)))
    first = tuple(state[0] for state in side)
    second = tuple(state[1] for state in side)
    apart = cell.jvp_step(weights, jacobian, tuple(v[1] for v in many), nodes)
    yield _row("many tangents at once", _off((*first, *second), (*with_nodes, *apart)), EXACT)


def adjoint_derivatives(setting: Setting) -> Iterator[Row]:
    """J v of one step by ⟨u, J v⟩ for every u, compared with the reference's Jᵀ u."""
    cell, weights = setting.cell, setting.weights()
    own, before = _one_step(setting)
    jacobian = tuple(part[0] for part in cell.local_jacobian(own))
    tangents = setting.like_states(_SEQUENCES)
    moved, off = cell.jvp_step(weights, jacobian, tangents), 0.0
    names = [f"initial {name}" for name in cell.state_names]
    for index in range(len(moved)):
        probes = [torch.zeros_like(state) for state in moved]
        probes[index] = setting.draw(_SEQUENCES, _HIDDEN)
        back = setting.gradient(None, tuple(probes), own.inputs, before)
        left = (probes[index] * moved[index]).sum()
        right = torch.stack([(back[n] * v).sum() for n, v in zip(names, tangents, strict=True)])
        off = max(off, _off((left,), (right.sum(),)))
    yield _row("⟨u, J·v⟩ = ⟨Jᵀ·u, v⟩", off, setting.tolerance)


def features_of_the_states(setting: Setting) -> Iterator[Row]:
    """There are as many features as declared; if they are not h itself, their Jᵀ v and J v by differences."""
    cell = setting.cell
    if cell.features_are_hidden:
        return
    states, tangents = setting.like_states(_SEQUENCES), setting.like_states(_SEQUENCES)
    seen, wanted = tuple(cell.features(states).shape), (_SEQUENCES, cell.features_size(_HIDDEN))
    yield Row("shape of features", f"{seen}", seen == wanted)
    moved = _along(lambda e: (cell.features(_shifted(states, tangents, e)),))
    found = cell.features_tangent(states, tangents)
    yield _row("J·v of features", _off((found,), moved), DIFFERENCES)
    signal = setting.draw(*wanted)
    back = cell.features_signal(states, signal)
    left = torch.stack([(own * v).sum() for own, v in zip(back, tangents, strict=True)]).sum()
    yield _row("⟨u, J·v⟩ = ⟨Jᵀ·u, v⟩ of features", _off((left,), ((signal * found).sum(),)), EXACT)


def what_traces_keep(setting: Setting) -> Iterator[Row]:
    """ "diagonal": the Jacobian's diagonal entries. "leak": those of a step with its nodes held constant."""
    cell, weights = setting.cell, setting.weights()
    own, before = _one_step(setting)
    count = len(before)
    jacobian = cell.local_jacobian(own)
    for trace in ("diagonal", "leak"):
        found = cell.reduced_jacobian(weights, jacobian, trace)
        off = 0.0
        for old in range(count):
            wanted = _own_entries(setting, own, before, old, trace)
            for new in range(count):
                kept = found[new][old]
                got = torch.zeros_like(wanted[new]) if kept is None else kept.expand(1, -1, -1)[0]
                off = max(off, _off((got,), (wanted[new],)))
        yield _row(f"trace {trace!r} of the Jacobian", off, DIFFERENCES)


def what_is_declared(setting: Setting) -> Iterator[Row]:
    """`acts_locally` and `elementwise`, each if the cell declares it."""
    cell, weights = setting.cell, setting.weights()
    own, before = _one_step(setting)
    if cell.acts_locally:
        apart = ~torch.eye(_HIDDEN, dtype=torch.bool)
        worst = rows_off = 0.0
        jacobian = cell.local_jacobian(own)
        blocks = all(p.dim() and p.shape[0] % _HIDDEN == 0 for p in setting.parameters.values())
        for state in range(len(before)):
            for unit in range(_HIDDEN):
                signals = tuple(torch.zeros(1, _SEQUENCES, _HIDDEN).double() for _ in before)
                signals[state][..., unit] = 1
                delta = cell.node_signal_of_states(weights, jacobian, signals)
                others = delta.unflatten(-1, (-1, _HIDDEN))[..., apart[unit]]
                worst = max(worst, float(others.abs().max()))
                for name in setting.parameters if blocks else ():
                    gradient = cell.gradient(weights, name, own, delta)
                    foreign = gradient.unflatten(0, (-1, _HIDDEN))[:, apart[unit]]
                    rows_off = max(rows_off, float(foreign.abs().max()))
        yield _row("acts locally: nodes on other units", worst, EXACT)
        if blocks:
            yield _row("acts locally: parameters' rows", rows_off, EXACT)
    if cell.elementwise and setting.decorrelation is None:
        worst = 0.0
        for old in range(len(before)):
            for unit in range(_HIDDEN):
                direction = [torch.zeros_like(state) for state in before]
                direction[old][:, unit] = 1
                moved = cell.jvp_step(weights, cell.local_jacobian(own), tuple(direction))
                for new in moved:
                    others = torch.arange(_HIDDEN) != unit
                    worst = max(worst, float(new[..., others].abs().max()))
        yield _row("element-wise: ∂ by other units", worst, EXACT)


def change_of_the_nodes(setting: Setting) -> Iterator[Row]:
    """`node_change` recovers noise on one gate; between two runs, it is the change that makes gates equal."""
    own, before = _one_step(setting)
    plain, off = setting.scan(own.inputs, before), 0.0
    for gate in range(len(setting.cell.gate_names)):
        noise, block = torch.zeros_like(own.gates), slice(gate * _HIDDEN, (gate + 1) * _HIDDEN)
        noise[..., block] = setting.draw(1, _SEQUENCES, _HIDDEN)
        noisy = setting.scan(own.inputs, before, noise)
        found = setting.cell.node_change(setting.weights(), plain, noisy, noise)
        off = max(off, _off((found[..., block],), (noise[..., block],)))
    yield _row("measured change by noise on a gate", off, EXACT)
    inputs = own.inputs + setting.draw(*own.inputs.shape) / 4
    states = _shifted(before, setting.like_states(_SEQUENCES), 0.25)
    other, zero = setting.scan(inputs, states), torch.zeros_like(own.gates)
    first = setting.scan(own.inputs, before)
    change = setting.cell.node_change(setting.weights(), first, other, zero)
    reached = _with_nodes_moved(setting, first, before, change)
    yield _row("measured change of the nodes", _off((reached.gates,), (other.gates,)), EXACT)


# --- gradients through time --------------------------------------------------------------------


def gradients_through_time(setting: Setting) -> Iterator[Row]:
    """BPTT by the cell's own backward step, of every parameter, the inputs and the initial states."""
    cell, weights, run = setting.cell, setting.weights(), setting.scan()
    seen = cell.features_size(_HIDDEN)
    signal, final = setting.draw(_STEPS, _SEQUENCES, seen), setting.like_states(_SEQUENCES)
    wanted = setting.gradient(signal, final, setting.inputs, setting.initial)
    deltas, initial = kernels.backward_scan(cell, weights, run, signal, final)
    gradients = kernels.weight_gradients(cell, weights, run, deltas)
    for name in setting.parameters:
        found = getattr(gradients, name)
        if found is None:
            yield Row(f"gradient of {name}", "none", False)
            continue
        yield _row(f"gradient of {name}", _off((found,), (wanted[name],)), setting.tolerance)
        each = cell.gradient(weights, name, run, deltas, outer_each)
        summed = outer_sum(each, None) if each.dim() > 2 else each
        yield _row(f"sum of its terms, {name}", _off((summed,), (found,)), EXACT)
    below = cell.input_signal(weights, run, deltas)
    yield _row("signal at the inputs", _off((below,), (wanted["inputs"],)), setting.tolerance)
    states = tuple(wanted[f"initial {name}"] for name in cell.state_names)
    yield _row("signal at the initial states", _off(initial, states), setting.tolerance)


DERIVATIVE_CHECKS: tuple[Check, ...] = (
    node_signals,
    backward_derivative,
    forward_derivative,
    adjoint_derivatives,
    features_of_the_states,
    what_traces_keep,
    what_is_declared,
    change_of_the_nodes,
    gradients_through_time,
)

SURROGATE_CHECKS: tuple[Check, ...] = (
    backward_derivative,
    adjoint_derivatives,
    change_of_the_nodes,
    gradients_through_time,
)
"""The checks that compare with autograd through equations that include their surrogates."""


# --- how it is measured ------------------------------------------------------------------------


def _row(name: str, off: float, tolerance: float) -> Row:
    return Row(name, f"off by {off:.1e}, allowed {tolerance:.0e}", off <= tolerance)


def _off(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    """The largest difference, in units of the largest value (at least 1); infinite for other shapes."""
    if len(found) != len(wanted):
        return math.inf
    worst = 0.0
    for one, other in zip(found, wanted, strict=True):
        if one.shape != other.shape or not bool(one.isfinite().all()):
            return math.inf
        scale = max(1.0, float(other.abs().max()))
        worst = max(worst, float((one - other).abs().max()) / scale)
    return worst


_STEP_SIZE = 1e-5


def _along(f: Callable[[float], State]) -> State:
    """The derivative of f at 0, by central differences of two sizes (Richardson): error O(ε⁴)."""

    def slope(size: float) -> State:
        return tuple((up - down) / (2 * size) for up, down in zip(f(size), f(-size), strict=True))

    coarse, fine = slope(100 * _STEP_SIZE), slope(50 * _STEP_SIZE)
    return tuple((4 * b - a) / 3 for a, b in zip(coarse, fine, strict=True))


def _differences(
    value: Callable[[Mapping[str, Tensor]], Tensor], at: Mapping[str, Tensor], name: str
) -> Tensor:
    """∂value/∂at[name], entry by entry."""
    own = at[name]
    found = torch.zeros_like(own)
    for index in range(own.numel()):
        direction = torch.zeros_like(own)
        direction.view(-1)[index] = 1

        def moved(size: float, direction: Tensor = direction) -> State:
            return (value({**at, name: own + size * direction}),)

        found.view(-1)[index] = _along(moved)[0]
    return found


def _shifted(states: State, direction: State, size: float) -> State:
    return tuple(state + size * d for state, d in zip(states, direction, strict=True))


def _new_states(
    setting: Setting, own: LayerTrajectory, before: State, noise: Tensor | None = None
) -> State:
    """The states after the one step of `own`, from other initial states."""
    return tuple(state[1] for state in setting.scan(own.inputs, before, noise).states)


def _with_nodes_moved(
    setting: Setting, reference_run: LayerTrajectory, before: State, change: Tensor
) -> LayerTrajectory:
    """The step from `before`, with noise such that its nodes are those of the reference run plus `change`.

    A node may act on another within the step (a reset gate), so this takes a few rounds, at most one per
    gate.
    """
    weights, inputs = setting.weights(), reference_run.inputs
    noise = torch.zeros_like(change)
    for _ in range(1 + len(setting.cell.gate_names)):
        run = setting.scan(inputs, before, noise)
        noise = noise + change - setting.cell.node_change(weights, reference_run, run, noise)
    return setting.scan(inputs, before, noise)


def _own_entries(
    setting: Setting, own: LayerTrajectory, before: State, old: int, trace: Trace
) -> list[Tensor]:
    """∂(new state)_u/∂(old state)_u for every unit u, (b, h) for each new state, by differences."""
    found = [torch.zeros_like(state) for state in before]
    still = setting.scan(own.inputs, before)
    zero = torch.zeros_like(own.gates)
    for unit in range(_HIDDEN):
        direction = [torch.zeros_like(state) for state in before]
        direction[old][:, unit] = 1

        def moved(size: float, direction: list[Tensor] = direction) -> State:
            states = _shifted(before, tuple(direction), size)
            if trace == "diagonal":
                return _new_states(setting, own, states)
            held = _with_nodes_moved(setting, still, states, zero)
            return tuple(state[1] for state in held.states)

        for new, slope in zip(found, _along(moved), strict=True):
            new[:, unit] = slope[:, unit]
    return found


__all__ = ["CellReport", "Equations", "Row", "check_cell"]
