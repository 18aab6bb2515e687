"""Gradients by autograd through a plain, slow network: the oracle the library is held to.

Nothing here is shared with the code it judges: one sequence at a time, one step at a time, the cells'
equations written out again, no padding, no batching, torch's own losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from timelocal.cells import (
    AutogradCell,
    Cell,
    ElementwiseCell,
    GRUResetAfter,
    GRUResetBefore,
    LIFCell,
    LSTMCell,
    RNNCell,
)
from timelocal.losses import BCE, MSE, CrossEntropy, Custom, Loss
from timelocal.network import Network
from timelocal.testing import textbook
from timelocal.typing import Gradients, Place, State

HiddenStates = list[list[list[Tensor]]]
"""[l][d][s]: the features (f,) after step s of that direction's own time, not decorrelated; h as a rule."""

Entered = list[list[list[tuple[Tensor, State]]]]
"""[l][d][s]: the inputs (x, previous states) of step s of that layer, in that direction's own time."""


def step(cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, state: State) -> State:
    """One step of one sequence, from the cells' textbook equations. x (i,), states (h,).

    If `parameters` has a "decorrelation" D, weight_hh multiplies D h; gates and leaks still carry over h.
    An `AutogradCell` brings its own equations.
    """
    h = state[0]
    into = _into(cell, parameters, h)
    if isinstance(cell, AutogradCell | ElementwiseCell | LIFCell):
        return textbook.update(cell, textbook.nodes(cell, parameters, x, (into, *state[1:])), state)
    zero = x.new_zeros(())
    from_input = parameters["weight_ih"] @ x + parameters.get("bias_ih", zero)
    w_hh, b_hh = parameters["weight_hh"], parameters.get("bias_hh", zero)
    if isinstance(cell, RNNCell):
        return ((1 - 1 / cell.tau) * h + torch.tanh(from_input + w_hh @ into + b_hh) / cell.tau,)
    if isinstance(cell, LSTMCell):
        i, f, g, o = (from_input + w_hh @ into + b_hh).chunk(4)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    w_r, w_z, w_n = w_hh.chunk(3)
    b_r, b_z, b_n = b_hh.chunk(3) if b_hh.dim() else (b_hh,) * 3
    x_r, x_z, x_n = from_input.chunk(3)
    r = torch.sigmoid(x_r + w_r @ into + b_r)
    z = torch.sigmoid(x_z + w_z @ into + b_z)
    if isinstance(cell, GRUResetAfter):
        n = torch.tanh(x_n + r * (w_n @ into + b_n))
    elif isinstance(cell, GRUResetBefore):
        n = torch.tanh(x_n + w_n @ (r * into) + b_n)
    else:
        raise TypeError(f"no textbook equations for {cell!r}")
    return ((1 - z) * n + z * h,)


def _into(cell: Cell, parameters: Mapping[str, Tensor], h: Tensor) -> Tensor:
    """D h, if there is a D and the cell's nodes read D h instead of h."""
    behind = not cell.features_are_hidden
    behind |= isinstance(cell, ElementwiseCell) and cell.is_diagonal(decorrelated=True)
    return h if behind or "decorrelation" not in parameters else parameters["decorrelation"] @ h


class Carried:
    """A matrix W that multiplies by W in the forward pass and by another matrix Bᵀ in the backward pass."""

    def __init__(self, weight: Tensor, feedback: Tensor) -> None:
        self.weight, self.feedback = weight, feedback

    def __matmul__(self, x: Tensor) -> Tensor:
        return self.weight @ x.detach() + self.feedback @ (x - x.detach())

    def chunk(self, count: int) -> tuple[Carried, ...]:
        pairs = zip(self.weight.chunk(count), self.feedback.chunk(count), strict=True)
        return tuple(Carried(weight, feedback) for weight, feedback in pairs)


