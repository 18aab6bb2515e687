"""Feedback alignment through time, and mirrors that learn its matrices: autograd, rates, and controls."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

import timelocal as tl
from oracles import Setting, close, exactly, settings_drawn
from timelocal.errors import ArgumentError, UnsupportedError
from timelocal.feedback import mirror
from timelocal.testing import Case, reference
from timelocal.testing.cases import ELEMENTWISE, SPIKING
from timelocal.testing.measure import weights_read
from timelocal.testing.setting import batch_of, estimate

BOTH = pytest.mark.parametrize(
    "kind", [tl.FeedbackAlignment, tl.WeightMirror], ids=lambda kind: kind.spec.name
)
HH = "recurrent.weight_hh_l0"


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.detach().flatten(), other.detach().flatten(), 0))


def with_the_weights(rule: tl.FeedbackAlignment) -> tl.FeedbackAlignment:
    """The rule with B = W."""
    weights = dict(rule.network.named_parameters())
    for name, matrix in rule.feedback_matrices().items():
        matrix.copy_(weights[name].detach())
    return rule


@settings(max_examples=25)
@given(setting=settings_drawn(max_layers=3, max_sequences=2, max_steps=5))
@example(
    Setting(Case("lstm", layers=3, bidirectional=True, at="every", mask=True), "mse", (5, 1, 3))
)
@example(Setting(Case("gru-reset-before", layers=2, decorrelate=True), "mse", (5, 1, 3)))
@example(Setting(Case("gru", layers=2, at="mean"), "mse", (5, 1, 3)))
@example(Setting(Case("leaky", at="ramp", whole=True), "mse", (5, 1, 3)))
def test_it_is_autograd_through_matrices_with_another_way_back(setting: Setting) -> None:
    network, (inputs, targets, lengths, mask) = setting.network(), setting.batch()
    if setting.case.readout != "linear":
        with pytest.raises(UnsupportedError, match=r"expected nn.Linear.* Use DFA"):
            setting.rule(tl.FeedbackAlignment, network)
        return
    rule = setting.rule(tl.FeedbackAlignment, network)
    assert isinstance(rule, tl.FeedbackAlignment)
    found = rule.estimate(inputs, targets, lengths, mask=mask).gradients
    right = reference.feedback_alignment(
        network, rule.feedback_matrices(), setting.loss, setting.case.at, inputs, targets, lengths, mask
    )  # fmt: skip
    close(found, right)


@pytest.mark.parametrize("cell", [*ELEMENTWISE, *SPIKING])
@pytest.mark.parametrize("decorrelate", [False, True])
def test_cells_with_parameters_of_their_own_too(cell: str, decorrelate: bool) -> None:
    case = Case(cell, at="every", layers=2, unequal=True, decorrelate=decorrelate)
    rule = tl.FeedbackAlignment(case.network(), at="every")
    right = reference.feedback_alignment(
        rule.network, rule.feedback_matrices(), *batch_of(rule, case)
    )
    close(estimate(rule, case).gradients, right)


@pytest.mark.parametrize("cell", ["rnn", "gru", "gru-reset-before", "lstm", "indrnn", "lru"])
def test_through_the_weights_themselves_it_is_backpropagation(cell: str) -> None:
    for case in (
        Case(cell, layers=2, at="every", unequal=True),
        Case(cell, layers=2, skip=True, layer_norm=True, bidirectional=True),
    ):
        rule = tl.FeedbackAlignment(case.network(), at=case.at)
        right = reference.bptt(rule.network, *batch_of(rule, case))[1]
        name = "recurrent.weight_ih_l0"
        assert cosine(estimate(rule, case).gradients[name], right[name]) < 0.99
        close(estimate(with_the_weights(rule), case).gradients, right)


def test_what_enters_gets_its_gradient_through_the_same_matrices() -> None:
    network = tl.GRU(2, 5, 3, num_layers=2, dtype=torch.float64)
    x = torch.randn(4, 6, 2, dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randint(3, (4,))
    for rule in (tl.BPTT(network), with_the_weights(tl.FeedbackAlignment(network))):
        rule(x, y, initial=h).backward()
    assert x.grad is not None
    assert h.grad is not None
    once = [own.grad / 2 for own in (x, h)]
    for own in (x, h):
        own.grad = None
    tl.BPTT(network)(x, y, initial=h).backward()
    close([x.grad, h.grad], once)
    x.grad = None
    tl.FeedbackAlignment(network)(x, y).backward()
    assert cosine(x.grad, once[0]) < 0.99


@BOTH
def test_matrices_are_drawn_as_fresh_weights_are(kind) -> None:
    network = tl.LSTM(40, 60, 30, num_layers=2, bidirectional=True)
    rule = kind(network, seed=3)
    matrices, weights = rule.feedback_matrices(), dict(network.named_parameters())
    assert set(matrices) == {name for name, own in weights.items() if own.dim() > 1}
    for name, matrix in matrices.items():
        bound = 1 / math.sqrt(120 if name == "readout.weight" else 60)
        assert matrix.shape == weights[name].shape
        assert 0.9 * bound < float(matrix.abs().max()) <= bound
        assert abs(cosine(matrix, weights[name])) < 5 / math.sqrt(matrix.numel())
    exactly(kind(network, seed=3).feedback_matrices(), matrices)
    other = kind(network, seed=4).feedback_matrices()
    assert not torch.equal(other[HH], matrices[HH])
    assert list(map(id, rule.parameters())) == list(map(id, network.parameters()))


@BOTH
@pytest.mark.parametrize("cell", ["rnn", "gru-reset-before"])
def test_it_transports_no_weight(kind, cell: str) -> None:
    case = Case(cell, layers=2, at="every", mask=True, loss="mse")
    assert weights_read(kind(case.network(), at="every", loss="mse"), case) == []
    assert weights_read(tl.BPTT(case.network(), at="every", loss="mse"), case) != []


@BOTH
def test_streams_are_refused_by_name(kind) -> None:
    rule = kind(tl.RNN(2, 4, 2), at="every")
    with pytest.raises(UnsupportedError, match="Use "):
        tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1))


@BOTH
def test_a_readout_that_was_replaced_is_told(kind) -> None:
    network = tl.RNN(2, 4, 3)
    rule = kind(network)
    network.readout = torch.nn.Linear(4, 2)
    with pytest.raises(ArgumentError, match="a feedback with 3 outputs and a readout with 2"):
        rule.estimate(torch.zeros(2, 5, 2), torch.tensor([0, 1]))


def test_a_mirror_s_matrices_are_the_oracle_s_whatever_they_have_learned() -> None:
    case = Case("gru", layers=2, at="every", unequal=True)
    rule = tl.WeightMirror(case.network(), at="every", feedback_lr=0.1)
    inputs, targets, lengths, _ = case.batch()
    before = copy.deepcopy(rule.feedback_matrices())
    for _ in range(5):
        rule(inputs, targets, lengths).backward()
    matrices = rule.feedback_matrices()
    assert all(not torch.equal(own, before[name]) for name, own in matrices.items())
    right = reference.feedback_alignment(rule.network, matrices, *batch_of(rule, case))
    close(estimate(rule, case).gradients, right)


def trained(rule: tl.Rule, calls: int, sequences: int = 32) -> None:
    """Training calls without an update of the weights."""
    x, y = torch.zeros(sequences, 1, 2), torch.zeros(sequences).long()
    for _ in range(calls):
        rule(x, y).backward()


@pytest.mark.parametrize(("lr", "decay"), [(0.02, 1.0), (0.05, 0.5)])
def test_a_mirror_nears_the_weights_at_its_rate(lr: float, decay: float) -> None:
    """E[B_n] − W / decay = (1 − lr decay)^n (B_0 − W / decay), within 5 deviations along that difference."""
    network, calls = tl.RNN(2, 50, 2), 60
    rule = tl.WeightMirror(network, feedback_lr=lr, feedback_decay=decay)
    weight = network.recurrent.get_parameter("weight_hh_l0").detach()
    start = rule.feedback_matrices()[HH].clone()
    trained(rule, calls)
    left = (1 - lr * decay) ** calls
    apart = (start - weight / decay).flatten()
    off = (rule.feedback_matrices()[HH] - weight / decay).flatten()
    # along a unit direction one draw of W ξ ⊗ ξ has a variance of at most 2 ‖W‖²; lr² (1 − lr decay)^2k sum
    norm = float(torch.linalg.matrix_norm(weight, 2))
    spread = lr * norm * math.sqrt(2 / 32 / (1 - (1 - lr * decay) ** 2))
    slope = float(off @ apart / (apart @ apart))
    assert abs(slope - left) < 5 * spread / float(apart.norm())
    assert 5 * spread / float(apart.norm()) < 0.1


def test_a_mirror_s_direction_is_that_of_the_weights_in_the_end() -> None:
    """cos = 1 / √(1 + v / |W|²), v the variance that averages of lr leave: lr / (2 − lr) (h + 1) |W|² / n."""
    network, lr, h, sequences = tl.RNN(2, 50, 2), 0.02, 50, 32
    rule = tl.WeightMirror(network, feedback_lr=lr)
    weight = network.recurrent.get_parameter("weight_hh_l0").detach()
    assert abs(cosine(rule.feedback_matrices()[HH], weight)) < 0.1
    trained(rule, 500, sequences)
    expected = 1 / math.sqrt(1 + lr / (2 - lr) * (h + 1) / sequences)
    assert abs(cosine(rule.feedback_matrices()[HH], weight) - expected) < 0.005


def test_a_mirror_of_another_s_noise_learns_nothing() -> None:
    """The control: where the response is not to the noise that it is met with."""
    weight = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    draw, right, wrong = torch.Generator().manual_seed(1), torch.zeros(20, 20), torch.zeros(20, 20)
    for _ in range(400):
        noise = torch.randn(32, 20, generator=draw)
        right += mirror(right, weight, noise, 0.02, 1.0)
        wrong += mirror(wrong, weight.roll(1, 1), noise, 0.02, 1.0)
    assert cosine(right, weight) > 0.98
    assert abs(cosine(wrong, weight)) < 0.2


def test_a_mirror_learns_in_training_calls_alone() -> None:
    rule = tl.WeightMirror(tl.RNN(2, 4, 2))
    x, y = torch.zeros(3, 1, 2), torch.zeros(3).long()
    before = copy.deepcopy(dict(rule.named_buffers()))
    rule.estimate(x, y)
    rule.evaluate(x, y)
    with torch.no_grad():
        rule(x, y)
    rule.eval()
    rule(x, y).backward()
    exactly(dict(rule.named_buffers()), before)
    rule.train()
    rule(x, y).backward()
    assert all(not torch.equal(own, before[name]) for name, own in rule.named_buffers())
    assert rule.learns_locally


def test_a_copy_and_a_restored_mirror_go_on_the_same() -> None:
    rule = tl.WeightMirror(tl.GRU(2, 4, 2), seed=1)
    trained(rule, 3, sequences=4)
    other, restored = copy.deepcopy(rule), tl.WeightMirror(tl.GRU(2, 4, 2), seed=2)
    restored.load_state_dict(rule.state_dict())
    for own in (rule, other, restored):
        trained(own, 3, sequences=4)
    exactly(other.state_dict(), rule.state_dict())
    exactly(restored.state_dict(), rule.state_dict())


def test_rates_that_are_none_are_told_at_once() -> None:
    with pytest.raises(ArgumentError, match=r"(?s)feedback_lr.*feedback_decay.*sync"):
        tl.WeightMirror(tl.RNN(2, 4, 2), feedback_lr=-1, feedback_decay="x", sync=2)  # type: ignore[arg-type]


@BOTH
def test_it_learns(kind) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 10, 1, generator=draw)
    y = (x + x.roll(1, 1)).tanh()
    rule = kind(tl.GRU(1, 16, 1), loss="mse", at="every")
    before = float(rule.evaluate(x, y).loss)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
    tl.fit(rule, optimizer, (x, y), epochs=10, batch_size=8)
    assert float(rule.evaluate(x, y).loss) < 0.3 * before


class OwnRNN(tl.AutogradCell):
    """torch.nn's tanh RNN, by its equations alone."""

    name, gate_names, biases = "own-rnn", ("a",), ("bias_ih", "bias_hh")

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return tl.RNN(input_size, hidden_size, 1).cell.parameter_shapes(input_size, hidden_size)

    def nodes(self, weights, inputs, states):
        from_inputs = inputs @ weights.weight_ih.t() + weights.bias_ih
        return from_inputs + states[0] @ weights.weight_hh.t() + weights.bias_hh

    def update(self, nodes, states):
        return (nodes.tanh(),)


def test_a_cell_of_its_equations_alone_sends_signals_back_through_the_same_matrices() -> None:
    known = Case(layers=2, at="every").network()
    own = tl.from_cell(OwnRNN(), 2, 4, 3, num_layers=2, dtype=torch.float64)
    own.load_state_dict(known.state_dict())
    one, other = (tl.FeedbackAlignment(network, at="every") for network in (known, own))
    other.load_state_dict(one.state_dict())
    case = Case(layers=2, at="every", unequal=True)
    close(estimate(other, case).gradients, estimate(one, case).gradients)
