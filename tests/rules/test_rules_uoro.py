"""UORO: unbiased for BPTT over every pattern of its signs, and with the noise that it draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from element_wise import IndRNN
from torch import Tensor

import timelocal as tl
from oracles import close, exactly, still_stream
from timelocal.cells import Cell, RNNCell
from timelocal.rules import uoro
from timelocal.testing import Case, ContractReport, check_case, reference
from timelocal.testing.measure import device_network


@dataclass(frozen=True)
class Tiny(Case):
    """Two units: few enough signs that every pattern of them can be run."""

    HIDDEN = 2
    sequences: int = 2
    steps: int = 3

    @property
    def signs(self) -> int:
        """How many are drawn over a whole sequence."""
        states = 2 if self.cell == "lstm" else 1
        return states * self.layers * self.HIDDEN * self.steps


def flat(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([own.flatten() for name, own in gradients.items() if "recurrent" in name])


def estimated(rule: tl.Rule, case: Case) -> dict[str, Tensor]:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask).gradients


def exact(network: tl.Network, case: Case) -> dict[str, Tensor]:
    batch = case.batch()
    return reference.bptt(network, case.loss_function(), case.at, *batch)[1]


def with_every_pattern(monkeypatch: pytest.MonkeyPatch, case: Tiny) -> int:
    """One direction for each pattern of signs, instead of noise; how many these are."""
    states = 2 if case.cell == "lstm" else 1
    patterns = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=case.signs)))
    patterns = patterns.double().unflatten(1, (case.steps, case.layers, states, case.HIDDEN))

    def signs(self: tl.UORO, key: int, step: int, layer: int, like: Tensor) -> Tensor:
        own = patterns[:, step, layer].movedim(0, 1)  # (states, k, h)
        return own[:, :, None].expand(like.shape)

    monkeypatch.setattr(tl.UORO, "_signs", signs)
    return len(patterns)


EXACT_CASES = (
    Tiny("rnn"),
    Tiny("rnn", at="every", mask=True),
    Tiny("rnn", layers=2, steps=2, unequal=True),
    Tiny("rnn", layers=3, steps=2, at="every", readout="mlp"),
    Tiny("rnn", layers=2, steps=2, at="every", decorrelate=True),
    Tiny("leaky", layers=2, steps=2, at="every", unequal=True, bias=False),
    Tiny("gru", at="every", unequal=True),
    Tiny("gru", layers=2, steps=2, decorrelate=True),
    Tiny("gru-reset-before", at="every", decorrelate=True),
    Tiny("gru-reset-before", layers=2, steps=2, unequal=True),
    Tiny("lstm", steps=2, at="every", decorrelate=True),
    Tiny("lstm", steps=3, unequal=True, mask=True),
    Tiny("lstm", layers=2, steps=1, at="every", batch_first=False),
)


@pytest.mark.parametrize("case", EXACT_CASES, ids=str)
class TestTheMeanOverEveryPattern:
    def test_is_bptt(self, case: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
        network = case.network()
        rule = tl.UORO(
            network, loss=case.loss, at=case.at, directions=with_every_pattern(monkeypatch, case)
        )
        close(estimated(rule, case), exact(network, case))

    def test_is_bptt_whatever_the_scales(self, case: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
        """ρ₀ and ρ₁ are there for the variance alone."""
        monkeypatch.setattr(uoro, "_balance", lambda upper, _: torch.full_like(upper, 1.7))
        self.test_is_bptt(case, monkeypatch)


def test_a_cell_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every derivative by autograd, in a stack: what enters a layer moves its nodes in the cell's own way."""
    case = Tiny(layers=2, steps=2, at="every")
    network = tl.from_cell(IndRNN(), 2, 2, output_size=3, num_layers=2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    rule = tl.UORO(network, at="every", directions=with_every_pattern(monkeypatch, case))
    close(estimated(rule, case), exact(network, case))


def test_masks_between_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Tiny("gru", layers=2, steps=2, at="every", dropout=0.5)
    network = case.network()
    rule = tl.UORO(network, at="every", directions=with_every_pattern(monkeypatch, case))
    bptt = tl.BPTT(network, at="every")
    rule.generator.manual_seed(5)
    tl.rules.draw_key(bptt.generator.manual_seed(5))  # UORO's own comes first
    close(estimated(rule, case), estimated(bptt, case))


@torch.no_grad()
def test_the_scales_have_the_least_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all patterns: ‖s̃‖² ‖θ̃‖², which the variance is up to a constant, is smaller than with others."""
    case = Tiny("rnn", steps=3)
    count, sizes = with_every_pattern(monkeypatch, case), {}
    right = uoro._balance
    for factor in (0.5, 1.0, 2.0):
        factors = itertools.cycle((factor, 1.0))  # ρ₀, then ρ₁

        def balance(*norms: Tensor, factors: Iterator[float] = factors) -> Tensor:
            return next(factors) * right(*norms)

        monkeypatch.setattr(uoro, "_balance", balance)
        rule = tl.UORO(case.network(), directions=count)
        inputs = case.batch()[0]
        run, traces = rule.network.scan(inputs), rule.no_traces(2)
        for t in range(case.steps):
            traces = rule.carried(traces, run.step(t), 0, t)
        state = traces.pop("s").flatten(2).square().sum(-1)
        theta = sum(own.flatten(2).square().sum(-1) for own in traces.values())
        sizes[factor] = float((state * theta).mean())
    assert sizes[1.0] < 0.8 * sizes[0.5]
    assert sizes[1.0] < 0.8 * sizes[2.0]


# --- with the noise that it draws ------------------------------------------------------------

DRAWN = Tiny("gru", layers=2, steps=3, at="every", unequal=True)
MANY = 64


def draws(case: Case, directions: int, count: int) -> tuple[Tensor, Tensor]:
    """Estimates (count, n), and BPTT's gradient (n,)."""
    network = case.network()
    rule = tl.UORO(network, at=case.at, directions=directions)
    found = torch.stack([flat(estimated(rule, case)) for _ in range(count)])
    return found, flat(exact(network, case))


def ratio(found: Tensor, target: Tensor) -> float:
    """‖mean − target‖² / (tr Σ / K): near 1 where the target is the mean."""
    spread = found.var(0).sum() / len(found)
    return float((found.mean(0) - target).square().sum() / spread)


BOUND = 12.0
"""More than the 1 − 10⁻³ quantile of the ratio at its widest, χ²_1, as a covariance of rank 1 has it."""


def test_the_mean_of_draws_is_bptt() -> None:
    found, target = draws(DRAWN, directions=100, count=MANY)
    assert ratio(found, target) < BOUND
    assert ratio(-found, target) > 10 * BOUND
    assert ratio(1000 * found, target) > 10 * BOUND
    assert ratio(1.5 * found, target) > BOUND
    unrelated = torch.randn(found.shape, generator=torch.Generator().manual_seed(0)).double()
    assert ratio(unrelated * found.std(0), target) > 10 * BOUND
    assert ratio(found.roll(1, 1), target) > 10 * BOUND


@pytest.mark.slow
def test_the_squared_error_falls_as_one_over_the_number_of_draws() -> None:
    counts, errors = (1, 4, 16, 64), []
    for directions in counts:
        found, target = draws(DRAWN, directions, count=400)
        errors.append(math.log(float((found - target).square().sum(1).mean())))
    x = torch.tensor(counts, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert abs(float(slope) + 1) < 0.1


def test_each_sequence_and_direction_has_noise_of_its_own() -> None:
    rule = tl.UORO(tl.GRU(2, 8, output_size=3, num_layers=2), at="every", directions=3)
    run = rule.network.scan(torch.ones(4, 2, 2))
    traces = rule.carried(rule.no_traces(4), run.step(0), 7, 0)
    rows = traces["s"].flatten(2).flatten(0, 1)
    assert len(rows.unique(dim=0)) == 12
    exactly(rule.carried(rule.no_traces(4), run.step(0), 7, 0), traces)
    for key, step in ((7, 1), (8, 0)):
        other = rule.carried(rule.no_traces(4), run.step(0), key, step)
        assert not torch.equal(other["s"], traces["s"])


# --- streams ------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn", "gru-reset-before", "lstm"])
@pytest.mark.parametrize("directions", [1, 3])
def test_a_stream_adds_up_to_the_whole_sequence(cell: str, directions: int) -> None:
    case = Case(cell, layers=2, at="every", steps=6)
    network = case.network()
    inputs, targets, _, _ = case.batch()
    stream = still_stream(tl.UORO(network, directions=directions), 3)
    total = {name: torch.zeros_like(own) for name, own in network.named_parameters()}
    for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
        for name, gradient in stream.step(x, y, gradients=True).gradients.items():
            total[name] += gradient / 6
    close(total, estimated(tl.UORO(network, at="every", directions=directions), case))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_stream_goes_the_same_way_in_chunks(size: int) -> None:
    case = Case("lstm", at="every", steps=10)
    inputs, targets, _, _ = case.batch()
    ends = []
    for chunk in (10, size):
        network = case.network()
        rule = tl.UORO(network, directions=2)
        stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), 3)
        for x, y in zip(inputs.split(chunk, 1), targets.split(chunk, 1), strict=True):
            stream.run(x, y)
        ends.append((network.state_dict(), stream.memory))
    exactly(*ends)


