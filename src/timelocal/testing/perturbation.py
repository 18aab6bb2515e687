"""What perturbation rules converge to, by autograd with respect to the noise itself.

The cells' equations are written out again with noise on their nodes, one sequence and one step at a
time. At ξ = 0, ∂ℓ_t/∂ξ_s is the effect of noise at step s on the loss at step t. Weighted by a kind of
credit, these effects give the node signal g_s that a rule declares as its target, and
⟨stop(g_s), α_s(θ; stop(inputs))⟩ gives the gradients. For activity perturbation, the change of activity is
u = J ξ with J = ∂α_s/∂ξ, and the change of the credited losses is dᵀξ. The mean of u dᵀξ / ‖u‖² is
E[u uᵀ/‖u‖²] (J Jᵀ)⁻¹ J d, since the part of ξ that does not act on u is independent of u. (With the loss
of the same step, (J Jᵀ)⁻¹ J d is the error e at the readout's nodes.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from timelocal.cells import Cell, ElementwiseCell, GRUResetAfter, LSTMCell, RNNCell
from timelocal.network import Network
from timelocal.testing import textbook
from timelocal.testing.cases import Case
from timelocal.typing import Gradients, State

Activity = Literal["network", "layer", "batch"]
"""The nodes over which activity perturbation takes ‖δα‖: all nodes of a step, those of each layer, or those
of each layer over the whole batch (as in the paper's code)."""

Entered = list[list[tuple[Tensor, State]]]
"""[t][l]: the inputs of each layer at each step, (x, previous states); the readout's x comes last."""


def noisy_step(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: State,
    noise: Tensor,
    local: bool,
) -> tuple[Tensor, State]:
    """Noisy pre-activations and the new state of one sequence; if there is a D, W multiplies D h.

    local: the candidate's pre-activation treats the reset gate as a constant input.
    """
    if isinstance(cell, ElementwiseCell):
        diagonal = cell.is_diagonal(decorrelated=True)
        into = state[0] if diagonal else weights["decorrelation"] @ state[0]
        a = textbook.nodes(cell, weights, x, (into, *state[1:])) + noise
        return a, textbook.update(cell, a, state)
    raw = state[0]
    size = len(raw)
    h = weights["decorrelation"] @ raw
    v, w, b, d = weights["weight_ih"], weights["weight_hh"], weights["bias_ih"], weights["bias_hh"]
    if isinstance(cell, RNNCell):
        a = v @ x + b + w @ h + d + noise
        return a, ((1 - 1 / cell.tau) * raw + a.tanh() / cell.tau,)
    if isinstance(cell, LSTMCell):
        a = v @ x + b + w @ h + d + noise
        i, f, g, o = a.chunk(4)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return a, (o.sigmoid() * c.tanh(), c)
    gates = (v @ x + b + noise)[: 2 * size] + (w @ h + d)[: 2 * size]
    r, z = gates.sigmoid().chunk(2)
    r = r.detach() if local else r
    n = (v @ x + b + noise)[2 * size :]
    if isinstance(cell, GRUResetAfter):
        n = n + r * (w @ h + d)[2 * size :]
    else:
        n = n + w[2 * size :] @ (r * h) + d[2 * size :]
    return torch.cat((gates, n)), ((1 - z) * n.tanh() + z * raw,)


def _weights(network: Network, layer: int) -> dict[str, Tensor]:
    """The parameters of one layer by kind, zero biases where there are none, and D or the identity."""
    stack = network.recurrent
    found: dict[str, Tensor] = {
        kind: stack.get_parameter(f"{kind}_l{layer}") for kind in stack.parameter_kinds
    }
    zero = found["weight_ih"].new_zeros(len(found["weight_ih"]))
    matrix = getattr(stack, f"decorrelation_l{layer}", None)
    found["decorrelation"] = (
        torch.eye(stack.features_size, dtype=zero.dtype) if matrix is None else matrix
    )
    return {"bias_ih": zero, "bias_hh": zero, **found}


def forward(
    network: Network, sequence: Tensor, noise: list[Tensor], cut: Entered | None = None
) -> tuple[Tensor, list[Tensor], Entered]:
    """(t, i) -> outputs (t, o), all pre-activations [t] (nodes,), and the inputs of each step.

    noise[s] (nodes + o,) of step s. cut: the inputs of each step of an earlier run, used as constants
    instead of those of this run.
    """
    stack = network.recurrent
    layers = [_weights(network, layer) for layer in range(stack.num_layers)]
    zero = sequence.new_zeros(stack.hidden_size)
    states: list[State] = [tuple(zero for _ in stack.cell.state_names) for _ in layers]
    nodes = len(stack.cell.gate_names) * stack.hidden_size
    outputs, activations, entered = [], [], []
    for t, x in enumerate(sequence):
        parts: list[Tensor] = []
        here: list[tuple[Tensor, State]] = []
        for layer, weights in enumerate(layers):
            own = noise[t][layer * nodes : (layer + 1) * nodes]
            here.append((x, states[layer]))
            if cut is not None:
                x, states[layer] = cut[t][layer]
            a, states[layer] = noisy_step(
                stack.cell, weights, x, states[layer], own, cut is not None
            )
            parts.append(a)
            x = weights["decorrelation"] @ textbook.features(stack.cell, states[layer])
        here.append((x, ()))
        if cut is not None:
            x = cut[t][-1][0]
        outputs.append(network.readout(x) + noise[t][len(layers) * nodes :])
        activations.append(torch.cat([*parts, outputs[-1]]))
        entered.append(here)
    return torch.stack(outputs), activations, entered


@dataclass(frozen=True)
class Run:
    """One sequence: its noise and pre-activations [t] (nodes,), the inputs of its steps, and for each step
    the derivatives by all the noise of the losses that this step is credited with, [s] (t, nodes)."""

    sequence: Tensor
    noise: list[Tensor]
    activations: list[Tensor]
    entered: Entered
    credited: list[Tensor]


@torch.enable_grad()
def target(
    network: Network, case: Case, credit: str = "local", activity: Activity | None = None
) -> Gradients:
    """The mean of a perturbation rule's draws as σ → 0: of NP and WP, or of ANP if `activity` is given.

    With activity="batch", N is 1, and the caller supplies the factors of the paper's code.
    """
    inputs, targets, lengths, mask = case.batch()
    if mask is not None or not case.batch_first:
        raise NotImplementedError("an oracle for sequences batch first, all of which count")
    longest = inputs.shape[1]
    steps = [
        longest if lengths is None else int(n) for n in (lengths if lengths is not None else inputs)
    ]
    count = sum(steps) if case.at in ("every", "ramp") else len(inputs)
    runs = [_run(network, case, inputs[b, :n], targets[b], credit) for b, n in enumerate(steps)]
    total = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for run, signals in zip(runs, _signals(network, case, runs, activity), strict=True):
        constants: Entered = [
            [(x.detach(), tuple(part.detach() for part in state)) for x, state in here]
            for here in run.entered
        ]
        silent = [n.detach() for n in run.noise]
        _, own, _ = forward(network, run.sequence, silent, constants)
        surrogate = (torch.stack(signals).detach() * torch.stack(own)).sum() / count
        found = torch.autograd.grad(surrogate, list(network.parameters()), allow_unused=True)
        for name, gradient in zip(total, found, strict=True):
            if gradient is not None:
                total[name] += gradient
    return total


def _run(network: Network, case: Case, sequence: Tensor, targets: Tensor, credit: str) -> Run:
    nodes = len(network.cell.gate_names) * network.hidden_size * network.num_layers
    size, steps = nodes + network.output_size, len(sequence)
    noise = [torch.zeros(size, dtype=sequence.dtype, requires_grad=True) for _ in sequence]
    outputs, activations, entered = forward(network, sequence, noise)
    losses = _losses(case, outputs, targets)
    effects = sequence.new_zeros(steps, steps, size)  # [t, s] = ∂ℓ_t/∂ξ_s
    for index in range(len(losses)):
        t = index if case.at != "last" else steps - 1
        found = torch.autograd.grad(losses[index], noise, retain_graph=True, materialize_grads=True)
        effects[t] = torch.stack(found)
    credited = [_credited(effects, s, credit) for s in range(steps)]
    return Run(sequence, noise, activations, entered, credited)


def _losses(case: Case, outputs: Tensor, targets: Tensor) -> Tensor:
    """ℓ_t of the steps (t,), or (1,) at the last one; at "mean", how step t's outputs change the loss."""
    loss, steps = case.loss_function(), len(outputs)
    if case.at == "last":
        return loss.losses(outputs[-1:], targets[None])
    if case.at == "mean":
        value = loss.losses(outputs.mean(0, keepdim=True), targets[None])
        (error,) = torch.autograd.grad(value.sum(), outputs, retain_graph=True)
        return (error * outputs).sum(1)
    own = targets.expand(steps, *targets.shape) if case.whole else targets[:steps]
    rising = torch.arange(1, steps + 1, dtype=outputs.dtype)
    return loss.losses(outputs, own) * (rising / rising.mean() if case.at == "ramp" else 1)


def _credited(effects: Tensor, s: int, credit: str) -> Tensor:
    """∂/∂ξ of the losses that noise at step s is credited with, (s', nodes); effects[t, s'] = ∂ℓ_t/∂ξ_s'."""
    if credit == "local":
        return effects[s]
    if credit == "global":
        return effects.sum(0)
    decay = 1.0 if credit == "to_go" else float(credit.removeprefix("trace(").removesuffix(")"))
    return torch.stack([decay ** (t - s) * effects[t] for t in range(s, len(effects))]).sum(0)


def _signals(
    network: Network, case: Case, runs: list[Run], activity: Activity | None
) -> list[list[Tensor]]:
    """[b][s] (nodes,): the mean of a rule's signal at the nodes."""
    if activity is None:
        return [[own[s] for s, own in enumerate(run.credited)] for run in runs]
    layer = len(network.cell.gate_names) * network.hidden_size
    nodes = layer * network.num_layers
    places = [slice(start, start + layer) for start in range(0, nodes, layer)]
    readout = slice(nodes, nodes + network.output_size)
    signals = [[torch.zeros_like(own) for own in run.activations] for run in runs]
    for members, steps, place in _groups(runs, places, readout, case, activity):
        jacobians = [_jacobian(runs[b], s, place) for b, s in zip(members, steps, strict=True)]
        credited = [runs[b].credited[s].flatten() for b, s in zip(members, steps, strict=True)]
        found = mean_direction(torch.block_diag(*jacobians), torch.cat(credited))
        found = found * (1 if activity == "batch" else len(found))
        for b, s, own in zip(members, steps, found.chunk(len(members)), strict=True):
            signals[b][s][place] = own
    return signals


def _groups(
    runs: list[Run], places: list[slice], readout: slice, case: Case, activity: Activity
) -> Iterator[tuple[list[int], list[int], slice]]:
    """Groups of nodes that share one norm: the sequences, the step of each, and the nodes."""
    lasts = [len(run.activations) - 1 for run in runs]
    every = case.at != "last"
    for s in range(max(lasts) + 1):
        here = [b for b, last in enumerate(lasts) if s <= last]
        if activity == "batch":
            yield from ((here, [s] * len(here), place) for place in (*places, *[readout] * every))
            continue
        for b in here:
            reads = every or s == lasts[b]
            if activity == "network":
                yield [b], [s], slice(0, readout.stop if reads else readout.start)
            else:
                yield from (([b], [s], place) for place in (*places, *[readout] * reads))
    if activity == "batch" and not every:  # each sequence's own last step
        yield list(range(len(runs))), lasts, readout


def _jacobian(run: Run, s: int, place: slice) -> Tensor:
    """∂α_s/∂ξ of these nodes by all the noise of the sequence, (n, t·nodes)."""
    rows = []
    for node in run.activations[s][place]:
        found = torch.autograd.grad(node, run.noise, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat(found))
    return torch.stack(rows)


def mean_direction(jacobian: Tensor, credited: Tensor) -> Tensor:
    """E[u dᵀξ / ‖u‖²] for u = J ξ, ξ ~ N(0, 1): J (n, m), d (m,) -> (n,).

    In the eigenbasis of J Jᵀ, with z ~ N(0, 1),

        E[λ_i z_i² / Σ_j λ_j z_j²] = ∫_0^∞ λ_i / (1 + 2 λ_i s) Π_j (1 + 2 λ_j s)^{-1/2} ds,

    by the trapezoid rule in log s, which converges faster than any power of its step.
    """
    values, vectors = torch.linalg.eigh(jacobian @ jacobian.t())
    values = values.clamp(min=0)
    used = values > values.max() * 1e-13
    values, vectors = values[used], vectors[:, used]
    log_s = torch.linspace(-40, 90, 5201, dtype=values.dtype) - math.log(float(values.max()))
    step = float(log_s[1] - log_s[0])
    scaled = 2 * values[:, None] * log_s.exp()
    weight = torch.exp(log_s - 0.5 * torch.log1p(scaled).sum(0))
    shares = (values[:, None] / (1 + scaled) * weight).sum(1) * step
    assert abs(float(shares.sum()) - 1) < 1e-8
    seen = vectors.t() @ (jacobian @ credited)
    return vectors @ (shares / values * seen)
