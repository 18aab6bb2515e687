"""Wrong rules fail: every built-in rule spoilt in every way, and rules of other people that lie."""

from __future__ import annotations

import re
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

import timelocal as tl
from timelocal.rules import (
    RULES,
    Batch,
    ForwardPass,
    Rule,
    RuleSpec,
    forward_pass,
    readout_gradients,
    readout_signal,
)
from timelocal.testing import Case, batch_of, check_rule, reference
from timelocal.testing.contract import _subject
from timelocal.testing.measure import (
    clean,
    estimates,
    live_bytes,
    online,
    variance,
    weight_transport,
)
from timelocal.testing.setting import configured
from timelocal.typing import Gradients, Memory

WAYS = ("negated", "times-1000", "shifted", "noise")


def broken(text: str) -> set[str]:
    """The properties that a table marks as broken, and the checks that failed."""
    rows = re.findall(r"^(\w+)  .*✗$", text, re.MULTILINE)
    return {*rows, *re.findall(r"^  ✗ (\w+) on ", text, re.MULTILINE)}


def caught(rule: type[Rule], **options: object) -> set[str]:
    """What `check_rule` finds broken first."""
    with pytest.raises(AssertionError) as failure:
        check_rule(rule, fail_fast=True, **options)  # type: ignore[arg-type]
    return broken(str(failure.value))


def spoilt(rule: type[Rule], way: str) -> type[Rule]:
    """A subclass whose recurrent gradients are wrong; it inherits what the rule declares."""

    def noise(self: Rule, own: Tensor) -> Tensor:
        """As large as the gradient, and unrelated to the loss: drawn anew only where the rule draws."""
        generator = self.generator if self.spec.draws else torch.Generator().manual_seed(0)
        drawn = torch.randn(own.shape, generator=generator, dtype=own.dtype)
        return drawn * own.norm() / drawn.norm()

    class Spoilt(rule):  # type: ignore[misc, valid-type]
        def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
            forward, gradients = super().compute(batch)
            if way == "shifted":  # errors meet the activity of one step before
                late = replace(batch, inputs=batch.inputs.nan_to_num().roll(1, 0))
                other = super().compute(late)[1]
            return forward, {
                name: own
                if not name.startswith("recurrent")
                else -own
                if way == "negated"
                else 1000 * own
                if way == "times-1000"
                else other[name]
                if way == "shifted"
                else noise(self, own)
                for name, own in gradients.items()
            }

    Spoilt.__name__ = f"{rule.__name__}-{way}"
    return Spoilt


def test_every_rule_is_spoilt_in_every_way() -> None:
    assert len(RULES) * len(WAYS) == 72


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RULES)
def test_a_spoilt_rule_fails(name: str, way: str) -> None:
    assert caught(spoilt(RULES[name], way)) == {"estimates"}


@pytest.mark.parametrize("name", ["bptt", "tbptt", "np", "anp", "np-authors-code"])
def test_node_signals_that_meet_what_entered_one_step_before_fail(name: str) -> None:
    class Shifted(RULES[name]):  # type: ignore[misc]
        def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
            right = self.network.parameter_gradients

            def late(trajectory: object, deltas: list[list[Tensor]]) -> Gradients:
                return right(trajectory, [[own.roll(1, 0) for own in each] for each in deltas])

            with mock.patch.object(self.network, "parameter_gradients", late):
                return super().compute(batch)

    assert caught(Shifted) == {"estimates"}


# --- a rule of somebody else's that draws ----------------------------------------------------------


