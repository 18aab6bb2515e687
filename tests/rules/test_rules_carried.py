"""Rules that carry traces forward: one of a third party, whole sequences and streams, and RTRL among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from element_wise import indrnn
from torch import Tensor

import timelocal as tl
from oracles import close, exactly, still_stream
from timelocal.cells import outer_each
from timelocal.rules import CarriedRule, RuleSpec
from timelocal.testing import CELLS, Case, ContractReport, check_case
from timelocal.typing import Gradients, Memory


class OneStep(CarriedRule):
    """A third party's rule: ∂h_t/∂θ of each step for each unit, and nothing of the past. TBPTT(1)."""

    spec = RuleSpec(
        name="carried-one-step",
        summary="what a weight did to each unit in this step",
        estimates="exact",
        target="tbptt1",
        online=True,
        autograd_free=True,
        weight_transport=True,
    )

    def no_traces(self, batch_size: int) -> Memory:
        named, units = self.network.recurrent.named_parameters(), self.network.hidden_size
        return {name: own.new_zeros(batch_size, units, *own.shape) for name, own in named}

    def carried(self, traces: Memory, run: tl.Trajectory, key: int, step: int) -> Memory:
        ((own,),) = run.layers
        cell, weights = self.network.cell, self.network.recurrent.weights(0, 0)
        units = torch.eye(self.network.hidden_size, dtype=own.inputs.dtype)
        signals = units[:, None].expand(-1, own.inputs.shape[1], -1)
        delta = cell.node_signal(weights, cell.local_jacobian(own), signals)
        kinds = self.network.recurrent.parameter_kinds
        found = {kind: cell.gradient(weights, kind, own, delta, outer_each) for kind in kinds}
        return {f"{kind}_l0": each.transpose(0, 1) for kind, each in found.items()}

    def met(self, signal: Tensor, traces: Memory, run: tl.Trajectory) -> Gradients:
        names = [name for name, _ in self.network.recurrent.named_parameters()]
        return {
            f"recurrent.{name}": torch.einsum("bh,bh...->...", signal, traces[name])
            for name in names
        }


def gradients(rule: tl.Rule, case: Case) -> Gradients:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask).gradients


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize(
    "batch",
    [
        {},
        {"unequal": True, "mask": True, "loss": "bce"},
        {"decorrelate": True, "readout": "mlp", "unequal": True},
        {"batch_first": False, "bias": False},
    ],
    ids=str,
)
def test_a_rule_of_ones_own_over_whole_sequences(cell: str, at: str, batch: dict) -> None:
    case = replace(Case(cell, at=at), **batch)
    network = case.network()
    options = {"loss": case.loss, "at": at}
    close(
        gradients(OneStep(network, **options), case),
        gradients(tl.TBPTT(network, 1, **options), case),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_it_keeps_the_contract(cell: str) -> None:
    for case in (Case(cell, at="every", mask=True), Case(cell, unequal=True, decorrelate=True)):
        report = ContractReport()
        check_case(OneStep, case, report)
        assert report.held
        assert not report.refused


class Watched(OneStep):
    """It draws, and keeps what it was told to draw from."""

    spec = replace(OneStep.spec, name="watched", draws=True)
    seen: list[tuple[int, int]]

    def carried(self, traces: Memory, run: tl.Trajectory, key: int, step: int) -> Memory:
        self.seen = [*getattr(self, "seen", []), (key, step)]
        return super().carried(traces, run, key, step)


def test_noise_is_a_function_of_a_key_and_the_step() -> None:
    """One key an estimate, another one each time; in a stream the stream's, and its own count of steps."""
    case = Case(at="every", steps=4)
    rule = Watched(case.network(), at="every")
    gradients(rule, case)
    (key,) = {key for key, _ in rule.seen}
    assert [step for _, step in rule.seen] == [0, 1, 2, 3]
    gradients(rule, case)
    assert rule.seen[-1][0] != key
    other = Watched(case.network(), at="every")
    stream = still_stream(other, 3)
    inputs, targets, _, _ = case.batch()
    stream.run(inputs[:, :3], targets[:, :3])
    stream.run(inputs[:, 3:], targets[:, 3:])
    assert other.seen == [(key, step) for step in range(4)]
    assert stream.key == key


def test_a_rule_that_draws_nothing_takes_nothing_from_its_generator() -> None:
    case = Case()
    rule = tl.RTRL(case.network())
    before = rule.get_extra_state()
    gradients(rule, case)
    exactly(rule.get_extra_state(), before)


# --- RTRL ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["last", "every"])
def test_rtrl_of_a_cell_of_ones_own_is_bptt(at: str) -> None:
    network, case = indrnn(2), Case(at=at, unequal=True)
    rtrl = tl.RTRL(network, at=at, full=True)
    close(gradients(rtrl, case), gradients(tl.BPTT(network, at=at), case))


def test_rtrl_sees_the_masks_between_layers() -> None:
    case = Case("lstm", layers=3, dropout=0.5, at="every", decorrelate=True)
    network = case.network()
    rules = [kind(network, at="every") for kind in (tl.RTRL, tl.BPTT)]
    for rule in rules:
        rule.generator.manual_seed(3)
    close(*(gradients(rule, case) for rule in rules))


@pytest.mark.parametrize(
    "learn",
    [
        lambda rule: rule.estimate(torch.zeros(10, 2, 2), torch.zeros(10, dtype=torch.int64)),
        lambda rule: rule.begin(10),
    ],
    ids=["a batch", "a stream"],
)
def test_rtrl_refuses_before_anything_is_run_or_allocated(
    learn: Callable[[tl.Rule], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = tl.RTRL(tl.GRU(2, 400, 3))

    def too_late(*_: object, **__: object) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr(rule.network, "unroll", too_late)
    monkeypatch.setattr(Tensor, "new_zeros", too_late)
    with pytest.raises(tl.UnsupportedError, match=r"7.2 GiB, expected at most 4.*Use fewer"):
        learn(rule)


def test_one_step_of_a_run_is_a_run() -> None:
    case = Case("lstm", layers=2, dropout=0.5)
    network = case.network()
    inputs = case.batch()[0].transpose(0, 1)
    run = network.unroll(inputs, generator=torch.Generator().manual_seed(0))
    third = run.step(2)
    exactly(third.outputs, run.outputs[2:3])
    for own, one in zip(run.layers, third.layers, strict=True):
        exactly(one[0].states[1], own[0].states[1][2:4])
    exactly(third.dropout[0], run.dropout[0][2:3])
    assert third.lengths is None


# --- break it and see --------------------------------------------------------------------------------------


def test_a_step_too_late_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("gru", at="every")
    network = case.network()
    right, wanted = tl.RTRL.met, gradients(tl.BPTT(network, at="every"), case)
    last: list[Tensor] = []

    def late(self: tl.RTRL, signal: Tensor, traces: Memory, run: tl.Trajectory) -> Gradients:
        last.append(signal)
        return right(self, last[-2] if len(last) > 1 else 0 * signal, traces, run)

    monkeypatch.setattr(tl.RTRL, "met", late)
    with pytest.raises(AssertionError):
        close(gradients(tl.RTRL(network, at="every"), case), wanted)
