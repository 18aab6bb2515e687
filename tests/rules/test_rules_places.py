"""Where the loss is: a label asked at every step, with weights over time, or of the outputs' mean."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import close
from timelocal.rules import Rule
from timelocal.testing.measure import SMALL_SIGMA, LivelyCase, judged
from timelocal.testing.oracles import expected
from timelocal.testing.setting import make, takes

LENGTHS = torch.tensor([6, 2, 4, 1])
MASK = torch.tensor([0.5, 0.0, 2.0, 1.0], dtype=torch.float64)


def weights_over_time(at: str) -> Tensor:
    """(b, t): what the loss of each step weighs, written with a loop."""
    weights = torch.zeros(4, 6, dtype=torch.float64)
    for b, steps in enumerate(LENGTHS.tolist()):
        for step in range(1, steps + 1):
            weights[b, step - 1] = 2 * step / (steps + 1) if at == "ramp" else 1.0
    return weights


def torch_loss(
    module: torch.nn.Module, readout: torch.nn.Linear, x: Tensor, y: Tensor, at: str, masked: bool
) -> Tensor:
    """By torch alone."""
    outputs = readout(module(x)[0])
    if at == "mean":
        means = torch.stack([own[:n].mean(0) for own, n in zip(outputs, LENGTHS, strict=True)])
        losses = F.cross_entropy(means, y, reduction="none")
        weights = MASK if masked else torch.ones(4, dtype=torch.float64)
    else:
        every = y[:, None].expand(-1, 6)
        losses = F.cross_entropy(outputs.transpose(1, 2), every, reduction="none")
        weights = weights_over_time(at) * (MASK[:, None] if masked else 1)
    return (losses * weights).sum() / weights.sum()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("at", ["mean", "ramp", "every"])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_bptt_is_the_gradient_of_the_loss_written_in_torch(
    kind: str, at: str, masked: bool
) -> None:
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(2, 5, num_layers=2, batch_first=True).double()
    readout = torch.nn.Linear(5, 3).double()
    x, y = torch.randn(4, 6, 2, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    right = torch_loss(module, readout, x, y, at, masked)
    right.backward()
    rule = tl.BPTT(tl.from_torch(module, readout), at=at)  # type: ignore[arg-type]
    mask = None
    if masked:
        mask = MASK if at == "mean" else MASK[:, None].expand(-1, 6)
    found = rule.estimate(x, y, LENGTHS, mask=mask)
    close(found.loss, right.detach())
    close(rule.evaluate(x, y, LENGTHS, mask=mask).loss, right.detach())
    for name, parameter in module.named_parameters():
        close(found.gradients[f"recurrent.{name}"], parameter.grad)
    for name, parameter in readout.named_parameters():
        close(found.gradients[f"readout.{name}"], parameter.grad)


def test_outputs_and_accuracy_are_those_of_the_mean() -> None:
    network = tl.GRU(2, 5, 3).double()
    x, y = torch.randn(4, 6, 2, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    every = tl.DFA(network, at="every").outputs(x, LENGTHS)
    means = torch.stack([own[:n].mean(0) for own, n in zip(every, LENGTHS, strict=True)])
    rule = tl.DFA(network, at="mean")
    close(rule.outputs(x, LENGTHS), means)
    found = rule.estimate(x, y, LENGTHS)
    close(found.outputs, means)
    assert found.accuracy is not None
    assert float(found.accuracy) == float((means.argmax(1) == y).double().mean())
    assert found.count == 4


def test_values_of_a_whole_sequence_are_asked_at_every_step() -> None:
    rule = tl.DFA(tl.GRU(2, 5, 3).double(), loss="mse", at="ramp")
    x, y = torch.randn(4, 6, 2).double(), torch.randn(4, 3).double()
    one = rule.estimate(x, y, LENGTHS)
    other = rule.estimate(x, y[:, None].expand(-1, 6, -1), LENGTHS)
    close(one.gradients, other.gradients)


def test_a_label_of_another_batch_is_refused() -> None:
    rule = tl.DFA(tl.GRU(2, 5, 3), at="every")
    with pytest.raises(
        tl.ArgumentError, match=r"targets: got shape \(5,\), expected shape \(4, 6\)"
    ):
        rule(torch.zeros(4, 6, 2), torch.zeros(5, dtype=torch.int64))


DRAWN = (
    LivelyCase("rnn", at="mean", loss="mse", sequences=2, steps=2, unequal=True, seed=2),
    LivelyCase("gru", at="ramp", whole=True, sequences=2, steps=3, seed=2),
)


RULES = ((tl.NP, {}), (tl.NP, {"credit": "to_go"}), (tl.ANP, {}), (tl.UORO, {}))
WEIGHTS = ((tl.WP, {}), (tl.WP, {"redraw": "sequence"}))


@pytest.mark.parametrize(
    ("rule", "options", "case"),
    [
        *covering(
            ((*rule, case) for rule, case in product(RULES, DRAWN)),
            lambda rule, options, case: ((rule, options), case),
        ),
        *(
            pytest.param(*rule, case, marks=pytest.mark.slow)
            for rule, case in product(WEIGHTS, DRAWN)
        ),
    ],
)
def test_rules_that_draw_have_the_declared_mean(
    rule: type[Rule], options: dict[str, object], case: LivelyCase
) -> None:
    small = {"sigma": SMALL_SIGMA} if takes(rule, "sigma") else {}
    learner = make(rule, case.network(), case, **options, **small)
    verdicts = judged(learner, case, expected(learner, case))
    assert all(verdict.ok for verdict in verdicts.values()), verdicts


@pytest.mark.parametrize("at", ["every", "ramp"])
def test_fit_measures_a_label_at_the_last_step(at: str) -> None:
    x, y = torch.randn(12, 6, 2), torch.arange(12) % 3
    lengths = torch.arange(12) % 5 + 2
    rule = tl.DFA(tl.GRU(2, 5, 3), at=at)  # type: ignore[arg-type]
    still = torch.optim.SGD(rule.parameters(), lr=0.0)

    def seen(outputs: Tensor, targets: Tensor) -> float:
        assert outputs.shape == (12, 3)
        return float((outputs.argmax(1) == targets).double().mean())

    whole = (x, y, lengths)
    metrics = {"seen": seen}
    history = tl.fit(rule, still, whole, whole, epochs=1, batch_size=4, metrics=metrics)
    last = tl.DFA(rule.network, at="last").evaluate(x, y, lengths)
    record = history.epochs[0]
    assert math.isclose(record["validation_loss"], float(last.loss), rel_tol=1e-6)
    assert last.accuracy is not None
    assert math.isclose(record["validation_accuracy"], float(last.accuracy), rel_tol=1e-6)
    assert math.isclose(record["validation_seen"], float(last.accuracy), rel_tol=1e-6)
    learned = rule.evaluate(x, y, lengths)
    assert math.isclose(record["train_loss"], float(learned.loss), rel_tol=1e-5)


def test_a_stream_asks_a_label_at_every_step() -> None:
    x, y = torch.randn(4, 6, 2), torch.tensor([0, 2, 1, 1])
    found = []
    for targets in (y, y[:, None].expand(-1, 6)):
        rule = tl.EProp(tl.GRU(2, 5, 3, seed=1), at="mean")
        stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), 4)
        found.append(stream.run(x, targets).loss)
    assert torch.equal(*found)
    rule = tl.EProp(tl.GRU(2, 5, 3, seed=1), at="every")
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    history = tl.fit(rule, optimizer, (x, y), epochs=1, batch_size=4, online=True)
    assert math.isclose(history.epochs[0]["train_loss"], float(found[0].mean()), rel_tol=1e-5)