class UORO(Rule):
    """Unbiased online recurrent optimization (Tallec & Ollivier 2018) of one tanh layer.

    h̃_t = ρ₀ J_t h̃_{t-1} + ρ₁ ν_t,   θ̃_t = θ̃_{t-1} / ρ₀ + (νᵀ ∂h_t/∂θ) / ρ₁,   dθ = Σ_t (G_t · h̃_t) θ̃_t
    """

    spec = RuleSpec(
        name="uoro",
        summary="the influence of all parameters, compressed to one random direction",
        estimates="unbiased",
        target="bptt",
        online=False,
        autograd_free=True,
        weight_transport=True,
        draws=True,
    )

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        network, recurrent = self.network, self.network.recurrent
        plain = getattr(network.cell, "tau", None) == 1 and recurrent.decorrelate is None
        if not plain or network.num_layers > 1 or batch.lengths is not None:
            raise tl.UnsupportedError("uoro: got more than one plain tanh layer. Use RTRL.")
        forward = forward_pass(self.network, self.loss, batch, self.generator)
        (own,) = forward.trajectory.layers[0]
        signal = readout_signal(self.network, forward)
        if batch.at != "last":  # rows are steps
            signal = signal.unflatten(0, batch.inputs.shape[:2])
        sequences, weight = batch.inputs.shape[1], recurrent.weights(0, 0).hh
        shapes = [recurrent.get_parameter(f"{kind}_l0").shape for kind in recurrent.parameter_kinds]
        total = torch.zeros(sequences, sum(shape.numel() for shape in shapes)).to(weight)
        state = own.hidden.new_zeros(sequences, network.hidden_size)
        influence = torch.zeros_like(total)
        for t, h in enumerate(own.hidden):
            sign = torch.randint(2, h.shape, generator=self.generator).to(h) * 2 - 1
            slope, h_before = 1 - h**2, own.states[0][t]
            node = sign * slope
            entered = {"weight_ih": batch.inputs[t], "weight_hh": h_before}
            local = torch.cat(
                [
                    torch.einsum("bh,bi->bhi", node, entered[kind]).flatten(1)
                    if kind in entered
                    else node
                    for kind in recurrent.parameter_kinds
                ],
                1,
            )
            moved = slope * (state @ weight.t())
            ratio = influence.norm(dim=1) / moved.norm(dim=1)
            rho0 = (
                torch.where(ratio > 0, ratio, torch.ones_like(ratio)).nan_to_num(1).sqrt()[:, None]
            )
            rho1 = (local.norm(dim=1) / sign.norm(dim=1)).sqrt()[:, None]
            state = rho0 * moved + rho1 * sign
            influence = influence / rho0 + local / rho1
            if batch.at != "last" or t == len(own.hidden) - 1:
                here = signal[t] if batch.at != "last" else signal
                total += (here * state).sum(1, keepdim=True) * influence
        parts = total.sum(0).split([shape.numel() for shape in shapes])
        return forward, readout_gradients(self.network, forward) | {
            f"recurrent.{kind}_l0": part.view(shape)
            for kind, part, shape in zip(recurrent.parameter_kinds, parts, shapes, strict=True)
        }


@pytest.mark.slow
def test_a_correct_uoro_passes_and_says_how_sure_it_is() -> None:
    report = check_rule(UORO)
    text = str(report)
    assert report.ok
    assert not broken(text)
    assert report.held > 0
    assert report.refused
    assert "as declared on average, on 2 cases" in text
    factors = [float(found) for found in re.findall(r"caught: ×(\d\.\d\d)", text)]
    assert len(factors) == 4
    assert all(1 <= factor <= 2 for factor in factors)


@pytest.mark.parametrize("way", ["negated", "times-1000", "shifted", "noise"])
def test_a_wrong_uoro_fails(way: str) -> None:
    assert caught(spoilt(UORO, way)) == {"estimates"}


def test_a_uoro_that_declares_another_target_fails() -> None:
    class OneStep(UORO):
        spec = replace(UORO.spec, target="tbptt1")

    assert caught(OneStep) == {"estimates"}


def test_draws_that_are_too_few_to_tell_fail_as_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loud(UORO):
        """Right in the mean, and drowned in noise."""

        def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
            forward, gradients = super().compute(batch)
            return forward, {
                name: own + 100 * torch.randn(own.shape, generator=self.generator).to(own)
                for name, own in gradients.items()
            }

    monkeypatch.setattr("timelocal.testing.measure.MOST_DRAWS", 256)
    found = estimates(Loud)
    assert not found.ok
    assert "undecided" in found.details[0]


# --- rules that declare what they are not -------------------------------------------------------------


def renamed(rule: type[Rule], **declared: object) -> type[Rule]:
    return type("Liar", (rule,), {"spec": replace(rule.spec, **declared)})  # type: ignore[arg-type]


