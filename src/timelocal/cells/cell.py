"""A recurrent cell: one step, its local Jacobian, and how node signals become gradients.

A *node* is a gate pre-activation a: H of them for the tanh RNN, 3H for the GRU, 4H for the LSTM. A
rule only says what signal δ reaches each node at each time; the rest is here.

`Cell` is the interface, with derivatives written out by hand. `AutogradCell` (cells/by_autograd.py) derives
them all from the forward equations: start there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from timelocal.cells.weights import CellWeights, weights_type
from timelocal.typing import State


@dataclass(frozen=True, slots=True)
class LayerTrajectory:
    """The record of one layer over a sequence, in its own time: everything a rule may need later.

    inputs (t, b, i): the inputs of weight_ih.
    states: (h,) or (h, c), each (t + 1, b, h); index 0 is the initial state.
    gates (t, b, g): the nodes after their nonlinearity (before it, for an `AutogradCell`).
    auxiliary (t, b, h) or None: anything else the cell must remember (see the cell's file).
    seen (t + 1, b, f) or None: every state as seen by the readers of the layer, if that is not h itself: the
    cell's features, or D times these if the layer decorrelates.
    """

    inputs: Tensor
    states: State
    gates: Tensor
    auxiliary: Tensor | None = None
    seen: Tensor | None = None

    @property
    def hidden(self) -> Tensor:
        """h_1 … h_T, (t, b, h)."""
        return self.states[0][1:]

    @property
    def previous(self) -> Tensor:
        """h_0 … h_{T-1}, (t, b, h): the hidden state from which each step started."""
        return self.states[0][:-1]

    @property
    def recurrent_input(self) -> Tensor:
        """The inputs of weight_hh at each step, (t, b, h): h_{t-1}, or D h_{t-1}."""
        return self.leaving[:-1]

    @property
    def leaving(self) -> Tensor:
        """Every state as seen by the layer's readers, (t + 1, b, f): h, or `seen`; index 0 is initial."""
        return self.states[0] if self.seen is None else self.seen

    @property
    def features(self) -> Tensor:
        """The states after each step as seen by the layer above or the readout, (t, b, f)."""
        return self.leaving[1:]

    def rows(self, rows: slice) -> LayerTrajectory:
        """Some of the sequences."""
        return LayerTrajectory(
            self.inputs[:, rows],
            tuple(state[:, rows] for state in self.states),
            self.gates[:, rows],
            None if self.auxiliary is None else self.auxiliary[:, rows],
            None if self.seen is None else self.seen[:, rows],
        )

    def step(self, t: int) -> LayerTrajectory:
        """Step t alone, as a run of one step."""
        return self.steps(t, t + 1)

    def steps(self, start: int, stop: int) -> LayerTrajectory:
        """Steps start … stop − 1, as a run that started from the state before them."""
        return LayerTrajectory(
            self.inputs[start:stop],
            tuple(state[start : stop + 1] for state in self.states),
            self.gates[start:stop],
            None if self.auxiliary is None else self.auxiliary[start:stop],
            None if self.seen is None else self.seen[start : stop + 1],
        )


class StepBuffers(NamedTuple):
    """The output buffers of one step: views of the trajectory's tensors at time t."""

    states: State
    gates: Tensor
    auxiliary: Tensor | None


LocalJacobian = tuple[Tensor, ...]
"""Everything that the derivatives of a step need, each (t, b, ·), or (b, ·) for a single step.

Element-wise factors of the Jacobian, (t, b, h), if a cell writes its derivatives by hand."""


Trace: TypeAlias = Literal["none", "leak", "diagonal"]
"""Which part of a unit's past is followed; `Cell.reduced_jacobian` defines it."""

ReducedJacobian: TypeAlias = tuple[tuple[Tensor | None, ...], ...]
"""[new][old]: the kept part of ∂(new state at t)/∂(old state at t−1), elementwise, (t, b, h); None is 0."""

Outer: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""(post (t, b, g), pre (t, b, i), or None for a bias) -> their contribution to a gradient."""


def outer_sum(post: Tensor, pre: Tensor | None) -> Tensor:
    """Σ_t Σ_b post ⊗ pre, as one matrix product over t·b rows: (t, b, g), (t, b, i) -> (g, i)."""
    return post.sum((0, 1)) if pre is None else post.flatten(0, -2).t() @ pre.flatten(0, -2)


def outer_each(post: Tensor, pre: Tensor | None) -> Tensor:
    """post ⊗ pre, for each step and sequence: (t, b, g), (t, b, i) -> (t, b, g, i)."""
    return post if pre is None else post.unsqueeze(-1) * pre.unsqueeze(-2)


class Cell(ABC):
    """One recurrent step and its mathematics. Cells hold no weights and no state.

    A cell of your own is easier to write as an `AutogradCell`, which derives every derivative.

    >>> import timelocal as tl
    >>> cell = tl.cells.GRUResetAfter()
    >>> cell.gate_names, cell.elementwise
    (('r', 'z', 'n'), False)
    >>> tl.from_cell(cell, 3, 8, output_size=2).recurrent.weight_hh_l0.shape
    torch.Size([24, 8])
    """

    name: ClassVar[str]
    """The name in configs and on the command line."""
    label: ClassVar[str] = ""
    """The name in text and figures, if different."""
    gate_names: ClassVar[tuple[str, ...]]
    """Gates in torch.nn's order; each owns one block of H nodes."""
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    has_auxiliary: ClassVar[bool] = False
    acts_locally: ClassVar[bool] = True
    """Whether, within a step, a node acts on the states of its own unit only, and each row of a parameter
    (the rows of its first axis are blocks of h) on the nodes of its own unit only."""
    elementwise: ClassVar[bool] = False
    """Whether a unit's nodes see no other unit's past: the Jacobian of the states is then diagonal."""
    decorrelates: ClassVar[bool] = True
    """Whether D h can replace h in what the nodes and the readout see."""
    pseudo_derivatives: ClassVar[bool] = False
    """Whether the derivatives are surrogates, which difference quotients of the step do not show."""
    biases: ClassVar[tuple[str, ...]] = ("bias_ih", "bias_hh")
    """The parameters that `bias=False` leaves out; the weights then hold None instead."""
    leaks: bool = True
    """Whether part of a state reaches the next one without passing a weight."""
    penalised: bool = False
    """Whether the cell has a penalty on its `activity`, whose gradient is added to that of any rule."""
    gates_are_hidden: bool = False
    """Whether the gates are the new hidden state itself, so that one buffer serves both."""
    features_are_hidden: ClassVar[bool] = True
    """Whether the layer's readers see h itself: true unless a cell has its own `features`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.features_are_hidden = cls.features is Cell.features

    # --- parameters -------------------------------------------------------------------------

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """The parameters of a layer and direction by name, in the order of `CellWeights`; torch.nn's here."""
        nodes = len(self.gate_names) * hidden_size
        return {
            "weight_ih": (nodes, input_size),
            "weight_hh": (nodes, hidden_size),
            "bias_ih": (nodes,),
            "bias_hh": (nodes,),
        }

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of `CellWeights`."""
        return tuple(self.parameter_shapes(1, 1))

    def weights(
        self, parameters: Mapping[str, Tensor], decorrelation: Tensor | None = None
    ) -> CellWeights:
        """Weights from parameters, or anything of their shapes, by name; those left out are None."""
        values = map(parameters.get, self.parameter_names)
        return weights_type(self.parameter_names)._make((*values, decorrelation))

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        """Fill a new parameter in place: torch.nn's law U(−1/√h, 1/√h) unless a cell has one of its own."""
        bound = 1 / sqrt(hidden_size)
        parameter.uniform_(-bound, bound, generator=generator)

    # --- what of the states is seen ---------------------------------------------------------

    def features_size(self, hidden_size: int) -> int:
        """f, how many features a layer of h units has: what sizes the readout, feedback matrices and D."""
        return hidden_size

    def features(self, states: State) -> Tensor:
        """The features (…, f) that readout and upper layer read, from states (…, h) each; h itself here."""
        return states[0]

    def features_signal(self, states: State, signal: Tensor) -> State:
        """From a signal at the features (…, f) to those at all the states they were made from, (…, h)."""
        return signal, *(torch.zeros_like(signal) for _ in states[1:])

    def features_tangent(self, states: State, tangents: State) -> Tensor:
        """The forward derivative of `features`: how they move, (…, f), when states move by `tangents`."""
        return tangents[0]

    def is_diagonal(self, decorrelated: bool) -> bool:
        """Whether the Jacobian of the states is diagonal, a block for each unit; `decorrelated`: with a D.

        The diagonal trace is then all of it. D enters the nodes in the place of h, unless the cell has
        features of its own: it then stands between these and what reads them.
        """
        enters = decorrelated and self.features_are_hidden
        return self.elementwise and self.acts_locally and not enters

    def activity(self, states: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """The penalty of a `penalised` cell on what its units do, a scalar, and its gradient at all states.

        states: after each step, (t, b, h) each; valid (t, b): which steps are not padding, None for all.
        """
        raise NotImplementedError(f"{type(self).__name__} has no penalty on its activity")

    def differentiable(self) -> Cell:
        """A cell whose true derivatives are those of this one: itself, unless these are surrogates."""
        return self

    # --- the forward step -------------------------------------------------------------------

    def drive(self, weights: CellWeights, inputs: Tensor, node_noise: Tensor | None) -> Tensor:
        """The part of the pre-activations that does not wait for the state, for all t at once.

        V x_t + b (+ ξ_t), (t, b, i) -> (t, b, g). Noise on the nodes joins here, once for all cells.
        """
        bias = self.drive_bias(weights)
        flat = inputs.flatten(0, 1)
        into = weights.weight_ih.t()
        drive = flat @ into if bias is None else torch.addmm(bias, flat, into)
        drive = drive.unflatten(0, inputs.shape[:2])
        return drive if node_noise is None else drive.add_(node_noise)

    def drive_bias(self, weights: CellWeights) -> Tensor | None:
        """The biases that are simply added to the pre-activation, (g,)."""
        if weights.b_ih is None or weights.b_hh is None:
            return None
        return weights.b_ih + weights.b_hh

    def drives(
        self, weights: CellWeights, inputs: Tensor, node_noise: Tensor | None
    ) -> Sequence[Any]:
        """What `step` is given, one for each step: the rows of `drive`."""
        return self.drive(weights, inputs, node_noise).unbind(0)

    @abstractmethod
    def step(self, weights: CellWeights, drive: Any, state: State, out: StepBuffers) -> None:
        """One time step: write the new state, gates and auxiliary values into `out`."""

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        """a' − a (t, b, g) between two runs with the same weights, the second with noise on its nodes.

        Made from what entered the nodes, not from the pre-activations: nothing cancels but equal inputs.
        """
        from_inputs = (after.inputs - before.inputs) @ weights.ih.t()
        from_states = after.recurrent_input - before.recurrent_input
        return (from_states @ weights.hh.t()).add_(from_inputs).add_(noise)

    def pre_activations(self, weights: CellWeights, trajectory: LayerTrajectory) -> Tensor:
        """a (t, b, g), made from what entered the nodes: `node_change` from a run of zeros."""
        rest = LayerTrajectory(
            torch.zeros_like(trajectory.inputs),
            tuple(map(torch.zeros_like, trajectory.states)),
            torch.zeros_like(trajectory.gates),
            None if trajectory.auxiliary is None else torch.zeros_like(trajectory.auxiliary),
            None if trajectory.seen is None else torch.zeros_like(trajectory.seen),
        )
        bias = self.drive_bias(weights)
        still = trajectory.gates.new_zeros(()) if bias is None else bias
        return self.node_change(weights, rest, trajectory, still)

    # --- state signal -> node signal --------------------------------------------------------

    @abstractmethod
    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """The elementwise derivatives of every step, for all t at once."""

    @abstractmethod
    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        """δ (…, g) at the nodes of a step from the signal G (…, h) at that step's hidden state.

        Local to the step, so all t at once: `jacobian` (t, b, h), `signal` (t, b, h) or one that
        broadcasts to it.
        """

    def node_signal_of_states(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> Tensor:
        """`node_signal` from signals at all the states of a step, (h_t, …), not at h_t alone."""
        return self.node_signal(weights, jacobian, signals[0])

    @abstractmethod
    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        """One step of backpropagation: signals at (h_t, …) -> δ_t (b, g), signals at (h_{t-1}, …)."""

    @abstractmethod
    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        """What a trace keeps of the Jacobian of the states (h_t, …) in those before, (h_{t-1}, …).

        "leak": the part that passes through no weight. "diagonal": how each unit's states depend on its
        own, in whatever way. "none": never asked for.
        """

    @abstractmethod
    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        """The forward derivative of a step: how its new states move, J v + (∂s_t/∂a_t) ȧ.

        tangents v: of the states before it, (h_{t-1}, …), each (…, b, h); node_tangent ȧ (…, b, g): added to
        the pre-activations besides, or None. Leading axes that `jacobian` does not have are many tangents
        side by side.
        """

    def input_tangent(
        self, weights: CellWeights, trajectory: LayerTrajectory, tangent: Tensor
    ) -> Tensor:
        """V ẋ: how the nodes (…, g) move when what entered the layer moves by `tangent` (…, i).

        The transpose of `input_signal`. trajectory: of the same steps, its axes those of `tangent` or
        broadcasting to them.
        """
        return tangent @ weights.weight_ih.t()

    # --- node signal -> inputs --------------------------------------------------------------

    def input_signal(
        self, weights: CellWeights, trajectory: LayerTrajectory, delta: Tensor
    ) -> Tensor:
        """Vᵀ δ: from node signals (…, g) to the signal at what entered the layer, (…, i).

        trajectory: of the same steps, its axes those of `delta` or broadcasting to them.
        """
        return delta @ weights.weight_ih

    # --- node signal -> weight gradients ----------------------------------------------------

    def recurrent_signal(self, trajectory: LayerTrajectory, delta: Tensor) -> Tensor:
        """δ as it reaches weight_hh and b_hh; it differs from δ only if a gate stands in between."""
        return delta

    def gradients(
        self, weights: CellWeights, trajectory: LayerTrajectory, delta: Tensor
    ) -> CellWeights:
        """`gradient` of every parameter, as weights; D has none."""
        found = [
            None if parameter is None else self.gradient(weights, name, trajectory, delta)
            for name, parameter in zip(self.parameter_names, weights, strict=False)
        ]
        return type(weights)(*found)  # type: ignore[arg-type]

    def gradient(
        self,
        weights: CellWeights,
        name: str,
        trajectory: LayerTrajectory,
        delta: Tensor,
        outer: Outer = outer_sum,
    ) -> Tensor:
        """Σ_t δ_t ⊗ (what entered this parameter at t), of the parameter's shape.

        name: as in `parameter_shapes`. outer: `outer_each` for the terms of the sum one by one, (t, b, …);
        delta may then have more steps than the trajectory's one.
        """
        if name == "weight_ih":
            return outer(delta, trajectory.inputs)
        if name == "bias_ih":
            return outer(delta, None)
        if name == "bias_hh":
            return outer(self.recurrent_signal(trajectory, delta), None)
        return self.gradient_hh(trajectory, delta, outer)

    def gradient_hh(
        self, trajectory: LayerTrajectory, delta: Tensor, outer: Outer = outer_sum
    ) -> Tensor:
        """Σ_t δ_t ⊗ (what entered weight_hh at t), (g, h)."""
        return outer(self.recurrent_signal(trajectory, delta), trajectory.recurrent_input)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def seen_of(cell: Cell, weights: CellWeights, states: State) -> Tensor | None:
    """The states (…, h) as seen by a layer's readers, (…, f), if that is not h itself; otherwise None."""
    if cell.features_are_hidden and weights.decorrelation is None:
        return None
    return weights.decorrelated(cell.features(states))


def at_states(cell: Cell, states: State, signal: Tensor) -> State:
    """A signal at the features of states (…, h), as a signal at the first state; the others get none.

    If the features are h, this is the signal itself, at h only.
    """
    return (signal,) if cell.features_are_hidden else cell.features_signal(states, signal)


def zero_state(cell: Cell, inputs: Tensor, hidden_size: int) -> State:
    """The default initial states of sequences (t, b, i), each (b, h)."""
    shape = (inputs.shape[1], hidden_size)
    return tuple(inputs.new_zeros(shape) for _ in cell.state_names)
