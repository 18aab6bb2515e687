"""Augmented DFA: a function in the place of the cell's derivative, and layers that only run forward."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings

import timelocal as tl
from oracles import Setting, close, exactly, settings_drawn
from timelocal import fast
from timelocal.errors import ArgumentError, UnsupportedError
from timelocal.experiments.config import TrainConfig
from timelocal.rules.slopes import SLOPES, find_slope
from timelocal.testing import Case, check_case, reference
from timelocal.testing.measure import MEASURES, Device, autograd_shut, device_network
from timelocal.testing.report import ContractReport
from timelocal.testing.setting import batch_of, configured, estimate


def tilted(nodes: torch.Tensor) -> torch.Tensor:
    """Unlike any derivative of a cell: it changes its sign."""
    return (3 * nodes).sin() + 0.5


@settings(max_examples=20)
@given(setting=settings_drawn(max_layers=2, max_sequences=2, max_steps=5))
@example(
    Setting(Case("lstm", layers=2, bidirectional=True, at="every", mask=True), "mse", (5, 1, 3))
)
@example(Setting(Case("gru-reset-before", layers=2, decorrelate=True), "mse", (5, 1, 3)))
@example(Setting(Case("gru", at="mean"), "mse", (5, 1, 3)))
def test_it_is_autograd_of_the_pre_activations(setting: Setting) -> None:
    network, batch = setting.network(), setting.batch()
    rule = setting.rule(tl.DFA, network, slope=tilted)
    assert isinstance(rule, tl.DFA)
    inputs, targets, lengths, mask = batch
    found = rule.estimate(inputs, targets, lengths, mask=mask).gradients
    at = setting.case.at
    right = reference.augmented_dfa(
        network, rule.feedback_matrix, tilted, setting.loss, at, inputs, targets, lengths, mask
    )
    close(found, right)


@pytest.mark.parametrize("cell", ["indrnn", "mingru", "minlstm"])
def test_element_wise_cells_too(cell: str) -> None:
    case = Case(cell, at="every", layers=2, unequal=True)
    rule = tl.DFA(case.network(), at="every", slope=tilted)
    batch = batch_of(rule, case)
    right = reference.augmented_dfa(rule.network, rule.feedback_matrix, tilted, *batch)
    close(estimate(rule, case).gradients, right)


@pytest.mark.parametrize("options", [{"feedback": "sign"}, {"feedback_per": "parameter"}], ids=str)
@pytest.mark.parametrize("at", ["every", "last"])
def test_the_contract_holds(at: str, options: dict[str, Any]) -> None:
    subject = configured(tl.DFA, {"slope": tilted, **options})
    for cell in ("rnn", "gru-reset-before"):
        check_case(subject, Case(cell, at=at, unequal=True), ContractReport("dfa"))


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_what_it_declares_is_measured(measure) -> None:
    subject = configured(tl.DFA, {"slope": "cos"})
    assert subject.spec.derivative_free
    assert not tl.DFA.spec.derivative_free
    finding = measure(subject)
    assert finding is None or finding.ok


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("at", ["every", "last"])
def test_with_the_slope_of_what_is_inside_a_black_box_learns_as_if_it_were_known(
    at: str, layers: int
) -> None:
    case = Case(at=at, loss="mse", layers=layers, unequal=True)
    device, known = device_network(case), case.network()
    known.load_state_dict(device.state_dict())
    blind = tl.DFA(device, loss="mse", at=at, slope="sech2")
    seeing = tl.DFA(known, loss="mse", at=at)
    close(estimate(blind, case).gradients, estimate(seeing, case).gradients)
    other = tl.DFA(device, loss="mse", at=at, slope="cos")
    name = "recurrent.weight_hh_l0"
    right = estimate(seeing, case).gradients[name]
    assert not torch.allclose(estimate(other, case).gradients[name], right, rtol=0.01)


class Counted(Device):
    """Counts the sequences and runs that the device is asked for."""

    def __init__(self) -> None:
        self.runs = 0

    def scan(self, *given: Any) -> Any:
        self.runs += 1
        return super().scan(*given)


def test_one_forward_pass_and_no_way_back() -> None:
    network = tl.black_box(Counted(), 2, 8, 1)
    rule = tl.DFA(network, loss="mse", at="every", slope="constant")
    with autograd_shut():
        found = rule.estimate(torch.randn(4, 6, 2), torch.randn(4, 6, 1))
    assert network.cell.runs == 1  # type: ignore[attr-defined]
    assert all(bool((own != 0).any()) for own in found.gradients.values())


def test_a_black_box_learns_and_streams() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 12, 1, generator=generator)
    targets = (inputs + inputs.roll(1, 1)).tanh()
    rule = tl.DFA(tl.black_box(Device(), 1, 16, 1), loss="mse", at="every", slope="cos")
    before = float(rule.evaluate(inputs, targets).loss)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
    tl.fit(rule, optimizer, (inputs, targets), epochs=10, batch_size=8)
    trained = float(rule.evaluate(inputs, targets).loss)
    assert trained < 0.5 * before
    stream = tl.Stream(rule, optimizer, batch_size=64)
    stream.run(inputs, targets)
    assert float(rule.evaluate(inputs, targets).loss) < 0.5 * before


@pytest.mark.parametrize("make", [tl.RNN, tl.GRU, tl.LSTM], ids=lambda make: make.__name__)
def test_no_native_call_knows_another_slope(make) -> None:
    """Called, repeated by `fit` and streamed: all of it is what one estimate after another says."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 20, 2, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (3, 20), generator=generator)
    for at, targets in (("last", y[:, 0]), ("every", y)):
        rule = tl.DFA(make(2, 8, 3, dtype=torch.float64), at=at, slope=tilted)
        whole = rule.estimate(x, targets)
        slow = reference.augmented_dfa(
            rule.network, rule.feedback_matrix, tilted, rule.loss, at, x, targets
        )
        close(whole.gradients, slow)
        repeated = fast.repeated_estimate(rule)
        for _ in range(2):
            exactly(repeated(x, targets, None).gradients, whole.gradients)
    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        network = make(2, 8, 3, dtype=torch.float64)
        two = [tl.DFA(copy.deepcopy(network), at="every", slope=tilted) for _ in range(2)]
        chunk, step = (
            tl.Stream(rule, optimizer(rule.parameters(), lr=0.01), batch_size=3) for rule in two
        )
        chunk.run(x, y)
        for t in range(20):
            step.step(x[:, t], y[:, t], gradients=True)  # by the loop
        close(two[0].state_dict(), two[1].state_dict())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"trace": "leak"}, "slope: got a slope and trace='leak', expected 'none'"),
        ({"trace": "stationary"}, "slope: got a slope and trace='stationary'"),
        ({"feedback": "exact"}, "slope: got a slope and feedback='exact'"),
    ],
)
def test_what_needs_a_derivative_besides_is_refused(options: dict[str, str], told: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"{told}.* Use slope=None"):
        tl.DFA(tl.GRU(2, 4, 2), slope="cos", **options)  # type: ignore[arg-type]