def test_a_flipped_dfa_that_calls_itself_unbiased_for_bptt_fails() -> None:
    liar = renamed(spoilt(tl.DFA, "negated"), estimates="unbiased", target="bptt")
    assert caught(liar) == {"estimates"}
    assert caught(renamed(tl.DFA, estimates="unbiased", target="bptt")) == {"estimates"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "declared", "where"),
    [
        (tl.DFA, {"estimates": "exact", "target": "bptt"}, "estimates"),
        (tl.DFA, {"estimates": "exact", "target": "tbptt1"}, "estimates"),
        (tl.DFA, {"target": "bptt"}, "estimates"),
        (tl.DFA, {"target": "whatever"}, "estimates"),
        (tl.BPTT, {"estimates": "biased"}, "estimates"),
        (tl.BPTT, {"target": "tbptt1"}, "estimates"),
        (tl.TBPTT, {"target": "bptt"}, "estimates"),
        (tl.ANP, {"estimates": "unbiased", "target": "tbptt1"}, "estimates"),
        (tl.NP, {"draws": False}, "draws"),
        (tl.BPTT, {"draws": True}, "draws"),
        (tl.BPTT, {"weight_transport": False}, "weight_transport"),
        (tl.TBPTT, {"weight_transport": False}, "weight_transport"),
        (tl.RTRL, {"weight_transport": False}, "weight_transport"),
        (tl.NP, {"weight_transport": True}, "weight_transport"),
        (tl.BPTT, {"online": True}, "online"),
        (tl.DFA, {"derivative_free": True}, "derivative_free"),
        (tl.TBPTT, {"bidirectional": True}, "draws"),  # the first to run it both ways
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_what_is_declared_and_is_not_so_fails(
    rule: type[Rule], declared: dict[str, object], where: str
) -> None:
    assert caught(renamed(rule, **declared)) == {where}


class ThroughTheReadout(tl.DFA):
    """DFA whose signal is a little of W_outᵀ e."""

    def feedback_matrix(self, layer: int = 0, direction: int = 0, kind: str = "") -> Tensor:
        return super().feedback_matrix(layer, direction, kind) + self.network.readout.weight.t()


class ThroughTime(tl.DFA):
    """DFA whose gradient has a little of BPTT's in it."""

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = super().compute(batch)
        weight = self.network.recurrent.weights(0, 0).hh
        name = "recurrent.weight_hh_l0"
        if weight.shape == gradients[name].shape:
            gradients[name] = gradients[name] + gradients[name] @ weight.t()[: weight.shape[1], :4]
        return forward, gradients


class Peeks(tl.NP):
    """Needs no derivative, and looks at W_out all the same."""

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = super().compute(batch)
        back = forward.errors @ self.network.readout.weight
        return forward, {
            name: own + back.sum() * (name == "recurrent.bias_ih_l0")
            for name, own in gradients.items()
        }


@pytest.mark.parametrize(
    ("rule", "weight"),
    [
        (ThroughTheReadout, "readout.weight"),
        (ThroughTime, "recurrent.weight_hh_l0"),
        (Peeks, "readout.weight"),
    ],
)
def test_a_weight_that_is_read_is_named(rule: type[Rule], weight: str) -> None:
    found = weight_transport(rule)
    assert not found.ok
    assert all(weight in text for text in found.details if text.startswith("✗"))


def test_what_a_unit_is_to_itself_is_no_transport() -> None:
    """e-prop reads the diagonal of W_hh, and on a reset-before GRU all of it, as its instance declares."""
    found = weight_transport(tl.EProp)
    assert found.ok
    read = {text.split("-1x")[0] for text in found.details if not text.endswith("none")}
    assert read == {"gru-reset-before"}
    assert all(weight_transport(rule).ok for rule in (tl.RFLO, tl.DFA, tl.DFAAuthorsCode))


class Hoards(tl.DFA):
    """Carries nothing that grows, and keeps every step in a list of its own."""

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        forward, gradients, after = super().advance(memory, batch, key, step)
        self.__dict__.setdefault("kept", []).append(batch.inputs.clone())
        return forward, gradients, after


class Grows(tl.DFA):
    """Carries one number more at every step."""

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        forward, gradients, after = super().advance(memory, batch, key, step)
        seen = memory.get("seen", batch.inputs.new_zeros(batch.inputs.shape[1], 0))
        return (
            forward,
            gradients,
            {**after, "seen": torch.cat((seen, seen.new_zeros(len(seen), 1)), 1)},
        )


@pytest.mark.slow
@pytest.mark.parametrize("rule", [Hoards, Grows])
def test_memory_that_grows_is_seen(rule: type[Rule]) -> None:
    found = online(rule)
    assert found is not None
    assert not found.ok
    assert caught(rule) == {"online"}


@pytest.mark.slow
def test_live_bytes_sees_every_tensor_once() -> None:
    live_bytes()  # what other tests left behind goes first
    before = live_bytes()
    kept = torch.zeros(1000, dtype=torch.float64)
    views = [kept[:10], kept.view(10, 100)]
    assert live_bytes() == before + 8000
    del kept
    assert live_bytes() == before + 8000
    del views
    assert live_bytes() == before


# --- oracles -----------------------------------------------------------------------------------------


class OwnFeedback(Rule):
    """A biased rule of a third party's: the error through a matrix of its own."""

    spec = RuleSpec(
        name="own-feedback",
        summary="the output error through a fixed matrix",
        estimates="biased",
        target="oracle",
        online=False,
        autograd_free=True,
        weight_transport=False,
    )

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        network = self.network
        cell = network.cell
        if network.num_layers > 1 or not (cell.acts_locally and cell.features_are_hidden):
            raise tl.UnsupportedError("own-feedback: got depth, a reset gate or features. Use DFA.")
        forward = forward_pass(self.network, self.loss, batch, self.generator)
        (own,) = forward.trajectory.layers[0]
        signal = forward.errors @ self.matrix().t()
        if batch.at != "last":  # rows are steps
            signal = signal.unflatten(0, batch.inputs.shape[:2])
        weights = network.recurrent.weights(0, 0)
        delta = cell.node_signal(weights, cell.local_jacobian(own), signal)
        if forward.trajectory.valid is not None:
            delta = delta * forward.trajectory.valid[..., None]
        gradients = network.parameter_gradients(forward.trajectory, [[delta]])
        return forward, readout_gradients(self.network, forward) | gradients

    def matrix(self) -> Tensor:
        network = self.network
        drawn = torch.Generator().manual_seed(9)
        shape = (network.hidden_size, network.output_size)
        return torch.randn(shape, generator=drawn, dtype=torch.float64)


def surrogate(rule: Rule, case: Case) -> Gradients:
    """What its author writes."""
    assert isinstance(rule, OwnFeedback)
    return reference.dfa(
        rule.network, lambda layer, direction: rule.matrix(), *batch_of(rule, case)
    )


def test_a_biased_rule_without_an_oracle_fails_and_is_told_what_to_write() -> None:
    with pytest.raises(AssertionError) as failure:
        check_rule(OwnFeedback, fail_fast=True)
    text = str(failure.value)
    assert broken(text) == {"estimates"}
    assert "check_rule(OwnFeedback, oracle=…)" in text
    assert "return reference.dfa(rule.network, feedback, *batch_of(rule, case))" in text


@pytest.mark.slow
def test_a_biased_rule_with_its_oracle_passes() -> None:
    report = check_rule(OwnFeedback, oracle=surrogate)
    assert report.ok
    assert report.held > 500


@pytest.mark.parametrize("way", WAYS)
def test_a_biased_rule_that_is_wrong_fails_its_oracle(way: str) -> None:
    assert caught(spoilt(OwnFeedback, way), oracle=surrogate) == {"estimates"}


def test_an_oracle_that_is_brought_takes_the_place_of_the_inherited_one() -> None:
    class Doubled(tl.DFA):
        spec = replace(tl.DFA.spec, online=False)

        def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
            forward, gradients = super().compute(batch)
            return forward, {name: 2 * own for name, own in gradients.items()}

    def doubled(rule: Rule, case: Case) -> Gradients:
        assert isinstance(rule, tl.DFA)
        found = reference.dfa(rule.network, rule.feedback_matrix, *batch_of(rule, case))
        return {name: 2 * own for name, own in found.items()}

    assert caught(Doubled) == {"estimates"}
    assert caught(tl.DFA, oracle=doubled) == {"estimates"}
    assert estimates(_subject(Doubled, doubled, {})).ok


@pytest.mark.parametrize(
    ("rule", "options", "lie", "told"),
    [
        (tl.NP, {"baseline_decay": 0.9}, {"clean": True}, "no"),
        (tl.NP, {}, {"clean": False}, "yes"),
        (tl.ANP, {"clean": False}, {"clean": True}, "no"),
        (tl.NP, {"baseline_decay": 0.9}, {"variance": "bounded"}, "1/sigma^2"),
        (tl.ANP, {"clean": False}, {"variance": "1/sigma^2"}, "bounded"),
        (tl.WP, {}, {"variance": "1/sigma^2"}, "bounded"),
    ],
    ids=str,
)
def test_a_rule_that_lies_about_its_runs_or_its_variance_is_caught(
    rule: type[Rule], options: dict[str, object], lie: dict[str, object], told: str
) -> None:
    honest = configured(rule, options)

    class Liar(honest):  # type: ignore[misc, valid-type]
        spec = replace(honest.spec, **lie)

    (what,) = lie
    measure = {"clean": clean, "variance": variance}[what]
    assert measure(honest).ok
    found = measure(Liar)
    assert not found.ok
    assert found.measured.startswith(told)