def run(
    network: Network,
    sequence: Tensor,
    *,
    cut: bool = False,
    dropout: Sequence[Tensor | None] | None = None,
    follows: Sequence[Tensor] = (),
    feedback: Mapping[str, Tensor] | None = None,
) -> tuple[HiddenStates, Tensor]:
    """One sequence (t, i) through the stack, with an autograd graph.

    cut: stop the graph between steps and between layers, so that ∂h_t/∂θ is local to the step.
    dropout: the factors on the output of each layer but the top one, (t, h·directions) or None.
    follows: for each layer, the previous states (h, h) through which each unit's graph passes; all if empty.
    feedback: matrices by parameter name that replace these parameters in the backward pass; D is then
    replaced by the identity.
    Returns the hidden states, and the outputs of the top layer (t, h·directions) in the sequence's time.
    """
    stack = network.recurrent
    hidden: HiddenStates = []
    entering, left = list(sequence), list[Tensor]()
    for layer in range(stack.num_layers):
        per_direction = []
        for direction in range(stack.directions):
            parameters = _parameters(network, layer, direction)
            if feedback is not None:
                parameters = _carried(parameters, feedback, layer, direction)
            state: State = tuple(
                sequence.new_zeros(stack.hidden_size) for _ in stack.cell.state_names
            )
            steps = []
            for x in reversed(entering) if direction else entering:
                if cut:
                    x, state = x.detach(), tuple(part.detach() for part in state)
                if follows:
                    state = _followed_step(stack.cell, parameters, x, state, follows[layer])
                else:
                    state = step(stack.cell, parameters, x, state)
                steps.append(textbook.features(stack.cell, state))
            per_direction.append(steps)
        hidden.append(per_direction)
        leaving = [
            [_seen(network, layer, direction, feedback) @ h for h in steps]
            for direction, steps in enumerate(per_direction)
        ]
        in_time = [leaving[0], *(steps[::-1] for steps in leaving[1:])]
        left = _past(network, [torch.cat(parts) for parts in zip(*in_time, strict=True)], left)
        entering = _next(network, left, layer, dropout)
    return hidden, torch.stack(left)


def _carried(
    parameters: Mapping[str, Tensor], feedback: Mapping[str, Tensor], layer: int, direction: int
) -> dict[str, Any]:
    """The parameters, each matrix with the feedback matrix that replaces it in the backward pass."""
    suffix = f"_l{layer}" + ("_reverse" if direction else "")
    found: dict[str, Any] = dict(parameters)
    for kind, own in parameters.items():
        if f"recurrent.{kind}{suffix}" in feedback:
            found[kind] = Carried(own, feedback[f"recurrent.{kind}{suffix}"])
    found["decorrelation"] = _straight(found["decorrelation"])
    return found


def _straight(matrix: Tensor) -> Carried:
    """A matrix that the backward pass skips: the identity replaces it there."""
    return Carried(matrix, torch.eye(len(matrix), dtype=matrix.dtype))


def _seen(
    network: Network, layer: int, direction: int, feedback: Mapping[str, Tensor] | None
) -> Tensor | Carried:
    """D, which multiplies a layer's features before anything reads them."""
    matrix = decorrelation(network, layer, direction)
    return matrix if feedback is None else _straight(matrix)


def _past(network: Network, leaving: list[Tensor], before: list[Tensor]) -> list[Tensor]:
    """A layer's output at every step: its features, plus the output of the layer below if there is a skip."""
    if not before or not network.recurrent.skip:
        return leaving
    return [own + past for own, past in zip(leaving, before, strict=True)]


def _next(
    network: Network, left: list[Tensor], layer: int, dropout: Sequence[Tensor | None] | None
) -> list[Tensor]:
    """The input of the layer above at every step: the output, normalised if it is to be, times a mask."""
    stack = network.recurrent
    if layer == stack.num_layers - 1:
        return left
    if stack.layer_norm:
        left = [F.layer_norm(own, own.shape) for own in left]
    mask = dropout[layer] if dropout else None
    return left if mask is None else [x * kept for x, kept in zip(left, mask, strict=True)]


