"""What perturbation rules converge to, by autograd with respect to the noise itself.

The cells' equations are written out again with noise on their nodes, one sequence and one step at a
time. With ξ = 0, ∂ℓ_t/∂ξ_s says what noise at step s does to the loss at step t: weighing these by a kind
of credit gives the node signal g_s that a rule declares as its target; ⟨stop(g_s), α_s(θ; stop(inputs))⟩
gives the gradients. For activity perturbation the change of activity is u = J ξ, J = ∂α_s/∂ξ, and that
of the credited losses is dᵀξ: the mean of N u dᵀξ / ‖u‖² is N E[u uᵀ/‖u‖²] (J Jᵀ)⁻¹ J d, for what of ξ is
not in u is independent of it. (With the loss of the same step (J Jᵀ)⁻¹ J d is the error e at the
readout's nodes.)
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.integrate import quad
from torch import Tensor

from timelocal.cells import Cell, GRUResetAfter, LSTMCell, RNNCell
from timelocal.network import Network
from timelocal.testing.cases import Case


def noisy_step(
    cell: Cell,
    weights: dict[str, Tensor],
    x: Tensor,
    state: tuple[Tensor, ...],
    noise: Tensor,
    local: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Pre-activations with their noise, and the new state, of one sequence; D h, if there is a D, enters W.

    local: a reset gate is a constant to the candidate's pre-activation, one of the things that enter it.
    """
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


def forward(
    network: Network, sequence: Tensor, noise: list[Tensor], cut: list[list[tuple]] | None = None
) -> tuple[Tensor, Tensor, list[list[tuple]]]:
    """(t, i) -> outputs (t, o), all pre-activations (t, nodes), and what entered each step.

    noise[s] (nodes + o,) of step s. cut: what entered each step of an earlier run, to be used as
    constants instead of what this run would bring.
    """
    stack = network.recurrent
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    layers = [
        {name: getattr(stack, f"{name}_l{layer}") for name in names}
        for layer in range(stack.num_layers)
    ]
    zero = sequence.new_zeros(stack.hidden_size)
    for layer, weights in enumerate(layers):
        matrix = getattr(stack, f"decorrelation_l{layer}", None)
        own = torch.eye(stack.hidden_size, dtype=sequence.dtype) if matrix is None else matrix
        weights["decorrelation"] = own
    states = [tuple(zero for _ in stack.cell.state_names) for _ in layers]
    nodes = len(stack.cell.gate_names) * stack.hidden_size
    outputs, activations, entered = [], [], []
    for t, x in enumerate(sequence):
        parts, here = [], []
        for layer, weights in enumerate(layers):
            own = noise[t][layer * nodes : (layer + 1) * nodes]
            here.append((x, states[layer]))
            if cut is not None:
                x, states[layer] = cut[t][layer]
            a, states[layer] = noisy_step(
                stack.cell, weights, x, states[layer], own, cut is not None
            )
            parts.append(a)
            x = weights["decorrelation"] @ states[layer][0]
        here.append((x, ()))
        if cut is not None:
            x = cut[t][-1][0]
        outputs.append(network.readout(x) + noise[t][len(layers) * nodes :])
        activations.append(torch.cat([*parts, outputs[-1]]))
        entered.append(here)
    return torch.stack(outputs), torch.stack(activations), entered


def target(network: Network, case: Case, credit: str, activity: bool = False) -> dict[str, Tensor]:
    """The mean of a perturbation rule's draws as σ → 0."""
    inputs, targets, lengths, mask = case.batch()
    assert mask is None
    loss = case.loss_function()
    every = case.at == "every"
    longest = inputs.shape[1]
    count = (
        len(inputs) if not every else sum(_steps(lengths, b, longest) for b in range(len(inputs)))
    )
    total = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for b in range(len(inputs)):
        steps = _steps(lengths, b, longest)
        nodes = len(network.cell.gate_names) * network.hidden_size * network.num_layers
        size = nodes + network.output_size
        noise = [torch.zeros(size, dtype=torch.float64, requires_grad=True) for _ in range(steps)]
        outputs, activations, entered = forward(network, inputs[b, :steps], noise)
        if every:
            losses = loss.losses(outputs, targets[b, :steps])
        else:
            losses = loss.losses(outputs[-1:], targets[b : b + 1])
        effects = torch.zeros(steps, steps, size, dtype=torch.float64)  # [t, s] = ∂ℓ_t/∂ξ_s
        for index in range(len(losses)):
            t = index if every else steps - 1
            found = torch.autograd.grad(losses[index], noise, retain_graph=True, allow_unused=True)
            for s, value in enumerate(found):
                if value is not None:
                    effects[t, s] = value
        credited = [_credited(effects, s, credit) for s in range(steps)]  # [s] (s', nodes)
        if activity:
            signal = [
                _activity(activations[s], noise, credited[s], every or s == steps - 1, nodes)
                for s in range(steps)
            ]
        else:
            signal = [credited[s][s] for s in range(steps)]
        signal = torch.stack(signal) / count
        constants = [
            [(x.detach(), tuple(part.detach() for part in state)) for x, state in here]
            for here in entered
        ]
        silent = [n.detach() for n in noise]
        _, own, _ = forward(network, inputs[b, :steps], silent, constants)
        surrogate = (signal.detach() * own).sum()
        names = list(total)
        found = torch.autograd.grad(surrogate, list(network.parameters()), allow_unused=True)
        for name, gradient in zip(names, found, strict=True):
            if gradient is not None:
                total[name] += gradient
    return total


def _steps(lengths: Tensor | None, b: int, longest: int) -> int:
    return longest if lengths is None else int(lengths[b])


def _credited(effects: Tensor, s: int, credit: str) -> Tensor:
    """∂/∂ξ of the losses that noise at step s is credited with, (s', nodes); effects[t, s'] = ∂ℓ_t/∂ξ_s'."""
    if credit == "local":
        return effects[s]
    if credit == "global":
        return effects.sum(0)
    decay = 1.0 if credit == "to_go" else float(credit.removeprefix("trace(").removesuffix(")"))
    return sum(decay ** (t - s) * effects[t] for t in range(s, len(effects)))


def _activity(
    activations: Tensor, noise: list[Tensor], credited: Tensor, with_readout: bool, nodes: int
) -> Tensor:
    """The signal at one step's nodes that activity perturbation has in the mean.

    In the eigenbasis of J Jᵀ

        E[λ_i z_i² / Σ_j λ_j z_j²] = ∫_0^∞ λ_i / (1 + 2 λ_i s) Π_j (1 + 2 λ_j s)^{-1/2} ds.
    """
    used = len(activations) if with_readout else nodes
    rows = []
    for node in range(used):
        found = torch.autograd.grad(
            activations[node], noise, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        rows.append(torch.cat(found))
    jacobian = torch.stack(rows)
    values, vectors = torch.linalg.eigh(jacobian @ jacobian.t())
    spectrum = values.numpy()

    def share(own: float) -> float:
        def integrand(s: float) -> float:
            return own / (1 + 2 * own * s) * np.exp(-0.5 * np.log1p(2 * spectrum * s).sum())

        return quad(integrand, 0, np.inf, limit=200)[0]

    shares = torch.tensor([share(float(own)) for own in spectrum], dtype=torch.float64)
    assert abs(float(shares.sum()) - 1) < 1e-6
    seen = vectors.t() @ (jacobian @ credited.flatten())
    signal = torch.zeros(len(activations), dtype=torch.float64)
    signal[:used] = used * vectors @ (shares / values * seen)
    return signal
