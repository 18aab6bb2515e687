"""Exact feedback within the step, and SnAp-1: against autograd, and where they meet other rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from element_wise import indrnn
from hypothesis import example, given, settings
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import Setting, close, exactly, settings_drawn, still_stream
from timelocal.rules import feedback_rule
from timelocal.testing import CELLS, Case, ContractReport, check_case, reference
from timelocal.testing.measure import device_network

LAST = Setting(Case("gru-reset-before", layers=3, bidirectional=True), "mse", (5, 1, 3))
WIDEST = Setting(
    Case("lstm", layers=3, bidirectional=True, readout="mlp", at="every", mask=True, seed=5),
    "weighted",
    (5, 1, 3),
)


def gradients(rule: tl.Rule, case: Case) -> dict[str, Tensor]:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask).gradients


def differ(one: dict[str, Tensor], other: dict[str, Tensor], name: str) -> bool:
    return not torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-6)


def assert_exact_feedback(setting: Setting, trace: str) -> None:
    """Traces of one sequence carried forward, met by the gradient of each step's loss, all by autograd."""
    network, batch = setting.network(), setting.batch()
    rule = setting.rule(tl.DFA, network, feedback="exact", trace=trace)
    found = rule.estimate(*batch[:3], mask=batch[3])
    wanted = reference.traced(network, "exact", trace, setting.loss, setting.case.at, *batch)
    close(found.gradients, wanted)


@pytest.mark.parametrize("trace", ["none", "leak", "diagonal"])
@settings(max_examples=12)
@given(setting=settings_drawn(max_layers=3, max_sequences=2, max_steps=5))
@example(setting=LAST)
@example(setting=WIDEST)
def test_exact_feedback_is_autograd_within_the_step(trace: str, setting: Setting) -> None:
    assert_exact_feedback(setting, trace)


BATCHES = {
    "one layer": {},
    "layers": {"layers": 3},
    "lengths": {"layers": 2, "unequal": True},
    "mask": {"layers": 2, "unequal": True, "mask": True, "loss": "bce"},
    "any readout": {"layers": 2, "readout": "mlp", "unequal": True},
    "decorrelated": {"layers": 2, "decorrelate": True},
}


@pytest.mark.parametrize(
    ("cell", "at", "batch"), covering(product(CELLS, ("last", "every"), BATCHES), pairs=True)
)
def test_without_a_trace_it_is_tbptt_of_one_step(cell: str, at: str, batch: str) -> None:
    case = replace(Case(cell, at=at), **BATCHES[batch])
    network = case.network()
    options = {"at": at, "loss": case.loss}
    one_step = gradients(tl.TBPTT(network, 1, **options), case)
    close(gradients(tl.DFA(network, feedback="exact", **options), case), one_step)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("at", ["last", "every"])
