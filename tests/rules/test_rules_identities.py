"""Identities between rules, and the quirks of the paper's code one by one against a loop."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

import timelocal as tl
from oracles import close, exactly
from timelocal.rules.dfa_authors_code import QUIRKS
from timelocal.testing import CELLS, Case, reference

AUTHORS_CELLS = ("rnn", "leaky", "gru-reset-before")


def gradients(
    case: Case, kind: type[tl.Rule], network: tl.Network | None = None, **options: object
) -> dict[str, Tensor]:
    inputs, targets, lengths, mask = case.batch()
    rule = kind(network or case.network(), loss=case.loss, **options)
    return rule.estimate(inputs, targets, lengths, mask=mask).gradients


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("at", ["last", "every"])
def test_with_one_step_and_symmetric_feedback_dfa_is_bptt(
    cell: str, bidirectional: bool, at: str
) -> None:
    case = Case(cell, bidirectional=bidirectional, at=at, steps=1, mask=True)
    dfa = gradients(case, tl.DFA, at=at, feedback="symmetric")
    close(dfa, gradients(case, tl.BPTT, at=at))


@pytest.mark.parametrize("cell", CELLS)
def test_with_more_steps_it_is_not(cell: str) -> None:
    case = Case(cell, steps=3)
    dfa, bptt = gradients(case, tl.DFA, feedback="symmetric"), gradients(case, tl.BPTT)
    exactly(dfa["readout.weight"], bptt["readout.weight"])
    assert not torch.allclose(dfa["recurrent.weight_ih_l0"], bptt["recurrent.weight_ih_l0"])


def test_without_recurrent_weights_dfa_is_bptt_however_long() -> None:
    """Nothing passes from step to step in a tanh RNN then, so nothing is lost by not following it."""
    case = Case("rnn", at="every", unequal=True, mask=True)
    network = case.network()
    torch.nn.init.zeros_(network.recurrent.weight_hh_l0)
    dfa = gradients(case, tl.DFA, network, at="every", feedback="symmetric")
    close(dfa, gradients(case, tl.BPTT, network, at="every"))


@pytest.mark.parametrize("cell", CELLS)
def test_frobenius_divides_each_gradient_by_its_norm(cell: str) -> None:
    case = Case(cell, layers=2)
    plain = gradients(case, tl.DFA)
    normalized = gradients(case, tl.DFA, normalize="frobenius")
    close(normalized, {name: g / g.norm() for name, g in plain.items()})


def test_frobenius_leaves_a_zero_gradient_at_zero() -> None:
    found = gradients(Case(steps=1), tl.DFA, normalize="frobenius")
    exactly(found["recurrent.weight_hh_l0"], torch.zeros(4, 4, dtype=torch.float64))


# --- the quirks of the paper's code -----------------------------------------------------------


def in_a_loop(case: Case, quirks: tuple[str, ...]) -> dict[str, Tensor]:
    """The paper's code as its quirks describe it: sample by sample, step by step, gate by gate."""
    network = case.network()
    matrix = tl.DFA(network, loss=case.loss).feedback_matrix()
    stack, out = network.recurrent, network.readout
    inputs, targets, _, _ = case.batch()
    gated = case.cell.startswith("gru")
    v = stack.weight_ih_l0.detach().chunk(3 if gated else 1)
    w = stack.weight_hh_l0.detach().chunk(3 if gated else 1)
    b = (stack.bias_ih_l0 + stack.bias_hh_l0).detach().chunk(3 if gated else 1)
    tau = 1.0 if gated else network.cell.tau
    grad = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    d = reference.decorrelation(network, 0, 0)
    steps = case.steps
    for sample, target in zip(inputs, targets, strict=True):
        h, gates = [torch.zeros(4, dtype=torch.float64)], [()]
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
        error = (out.weight @ d @ h[-1] + out.bias).detach().softmax(0)
        error[target] -= 1
        error /= case.sequences
        grad["readout.weight"] += torch.outer(error, d @ h[-1])
        grad["readout.bias"] += error
        signal = matrix @ error
        for t in range(1, steps + 1):
            post, pre = t, h[t - 1]
            if "shifted-time" in quirks:
                post, pre = (t - 2) % steps + 1, h[(t - 3) % steps + 1]
            if gated:
                r, z, n = gates[post]
                delta_n = signal * (1 - z) * (1 - n**2)
                back = w[2] if "untransposed-candidate" in quirks else w[2].t()
                delta_r = (back @ delta_n) * (d @ pre) * r * (1 - r)
                delta_z = signal * (pre - n) * z * (1 - z)
                deltas, into = (delta_r, delta_z, delta_n), d @ pre
                entered = (into, into, r * into)
            else:
                deltas, entered = (signal * (1 - gates[post][0] ** 2) / tau,), (d @ pre,)
            grad["recurrent.weight_ih_l0"] += torch.cat(
                [torch.outer(delta, sample[t - 1]) for delta in deltas]
            )
            grad["recurrent.weight_hh_l0"] += torch.cat(
                [torch.outer(delta, seen) for delta, seen in zip(deltas, entered, strict=True)]
            )
            for bias in ("bias_ih_l0", "bias_hh_l0"):
                grad[f"recurrent.{bias}"] += torch.cat(deltas)
    if "frozen-gate-biases" in quirks and gated:
        for bias in ("bias_ih_l0", "bias_hh_l0"):
            grad[f"recurrent.{bias}"][:8] = 0
    if "frobenius" in quirks:
        for name, whole in grad.items():
            for block in whole.chunk(len(v)) if name.startswith("recurrent") else (whole,):
                if block.norm() > 0:
                    block /= block.norm()
    return grad