def _followed_step(
    cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, state: State, follows: Tensor
) -> State:
    """The same step, where the graph of unit u passes through the states of follows[u] alone."""
    units = []
    for u, seen in enumerate(follows):
        entering = tuple(torch.where(seen > 0, part, part.detach()) for part in state)
        units.append([part[u] for part in step(cell, parameters, x, entering)])
    return tuple(torch.stack(parts) for parts in zip(*units, strict=True))


def decorrelation(network: Network, layer: int, direction: int) -> Tensor:
    """D (f, f); the identity where nothing is decorrelated."""
    stack = network.recurrent
    if stack.decorrelate is None:
        return torch.eye(stack.features_size, dtype=torch.float64)
    return stack.get_buffer(f"decorrelation_l{layer}" + ("_reverse" if direction else ""))


def features(
    network: Network,
    hidden: HiddenStates,
    outputs: Tensor,
    at: Place,
    feedback: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The readout's inputs: (1, h·d) at "last", (t, h·d) otherwise."""
    if at != "last":
        return outputs
    seen = outputs.new_zeros(())
    for layer in range(0 if network.recurrent.skip else network.num_layers - 1, network.num_layers):
        ends = enumerate(hidden[layer])
        seen = seen + torch.cat([_seen(network, layer, d, feedback) @ own[-1] for d, own in ends])
    return seen[None]


def entry_losses(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (n,) and their weights in the mean (n,), by torch.nn.functional."""
    ones = outputs.new_ones(len(outputs))
    if isinstance(loss, CrossEntropy):
        weights = loss.class_weights
        values = F.cross_entropy(
            outputs, targets, weights, reduction="none", label_smoothing=loss.label_smoothing
        )
        return values, ones if weights is None else weights[targets]
    if isinstance(loss, MSE):
        return F.mse_loss(outputs, targets, reduction="none").mean(-1), ones
    if isinstance(loss, BCE):
        losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        return losses.mean(-1), ones
    assert isinstance(loss, Custom)
    return loss.function(outputs, targets), ones


def _entries(
    values: Tensor, b: int, steps: int, at: Place, batch_first: bool, whole: bool
) -> Tensor:
    """Sample b's rows of targets or mask; whole: one value per sequence, repeated at every step."""
    if at in ("last", "mean"):
        return values[b : b + 1]
    if whole:
        return values[b].expand(steps, *values.shape[1:])
    return (values[b] if batch_first else values[:, b])[:steps]


def mean_loss(
    network: Network,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    cut: bool = False,
    dropout: Sequence[Tensor | None] = (),
    follows: Sequence[Tensor] = (),
    feedback: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, list[tuple[HiddenStates, Tensor]]]:
    """The loss with its graph, and for each sequence its hidden states and outputs (n, o)."""
    batch = inputs.shape[0 if network.batch_first else 1]
    longest = inputs.shape[1 if network.batch_first else 0]
    total, weight = inputs.new_zeros(()), inputs.new_zeros(())
    runs = []
    for b in range(batch):
        steps = longest if lengths is None else int(lengths[b])
        sequence = (inputs[b] if network.batch_first else inputs[:, b])[:steps]
        kept = [None if layer is None else layer[:steps, b] for layer in dropout]
        hidden, top = run(
            network, sequence, cut=cut, dropout=kept, follows=follows, feedback=feedback
        )
        seen = features(network, hidden, top, at, feedback)
        outputs = network.readout(seen.detach() if cut or feedback else seen)
        if feedback:
            outputs = outputs + (seen - seen.detach()) @ feedback["readout.weight"].t()
        outputs.retain_grad()
        whole = targets.dim() < (3 if targets.is_floating_point() else 2)
        own = _entries(targets, b, steps, at, network.batch_first, whole)
        seen = outputs.mean(0, keepdim=True) if at == "mean" else outputs
        counts = (
            seen.new_ones(len(seen))
            if mask is None
            else _entries(mask, b, steps, at, network.batch_first, False).to(outputs.dtype)
        )
        if at == "ramp":
            rising = torch.arange(1, steps + 1, dtype=outputs.dtype)
            counts = counts * rising / rising.mean()
        own = own.masked_fill((counts == 0).reshape(-1, *(1,) * (own.dim() - 1)), 0)
        values, weights = entry_losses(loss, seen, own)
        total = total + (values * counts).sum()
        weight = weight + (weights * counts).sum()
        runs.append((hidden, outputs))
    return total / weight, runs


def _collect(network: Network, run_backward: Callable[[], None]) -> Gradients:
    """The gradients that `run_backward` computes, without changing any existing `.grad`."""
    before = {name: p.grad for name, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = None
    try:
        run_backward()
        return {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in network.named_parameters()
        }
    finally:
        for name, p in network.named_parameters():
            p.grad = before[name]


@torch.enable_grad()
def bptt(
    network: Network,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: Sequence[Tensor | None] = (),
    follows: Sequence[Tensor] = (),
) -> tuple[Tensor, Gradients]:
    """The loss and its gradient by autograd through everything; dropout masks [l] (t, b, h·d).

    follows: for each layer, the previous states (h, h) through which each unit's graph passes; all if empty.
    """
    value = inputs.new_zeros(())

    def backward() -> None:
        nonlocal value
        value, _ = mean_loss(
            network, loss, at, inputs, targets, lengths, mask, dropout=dropout, follows=follows
        )
        value.backward()

    gradients = _collect(network, backward)
    return value.detach(), gradients


@torch.enable_grad()
def feedback_alignment(
    network: Network,
    feedback: Mapping[str, Tensor],
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: Sequence[Tensor | None] = (),
) -> Gradients:
    """Autograd through everything, with `feedback` in place of the weights in the backward pass."""

    def backward() -> None:
        value, _ = mean_loss(
            network, loss, at, inputs, targets, lengths, mask, dropout=dropout, feedback=feedback
        )
        value.backward()

    return _collect(network, backward)


Feedback = Callable[[int, int], Tensor]
"""(layer, direction) -> F (h, o)."""


@torch.enable_grad()
def dfa(
    network: Network,
    feedback: Feedback,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: Sequence[Tensor | None] = (),
) -> Gradients:
    """Autograd of DFA's surrogate Σ_t ⟨stop(F e_t), h_t(θ; stop(h_{t-1}))⟩, plus the exact readout."""

    def backward() -> None:
        value, runs = mean_loss(
            network, loss, at, inputs, targets, lengths, mask, cut=True, dropout=dropout
        )
        value.backward(retain_graph=True)  # the readout's own gradient, and e at the outputs
        surrogate = inputs.new_zeros(())
        for hidden, outputs in runs:
            errors = outputs.grad
            assert errors is not None
            for layer, directions in enumerate(hidden):
                for direction, steps in enumerate(directions):
                    per_step: Sequence[Tensor] = list(errors)
                    if at == "last":
                        per_step = [errors[0]] * len(steps)
                    elif direction:
                        per_step = per_step[::-1]
                    for error, h in zip(per_step, steps, strict=True):
                        matrix = feedback(layer, direction).detach()
                        surrogate = surrogate + (matrix @ error.detach()) @ h
        surrogate.backward()

    return _collect(network, backward)


@torch.enable_grad()
def augmented_dfa(
    network: Network,
    feedback: Feedback,
    slope: Callable[[Tensor], Tensor],
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: Sequence[Tensor | None] = (),
) -> Gradients:
    """Autograd of Σ_t ⟨stop(F e_t ⊙ s(a_t)), a_t(θ; stop(h_{t-1}))⟩ at every gate, plus the exact readout."""
    gates = len(network.cell.gate_names)

    def backward() -> None:
        value, runs = mean_loss(
            network, loss, at, inputs, targets, lengths, mask, cut=True, dropout=dropout
        )
        value.backward()  # the readout's own gradient, and e at the outputs
        surrogate = inputs.new_zeros(())
        each = zip(sequences(network, inputs, lengths, dropout), runs, strict=True)
        for (sequence, kept), (_, outputs) in each:
            errors = outputs.grad
            assert errors is not None
            for layer, directions in enumerate(entered(network, sequence, kept)):
                for direction, steps in enumerate(directions):
                    parameters = _parameters(network, layer, direction)
                    matrix = feedback(layer, direction).detach()
                    for t, (x, state) in enumerate(steps):
                        when = 0 if at == "last" else len(steps) - 1 - t if direction else t
                        a = pre_activations(network.cell, parameters, x, state)
                        signal = (matrix @ errors[when]).repeat(gates) * slope(a)
                        surrogate = surrogate + signal.detach() @ a
        surrogate.backward()

    return _collect(network, backward)


def pre_activations(
    cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, state: State
) -> Tensor:
    """All nodes of one step (gates · h,), each with its own graph: a gate between two nodes is a constant."""
    h = state[0]
    into = _into(cell, parameters, h)
    if isinstance(cell, AutogradCell | ElementwiseCell | LIFCell):
        return textbook.nodes(cell, parameters, x, (into, *state[1:]))
    zero = x.new_zeros(())
    w_hh, b_hh = parameters["weight_hh"], parameters.get("bias_hh", zero)
    from_input = parameters["weight_ih"] @ x + parameters.get("bias_ih", zero)
    if not isinstance(cell, GRUResetAfter | GRUResetBefore):
        return from_input + w_hh @ into + b_hh
    size = len(h)
    gates = (from_input + w_hh @ into + b_hh)[: 2 * size]
    r = torch.sigmoid(gates[:size]).detach()
    w_n, b_n = w_hh[2 * size :], b_hh[2 * size :] if b_hh.dim() else b_hh
    before = isinstance(cell, GRUResetBefore)
    from_state = w_n @ (r * into) + b_n if before else r * (w_n @ into + b_n)
    return torch.cat((gates, from_input[2 * size :] + from_state))


@torch.no_grad()
def decorrelation_steps(
    network: Network, inputs: Tensor, lengths: Tensor | None = None
) -> dict[str, Tensor]:
    """−ε ⟨h* h*ᵀ − diag(h*²)⟩ D for every D, computed literally, matrix by matrix."""
    law = network.recurrent.decorrelate
    assert law is not None
    seen: dict[tuple[int, int], list[Tensor]] = {}
    for sequence, _ in sequences(network, inputs, lengths, ()):
        hidden, _ = run(network, sequence)
        for layer, directions in enumerate(hidden):
            for direction, states in enumerate(directions):
                seen.setdefault((layer, direction), []).extend(states)
    found = {}
    for (layer, direction), states in seen.items():
        matrix = decorrelation(network, layer, direction)
        mean = torch.zeros_like(matrix)
        for h in states:
            star = matrix @ h
            mean += (torch.outer(star, star) - torch.diag(star**2)) / len(states)
        name = f"network.recurrent.decorrelation_l{layer}" + ("_reverse" if direction else "")
        step = -law.lr * mean @ matrix
        if law.norm == "preserve":
            moved = matrix + step
            step = moved / moved.norm(dim=1)[:, None] * matrix.norm(dim=1)[:, None] - matrix
        found[name] = step
    return found


# --- traces and truncation windows ------------------------------------------------------------


def sequences(
    network: Network, inputs: Tensor, lengths: Tensor | None, dropout: Sequence[Tensor | None]
) -> Iterator[tuple[Tensor, list[Tensor | None]]]:
    """Each sequence (t, i) cut to its length, and its share of the dropout masks."""
    for b in range(inputs.shape[0 if network.batch_first else 1]):
        sequence = inputs[b] if network.batch_first else inputs[:, b]
        steps = len(sequence) if lengths is None else int(lengths[b])
        yield sequence[:steps], [None if mask is None else mask[:steps, b] for mask in dropout]


def _parameters(network: Network, layer: int, direction: int) -> dict[str, Tensor]:
    stack = network.recurrent
    suffix = f"_l{layer}" + ("_reverse" if direction else "")
    found: dict[str, Tensor] = {
        kind: stack.get_parameter(kind + suffix) for kind in stack.parameter_kinds
    }
    return found | {"decorrelation": decorrelation(network, layer, direction)}


@torch.no_grad()
def entered(network: Network, sequence: Tensor, dropout: Sequence[Tensor | None] = ()) -> Entered:
    """[l][d][s]: the arguments (x, previous states) of step s of that layer, in that direction's own time."""
    stack = network.recurrent
    xs, left, found = list(sequence), list[Tensor](), []
    for layer in range(stack.num_layers):
        per_direction, outputs = [], []
        for direction in range(stack.directions):
            parameters = _parameters(network, layer, direction)
            matrix = decorrelation(network, layer, direction)
            zero = sequence.new_zeros(stack.hidden_size)
            state: State = tuple(zero for _ in stack.cell.state_names)
            steps, hidden = [], []
            for x in reversed(xs) if direction else xs:
                steps.append((x, state))
                state = step(stack.cell, parameters, x, state)
                hidden.append(matrix @ textbook.features(stack.cell, state))
            per_direction.append(steps)
            outputs.append(hidden[::-1] if direction else hidden)
        found.append(per_direction)
        left = _past(network, [torch.cat(parts) for parts in zip(*outputs, strict=True)], left)
        xs = _next(network, left, layer, dropout)
    return found


Step = Callable[[State], State]
"""The new states from those before, (h,) each."""


def without_recurrent_weights(
    cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, state: State
) -> Step:
    """The step from `state`, with every path from a state through a parameter cut."""
    h = state[0]
    if isinstance(cell, AutogradCell | ElementwiseCell | LIFCell):
        entering = (_into(cell, parameters, h), *state[1:])
        return partial(
            textbook.update, cell, textbook.nodes(cell, parameters, x, entering).detach()
        )
    w_hh = parameters["weight_hh"]
    bias = parameters.get("bias_hh", x.new_zeros(len(w_hh)))
    into = parameters["decorrelation"] @ h
    from_state = w_hh @ into
    if isinstance(cell, GRUResetBefore):
        gates = parameters["weight_ih"] @ x + parameters.get("bias_ih", 0) + from_state + bias
        from_state = torch.cat(
            (from_state[: 2 * len(h)], w_hh[2 * len(h) :] @ (torch.sigmoid(gates[: len(h)]) * into))
        )
    held = {**parameters, "weight_hh": torch.zeros_like(w_hh), "bias_hh": bias + from_state}
    return partial(step, cell, held, x)


def state_jacobian(own_step: Step, state: State) -> Tensor:
    """∂(all new states)/∂(all states before), (s·h, s·h), by autograd."""
    leaves = tuple(part.detach().requires_grad_() for part in state)
    rows = torch.cat(own_step(leaves))
    found = [
        torch.cat(torch.autograd.grad(row, leaves, retain_graph=True, materialize_grads=True))
        if row.requires_grad  # a new state may depend on no previous one
        else torch.zeros_like(torch.cat(leaves))
        for row in rows
    ]
    return torch.stack(found)


def _projected(feedback: Feedback, steps: Entered, errors: Tensor, at: Place) -> HiddenStates:
    """F e at the hidden states, in each direction's own time; zero before a last step."""
    signals: HiddenStates = []
    for layer, directions in enumerate(steps):
        signals.append([])
        for direction, own in enumerate(directions):
            sent = [feedback(layer, direction) @ error for error in errors]
            if at == "last":
                sent = [torch.zeros_like(sent[0])] * (len(own) - 1) + sent
            elif direction:
                sent = sent[::-1]
            signals[-1].append(sent)
    return signals


@torch.enable_grad()
def signals_within_steps(
    network: Network,
    sequence: Tensor,
    dropout: Sequence[Tensor | None],
    steps: Entered,
    errors: Tensor,
    at: Place,
) -> HiddenStates:
    """The gradient of each step's loss in the features of that step, by autograd with the past held fixed.

    errors (n, o): ∂L/∂outputs. In each direction's own time, as `run` has the hidden states.
    """
    stack, size, last = network.recurrent, network.features_size, len(sequence) - 1
    hidden: list[list[list[Tensor]]] = []  # [t][l][d], in the sequence's time
    leaving: list[Tensor] = []
    for t, x in enumerate(sequence):
        hidden.append([])
        left: list[Tensor] = []
        for layer in range(stack.num_layers):
            new = [
                textbook.features(
                    stack.cell,
                    step(
                        stack.cell,
                        _parameters(network, layer, direction),
                        x,
                        steps[layer][direction][last - t if direction else t][1],
                    ),
                )
                for direction in range(stack.directions)
            ]
            x = torch.cat([decorrelation(network, layer, d) @ h for d, h in enumerate(new)])
            left = _past(network, [x], left)
            here = [None if mask is None else mask[t : t + 1] for mask in dropout]
            (x,) = _next(network, left, layer, here)
            hidden[-1].append(new)
        leaving.append(x)
    # the backward direction's last step is the sequence's first
    ends = torch.cat((leaving[-1][:size], leaving[0][size:]))[None]
    seen = ends if at == "last" else torch.stack(leaving)
    every = [h for layers in hidden for directions in layers for h in directions]
    found = iter(torch.autograd.grad(network.readout(seen), every, errors, materialize_grads=True))
    in_time = [[[next(found) for _ in directions] for directions in layers] for layers in hidden]
    return [
        [
            [in_time[last - s if direction else s][layer][direction] for s in range(last + 1)]
            for direction in range(stack.directions)
        ]
        for layer in range(stack.num_layers)
    ]


@torch.enable_grad()
def traced(
    network: Network,
    feedback: Feedback | Literal["exact"],
    trace: str,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: Sequence[Tensor | None] = (),
    decays: Tensor | None = None,
) -> Gradients:
    """Eligibility traces of one sequence and layer, forward in time, with every Jacobian by autograd.

    E_t = J E_{t-1} + ∂s_t/∂θ, with all entries of ∂s_t/∂θ, and J the Jacobian without the paths that the
    trace omits: those through weight_hh ("leak"), those between different units ("diagonal"), or all
    ("none"). "stationary" replaces J by the factors `decays` (h,) of the hidden states.
    feedback: the matrices F, or "exact" for the gradient of each step's loss within that step.
    """
    cell, size = network.cell, network.hidden_size
    units = len(cell.state_names) * size
    own_unit = torch.eye(size, dtype=inputs.dtype).repeat(*[len(cell.state_names)] * 2)

    def backward() -> None:
        value, runs = mean_loss(
            network, loss, at, inputs, targets, lengths, mask, cut=True, dropout=dropout
        )
        value.backward()
        each = zip(sequences(network, inputs, lengths, dropout), runs, strict=True)
        for (sequence, kept), (_, outputs) in each:
            errors = outputs.grad
            assert errors is not None
            past_states = entered(network, sequence, kept)
            if feedback == "exact":
                signals = signals_within_steps(network, sequence, kept, past_states, errors, at)
            else:
                signals = _projected(feedback, past_states, errors, at)
            for layer, directions in enumerate(past_states):
                for direction, steps in enumerate(directions):
                    parameters = _parameters(network, layer, direction)
                    learned = {kind: p for kind, p in parameters.items() if p.requires_grad}
                    eligibility = {
                        kind: p.new_zeros(units, *p.shape) for kind, p in learned.items()
                    }
                    for t, (x, state) in enumerate(steps):
                        passing = (
                            without_recurrent_weights(cell, parameters, x, state)
                            if trace == "leak"
                            else partial(step, cell, parameters, x)
                        )
                        jacobian = state_jacobian(passing, state).detach() * own_unit
                        jacobian = jacobian * (trace != "none")
                        if trace == "stationary":
                            assert decays is not None
                            others = decays.new_zeros(units - size)
                            jacobian = torch.diag(torch.cat((decays, others)))
                        new = step(cell, parameters, x, state)
                        rows = torch.cat(new)
                        local = [
                            torch.autograd.grad(
                                row,
                                tuple(learned.values()),
                                retain_graph=True,
                                materialize_grads=True,
                            )
                            for row in rows
                        ]
                        for index, kind in enumerate(learned):
                            here = torch.stack([row[index] for row in local])
                            past = torch.einsum("uv,v...->u...", jacobian, eligibility[kind])
                            eligibility[kind] = past + here
                        leaves = tuple(own.detach().requires_grad_() for own in new)
                        signal = torch.cat(
                            torch.autograd.grad(
                                textbook.features(cell, leaves),
                                leaves,
                                signals[layer][direction][t],
                                materialize_grads=True,
                            )
                        )
                        for kind, parameter in learned.items():
                            found = torch.einsum("u,u...->...", signal, eligibility[kind]).detach()
                            if parameter.grad is None:
                                parameter.grad = torch.zeros_like(parameter)
                            parameter.grad += found

    return _collect(network, backward)


@torch.enable_grad()
def within_layers(
    network: Network,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: Sequence[Tensor | None] = (),
) -> Gradients:
    """Autograd of Σ_l Σ_t ⟨stop(G_lt), f_lt(θ_l)⟩ through all of a layer's own time, plus the exact readout.

    G_lt is the gradient of step t's loss in the features of layer l within that step. It omits only the paths
    that reach a later step through the state of an upper layer. For networks of one direction.
    """

    def backward() -> None:
        value, runs = mean_loss(
            network, loss, at, inputs, targets, lengths, mask, cut=True, dropout=dropout
        )
        value.backward()  # the readout's own gradient, and e at the outputs
        surrogate = inputs.new_zeros(())
        each = zip(sequences(network, inputs, lengths, dropout), runs, strict=True)
        for (sequence, kept), (_, outputs) in each:
            assert outputs.grad is not None
            past = entered(network, sequence, kept)
            signals = signals_within_steps(network, sequence, kept, past, outputs.grad, at)
            for layer, (steps,) in enumerate(past):
                parameters, state = _parameters(network, layer, 0), steps[0][1]
                for (x, _), signal in zip(steps, signals[layer][0], strict=True):
                    state = step(network.cell, parameters, x, state)
                    surrogate = surrogate + signal @ textbook.features(network.cell, state)
        surrogate.backward()

    return _collect(network, backward)


@torch.enable_grad()
def tbptt(
    network: Network,
    k: int,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    dropout: Sequence[Tensor | None] = (),
) -> Gradients:
    """The gradient of each entry by autograd through its last k steps, recomputed from constant states."""
    stack = network.recurrent
    layers = range(stack.num_layers)

    def backward() -> None:
        value, runs = mean_loss(
            network, loss, at, inputs, targets, lengths, mask, cut=True, dropout=dropout
        )
        value.backward()  # the readout's own gradient, and e at the outputs
        each = zip(sequences(network, inputs, lengths, dropout), runs, strict=True)
        for (sequence, kept), (_, outputs) in each:
            errors, past = outputs.grad, entered(network, sequence, kept)
            assert errors is not None
            for index, error in enumerate(errors):
                last = len(sequence) - 1 if at == "last" else index
                first = max(0, last - k + 1)
                states = [past[layer][0][first][1] for layer in layers]
                for t in range(first, last + 1):
                    x, left = sequence[t], list[Tensor]()
                    for layer in layers:
                        states[layer] = step(
                            stack.cell, _parameters(network, layer, 0), x, states[layer]
                        )
                        seen = textbook.features(stack.cell, states[layer])
                        left = _past(network, [decorrelation(network, layer, 0) @ seen], left)
                        here = [None if own is None else own[t : t + 1] for own in kept]
                        (x,) = _next(network, left, layer, here)
                output = network.readout(x[None])
                wanted = [p for p in stack.parameters() if p.requires_grad]
                found = torch.autograd.grad(output, wanted, error[None], materialize_grads=True)
                for parameter, gradient in zip(wanted, found, strict=True):
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                    parameter.grad += gradient

    return _collect(network, backward)
