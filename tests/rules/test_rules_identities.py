"""Identities between rules, and the quirks of the paper's code one by one against a loop."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import close, exactly
from timelocal.rules.dfa_authors_code import QUIRKS
from timelocal.testing import CELLS, Case
from timelocal.testing.oracles import authors_dfa_oracle
from timelocal.testing.setting import estimate

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


@pytest.mark.parametrize(
    ("cell", "steps", "decorrelate"),
    covering(product(AUTHORS_CELLS, (1, 2, 5), (False, True)), pairs=True),
)
def test_quirks_by_themselves_in_pairs_and_all_are_the_loop(
    cell: str, steps: int, decorrelate: bool
) -> None:
    case = Case(cell, steps=steps, decorrelate=decorrelate)
    sets = [some for size in (0, 1, 2, len(QUIRKS)) for some in combinations(QUIRKS, size)]
    assert len(sets) == 30
    for quirks in sets:
        rule = tl.DFAAuthorsCode(case.network(), loss=case.loss, quirks=quirks)
        close(estimate(rule, case).gradients, authors_dfa_oracle(rule, case))


@pytest.mark.parametrize("cell", AUTHORS_CELLS)
def test_without_quirks_it_is_dfa(cell: str) -> None:
    case = Case(cell)
    close(gradients(case, tl.DFAAuthorsCode, quirks=()), gradients(case, tl.DFA))


@pytest.mark.parametrize(
    ("quirk", "changed"),
    [
        # δ_n reads no previous state
        ("shifted-states", {"ih": "rz", "hh": "rzn", "b": "rz", "readout": ""}),
        ("reset-slope", {"ih": "z", "hh": "z", "b": "z", "readout": ""}),
        ("untransposed-candidate", {"ih": "r", "hh": "r", "b": "r", "readout": ""}),
        ("matrix-before-slope", {"ih": "n", "hh": "n", "b": "n", "readout": ""}),
        ("frozen-gate-biases", {"ih": "", "hh": "", "b": "rz", "readout": ""}),
        ("feedback-per-matrix", {"ih": "rzn", "hh": "rzn", "b": "rzn", "readout": ""}),
        ("frobenius", {"ih": "rzn", "hh": "rzn", "b": "rzn", "readout": ""}),
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
