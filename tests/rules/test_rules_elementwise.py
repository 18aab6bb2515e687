"""Element-wise cells under every rule: where a diagonal trace is all of the Jacobian, traces are exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import timelocal as tl
from oracles import close, still_stream
from timelocal.cells import LRUCell, MinGRUCell
from timelocal.rules import RULES
from timelocal.testing import Case, ContractReport, batch_of, check_case, reference
from timelocal.testing.cases import ELEMENTWISE, elementwise_cases
from timelocal.testing.measure import SMALL_SIGMA, LivelyCase, judged
from timelocal.testing.oracles import expected
from timelocal.typing import Gradients

SMALL = {"loss": "mse", "sequences": 2, "steps": 3, "seed": 2}


def gradients(rule: tl.Rule, case: Case) -> Gradients:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask).gradients


def streamed(rule: tl.Rule, case: Case) -> Gradients:
    """What the steps of a stream add up to, as shares of the loss of the whole sequence."""
    inputs, targets, _, mask = case.batch()
    ones = torch.ones(case.sequences, case.steps, dtype=inputs.dtype)
    weights = ones if mask is None else mask
    stream = still_stream(rule, case.sequences)
    total = {name: torch.zeros_like(own) for name, own in rule.network.named_parameters()}
    for t in range(case.steps):
        step = stream.step(inputs[:, t], targets[:, t], mask=weights[:, t], gradients=True)
        for name, gradient in step.gradients.items():
            total[name] += gradient * (step.weight / weights.sum())
    return total


@pytest.mark.parametrize("cell", ELEMENTWISE)
class TestOneLayer:
    @pytest.mark.parametrize("mask", [False, True])
    def test_streamed_rtrl_is_autograd_through_the_whole_sequence(
        self, cell: str, mask: bool
    ) -> None:
        case = Case(cell, at="every", mask=mask, steps=12, sequences=4)
        rule = tl.RTRL(case.network(), at="every")
        assert rule.spec.target == "bptt"
        close(streamed(rule, case), reference.bptt(rule.network, *batch_of(rule, case))[1])

    @pytest.mark.parametrize("at", ["last", "every"])
    def test_whole_sequences_of_any_length_are_exact_by_every_way_to_write_it(
        self, cell: str, at: str
    ) -> None:
        case = Case(cell, at=at, unequal=True, mask=True, steps=9, sequences=5)
        network = case.network()
        right = reference.bptt(network, *batch_of(tl.BPTT(network, at=at), case))[1]
        for rule in (
            tl.RTRL(network, at=at),
            tl.RTRL(network, at=at, full=True),
            tl.SnAp1(network, at=at),
            tl.EProp(network, at=at, feedback="symmetric"),
            tl.DFA(network, at=at, feedback="exact", trace="diagonal"),
            tl.BPTT(network, at=at),
        ):
            assert (rule.spec.estimates, rule.spec.target) == ("exact", "bptt")
            close(gradients(rule, case), right)

    def test_it_carries_one_number_for_each_synapse_and_state(self, cell: str) -> None:
        network = Case(cell).network()
        rule = tl.RTRL(network)
        traces = rule.no_traces(7)
        states = len(network.cell.state_names)
        parameters = sum(own.numel() for own in network.recurrent.parameters())
        assert sum(own.numel() for own in traces.values()) == 7 * states * parameters

    def test_decorrelated_it_is_still_exact(self, cell: str) -> None:
        """By traces where D stands behind the states, by the whole matrix where it enters them."""
        case = Case(cell, at="every", decorrelate=True)
        rule = tl.RTRL(case.network(), at="every")
        assert rule.by_traces == (cell != "indrnn")
        close(gradients(rule, case), reference.bptt(rule.network, *batch_of(rule, case))[1])

    def test_a_long_memory_is_credited(self, cell: str) -> None:
        """A label at the end, and an input 200 steps before it: the trace still holds it."""
        case = Case(cell, steps=200, sequences=1)
        network = case.network()
        with torch.no_grad():
            for name, own in network.recurrent.named_parameters():
                if name.startswith("nu"):
                    own.fill_(-6)  # |λ| = 0.998
                if name.startswith("u_"):
                    own.fill_(1)
                    network.recurrent.weight_ih_l0.mul_(0.01)
                if name.startswith("bias") and cell == "minlstm":
                    own[:4], own[4:8] = 5, -5  # i' = 0.007
                if name.startswith("bias") and cell == "mingru":
                    own[:4] = -5
        inputs, targets, _, _ = case.batch()
        inputs[:, 1:] = 0
        found = tl.RTRL(network).estimate(inputs, targets).gradients["recurrent.weight_ih_l0"]
        assert found.norm() > 1e-4


@pytest.mark.parametrize("cell", ELEMENTWISE)
class TestAStack:
    def case(self, cell: str, at: str) -> Case:
        return Case(cell, at=at, layers=3, unequal=True, mask=True, steps=7)

    @pytest.mark.parametrize("at", ["last", "every"])
    def test_it_is_what_it_declares(self, cell: str, at: str) -> None:
        case = self.case(cell, at)
        rule = tl.RTRL(case.network(), at=at)
        assert (rule.spec.estimates, rule.spec.target) == ("biased", "oracle")
        close(gradients(rule, case), expected(rule, case))
        close(gradients(tl.SnAp1(rule.network, at=at), case), expected(rule, case))

    def test_the_top_layer_is_exact_and_no_other(self, cell: str) -> None:
        case = self.case(cell, "every")
        rule = tl.RTRL(case.network(), at="every")
        right = reference.bptt(rule.network, *batch_of(rule, case))[1]
        for name, own in gradients(rule, case).items():
            same = torch.allclose(own, right[name], rtol=1e-9, atol=1e-12)
            assert same == ("_l2" in name or "readout" in name), name

    def test_the_whole_matrix_is_exact_in_every_layer(self, cell: str) -> None:
        case = replace(self.case(cell, "every"), layers=2)
        rule = tl.RTRL(case.network(), at="every", full=True)
        assert rule.spec.target == "bptt"
        close(gradients(rule, case), reference.bptt(rule.network, *batch_of(rule, case))[1])

    def test_a_stream_adds_up_to_the_whole(self, cell: str) -> None:
        case = Case(cell, at="every", layers=2, steps=8)
        rule = tl.RTRL(case.network(), at="every")
        close(streamed(rule, case), gradients(rule, case))


# --- rules that draw -------------------------------------------------------------------------------


DRAWING = [pytest.param("np", marks=pytest.mark.slow), pytest.param("uoro", marks=pytest.mark.slow)]
DRAWING += [pytest.param(name, marks=pytest.mark.thorough) for name in ("anp", "wp")]


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("cell", ELEMENTWISE)
def test_the_mean_of_draws_is_what_the_rule_declares(name: str, cell: str) -> None:
    case = LivelyCase(cell, at="every", **SMALL)
    options: dict[str, Any] = {} if name == "uoro" else {"sigma": SMALL_SIGMA}
    rule = RULES[name](case.network(), loss="mse", at="every", **options)
    found = judged(rule, case, expected(rule, case))
    assert all(own.ok for own in found.values()), {n: own.wrong for n, own in found.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("case", tuple(elementwise_cases()), ids=str)
def test_every_rule_over_every_element_wise_case(name: str, case: Case) -> None:
    check_case(RULES[name], case, ContractReport())


# --- features of a cell of one's own -----------------------------------------------------------------


class Rotating(tl.AutogradCell):
    """A third party's LRU, whose features are both parts, squashed: from its equations alone."""

    name, gate_names, state_names = "rotating-features", ("re", "im"), ("re", "im")
    elementwise, leaks = True, False

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return LRUCell().parameter_shapes(input_size, hidden_size)

    def nodes(self, weights: Any, inputs: Tensor, states: tuple[Tensor, ...]) -> Tensor:
        size, angle = (-weights.nu.exp()).exp(), weights.theta.exp()
        re, im = size * angle.cos(), size * angle.sin()
        written = (inputs @ weights.weight_ih.t() + weights.bias) * (1 - size**2).sqrt().repeat(2)
        turned = re * states[0] - im * states[1], re * states[1] + im * states[0]
        return torch.cat(turned, -1) + written

    def update(self, nodes: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return nodes.chunk(2, -1)

    def features_size(self, hidden_size: int) -> int:
        return 2 * hidden_size

    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        return torch.cat(states, -1).tanh()


@pytest.mark.parametrize("decorrelate", [None, 0.1])
@pytest.mark.parametrize("name", ["bptt", "rtrl", "dfa", "eprop", "tbptt", "uoro", "np"])
def test_a_cell_of_ones_own_may_have_features(name: str, decorrelate: float | None) -> None:
    """It learns as the built-in cell with the same equations: the same draws, the same estimates."""
    options: Any = {"num_layers": 2, "dtype": torch.float64, "decorrelate": decorrelate}
    built_in = tl.RTU(2, 4, 3, nonlinearity="tanh", **options)
    mine = tl.from_cell(Rotating(), 2, 4, 3, **options)
    with torch.no_grad():
        for matrix in built_in.buffers():
            matrix += torch.randn(8, 8, generator=torch.Generator().manual_seed(0)) / 5
    assert mine.readout.weight.shape == (3, 8)
    mine.load_state_dict(built_in.state_dict())
    case = Case(at="every", unequal=True)
    found = [
        gradients(RULES[name](network, at="every", seed=1), case) for network in (mine, built_in)
    ]
    close(*found)


def test_features_of_another_size_than_declared_are_told() -> None:
    class Short(Rotating):
        def features_size(self, hidden_size: int) -> int:
            return hidden_size

    with pytest.raises(tl.ArgumentError, match=r"features of rotating-features: got \(2, 8\)"):
        tl.from_cell(Short(), 2, 4, 3)


def test_what_needs_a_signal_at_h_is_refused_where_features_are_others() -> None:
    with pytest.raises(tl.UnsupportedError, match=r"feedback_per.*Use feedback_per='layer'"):
        tl.DFA(tl.LRU(2, 4, 3), feedback_per="parameter")
    tl.DFA(tl.MinGRU(2, 4, 3), feedback_per="parameter")
    with pytest.raises(tl.UnsupportedError, match="Use trace='diagonal'"):
        tl.DFA(tl.RTU(2, 4, 3), trace="stationary")


# --- break it and see ----------------------------------------------------------------------------------


class HalfGamma(LRUCell):
    """Without ∂γ/∂ν."""

    def gradient(
        self, weights: Any, name: str, trajectory: Any, delta: Tensor, *rest: Any
    ) -> Tensor:
        if name == "nu":
            trajectory = replace(trajectory, inputs=torch.zeros_like(trajectory.inputs))
            weights = weights._replace(bias=torch.zeros_like(weights.bias))
        return super().gradient(weights, name, trajectory, delta, *rest)


class NoRotation(LRUCell):
    """Traces that do not mix re and im."""

    def by_state(self, weights: Any, jacobian: Any) -> Any:
        (re, _), (_, also) = super().by_state(weights, jacobian)
        return (re, None), (None, also)


class KeepsTooMuch(MinGRUCell):
    def by_state(self, weights: Any, jacobian: Any) -> Any:
        return ((torch.ones_like(jacobian[0]),),)


@pytest.mark.parametrize("wrong", [HalfGamma, NoRotation, KeepsTooMuch])
def test_a_wrong_derivative_is_seen(wrong: type[tl.Cell]) -> None:
    network = tl.from_cell(wrong(), 2, 4, 3, dtype=torch.float64)
    case = Case(at="every", steps=6)
    rule = tl.RTRL(network, at="every")
    right = reference.bptt(network, *batch_of(rule, case))[1]
    for found in (streamed(rule, case), gradients(rule, case)):
        with pytest.raises(AssertionError):
            close(found, right)