class TestWhereItMeets:
    def test_of_one_layer_it_is_symmetric_feedback(self, cell: str, at: str) -> None:
        case = Case(cell, at=at, unequal=True, mask=True, decorrelate=True)
        network = case.network()
        for rule in (tl.RFLO, tl.EProp):
            symmetric = gradients(rule(network, at=at, feedback="symmetric"), case)
            close(gradients(rule(network, at=at, feedback="exact"), case), symmetric)
        close(gradients(tl.SnAp1(network, at=at), case), symmetric)

    def test_snap1_is_dfa_with_exact_feedback_and_a_diagonal_trace(
        self, cell: str, at: str
    ) -> None:
        case = Case(cell, at=at, layers=2, bidirectional=True, unequal=True)
        network = case.network()
        dfa = tl.DFA(network, at=at, feedback="exact", trace="diagonal")
        exactly(gradients(tl.SnAp1(network, at=at), case), gradients(dfa, case))

    def test_snap1_is_rtrl_with_diagonal_weights(self, cell: str, at: str) -> None:
        case = Case(cell, at=at, unequal=True)
        network = case.network()
        weight = network.recurrent.weight_hh_l0
        with torch.no_grad():
            weight.mul_(torch.eye(4, dtype=weight.dtype).repeat(len(weight) // 4, 1))
        close(gradients(tl.SnAp1(network, at=at), case), gradients(tl.RTRL(network, at=at), case))


def test_a_last_loss_reaches_the_last_step_alone() -> None:
    """Not every step, as the F e of DFA: earlier inputs get no gradient."""
    case = Case("gru", layers=2)
    inputs, targets, _, _ = case.batch()
    inputs.requires_grad_()
    tl.DFA(case.network(), feedback="exact")(inputs, targets).backward()
    assert not inputs.grad[:, :-1].any()
    assert inputs.grad[:, -1].all()


def test_inputs_get_what_autograd_gives_them_within_the_step() -> None:
    case = Case("lstm", layers=2, at="every")
    network = case.network()
    found = []
    for rule in (tl.DFA(network, feedback="exact", at="every"), tl.TBPTT(network, 1, at="every")):
        inputs, targets, _, _ = case.batch()
        inputs.requires_grad_()
        rule(inputs, targets).backward()
        found.append(inputs.grad)
    close(*found)


# --- element-wise recurrences: the diagonal is the whole Jacobian ---------------------------------


@pytest.mark.parametrize("at", ["last", "every"])
class TestElementWise:
    def case(self, at: str) -> Case:
        return Case(at=at, unequal=True, steps=6)

    def both(self, network: tl.Network, at: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        case = self.case(at)
        rtrl = gradients(tl.RTRL(network, at=at, full=True), case)
        close(rtrl, gradients(tl.BPTT(network, at=at), case))
        return gradients(tl.SnAp1(network, at=at), case), rtrl

    def test_one_layer_is_exact(self, at: str) -> None:
        snap1, rtrl = self.both(indrnn(), at)
        close(snap1, rtrl)

    def test_a_stack_is_exact_in_its_top_layer(self, at: str) -> None:
        snap1, rtrl = self.both(indrnn(3), at)
        exact = [name for name in snap1 if "_l2" in name or "readout" in name]
        assert len(exact) == 5
        close({name: snap1[name] for name in exact}, {name: rtrl[name] for name in exact})
        for name in snap1.keys() - set(exact):
            assert differ(snap1, rtrl, name), name

    def test_what_is_missing_goes_through_the_states_of_upper_layers(self, at: str) -> None:
        """Where these have no past, nothing is missing; the lowest one still has its own."""
        network = indrnn(3)
        for layer in (1, 2):
            torch.nn.init.zeros_(network.recurrent.get_parameter(f"u_l{layer}"))
        snap1, rtrl = self.both(network, at)
        close(snap1, rtrl)
        one_step = gradients(tl.TBPTT(network, 1, at=at), self.case(at))
        assert differ(one_step, snap1, "recurrent.u_l0")


# --- streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "gru-reset-before"])
@pytest.mark.parametrize("trace", ["none", "leak", "diagonal"])
def test_a_stream_adds_up_to_the_whole_sequence(cell: str, trace: str) -> None:
    case = Case(cell, layers=3, at="every", steps=6)
    network = case.network()
    inputs, targets, _, _ = case.batch()
    made = {
        "none": tl.DFA(network, feedback="exact"),
        "leak": tl.RFLO(network, feedback="exact"),
        "diagonal": tl.SnAp1(network),
    }[trace]
    stream = still_stream(made, 3)
    steps = [
        stream.step(x, y, gradients=True).gradients
        for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True)
    ]
    made.at = "every"
    whole = made.estimate(inputs, targets).gradients
    close({name: sum(step[name] for step in steps) / 6 for name in whole}, whole)


def test_a_stream_of_an_element_wise_cell_is_exact() -> None:
    network, case = indrnn(), Case(at="every", steps=6)
    inputs, targets, _, _ = case.batch()
    stream = still_stream(tl.SnAp1(network), 3)
    total = {name: torch.zeros_like(own) for name, own in network.named_parameters()}
    for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
        for name, gradient in stream.step(x, y, gradients=True).gradients.items():
            total[name] += gradient / 6
    close(total, gradients(tl.BPTT(network, at="every"), case))


def test_a_stream_carries_one_number_for_each_synapse_and_state() -> None:
    network = tl.LSTM(2, 16, output_size=3, num_layers=2)
    stream = still_stream(tl.SnAp1(network), 5)
    carried = sum(kept.numel() for name, kept in stream.memory.items() if name != "states")
    assert carried == 2 * 5 * sum(own.numel() for own in network.recurrent.parameters())
    before = {name: kept.shape for name, kept in stream.memory.items()}
    stream.run(torch.randn(5, 20, 2), torch.randint(3, (5, 20)))
    assert {name: kept.shape for name, kept in stream.memory.items()} == before


# --- refusals and the contract -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: still_stream(tl.SnAp1(tl.GRU(2, 4, 3, reset_after=False)), 1),
            "Use reset_after=True",
        ),
        (
            lambda: still_stream(tl.SnAp1(tl.RNN(2, 4, 3, bidirectional=True)), 1),
            "Use whole sequences",
        ),
        (
            lambda: tl.DFA(tl.RNN(2, 4, 3), feedback="exact", feedback_per="parameter"),
            "feedback='exact': got feedback_per='parameter'.*Use feedback=",
        ),
        (
            lambda: tl.DFA(tl.RNN(2, 4, 3), feedback="exact").feedback_matrix(),
            "Use feedback='symmetric'",
        ),
        (lambda: tl.SnAp1(device_network(Case())), "Use ANP, NP or WP"),
    ],
)
def test_what_cannot_be_done_says_what_can(make: Callable[[], object], told: str) -> None:
    with pytest.raises(tl.UnsupportedError, match=told):
        make()


