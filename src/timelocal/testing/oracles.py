"""Oracles: a rule's estimates, or their mean, computed in some other way.

An oracle is a function of a rule (an instance, whose feedback matrices it may read) and a `Case` that returns
gradients by the names of the network's parameters. It must share nothing with the rule's own credit: it is
autograd of a surrogate, or an expectation in closed form. To supply one for your rule:

    def oracle(rule, case):
        return reference.dfa(rule.network, rule.feedback_matrix, *batch_of(rule, case))

    check_rule(MyRule, oracle=oracle)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from timelocal.cells import RNNCell
from timelocal.network import Network
from timelocal.rules import (
    ANP,
    NP,
    RTRL,
    TBPTT,
    WP,
    ANPAuthorsCode,
    DFAAuthorsCode,
    FeedbackAlignment,
    NPAuthorsCode,
    Rule,
    SparseRTRL,
    WPAuthorsCode,
)
from timelocal.rules.feedback_rule import EXACT, FeedbackRule
from timelocal.rules.slopes import find_slope
from timelocal.testing import perturbation, reference
from timelocal.testing.cases import Case
from timelocal.testing.setting import batch_of
from timelocal.typing import Gradients

Oracle = Callable[[Rule, Case], Gradients]
"""The expected gradients of a rule on a case, or the expected mean of its gradients."""


def feedback_oracle(rule: Rule, case: Case) -> Gradients:
    """Autograd of the surrogate, or traces by autograd, with the rule's own feedback matrices."""
    assert isinstance(rule, FeedbackRule)
    if rule.feedback == EXACT:
        batch = batch_of(rule, case)
        found = reference.traced(rule.network, "exact", rule.trace, *batch, _decays(rule))
    elif rule.feedback_per == "layer":
        found = _followed(rule, case, rule.feedback_matrix)
    else:
        found = _per_parameter(rule, case)
    return {name: _unit(own) for name, own in found.items()} if rule.normalize else found


def _followed(rule: FeedbackRule, case: Case, feedback: reference.Feedback) -> Gradients:
    batch = batch_of(rule, case)
    if rule.slope is not None:
        return reference.augmented_dfa(rule.network, feedback, find_slope(rule.slope), *batch)
    if rule.trace == "none":
        return reference.dfa(rule.network, feedback, *batch)
    return reference.traced(rule.network, feedback, rule.trace, *batch, _decays(rule))


def _decays(rule: FeedbackRule) -> Tensor | None:
    return rule.get_buffer("trace_decays") if rule.trace == "stationary" else None


def _per_parameter(rule: FeedbackRule, case: Case) -> Gradients:
    """The block of each gate in each parameter, from a surrogate with that block's own F."""
    gates = len(rule.network.cell.gate_names)
    blocks: dict[str, list[Tensor]] = {}
    for kind in rule.network.recurrent.parameter_kinds:
        for gate in range(gates):

            def feedback(layer: int, direction: int, kind: str = kind, gate: int = gate) -> Tensor:
                return rule.feedback_matrix(layer, direction, kind)[gate]

            for name, own in _followed(rule, case, feedback).items():
                if name.startswith(f"recurrent.{kind}_l"):
                    blocks.setdefault(name, []).append(own.chunk(gates)[gate])
                elif name.startswith("readout"):
                    blocks[name] = [own]
    return {name: torch.cat(parts) for name, parts in blocks.items()}


def feedback_alignment_oracle(rule: Rule, case: Case) -> Gradients:
    """Autograd with the rule's feedback matrices in place of the weights in the backward pass."""
    assert isinstance(rule, FeedbackAlignment)
    return reference.feedback_alignment(
        rule.network, rule.feedback_matrices(), *batch_of(rule, case)
    )


def tbptt_oracle(rule: Rule, case: Case) -> Gradients:
    """Autograd through windows of the rule's k steps."""
    assert isinstance(rule, TBPTT)
    return reference.tbptt(rule.network, rule.k, *batch_of(rule, case))


def rtrl_oracle(rule: Rule, case: Case) -> Gradients:
    """Autograd through each layer's own time: for RTRL by traces, in a stack of element-wise layers."""
    return reference.within_layers(rule.network, *batch_of(rule, case))


def node_oracle(rule: Rule, case: Case) -> Gradients:
    """The mean of `NP` or `WP` with any kind of credit, by autograd with respect to the noise."""
    assert isinstance(rule, NP | WP)
    return perturbation.target(rule.network, case, rule.credit)


def activity_oracle(rule: Rule, case: Case) -> Gradients:
    """The mean of `ANP`: the gradient times the normalised covariance of the change of activity."""
    assert isinstance(rule, ANP)
    return perturbation.target(rule.network, case, rule.credit, rule.norm)


def scaled_node_oracle(rule: Rule, case: Case) -> Gradients:
    """The mean of the paper's code for NP and WP: σ times the one-step gradient."""
    assert isinstance(rule, NPAuthorsCode | WPAuthorsCode)
    return {name: rule.sigma * own for name, own in node_oracle(rule, case).items()}