def test_what_is_carried_does_not_grow() -> None:
    network = tl.LSTM(2, 16, output_size=3, num_layers=2)
    stream = still_stream(tl.UORO(network, directions=4), 5)
    before = {name: kept.shape for name, kept in stream.memory.items()}
    carried = sum(kept.numel() for name, kept in stream.memory.items() if "theta" in name)
    assert carried == 5 * 4 * sum(own.numel() for own in network.recurrent.parameters())
    stream.run(torch.randn(5, 20, 2), torch.randint(3, (5, 20)))
    assert {name: kept.shape for name, kept in stream.memory.items()} == before
    assert all(kept.isfinite().all() for kept in stream.memory.values())


def test_it_stays_finite_where_nothing_moves() -> None:
    """Saturated units: ∂s_t/∂θ and J s̃ are zero, in float32 exactly."""
    network = tl.RNN(2, 4, output_size=3)
    with torch.no_grad():
        network.recurrent.bias_ih_l0.fill_(100.0)
    rule = tl.UORO(network, at="every")
    found = rule.estimate(torch.randn(3, 8, 2), torch.randint(3, (3, 8))).gradients
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert not found["recurrent.weight_hh_l0"].any()


# --- refusals and the contract ------------------------------------------------------------


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(tl.ArgumentError, match="directions: got 0, expected an integer"):
        tl.UORO(tl.RNN(2, 4, 3), directions=0)
    with pytest.raises(tl.UnsupportedError, match=r"bidirectional.*Use DFA or BPTT"):
        tl.UORO(tl.RNN(2, 4, 3, bidirectional=True))
    with pytest.raises(tl.UnsupportedError, match="Use ANP, NP or WP"):
        tl.UORO(device_network(Case()))


