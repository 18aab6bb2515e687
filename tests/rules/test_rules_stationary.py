"""The stationary trace: a surrogate by autograd, where it is the exact gradient, streams, and its λ."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

import timelocal as tl
from oracles import Setting, close, exactly, settings_drawn
from timelocal.rules.stationary import decays
from timelocal.testing import Case, check_case, reference
from timelocal.testing.report import ContractReport
from timelocal.testing.setting import configured

SPECTRUM = [0.0, 0.4, 0.9, 0.99]


def surrogate(network: tl.Network, rule: tl.DFA, setting: Setting) -> dict[str, Tensor]:
    """Autograd of Σ_t ⟨stop(S_t), h_t(θ; stop(h_{t-1}))⟩, each S_t summed up term by term."""
    inputs, targets, lengths, mask = setting.batch()
    at = setting.case.at
    value, runs = reference.mean_loss(
        network, setting.loss, at, inputs, targets, lengths, mask, cut=True
    )
    parameters = dict(network.named_parameters())
    errors = torch.autograd.grad(value, [outputs for _, outputs in runs], retain_graph=True)
    total = value
    kept = torch.tensor(SPECTRUM, dtype=torch.float64)
    for (hidden, _), error in zip(runs, errors, strict=True):
        for layer, directions in enumerate(hidden):
            for direction, states in enumerate(directions):
                sent = error @ rule.feedback_matrix(layer, direction).t()
                if at == "last":
                    zeros = sent.new_zeros(len(states) - 1, sent.shape[1])
                    sent = torch.cat((zeros, sent))
                elif direction:
                    sent = sent.flip(0)
                for s, state in enumerate(states):
                    terms = [kept ** (t - s) * sent[t] for t in range(s, len(states))]
                    total = total + torch.stack(terms).sum(0).detach() @ state
    found = torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


@settings(max_examples=20)
@given(setting=settings_drawn(max_layers=2, max_sequences=2, max_steps=5))
@example(
    Setting(Case("lstm", layers=2, bidirectional=True, at="every", mask=True), "mse", (5, 1, 3))
)
@example(Setting(Case("gru-reset-before", layers=2), "mse", (5, 1, 3)))
@example(Setting(Case("gru", at="mean"), "mse", (5, 1, 3)))
def test_it_is_a_convolution_of_the_signals(setting: Setting) -> None:
    network, (inputs, targets, lengths, mask) = setting.network(), setting.batch()
    rule = setting.rule(tl.DFA, network, trace="stationary", decay=SPECTRUM)
    found = rule.estimate(inputs, targets, lengths, mask=mask)
    assert isinstance(rule, tl.DFA)
    close(found.gradients, surrogate(network, rule, setting))


@pytest.mark.parametrize("at", ["last", "every", "mean"])
def test_where_the_jacobian_is_the_leak_it_is_exact(at: str) -> None:
    network = tl.RNN(2, 5, 3, tau=4.0, dtype=torch.float64)
    with torch.no_grad():
        network.recurrent.get_parameter("weight_hh_l0").zero_()
    options = {"at": at, "feedback": "exact", "trace": "stationary"}
    x, y = torch.randn(3, 7, 2, dtype=torch.float64), torch.tensor([0, 2, 1])
    lengths = torch.tensor([7, 3, 1])
    right = tl.BPTT(network, at=at).estimate(x, y, lengths)  # type: ignore[arg-type]
    close(tl.DFA(network, decay=0.75, **options).estimate(x, y, lengths).gradients, right.gradients)
    other = tl.DFA(network, decay=0.5, **options).estimate(x, y, lengths).gradients
    name = "recurrent.weight_ih_l0"
    assert not torch.allclose(other[name], right.gradients[name], rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"feedback": "exact"}, {"feedback_per": "parameter"}], ids=str
)
@pytest.mark.parametrize("cell", ["leaky", "gru", "lstm"])
def test_the_contract_holds(cell: str, options: dict[str, object]) -> None:
    rule = configured(tl.DFA, {"trace": "stationary", "decay": SPECTRUM, **options})
    report = ContractReport()
    for case in (
        Case(cell, at="every"),
        Case(cell, at="every", layers=2, mask=True),
        Case(cell, layers=2, unequal=True),
    ):
        check_case(rule, case, report)
    assert not report.refused


def test_a_stream_of_float32_is_the_whole_sequence() -> None:
    """Long enough for what native code there is; its updates stay away."""
    rule = tl.DFA(tl.GRU(2, 6, 3, seed=1), at="every", trace="stationary", decay="0.5-0.95")
    x, y = torch.randn(4, 30, 2), torch.randint(3, (4, 30))
    whole = rule.estimate(x, y).gradients
    before = {name: own.detach().clone() for name, own in rule.network.named_parameters()}
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=1e-3), 4)
    stream.run(x, y)
    for name, own in rule.network.named_parameters():  # lr so small that weights hardly move
        moved = (before[name] - own.detach()) / 1e-3 / 30
        torch.testing.assert_close(moved, whole[name], rtol=0.05, atol=2e-4)


def test_its_decays() -> None:
    close(decays(0.25, 2), torch.tensor([0.25, 0.25], dtype=torch.float64))
    span = decays("0.5-0.99", 5)
    constants = 1 / (1 - span)
    close(constants[[0, -1]], torch.tensor([2.0, 100.0], dtype=torch.float64))
    close(constants[1:] / constants[:-1], torch.full((4,), 50**0.25, dtype=torch.float64))
    rule = tl.DFA(tl.RNN(2, 3, 2), trace="stationary", decay=torch.tensor([0.0, 0.5, 0.9]))
    assert rule.state_dict()["trace_decays"].tolist() == pytest.approx([0.0, 0.5, 0.9])
    assert "trace_decays" not in tl.DFA(tl.RNN(2, 3, 2)).state_dict()


@pytest.mark.parametrize("bad", [1.0, -0.1, "0.5", "0.5-1", "a-b", [0.1, 0.2], None, float("nan")])
def test_a_bad_decay_is_told(bad: float | str | Sequence[float] | None) -> None:
    with pytest.raises(tl.ArgumentError, match=r"decay: got .*expected a number in \[0, 1\), 3 of"):
        tl.DFA(tl.RNN(2, 3, 2), trace="stationary", decay=bad)  # type: ignore[arg-type]


def test_it_trains_from_a_configuration_and_goes_on(tmp_path) -> None:  # type: ignore[no-untyped-def]
    x, y = torch.randn(8, 6, 2), torch.arange(8) % 2
    found = []
    for epochs, folder in ((2, tmp_path / "a"), (1, tmp_path / "b"), (2, tmp_path / "b")):
        rule = tl.DFA(tl.GRU(2, 4, 2, seed=1), trace="stationary", decay=torch.full((4,), 0.8))
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
        tl.fit(rule, optimizer, (x, y), epochs=epochs, batch_size=4, folder=folder)
        found.append(dict(rule.network.named_parameters()))
    exactly(found[0], found[2])