def authors_activity_oracle(rule: Rule, case: Case) -> Gradients:
    """The mean of the paper's code for ANP: each layer of the whole batch by itself, times √N / B."""
    network = rule.network
    nodes = len(network.cell.gate_names) * network.hidden_size * network.num_layers
    gain = math.sqrt(network.input_size + nodes + network.output_size) / case.sequences
    found = perturbation.target(network, case, activity="batch")
    return {name: gain * own for name, own in found.items()}


@torch.no_grad()
def authors_dfa_oracle(rule: Rule, case: Case) -> Gradients:
    """The DFA paper's code, with its quirks: sample by sample, step by step, gate by gate."""
    assert isinstance(rule, DFAAuthorsCode)
    network, quirks = rule.network, rule.quirks
    stack, out, cell = network.recurrent, network.readout, network.cell
    loss, _, inputs, targets, _, mask, _ = batch_of(rule, case)
    inputs = inputs if network.batch_first else inputs.transpose(0, 1)
    weight = targets.new_ones(len(inputs), dtype=inputs.dtype) if mask is None else mask
    gated = not isinstance(cell, RNNCell)
    tau = cell.tau if isinstance(cell, RNNCell) else 1.0
    gates_of = 3 if gated else 1
    size = stack.hidden_size
    v = stack.get_parameter("weight_ih_l0").chunk(gates_of)
    w = stack.get_parameter("weight_hh_l0").chunk(gates_of)
    zero = inputs.new_zeros(gates_of * size)
    b = zero.chunk(gates_of)
    if stack.bias:
        both = stack.get_parameter("bias_ih_l0") + stack.get_parameter("bias_hh_l0")
        b = both.chunk(gates_of)
    grad = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    d = reference.decorrelation(network, 0, 0)
    for sample, target, share in zip(inputs, targets, weight / weight.sum(), strict=True):
        steps = len(sample)
        h: list[Tensor] = [inputs.new_zeros(size)]
        gates: list[tuple[Tensor, ...]] = [()]
        for x in sample:
            if gated:
                r = torch.sigmoid(v[0] @ x + w[0] @ d @ h[-1] + b[0])
                z = torch.sigmoid(v[1] @ x + w[1] @ d @ h[-1] + b[1])
                n = torch.tanh(v[2] @ x + w[2] @ (r * (d @ h[-1])) + b[2])
                gates.append((r, z, n))
                h.append((1 - z) * n + z * h[-1])
            else:
                a = torch.tanh(v[0] @ x + w[0] @ d @ h[-1] + b[0])
                gates.append((a,))
                h.append((1 - 1 / tau) * h[-1] + a / tau)
        error = share * _through_the_readout(out, loss, d @ h[-1], target, grad, share)
        for t in range(1, steps + 1):
            pre, passed = h[t - 1], t
            if "shifted-states" in quirks:
                pre, passed = h[steps] if t == 1 else h[t - 2], t - 1
            into = d @ pre
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if stack.bias else 2]:
                b_r, b_z, b_n = (m @ error for m in _feedback_of(rule, kind, gates_of))
                if gated:
                    r, z, n = gates[t]
                    delta_n = b_n * (1 - z)
                    if "matrix-before-slope" in quirks:
                        delta_n = w[2] @ delta_n
                    delta_n = delta_n * (1 - n**2)
                    back = w[2] if "untransposed-candidate" in quirks else w[2].t()
                    delta_r = (back @ (b_r * (1 - z) * (1 - n**2))) * into * r * (1 - r)
                    slope = r * (1 - r) if "reset-slope" in quirks else z * (1 - z)
                    delta_z = b_z * (pre - n) * slope
                    deltas: tuple[Tensor, ...] = (delta_r, delta_z, delta_n)
                    entered: tuple[Tensor, ...] = (into, into, r * into)
                else:
                    slope = 1 - gates[passed][0] ** 2 if passed else torch.ones_like(b_n)
                    deltas, entered = (b_n * slope / tau,), (into,)
                if kind == "weight_ih":
                    blocks = [torch.outer(delta, sample[t - 1]) for delta in deltas]
                elif kind == "weight_hh":
                    blocks = [torch.outer(*pair) for pair in zip(deltas, entered, strict=True)]
                else:
                    blocks = list(deltas)
                grad[f"recurrent.{kind}_l0"] += torch.cat(blocks)
    for name, whole in grad.items():
        if not name.startswith("recurrent"):
            continue
        if "frozen-gate-biases" in quirks and gated and "bias" in name:
            whole[: 2 * size] = 0
        if "frobenius" in quirks:
            whole.copy_(torch.cat([_unit(own) for own in whole.chunk(gates_of)]))
    return grad