CASES = (
    Case("lstm", layers=2, at="every"),
    Case("gru", unequal=True, decorrelate=True),
    Case("leaky", layers=2, dropout=0.5, at="every", loss="bce", mask=True),
    Case("rnn", layers=2, readout="mlp", unequal=True),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_keeps_the_contract(case: Case) -> None:
    report = ContractReport()
    check_case(tl.UORO, case, report)
    assert report.held
    assert not report.refused


# --- break it and see ------------------------------------------------------------


def flipped(right: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *args: -right(*args)


def in_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    right = RNNCell.jvp_step

    def wrong(*args: object) -> tuple[Tensor, ...]:
        return tuple(-own for own in right(*args))

    monkeypatch.setattr(RNNCell, "jvp_step", wrong)


def between_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cell, "input_tangent", flipped(Cell.input_tangent))


def of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    right = tl.UORO.met

    def wrong(*args: object) -> dict[str, Tensor]:
        return {name: 1000 * own for name, own in right(*args).items()}

    monkeypatch.setattr(tl.UORO, "met", wrong)


def of_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    right = tl.UORO.carried

    def wrong(self: tl.UORO, traces: dict[str, Tensor], *args: object) -> dict[str, Tensor]:
        return right(self, {name: 0 * own for name, own in traces.items()}, *args)

    monkeypatch.setattr(tl.UORO, "carried", wrong)


def of_a_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is scaled by √2 besides, θ̃ is not."""
    right = uoro._times
    monkeypatch.setattr(
        uoro, "_times", lambda own, by: right(own, by) * (2**0.5 if own.dim() == 5 else 1)
    )


@pytest.mark.parametrize(
    "break_it", [in_the_jacobian, between_layers, of_the_whole, of_the_past, of_a_scale]
)
def test_an_error_is_seen(break_it: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    case = Tiny("rnn", layers=2, steps=2, at="every")
    network = case.network()
    rule = tl.UORO(network, at="every", directions=with_every_pattern(monkeypatch, case))
    close(estimated(rule, case), exact(network, case))
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        close(estimated(rule, case), exact(network, case))
