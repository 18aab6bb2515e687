"""NP from one noisy run: its loss beside the running mean of losses before, in the place of a clean run's."""

from __future__ import annotations

import copy
from itertools import product
from pathlib import Path
from unittest import mock

import pytest
import torch
from test_rules_perturbation import slope
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import exactly
from timelocal import kernels
from timelocal.data import Sequences
from timelocal.errors import ArgumentError, UnsupportedError
from timelocal.network import black_box
from timelocal.rules import baseline, make_batch
from timelocal.rules.perturbation import draw_key
from timelocal.testing import check_rule
from timelocal.testing import perturbation as oracle
from timelocal.testing.cases import Case
from timelocal.testing.measure import Device
from timelocal.typing import Gradients, Place

CREDITS = ("local", "trace(0.5)", "to_go", "global")
LENGTHS = torch.tensor([4, 2, 3])
SIGMA = 0.3


def network(**options: object) -> tl.Network:
    return tl.RNN(2, 4, 3, seed=1, **options).double()


def data(at: Place, sequences: int = 3, steps: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets, and a mask in which a sequence's entries weigh nothing or more than others'."""
    draw = torch.Generator().manual_seed(2)
    inputs = torch.randn(sequences, steps, 2, generator=draw, dtype=torch.float64)
    entries = (sequences, steps) if at in ("every", "ramp") else (sequences,)
    targets = torch.randn(*entries, 3, generator=draw, dtype=torch.float64)
    return inputs, targets, torch.rand(entries, generator=draw, dtype=torch.float64) + 0.2


def trained(rule: tl.Rule, *batch: Tensor, **options: Tensor) -> Tensor:
    """The loss of a training call, whose gradients nobody wants."""
    loss = rule(*batch, **options)
    loss.backward()
    return loss.detach()


def running_mean(rule: tl.Rule) -> float:
    total, weight = rule.get_buffer("running_loss").tolist()
    return total / weight


# --- as the equation says -------------------------------------------------------------------------


def credited(losses: Tensor, credit: str) -> Tensor:
    """c_s of one run from its losses (t,) less b, step by step."""
    steps, found = len(losses), torch.zeros_like(losses)
    for s in range(steps):
        for t in range(steps):
            if credit == "global":
                found[s] += losses[t]
            elif t >= s:
                decay = {"local": 0.0, "to_go": 1.0}.get(credit, 0.5)
                found[s] += decay ** (t - s) * losses[t]
    return found


def by_hand(rule: tl.NP, key: int, at: Place, mask: Tensor, b: Tensor) -> tuple[Gradients, Tensor]:
    """σ⁻² Σ c_t σξ_t ⊗ pre_t of every noisy run, one at a time; and the loss of each sequence's first.

    b (b,): what each sequence's losses are compared with.
    """
    inputs, targets, _ = data(at)
    own = {name: p.detach() for name, p in rule.network.named_parameters()}
    w, v = own["recurrent.weight_hh_l0"], own["recurrent.weight_ih_l0"]
    bias = own["recurrent.bias_hh_l0"] + own["recurrent.bias_ih_l0"]
    out, out_bias = own["readout.weight"], own["readout.bias"]
    steps, sequences = inputs.shape[1], len(inputs)
    drawn = [
        kernels.normal(key, 0, steps, place, (rule.directions, sequences, n), torch.float64,
                       torch.device("cpu"))
        for place, n in ((0, 4), (1, 3))
    ]  # fmt: skip
    if rule.antithetic:
        drawn = [torch.cat((noise, -noise), 1) for noise in drawn]
    runs = drawn[0].shape[1]
    weights = mask.clone()
    if at == "every":
        weights[torch.arange(steps) >= LENGTHS[:, None]] = 0
    found = {name: torch.zeros_like(p) for name, p in own.items()}
    first = torch.zeros(sequences, dtype=torch.float64)
    for i in range(sequences):
        for m in range(runs):
            length = int(LENGTHS[i])
            h, entered, outputs = torch.zeros(4, dtype=torch.float64), [], []
            for t in range(length):
                xi, zeta = drawn[0][t, m, i], drawn[1][t, m, i]
                before = h
                h = torch.tanh(w @ h + v @ inputs[i, t] + bias + rule.sigma * xi)
                outputs.append(out @ h + out_bias + rule.sigma * zeta)
                entered.append((before, inputs[i, t], h, xi, zeta))
            losses = torch.zeros(length, dtype=torch.float64)
            if at == "every":
                errors = [
                    (y - d).square().mean() for y, d in zip(outputs, targets[i], strict=False)
                ]
                losses = weights[i, :length] / weights.sum() * (torch.stack(errors) - b[i])
                alone = (weights[i, :length] * torch.stack(errors)).sum() / weights.sum()
            else:
                seen = outputs[-1] if at == "last" else torch.stack(outputs).mean(0)
                error = (seen - targets[i]).square().mean()
                losses[-1] = weights[i] / weights.sum() * (error - b[i])
                alone = weights[i] * error / weights.sum()
            first[i] = alone if m == 0 else first[i]
            for t, c in enumerate(credited(losses, rule.credit) / runs):
                before, x, after, xi, zeta = entered[t]
                if at == "last" and t < length - 1:
                    zeta = torch.zeros_like(zeta)  # noise on outputs that nobody reads
                scale = c / rule.sigma
                found["recurrent.weight_hh_l0"] += scale * torch.outer(xi, before)
                found["recurrent.weight_ih_l0"] += scale * torch.outer(xi, x)
                found["recurrent.bias_hh_l0"] += scale * xi
                found["recurrent.bias_ih_l0"] += scale * xi
                found["readout.weight"] += scale * torch.outer(zeta, after)
                found["readout.bias"] += scale * zeta
    return found, first


@pytest.mark.parametrize(
    ("at", "credit", "options"),
    covering(
        product(("every", "last", "mean"), CREDITS, ({}, {"directions": 2, "antithetic": True})),
        pairs=True,
    ),
)
def test_it_is_the_equation_with_the_mean_of_losses_before(
    at: Place, credit: str, options: dict[str, object]
) -> None:
    if at == "mean" and credit in ("local", "trace(0.5)"):
        return
    rule = tl.NP(
        network(), loss="mse", at=at, sigma=SIGMA, credit=credit, baseline_decay=0.5, **options
    )
    inputs, targets, mask = data(at)
    losses = []
    for _ in range(3):
        key = draw_key(copy.deepcopy(rule.generator))
        b = torch.tensor([running_mean(rule) if losses else 0.0] * 3, dtype=torch.float64)
        found = rule.estimate(inputs, targets, LENGTHS, mask=mask)
        right, first = by_hand(rule, key, at, mask, b)
        if losses:
            torch.testing.assert_close(found.gradients, right, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found.loss, first.sum(), rtol=1e-12, atol=1e-12)
        losses.append(float(trained(rule, inputs, targets, LENGTHS, mask=mask)))
        shares = [0.5 ** (len(losses) - k) for k in range(len(losses))]
        mean = sum(s * own for s, own in zip(shares, losses, strict=True)) / sum(shares)
        assert running_mean(rule) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("at", ["every", "last"])
def test_before_any_loss_it_is_the_equation_with_the_mean_of_the_others(at: Place) -> None:
    rule = tl.NP(network(), loss="mse", at=at, sigma=SIGMA, credit="to_go", baseline_decay=0.5)
    inputs, targets, mask = data(at)
    key = draw_key(copy.deepcopy(rule.generator))
    _, shares = by_hand(rule, key, at, mask, torch.zeros(3))
    weights = mask.clone()
    if at == "every":
        weights[torch.arange(4) >= LENGTHS[:, None]] = 0
    weights = weights.view(3, -1).sum(1) / weights.sum()
    others = torch.stack([(shares.sum() - shares[i]) / (1 - weights[i]) for i in range(3)])
    right, _ = by_hand(rule, key, at, mask, others)
    found = rule.estimate(inputs, targets, LENGTHS, mask=mask)
    torch.testing.assert_close(found.gradients, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("at", ["every", "last", "mean"])
@pytest.mark.parametrize(("sequences", "reward"), [(1, "sample"), (3, "batch")])
def test_where_there_are_no_others_nothing_is_learned_from_the_first_call(
    at: Place, sequences: int, reward: str
) -> None:
    options = {"loss": "mse", "at": at, "credit": "to_go"}
    rule = tl.NP(network(), baseline_decay=0.9, reward=reward, **options)
    inputs, targets, _ = data(at, sequences)
    before = copy.deepcopy(rule.network.state_dict())
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.1)  # which no tiny gradient escapes
    loss = trained(rule, inputs, targets)
    optimizer.step()
    exactly(rule.network.state_dict(), before)
    assert running_mean(rule) == pytest.approx(float(loss), rel=1e-12)
    trained(rule, inputs, targets)
    assert all(p.grad is not None and p.grad.any() for p in rule.parameters())


def test_a_sequence_that_counts_alone_has_no_others() -> None:
    rule = tl.NP(network(), loss="mse", baseline_decay=0.9)
    inputs, targets, _ = data("last")
    targets[1:] = torch.nan
    found = rule.estimate(inputs, targets, mask=torch.tensor([True, False, False]))
    assert not any(own.any() for own in found.gradients.values())
    assert found.loss.isfinite()


# --- the mean of many draws ----------------------------------------------------------------------


def means_of_draws(
    at: Place, credit: str, seen: float | None, copies: int = 500, draws: int = 64
) -> tuple[list[Tensor], Tensor]:
    """Estimates over many copies of two sequences, and the gradient that they should have as their mean.

    seen: a loss that was met before, whatever it was; None for none.
    """
    case = Case("rnn", at=at, loss="mse", sequences=2, steps=3)
    net = case.network()
    rule = tl.NP(net, loss="mse", at=at, sigma=0.1, credit=credit, baseline_decay=0.9)
    if seen is not None:
        rule.get_buffer("running_loss").copy_(torch.tensor([0.5 * seen, 0.5]))
    names = [name for name, _ in net.named_parameters()]
    right = oracle.target(net, case, credit)
    inputs, targets, _, _ = case.batch()
    inputs, targets = (torch.cat([own] * copies) for own in (inputs, targets))
    found = [rule.estimate(inputs, targets).gradients for _ in range(draws)]
    flat = [torch.cat([own[name].flatten() for name in names]) for own in found]
    return flat, torch.cat([right[name].flatten() for name in names])


@pytest.mark.parametrize(  # with and without a loss before
    ("at", "credit", "seen"),
    covering(product(("every", "last"), CREDITS, (None, 0.3)), pairs=True),
)
def test_the_mean_of_draws_is_the_target_and_no_other(
    at: Place, credit: str, seen: float | None
) -> None:
    found, right = means_of_draws(at, credit, seen)
    assert slope(found, right) == pytest.approx(-1, abs=0.25)
    for wrong in (-right, 0.5 * right, 2 * right):
        assert slope(found, wrong) > -0.75, "the test could not tell a wrong target"


@pytest.mark.parametrize("credit", ["to_go", "global"])
def test_the_mean_of_draws_is_the_gradient_of_a_loss_of_the_mean(credit: str) -> None:
    found, right = means_of_draws("mean", credit, 0.3)
    assert slope(found, right) == pytest.approx(-1, abs=0.25)
    assert slope(found, 0.5 * right) > -0.75


def peeking(running_loss: Tensor, batch: object, losses: Tensor, *, shared: bool) -> Tensor:
    """Losses less a mean that half consists of the loss of the run that is credited."""
    return losses - 0.5 * (losses.detach() + 0.3)


def flipped(running_loss: Tensor, batch: object, losses: Tensor, *, shared: bool) -> Tensor:
    return 0.3 - losses


@pytest.mark.parametrize("wrong", [peeking, flipped])
def test_a_baseline_that_sees_its_noise_and_a_flipped_sign_are_noticed(wrong: object) -> None:
    with mock.patch.object(baseline, "changes", wrong):
        found, right = means_of_draws("last", "to_go", 0.3)
    assert slope(found, right) > -0.75


@pytest.mark.parametrize("at", ["every", "last"])
def test_what_a_first_loss_is_compared_with_has_nothing_of_it(at: Place) -> None:
    """Of all its runs: that of opposite noise would halve the change as well."""
    inputs, targets, mask = data(at)
    batch = make_batch(network(), tl.losses.MSE(), at, inputs, targets, mask=mask)
    losses = torch.rand(*((4,) if at == "every" else ()), 2, 3, dtype=torch.float64)
    moved = losses.clone()
    moved[..., 1] += torch.rand(moved[..., 1].shape)
    one, other = (
        own - baseline.changes(torch.zeros(2), batch, own, shared=False) for own in (losses, moved)
    )
    torch.testing.assert_close(one[..., 1], other[..., 1], rtol=1e-12, atol=1e-12)
    assert (one[..., [0, 2]] != other[..., [0, 2]]).all()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"credit": "to_go"}, {"antithetic": True}], ids=str)
def test_the_contract_holds_and_measures_the_larger_variance(options: dict[str, object]) -> None:
    report = check_rule(tl.NP, options={"baseline_decay": 0.9, **options})
    told = {finding.name: (finding.declared, finding.ok) for finding in report.findings}
    grows = "bounded" if options.get("antithetic") else "1/sigma^2"
    assert told["variance"] == (grows, True)
    assert told["clean"] == ("no", True)


# --- the law of b -----------------------------------------------------------------------------------


def test_it_moves_once_a_training_call_and_at_no_other_time() -> None:
    inputs, targets, _ = data("last")
    rule = tl.NP(network(), loss="mse", baseline_decay=0.9)
    mean = rule.get_buffer("running_loss")

    for call, moves in (
        (lambda: trained(rule, inputs, targets), True),
        (lambda: rule.accumulate(rule.estimate(inputs, targets)), True),
        (lambda: rule.estimate(inputs, targets), False),
        (lambda: rule.evaluate(inputs, targets), False),
        (lambda: rule.outputs(inputs), False),
        (lambda: torch.no_grad()(rule)(inputs, targets), False),
        (lambda: trained(rule.eval(), inputs, targets), False),
    ):
        before = mean.clone()
        call()
        assert torch.equal(before, mean) != moves
    rule.train()
    scaled = copy.deepcopy(rule)
    trained(rule, inputs, targets)
    (65536 * scaled(inputs, targets)).backward()  # as a GradScaler does
    exactly(scaled.get_buffer("running_loss"), mean)


def test_a_loss_that_is_not_finite_moves_nothing() -> None:
    inputs, targets, _ = data("last")
    rule = tl.NP(network(), loss="mse", baseline_decay=0.9)
    trained(rule, inputs, targets)
    before = rule.get_buffer("running_loss").clone()
    with torch.no_grad():
        rule.network.readout.bias.fill_(torch.inf)
    assert not trained(rule, inputs, targets).isfinite()
    exactly(rule.get_buffer("running_loss"), before)


def test_evaluation_has_no_noise_and_a_training_call_is_of_the_noisy_run() -> None:
    inputs, targets, _ = data("last")
    rule = tl.NP(network(), loss="mse", sigma=SIGMA, baseline_decay=0.9)
    clean = tl.NP(rule.network, loss="mse", sigma=SIGMA)
    found = clean.estimate(inputs, targets)
    noisy = rule.estimate(inputs, targets)
    torch.testing.assert_close(rule.outputs(inputs), found.outputs, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        assert float(rule(inputs, targets)) == pytest.approx(float(found.loss), rel=1e-12)
    assert (noisy.outputs - found.outputs).abs().max() > 0.1 * SIGMA
    loss = (noisy.outputs - targets).square().mean()
    torch.testing.assert_close(noisy.loss, loss, rtol=1e-12, atol=1e-12)
    assert (rule.spec.clean, rule.spec.variance) == (False, "1/sigma^2")
    assert (clean.spec.clean, clean.spec.variance) == (True, "bounded")


# --- one run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({}, 2),
        ({"baseline_decay": 0.9}, 1),
        ({"baseline_decay": 0.9, "antithetic": True}, 2),
        ({"baseline_decay": 0.9, "directions": 3}, 3),
    ],
    ids=str,
)
def test_a_device_is_asked_once(options: dict[str, object], runs: int) -> None:
    asked = []

    class Counting(Device):
        def scan(self, weights, inputs, initial, node_noise=None):
            asked.append((inputs.shape[1], node_noise is not None))
            return super().scan(weights, inputs, initial, node_noise)

    net = black_box(Counting(), 2, 4, 3, dtype=torch.float64)
    inputs, targets, _ = data("last")
    rule = tl.NP(net, loss="mse", credit="global", sigma=0.1, **options)
    optimizer = torch.optim.Adam(rule.parameters())
    for _ in range(2):
        trained(rule, inputs, targets)
        optimizer.step()
    assert asked == [(runs * len(inputs), True)] * 2


def test_one_run_learns() -> None:
    """Which of two symbols came first, told by one number at the end; a readout alone is at chance."""
    draw = torch.Generator().manual_seed(3)
    targets = torch.randint(2, (256,), generator=draw)
    inputs = torch.zeros(256, 3, 1)
    inputs[:, 0, 0] = 2.0 * targets - 1
    rule = tl.NP(tl.RNN(1, 16, 2, seed=0), sigma=0.3, credit="global", baseline_decay=0.9)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
    first = rule.evaluate(inputs, targets).loss
    for _ in range(300):
        optimizer.zero_grad()
        trained(rule, inputs, targets)
        optimizer.step()
    last = rule.evaluate(inputs, targets)
    assert last.accuracy == 1
    assert last.loss < 0.5 * first


# --- streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credit", ["local", "to_go"])
def test_a_stream_takes_the_loop_and_moves_the_mean_at_every_step(credit: str) -> None:
    inputs, targets, _ = data("every", sequences=1, steps=6)
    rule = tl.NP(network(), loss="mse", sigma=SIGMA, credit=credit, baseline_decay=0.5)
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.01, momentum=0.9), 1)
    before = copy.deepcopy(rule.network.state_dict())
    losses = stream.run(inputs[:, :1], targets[:, :1]).loss.tolist()
    exactly(rule.network.state_dict(), before)  # there was nothing to compare the first loss with
    losses += stream.run(inputs[:, 1:], targets[:, 1:]).loss.tolist()
    shares = [0.5 ** (6 - k) for k in range(6)]
    mean = sum(s * own for s, own in zip(shares, losses, strict=True)) / sum(shares)
    assert running_mean(rule) == pytest.approx(mean, rel=1e-12)
    assert not torch.equal(rule.network.recurrent.weight_hh_l0, before["recurrent.weight_hh_l0"])
    seen = rule.get_buffer("running_loss").clone()
    nothing = torch.zeros(1)
    stream.step(inputs[:, 0], targets[:, 0], mask=nothing)
    exactly(rule.get_buffer("running_loss"), seen)


def test_no_label_may_come_late() -> None:
    rule = tl.NP(network(), baseline_decay=0.9)
    with pytest.raises(UnsupportedError, match="no baseline_decay"):
        tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), max_delay=1)
    plain = tl.NP(network())
    tl.Stream(plain, torch.optim.SGD(plain.parameters(), lr=0.1), max_delay=1)


# --- at the door, and kept ------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ArgumentError) as caught:
        tl.NP(network(), baseline_decay=1.0, carry=False, sigma=0)
    told = str(caught.value)
    assert "baseline_decay: got 1.0, expected a number in [0, 1), or None" in told
    assert "carry: got False, expected True with a baseline_decay" in told
    assert "sigma: got 0" in told
    for wrong in (-0.1, True, "0.9", float("nan")):
        with pytest.raises(ArgumentError, match="baseline_decay: got"):
            tl.NP(network(), baseline_decay=wrong)
    for credit in ("local", "trace(0.5)"):
        with pytest.raises(UnsupportedError, match="Use credit='to_go'"):
            tl.NP(network(), at="mean", credit=credit, baseline_decay=0.9)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path: Path) -> None:
    inputs, targets, _ = data("last", sequences=12)
    train = Sequences(inputs, targets)

    def fit(epochs: int, folder: Path) -> tl.NP:
        rule = tl.NP(network(), loss="mse", baseline_decay=0.9, sigma=SIGMA)
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
        tl.fit(rule, optimizer, train, epochs=epochs, batch_size=5, folder=folder)
        return rule

    whole = fit(4, tmp_path / "whole")
    fit(2, tmp_path / "parts")
    parts = fit(4, tmp_path / "parts")
    exactly(parts.state_dict(), whole.state_dict())
    assert whole.get_buffer("running_loss")[1] == pytest.approx(1 - 0.9**12)
