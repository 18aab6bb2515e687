"""A cell from its equations alone: every derivative of one step by autograd, none through time.

    a_t = nodes(x_t, h*_{t-1}, …)          uses the parameters: pre-activations, one block of h per gate
    s_t = update(a_t, s_{t-1})             the rest: nonlinearities, gates, leaks; no parameters

The two functions are the whole cell. A rule sends a signal δ to the nodes; autograd of `update` leads to the
nodes, and autograd of `nodes` from there to the parameters, the inputs and the previous states.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from timelocal.cells.cell import (
    Cell,
    LayerTrajectory,
    LocalJacobian,
    Outer,
    ReducedJacobian,
    StepBuffers,
    Trace,
    outer_sum,
)
from timelocal.cells.weights import CellWeights
from timelocal.errors import Problem
from timelocal.typing import State

Function = Callable[..., tuple[Tensor, ...]]


class AutogradCell(Cell):
    """A recurrent cell of your own, from its parameters' shapes and its forward equations.

        a_t = nodes(x_t, h_{t-1}, …)     s_t = update(a_t, s_{t-1})

    A cell has a `name`, `gate_names` (one block of nodes each), `parameter_shapes`, `nodes` and `update`. It
    may have other `state_names` than ("h",), its own way to `initialise` a parameter, and `features` of its
    states (f of them, `features_size`) that the readout and the layer above see in place of h. The functions
    get rows: inputs (n, i), each state (n, h), nodes (n, gates · h). They must not modify these.

    A cell may declare the following, measured by `timelocal.testing.check_cell`:

        acts_locally = False    a node acts on the new states of other units than its own
        elementwise = True      a unit's nodes see no other unit's past (there is no matrix W)
        decorrelates = False    h cannot be replaced by D h
        biases = ("bias",)      parameters that `bias=False` leaves out: `weights.bias` is then None

    >>> import torch, timelocal as tl
    >>> class IndRNN(tl.AutogradCell):
    ...     name, gate_names, elementwise = "indrnn", ("a",), True
    ...     def parameter_shapes(self, input_size, hidden_size):
    ...         return {"weight_ih": (hidden_size, input_size), "u": (hidden_size,), "bias": (hidden_size,)}
    ...     def nodes(self, weights, inputs, states):
    ...         return inputs @ weights.weight_ih.t() + weights.u * states[0] + weights.bias
    ...     def update(self, nodes, states):
    ...         return (nodes.tanh(),)
    >>> network = tl.from_cell(IndRNN(), 3, 8, output_size=2)
    >>> rule = tl.EProp(network, feedback="symmetric", at="every")
    >>> rule(torch.randn(4, 9, 3), torch.randint(2, (4, 9))).backward()

    Every rule can train it. Autograd runs through single steps only, so the memory use of a rule does not
    change. To make a cell faster, override a derivative (`node_signal_of_states`, `backward_step`, …) by a
    closed form. A weight behind a nonlinearity, such as W_n (r ⊙ h) in the GRU with `reset_after=False`,
    does not fit into `nodes`: write such a cell as a `Cell`.
    """

    leaks = True
    biases = ()

    @abstractmethod
    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters by name; in `nodes` the parameters are attributes of `weights`."""

    @abstractmethod
    def nodes(self, weights: Any, inputs: Tensor, states: State) -> Tensor:
        """a (n, gates · h) from inputs (n, i) and the previous states, each (n, h).

        states[0] is h as seen by the recurrent weights: D h if the layer decorrelates, unless the cell has
        its own features, to which D is then applied.
        """

    @abstractmethod
    def update(self, nodes: Tensor, states: State) -> State:
        """The new states, each (n, h), from the nodes and the previous states."""

    def features_signal(self, states: State, signal: Tensor) -> State:
        if self.features_are_hidden:
            return super().features_signal(states, signal)
        return _vjp(lambda *own: (self.features(own),), states, (signal,))

    def features_tangent(self, states: State, tangents: State) -> Tensor:
        if self.features_are_hidden:
            return super().features_tangent(states, tangents)
        return _jvp(lambda *own: (self.features(own),), states, tangents)[0]

    def step_problems(
        self, weights: CellWeights, input_size: int, hidden_size: int
    ) -> list[Problem]:
        """Problems with the shapes that one step produces, if any."""
        like, rows = next(own for own in weights if own is not None), 2
        inputs = like.new_zeros(rows, input_size)
        states = tuple(like.new_zeros(rows, hidden_size) for _ in self.state_names)
        width = len(self.gate_names) * hidden_size
        with torch.no_grad():
            try:
                found: object = self.nodes(weights, inputs, states)
            except (RuntimeError, TypeError, AttributeError, ValueError) as error:
                return [Problem(f"nodes of {self.name}", str(error), f"a tensor (n, {width})")]
            if not (isinstance(found, Tensor) and found.shape == (rows, width)):
                gates = f"{len(self.gate_names)} gates of {hidden_size} units"
                expected = f"a tensor ({rows}, {width}), {gates}, for {rows} rows"
                return [Problem(f"nodes of {self.name}", _told(found), expected)]
            try:
                made: object = self.update(found, states)
            except (RuntimeError, TypeError, AttributeError, ValueError) as error:
                return [Problem(f"update of {self.name}", str(error), "a tuple of states (n, h)")]
        right = isinstance(made, tuple) and [_told(new) for new in made] == [
            _told(s) for s in states
        ]
        if right:
            return self._features_problems(states)
        got = f"({', '.join(map(_told, made))})" if isinstance(made, tuple) else _told(made)
        names = ", ".join(self.state_names)
        expected = f"a tuple of {len(states)}, ({names}), each {_told(states[0])}, for {rows} rows"
        return [Problem(f"update of {self.name}", got, expected)]

    def _features_problems(self, states: State) -> list[Problem]:
        """What is wrong with features of states (n, h), if anything."""
        rows, hidden_size = states[0].shape
        wanted = f"({rows}, {self.features_size(hidden_size)})"
        try:
            seen: object = self.features(states)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            return [Problem(f"features of {self.name}", str(error), f"a tensor {wanted}")]
        if isinstance(seen, Tensor) and _told(seen) == wanted:
            return []
        expected = f"a tensor {wanted}, as `features_size` says, for {rows} rows"
        return [Problem(f"features of {self.name}", _told(seen), expected)]

    # --- the forward step -------------------------------------------------------------------

    def drives(
        self, weights: CellWeights, inputs: Tensor, node_noise: Tensor | None
    ) -> Sequence[tuple[Tensor, Tensor | None]]:
        """x_t and the noise on the nodes, step by step, since the nodes depend on the state."""
        noises = [None] * len(inputs) if node_noise is None else node_noise.unbind(0)
        return list(zip(inputs.unbind(0), noises, strict=True))

    def step(self, weights: CellWeights, drive: Any, state: State, out: StepBuffers) -> None:
        inputs, noise = drive
        entering = (self._decorrelated(weights, state[0]), *state[1:])
        out.gates.copy_(self.nodes(weights, inputs, entering))
        if noise is not None:
            out.gates.add_(noise)
        for buffer, new in zip(out.states, self.update(out.gates, state), strict=True):
            buffer.copy_(new)

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        """The difference of the pre-activations, which `gates` holds here."""
        return after.gates - before.gates

    def pre_activations(self, weights: CellWeights, trajectory: LayerTrajectory) -> Tensor:
        return trajectory.gates

    # --- the derivatives of one step --------------------------------------------------------

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """The point at which the step was taken: x_t, a_t, h*_{t-1}, and the previous states."""
        before = tuple(state[:-1] for state in trajectory.states)
        entering = trajectory.recurrent_input if self.features_are_hidden else before[0]
        return trajectory.inputs, trajectory.gates, entering, *before

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        others = [torch.zeros_like(signal)] * (len(self.state_names) - 1)
        return self.node_signal_of_states(weights, jacobian, (signal, *others))

    def node_signal_of_states(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> Tensor:
        _, nodes, _, *before = jacobian
        return _vjp(self._updated, (nodes,), signals, before)[0]

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        inputs, nodes, _, *before = jacobian
        delta, *past = _vjp(self._updated, (nodes, *before), signals)
        entering = self._entering(jacobian)
        first, *others = _vjp(self._noded(weights), entering, (delta,), (inputs,))
        first = weights.carried_back(first) if self.features_are_hidden else first
        carried = (first, *others)
        return delta, tuple(map(torch.add, past, carried))

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        inputs, nodes, _, *before = jacobian
        entering = (self._decorrelated(weights, tangents[0]), *tangents[1:])
        (moved,) = _jvp(self._noded(weights), self._entering(jacobian), entering, (inputs,))
        moved = moved if node_tangent is None else moved + node_tangent
        return _jvp(self._updated, (nodes, *before), (moved, *tangents))

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        """Columns of the Jacobian: all units at once if none affects another; otherwise unit by unit."""
        _, nodes, _, *before = jacobian
        zeros, still = [torch.zeros_like(state) for state in before], torch.zeros_like(nodes)
        diagonal = self.is_diagonal(weights.decorrelation is not None)
        alone = self.acts_locally if trace == "leak" else diagonal

        def moved(old: int, direction: Tensor) -> State:
            tangents = tuple(direction if i == old else zero for i, zero in enumerate(zeros))
            if trace == "diagonal":
                return self.jvp_step(weights, jacobian, tangents)
            return _jvp(self._updated, (nodes, *before), (still, *tangents))

        columns: list[State] = []
        for old, zero in enumerate(zeros):
            if alone:
                columns.append(moved(old, torch.ones_like(zero)))
                continue
            own = tuple(torch.empty_like(zero) for _ in zeros)
            for unit in range(zero.shape[-1]):
                direction = torch.zeros_like(zero)
                direction[..., unit] = 1
                for column, new in zip(own, moved(old, direction), strict=True):
                    column[..., unit] = new[..., unit]
            columns.append(own)
        return tuple(zip(*columns, strict=True))

    def input_tangent(
        self, weights: CellWeights, trajectory: LayerTrajectory, tangent: Tensor
    ) -> Tensor:
        entering = self._entering(self.local_jacobian(trajectory))
        nodes = self._noded(weights)
        return _jvp(lambda x, *s: nodes(*s, x), (trajectory.inputs,), (tangent,), entering)[0]

    def input_signal(
        self, weights: CellWeights, trajectory: LayerTrajectory, delta: Tensor
    ) -> Tensor:
        entering = self._entering(self.local_jacobian(trajectory))
        nodes = self._noded(weights)
        return _vjp(lambda x, *s: nodes(*s, x), (trajectory.inputs,), (delta,), entering)[0]

    # --- node signal -> weight gradients ----------------------------------------------------

    def gradients(
        self, weights: CellWeights, trajectory: LayerTrajectory, delta: Tensor
    ) -> CellWeights:
        values = self._named(weights)
        entering = self._entering(self.local_jacobian(trajectory))
        inputs, *states = (part.flatten(0, 1) for part in (trajectory.inputs, *entering))

        def nodes(*parameters: Tensor) -> tuple[Tensor, ...]:
            moved = self.weights(dict(zip(values, parameters, strict=True)), weights.decorrelation)
            return (self.nodes(moved, inputs, tuple(states)),)

        found = _pulled_back(nodes, list(values.values()), (delta.flatten(0, 1),))
        return self.weights(dict(zip(values, found, strict=True)))

    def gradient(
        self,
        weights: CellWeights,
        name: str,
        trajectory: LayerTrajectory,
        delta: Tensor,
        outer: Outer = outer_sum,
    ) -> Tensor:
        if outer is outer_sum and delta.shape[:2] == trajectory.gates.shape[:2]:
            found: Tensor = getattr(self.gradients(weights, trajectory, delta), name)
            return found
        # one copy of the parameter for every row, which then has a gradient of its own
        lead = delta.shape[:-1]
        rows = [
            part.expand(*lead, -1).flatten(0, -2)
            for part in (trajectory.inputs, *self._entering(self.local_jacobian(trajectory)))
        ]
        values = self._named(weights)
        parameter = values[name].detach()
        copies = parameter.expand(len(rows[0]), *parameter.shape)

        def one_row(own: Tensor, inputs: Tensor, *states: Tensor) -> Tensor:
            moved = self.weights({**values, name: own}, weights.decorrelation)
            return self.nodes(moved, inputs[None], tuple(state[None] for state in states))[0]

        def nodes(own: Tensor) -> tuple[Tensor, ...]:
            return (torch.func.vmap(one_row)(own, *rows),)

        (each,) = _pulled_back(nodes, (copies,), (delta.flatten(0, -2),))
        return outer(each.unflatten(0, lead), None)

    def _decorrelated(self, weights: CellWeights, hidden: Tensor) -> Tensor:
        """D h, which the nodes read; h itself if D applies to features that differ from h."""
        return weights.decorrelated(hidden) if self.features_are_hidden else hidden

    def _named(self, weights: CellWeights) -> dict[str, Tensor]:
        """The parameters that there are, by name."""
        named = zip(self.parameter_names, weights, strict=False)
        return {name: own for name, own in named if own is not None}

    def _updated(self, nodes: Tensor, *before: Tensor) -> State:
        """`update`, of one tensor after another."""
        return self.update(nodes, before)

    def _noded(self, weights: CellWeights) -> Function:
        """`nodes` of what enters of the states and then the inputs, one tensor after another."""

        def nodes(*parts: Tensor) -> tuple[Tensor, ...]:
            *entering, inputs = parts
            return (self.nodes(weights, inputs, tuple(entering)),)

        return nodes

    def _entering(self, jacobian: LocalJacobian) -> State:
        """The previous states that `nodes` reads: h*_{t-1}, and the others."""
        return jacobian[2], *jacobian[4:]


def _rows(lead: torch.Size, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Each (…, n) with these leading axes, as rows."""
    return tuple(part.expand(*lead, -1).reshape(-1, part.shape[-1]) for part in parts)


def _vjp(
    function: Function, at: Sequence[Tensor], signals: Sequence[Tensor], held: Sequence[Tensor] = ()
) -> tuple[Tensor, ...]:
    """Jᵀ signals of a function of rows of `at`, then of `held`; all leading axes broadcast."""
    lead = torch.broadcast_shapes(*(part.shape[:-1] for part in (*at, *signals)))
    fixed = _rows(lead, held)
    found = _pulled_back(
        lambda *rows: function(*rows, *fixed), _rows(lead, at), _rows(lead, signals)
    )
    return tuple(part.unflatten(0, lead) for part in found)


def _pulled_back(
    function: Function, at: Sequence[Tensor], signals: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Jᵀ signals by autograd; zero for what nothing depends on."""
    with torch.enable_grad():
        leaves = tuple(part.detach().requires_grad_() for part in at)
        made = function(*leaves)
    return _grad(made, leaves, signals)


def _pushed_forward(
    function: Function, at: Sequence[Tensor], tangents: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """J tangents by autograd: Jᵀ u is linear in u, and its own derivative in u is J."""
    with torch.enable_grad():
        leaves = tuple(part.detach().requires_grad_() for part in at)
        made = function(*leaves)
        probes = tuple(torch.zeros_like(value).requires_grad_() for value in made)
        back = _grad(made, leaves, probes, create_graph=True)
    return _grad(back, probes, tangents)


def _grad(
    values: Sequence[Tensor], leaves: Sequence[Tensor], signals: Sequence[Tensor], **options: bool
) -> tuple[Tensor, ...]:
    """`torch.autograd.grad` where some values, or all, depend on no leaf."""
    depends = [own.requires_grad for own in values]
    if not any(depends):
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    kept = [own for own, seen in zip(values, depends, strict=True) if seen]
    coming = [own for own, seen in zip(signals, depends, strict=True) if seen]
    return torch.autograd.grad(kept, leaves, coming, materialize_grads=True, **options)


def _jvp(
    function: Function,
    at: Sequence[Tensor],
    tangents: Sequence[Tensor],
    held: Sequence[Tensor] = (),
) -> tuple[Tensor, ...]:
    """J tangents of a function of rows of `at`, then of `held`; all leading axes broadcast."""
    lead = torch.broadcast_shapes(*(part.shape[:-1] for part in (*at, *tangents)))
    fixed = _rows(lead, held)
    found = _pushed_forward(
        lambda *rows: function(*rows, *fixed), _rows(lead, at), _rows(lead, tangents)
    )
    return tuple(part.unflatten(0, lead) for part in found)


def _told(value: object) -> str:
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