def _feedback_of(rule: DFAAuthorsCode, kind: str, gates: int) -> list[Tensor]:
    """F of the gates r, z and n for one kind of parameter; for a tanh RNN three times the same F."""
    if "feedback-per-matrix" not in rule.quirks:
        return [rule.feedback_matrix()] * 3
    of = "hh" if kind == "weight_hh" else "ih"  # a bias has the matrix of its gate's inputs
    return list(rule.get_buffer(f"feedback_weight_{of}_l0")) * (3 // gates)


@torch.enable_grad()
def _through_the_readout(
    readout: nn.Module,
    loss: object,
    feature: Tensor,
    target: Tensor,
    grad: Gradients,
    share: Tensor,
) -> Tensor:
    """∂ℓ/∂outputs of one sample (o,); the readout's gradients, times its share, are added to `grad`."""
    output = readout(feature[None])
    value, _ = reference.entry_losses(loss, output, target[None])  # type: ignore[arg-type]
    wanted = dict(readout.named_parameters())
    error, *own = torch.autograd.grad(value.sum(), [output, *wanted.values()])
    for name, gradient in zip(wanted, own, strict=True):
        grad[f"readout.{name}"] += share * gradient
    return error[0]


def _unit(gradient: Tensor) -> Tensor:
    """A gradient divided by its Frobenius norm; zero stays zero."""
    norm = float(gradient.square().sum()) ** 0.5
    return gradient / norm if norm > 0 else gradient


def sparse_oracle(rule: Rule, case: Case) -> Gradients:
    """Autograd through a network in which each unit sees only the states it follows."""
    assert isinstance(rule, SparseRTRL)
    follows = [_strongest(rule.network, layer, rule.k) for layer in range(rule.network.num_layers)]
    return reference.bptt(rule.network, *batch_of(rule, case), follows)[1]


def _strongest(network: Network, layer: int, k: int) -> Tensor:
    """The units that each unit follows (h, h), by sorting."""
    units, recurrent = network.hidden_size, network.recurrent
    follows = torch.eye(units, dtype=torch.float64)
    if "weight_hh" not in recurrent.parameter_kinds:
        return follows
    weight = recurrent.get_parameter(f"weight_hh_l{layer}").detach()
    weight = weight @ reference.decorrelation(network, layer, 0)
    for u in range(units):
        size = {v: sum(abs(float(w)) for w in weight[u::units, v]) for v in range(units) if v != u}
        for v in sorted(size, key=size.__getitem__, reverse=True)[:k]:
            follows[u, v] = 1
    return follows


ORACLES: dict[type[Rule], Oracle] = {
    FeedbackRule: feedback_oracle,
    FeedbackAlignment: feedback_alignment_oracle,
    DFAAuthorsCode: authors_dfa_oracle,
    TBPTT: tbptt_oracle,
    SparseRTRL: sparse_oracle,
    RTRL: rtrl_oracle,
    NP: node_oracle,
    WP: node_oracle,
    ANP: activity_oracle,
    NPAuthorsCode: scaled_node_oracle,
    WPAuthorsCode: scaled_node_oracle,
    ANPAuthorsCode: authors_activity_oracle,
}
"""The oracles of the built-in rules, by class. A subclass is tested with its parent's oracle, unless
`check_rule` is given another one."""


def oracle_of(rule: type[Rule]) -> Oracle | None:
    """The oracle that a rule has or inherits; None if there is none."""
    brought: Oracle | None = getattr(rule, "brought_oracle", None)
    if brought is not None:
        return brought
    return next((ORACLES[base] for base in rule.__mro__ if base in ORACLES), None)


def expected(rule: Rule, case: Case) -> Gradients:
    """The gradients that a rule declares as its estimates, or as their mean, on a case."""
    spec, kind = rule.spec, type(rule)
    whose = kind.__name__
    if spec.target == "bptt":
        found = reference.bptt(rule.network, *batch_of(rule, case))[1]
    elif spec.target == "tbptt1":
        found = reference.tbptt(rule.network, 1, *batch_of(rule, case))
    elif spec.target == "oracle":
        oracle = oracle_of(kind)
        assert oracle is not None, _nobody_says(whose)
        found = oracle(rule, case)
    else:
        raise AssertionError(
            f"{whose} declares target={spec.target!r}, expected 'bptt', 'tbptt1' or 'oracle'"
        )
    assert spec.estimates != "biased" or spec.target == "oracle", (
        f"{whose} declares estimates='biased' with target={spec.target!r}, expected 'oracle': a biased "
        "estimate is compared with what it follows instead"
    )
    return found


def _nobody_says(whose: str) -> str:
    return (
        f"{whose} declares target='oracle' but supplies none, so there is nothing to compare its estimates "
        "with. Write a function of the rule and a case that returns the gradients, or their mean, computed "
        f"in some other way, and call check_rule({whose}, oracle=…). For an error projected by the rule's "
        "own feedback matrix F, this is\n"
        "    from timelocal.testing import batch_of, reference\n"
        "    def oracle(rule, case):\n"
        "        feedback = lambda layer, direction: rule.F\n"
        "        return reference.dfa(rule.network, feedback, *batch_of(rule, case))"
    )