def test_a_misspelt_feedback_is_told() -> None:
    with pytest.raises(tl.ArgumentError, match="Did you mean 'exact'"):
        tl.DFA(tl.RNN(2, 4, 3), feedback="exakt")


def test_it_has_no_matrices() -> None:
    assert not dict(tl.SnAp1(tl.GRU(2, 4, 3)).named_buffers())


CASES = (
    Case("lstm", layers=2, at="every"),
    Case("gru-reset-before", layers=3, bidirectional=True, unequal=True),
    Case("leaky", layers=2, dropout=0.5, at="every", loss="bce", mask=True),
    Case("rnn", layers=2, readout="mlp", unequal=True, decorrelate=True),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_keeps_the_contract(case: Case) -> None:
    report = ContractReport()
    check_case(tl.SnAp1, case, report)
    assert report.held
    assert not report.refused


# --- break it and see ----------------------------------------------------------------------------------

Signals = list[list[Tensor]]
BROKEN: dict[str, Callable[[Signals], Signals]] = {
    "flipped": lambda signals: [[-own for own in layer] for layer in signals],
    "a thousand times too large": lambda signals: [
        [1000 * own for own in layer] for layer in signals
    ],
    "one step late": lambda signals: [[own.roll(1, 0) for own in layer] for layer in signals],
    "of the top layer in all": lambda signals: [signals[-1]] * len(signals),
}


@pytest.mark.parametrize(("what", "at"), covering(product(BROKEN, ("last", "every"))))
def test_a_wrong_signal_is_seen(what: str, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("gru", layers=2, at=at)
    right = feedback_rule.exact_signals

    def wrong(*args: object) -> Signals:
        return BROKEN[what](right(*args))

    monkeypatch.setattr(feedback_rule, "exact_signals", wrong)
    with pytest.raises(AssertionError):
        assert_exact_feedback(Setting(case), "diagonal")
    with pytest.raises(AssertionError):
        check_case(tl.SnAp1, case, ContractReport())
