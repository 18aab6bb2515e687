"""Dropout between layers: masks from the rule's own generator, the same for all that a rule does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

import timelocal as tl
from oracles import close, exactly
from timelocal.testing import CELLS, Case, reference

CASE = Case("gru", layers=3, dropout=0.4, bidirectional=True, at="every", unequal=True)


def rule_for(case: Case, kind: type[tl.Rule], seed: int = 0) -> tl.Rule:
    return kind(case.network(), at=case.at, seed=seed)


def estimate(rule: tl.Rule, case: Case) -> tl.Estimate:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask)


def masks_to_come(rule: tl.Rule, case: Case) -> tuple[Tensor | None, ...]:
    """The masks that the rule will draw next, from a copy of its generator."""
    inputs, _, lengths, _ = case.batch()
    drawn = copy.deepcopy(rule.generator)
    return rule.network.unroll(rule.network.time_first(inputs), lengths, generator=drawn).dropout


@pytest.mark.parametrize("cell", CELLS)
def test_bptt_is_exact_and_dfa_its_surrogate_under_the_mask(cell: str) -> None:
    case = Case(cell, layers=2, dropout=0.5, at="every", unequal=True, bidirectional=True)
    inputs, targets, lengths, mask = case.batch()
    bptt = rule_for(case, tl.BPTT)
    masks = masks_to_come(bptt, case)
    assert masks[0] is not None
    args = (case.loss_function(), case.at, inputs, targets, lengths, mask, masks)
    loss, wanted = reference.bptt(bptt.network, *args)
    found = estimate(bptt, case)
    close(found.loss, loss)
    close(found.gradients, wanted)
    dfa = rule_for(case, tl.DFA)
    masks = masks_to_come(dfa, case)
    args = (*args[:-1], masks)
    close(estimate(dfa, case).gradients, reference.dfa(dfa.network, dfa.feedback_matrix, *args))


@pytest.mark.parametrize("kind", [tl.BPTT, tl.DFA])
def test_the_same_seed_draws_the_same_masks_and_then_others(kind: type[tl.Rule]) -> None:
    rule, twin, other = (rule_for(CASE, kind, seed) for seed in (3, 3, 4))
    first = estimate(rule, CASE)
    exactly(first.gradients, estimate(twin, CASE).gradients)
    assert not torch.equal(first.loss, estimate(rule, CASE).loss), "the same mask for every batch"
    assert not torch.equal(first.loss, estimate(other, CASE).loss), "the same mask for every seed"


@pytest.mark.parametrize("kind", [tl.BPTT, tl.DFA])
def test_none_in_eval_mode_nor_while_evaluating(kind: type[tl.Rule]) -> None:
    without = Case("gru", layers=3, bidirectional=True, at="every", unequal=True)
    expected = estimate(rule_for(without, kind), without)
    rule = rule_for(CASE, kind)
    inputs, targets, lengths, _ = CASE.batch()
    exactly(rule.evaluate(inputs, targets, lengths).loss, expected.loss)
    rule.network.eval()
    exactly(estimate(rule, CASE).gradients, expected.gradients)


def test_masks_keep_the_mean_and_stay_out_of_the_top_layer() -> None:
    case = Case("rnn", layers=2, dropout=0.25, sequences=40, steps=50)
    (mask,) = masks_to_come(rule_for(case, tl.BPTT), case)
    assert mask is not None
    close(mask.unique(), torch.tensor([0, 1 / 0.75], dtype=torch.float64))
    # standard error of the mean of n = 8000 Bernoulli values: √(p / (1 − p) / n) = 0.0065
    assert float(mask.mean()) == pytest.approx(1, abs=4 * 0.0065)
