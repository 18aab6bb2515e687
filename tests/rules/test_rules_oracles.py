"""BPTT is autograd, DFA is its surrogate, forward is torch.nn's: over everything that varies."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import (
    TORCH_CELLS,
    Setting,
    assert_bptt_exact,
    assert_dfa_is_its_surrogate,
    assert_dfa_per_parameter_is_its_surrogate,
    close,
    exactly,
    settings_drawn,
    torch_run,
)
from timelocal.testing import CELLS, Case, reference

WIDEST = Setting(
    Case("lstm", layers=3, bidirectional=True, readout="mlp", at="every", mask=True, seed=5),
    "weighted",
    (5, 1, 3),
)
SMALLEST = Setting(Case("gru-reset-before", sequences=1, steps=1))


@settings(max_examples=60)
@given(settings_drawn(TORCH_CELLS, decorrelate=False))
@example(WIDEST)
def test_forward_is_that_of_torch(setting: Setting) -> None:
    network = setting.network()
    inputs, _, lengths, _ = setting.batch()
    with torch.no_grad():
        expected = torch_run(network, inputs, lengths)
        outputs = network.readout(expected.outputs)
    trajectory = network.scan(inputs, lengths)
    outside_first = expected.outputs.transpose(0, 1) if network.batch_first else expected.outputs
    close(trajectory.outputs, outside_first)
    wanted = expected.h_n if expected.c_n is None else (expected.h_n, expected.c_n)
    close(trajectory.final_states(), wanted)
    close(trajectory.last(), torch.cat(tuple(expected.h_n[-network.directions :]), -1))
    valid = setting.valid() if network.batch_first else setting.valid().t()
    close(network(inputs, lengths)[valid], outputs[valid])


@settings(max_examples=40)
@given(settings_drawn(max_layers=2))
def test_forward_is_the_textbook(setting: Setting) -> None:
    network = setting.network()
    inputs, _, lengths, _ = setting.batch()
    trajectory = network.scan(inputs, lengths)
    assert not trajectory.outputs.requires_grad
    for b in range(setting.case.sequences):
        steps = int(setting.valid()[b].sum())
        sequence = (inputs[b] if network.batch_first else inputs[:, b])[:steps]
        with torch.no_grad():
            _, expected = reference.run(network, sequence)
        close(trajectory.outputs[:steps, b], expected)
        exactly(trajectory.outputs[steps:, b], torch.zeros_like(trajectory.outputs[steps:, b]))


@settings(max_examples=80)
@given(settings_drawn(TORCH_CELLS))
@example(WIDEST)
@example(replace(WIDEST, case=replace(WIDEST.case, decorrelate=True)))
def test_bptt_is_autograd_through_torch(setting: Setting) -> None:
    assert_bptt_exact(setting)


@settings(max_examples=40)
@given(settings_drawn(("leaky", "gru-reset-before")))
@example(SMALLEST)
def test_bptt_is_autograd_through_the_textbook(setting: Setting) -> None:
    assert_bptt_exact(setting)


@settings(max_examples=60)
@given(settings_drawn(max_sequences=3, max_steps=5))
@example(WIDEST)
@example(SMALLEST)
def test_dfa_is_its_surrogate(setting: Setting) -> None:
    assert_dfa_is_its_surrogate(setting)


@settings(max_examples=20)
@given(settings_drawn(max_layers=2, max_sequences=2, max_steps=4))
@example(SMALLEST)
def test_dfa_with_one_matrix_per_parameter_is_its_surrogate(setting: Setting) -> None:
    assert_dfa_per_parameter_is_its_surrogate(setting)


KINDS = ("gaussian", "orthogonal", "sparse", "ternary", "uniform", "sign")


@pytest.mark.parametrize(("cell", "kind"), covering(product(CELLS, KINDS)))
def test_dfa_is_its_surrogate_for_every_kind_of_feedback(cell: str, kind: str) -> None:
    case = Case(cell, at="every", mask=True, bidirectional=True)
    assert_dfa_is_its_surrogate(Setting(case, "mse", (5, 1, 3)), feedback=kind)


def part(setting: Setting, b: int, kind: type[tl.Rule]) -> tuple[tl.Estimate, Tensor] | None:
    """The estimate of sequence b alone, cut to its length, and what its mean divides by."""
    inputs, targets, _, mask = setting.batch()
    time = 1 if setting.case.batch_first else 0
    steps = int(setting.valid()[b].sum())

    def own(values: Tensor, stepwise: bool) -> Tensor:
        if not stepwise:
            return values[b : b + 1]
        return values.narrow(1 - time, b, 1).narrow(time, 0, steps)

    every = setting.case.at == "every"
    own_targets = own(targets, every)
    own_mask = None if mask is None else own(mask, every)
    if own_mask is not None and not bool((own_mask > 0).any()):
        return None
    rule = setting.rule(kind, setting.network())
    estimate = rule.estimate(own(inputs, True), own_targets, mask=own_mask)
    counts = torch.ones(own_targets.shape[: 1 + every]) if own_mask is None else own_mask
    by_class = setting.loss.entry_weights(own_targets) if setting.loss.classifies else None
    return estimate, (counts if by_class is None else counts * by_class).sum()


@settings(max_examples=30)
@given(settings_drawn())
@example(WIDEST)
def test_a_batch_is_the_weighted_mean_of_its_sequences(setting: Setting) -> None:
    inputs, targets, lengths, mask = setting.batch()
    for kind in (tl.BPTT, tl.DFA):
        whole = setting.rule(kind, setting.network()).estimate(inputs, targets, lengths, mask=mask)
        parts = [part(setting, b, kind) for b in range(setting.case.sequences)]
        found = [one for one in parts if one is not None]
        total = torch.stack([weight for _, weight in found]).sum()
        close(whole.loss, sum(one.loss * weight for one, weight in found) / total)
        assert whole.count == pytest.approx(sum(one.count for one, _ in found))
        for name, gradient in whole.gradients.items():
            close(gradient, sum(one.gradients[name] * w for one, w in found) / total)


@settings(max_examples=40)
@given(settings_drawn())
@example(WIDEST)
def test_padding_says_nothing(setting: Setting) -> None:
    """Sample by sample, states are those of the sequence alone; finite nonsense does what NaN does."""
    network = setting.network()
    inputs, targets, lengths, mask = setting.batch()
    trajectory = network.scan(inputs, lengths)
    for b in range(setting.case.sequences):
        steps = int(setting.valid()[b].sum())
        alone = inputs[b : b + 1, :steps] if setting.case.batch_first else inputs[:steps, b : b + 1]
        single = network.scan(alone)
        close(trajectory.outputs[:steps, b], single.outputs[:, 0])
        close(trajectory.last()[b], single.last()[0])
    for kind in (tl.BPTT, tl.DFA):
        rule = setting.rule(kind, network)
        nan = rule.estimate(inputs, targets, lengths, mask=mask)
        other = rule.estimate(inputs.nan_to_num(1e6), targets, lengths, mask=mask)
        exactly(nan.gradients, other.gradients)


@pytest.mark.parametrize("cell", CELLS)
def test_finite_differences_agree_with_the_oracle_of_bptt(cell: str) -> None:
    setting = Setting(
        Case(cell, layers=2, bidirectional=True, at="every", mask=True), lengths=(4, 2, 5)
    )
    network, batch = setting.network(), setting.batch()
    _, gradients = reference.bptt(network, setting.loss, "every", *batch)

    @torch.enable_grad()
    def loss() -> float:
        return float(reference.mean_loss(network, setting.loss, "every", *batch)[0].detach())

    for name, parameter in network.named_parameters():
        direction = torch.randn(
            parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        along = central_difference(loss, parameter, direction)
        close_enough(along, float((gradients[name] * direction).sum()))


@pytest.mark.parametrize("cell", CELLS)
def test_finite_differences_agree_with_the_oracle_of_dfa(cell: str) -> None:
    """Steps start from the clean run's states, whatever θ does: only the step itself is differentiated."""
    setting = Setting(Case(cell, sequences=1))
    network, batch = setting.network(), setting.batch()
    sequence = batch[0][0]
    feedback = tl.DFA(network).feedback_matrix()
    gradients = reference.dfa(network, lambda *_: feedback, setting.loss, "last", *batch)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    parameters = {kind: network.recurrent.get_parameter(f"{kind}_l0") for kind in kinds}
    with torch.no_grad():
        starts = [tuple(torch.zeros(4, dtype=torch.float64) for _ in network.cell.state_names)]
        for x in sequence:
            starts.append(reference.step(network.cell, parameters, x, starts[-1]))
        outputs = network.readout(starts[-1][0][None])
        error = outputs.softmax(-1)[0]
        error[batch[1][0]] -= 1

    def surrogate() -> float:
        steps = zip(sequence, starts, strict=False)
        states = [reference.step(network.cell, parameters, x, start)[0] for x, start in steps]
        return float(sum((feedback @ error) @ h for h in states))

    for kind, parameter in parameters.items():
        direction = torch.randn(
            parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        along = central_difference(surrogate, parameter, direction)
        close_enough(along, float((gradients[f"recurrent.{kind}_l0"] * direction).sum()))


@torch.no_grad()
def central_difference(function: object, parameter: Tensor, direction: Tensor) -> float:
    """(f(θ + εv) − f(θ − εv)) / 2ε: wrong by about ε² f''', and by rounding over ε."""
    step = 1e-5
    values = []
    for sign in (1, -1):
        parameter += sign * step * direction
        values.append(function())
        parameter -= sign * step * direction
    return (values[0] - values[1]) / (2 * step)


def close_enough(found: float, expected: float) -> None:
    assert expected != 0
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)