def test_cells_with_features_of_their_own_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="slope: got a slope and LRUCell"):
        tl.DFA(tl.LRU(2, 4, 2), slope="cos")


@pytest.mark.parametrize(
    ("slope", "told"),
    [
        ("cosine", r"slope: got 'cosine', expected .* Or give a function, or module:function"),
        ("torch:cosine", "module torch has no 'cosine'"),
        (3, "slope: got 3, expected a function"),
        (torch.sum, r"one that makes shape \(\) of shape \(1, 2, 3\)"),
        (lambda nodes: nodes.numpy().tolist(), "one that makes a list"),
        (lambda nodes: nodes.no_such_thing, "one that raised AttributeError"),
    ],
)
def test_what_is_no_slope_is_told(slope: Any, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        tl.DFA(tl.GRU(2, 4, 2), slope=slope)


def test_the_names_are_these_functions() -> None:
    nodes = torch.linspace(-3, 3, 50, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(nodes.tanh().sum(), nodes)
    close(SLOPES["sech2"](nodes.detach()), slope)
    (slope,) = torch.autograd.grad(nodes.sin().sum(), nodes)
    close(find_slope("cos")(nodes.detach()), slope)
    assert bool((SLOPES["constant"](nodes) == 1).all())


def test_a_configuration_names_it() -> None:
    task = {"dataset": "digits-rows", "cell": "rnn", "rule": "dfa"}
    config = TrainConfig(**task, rule_options={"slope": "torch:cos"})
    assert config.chosen()["rule_options"] == {"slope": "torch:cos"}
    assert "slope" not in TrainConfig(**task).chosen().get("rule_options", {})
    with pytest.raises(ArgumentError, match="slope: got 'cosine'"):
        TrainConfig(**task, rule_options={"slope": "cosine"})


def test_a_file_keeps_names_and_runs_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    network = tl.RNN(2, 4, 2)
    tl.save(tl.DFA(network, slope="cos"), file)
    assert tl.load(file).rule.slope == "cos"
    for slope in (tilted, "torch:sin"):
        tl.save(tl.DFA(network, slope=slope), file)
        with pytest.raises(
            ArgumentError, match=r"slope: got .*, which is not part of this package"
        ):
            tl.load(file)
        assert tl.load(file, slope=tilted).rule.slope is tilted