@pytest.mark.parametrize("cell", AUTHORS_CELLS)
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("decorrelate", [False, True])
def test_every_set_of_quirks_is_the_loop(cell: str, steps: int, decorrelate: bool) -> None:
    case = Case(cell, steps=steps, decorrelate=decorrelate)
    sets = [some for size in range(5) for some in combinations(QUIRKS, size)]
    assert len(sets) == 16
    for quirks in sets:
        close(gradients(case, tl.DFAAuthorsCode, quirks=quirks), in_a_loop(case, quirks))


@pytest.mark.parametrize("cell", AUTHORS_CELLS)
def test_without_quirks_it_is_dfa(cell: str) -> None:
    case = Case(cell)
    close(gradients(case, tl.DFAAuthorsCode, quirks=()), gradients(case, tl.DFA))


@pytest.mark.parametrize(
    ("quirk", "changed"),
    [
        # δ_n reads no previous state, so over a whole sequence its sum is only reordered
        ("shifted-time", {"ih": "rzn", "hh": "rzn", "b": "rz", "readout": ""}),
        ("untransposed-candidate", {"ih": "r", "hh": "r", "b": "r", "readout": ""}),
        ("frozen-gate-biases", {"ih": "", "hh": "", "b": "rz", "readout": ""}),
        ("frobenius", {"ih": "rzn", "hh": "rzn", "b": "rzn", "readout": "all"}),
    ],
)
def test_a_quirk_changes_what_it_says_and_nothing_else(quirk: str, changed: dict[str, str]) -> None:
    case = Case("gru-reset-before")
    plain = gradients(case, tl.DFA)
    quirky = gradients(case, tl.DFAAuthorsCode, quirks=[quirk])
    blocks = 0
    for name, gradient in plain.items():
        kind = "readout" if "readout" in name else name.split("_")[1] if "weight" in name else "b"
        gates = ("all",) if kind == "readout" else ("r", "z", "n")
        pairs = zip(gates, gradient.chunk(len(gates)), quirky[name].chunk(len(gates)), strict=True)
        for gate, one, other in pairs:
            expected = bool(changed[kind]) and gate in changed[kind]
            assert torch.allclose(one, other) != expected, f"{name}, gate {gate}"
            blocks += 1
    assert blocks == 14
