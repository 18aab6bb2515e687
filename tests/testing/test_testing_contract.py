"""The contract of a rule: held by every rule over every case, and broken by rules that break it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import timelocal as tl
from covering import covering, is_fast
from timelocal.network import Network
from timelocal.rules import RULES, Batch, ForwardPass, Rule, RuleSpec, readout_signal
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.testing import CELLS, CHECKS, Case, ContractReport, cases, check_case, check_rule
from timelocal.testing.cases import ELEMENTWISE
from timelocal.testing.measure import clean, estimates, variance, weight_transport
from timelocal.testing.setting import configured, make
from timelocal.typing import Gradients, Memory

ALL_CASES = tuple(cases())


def authors_can(case: Case) -> bool:
    """What the paper's code runs: one layer and direction, equal lengths, the loss at the last step."""
    plain = case.layers == 1 and not case.bidirectional and not case.unequal and case.at == "last"
    return plain and case.cell in ("rnn", "leaky", "gru-reset-before")


def can(name: str, case: Case) -> bool:
    """Whether a rule runs on a case; it must refuse every other one."""
    if name == "dfa-authors-code":
        return authors_can(case)
    if name in ("fa", "wm"):
        return case.readout == "linear"
    if name == "sparse-rtrl" and case.cell == "indrnn" and case.decorrelate:
        return False  # D mixes what its sparsity keeps apart
    if name in ("tbptt", "rtrl", "sparse-rtrl", "uoro"):
        return not case.bidirectional
    if RULES[name].spec.draws:  # no future that is not there yet, no nodes out of sight
        forward = not case.bidirectional and case.readout == "linear"
        return forward and not (name.startswith("wp") and case.dropout)
    return True


NUMBER = {case: number for number, case in enumerate(ALL_CASES)}


def places(name: str, case: Case) -> list[object]:
    """Each rule with each cell and each value of each setting; each value with each cell; what is refused."""
    settings = vars(case).items()
    if not can(name, case):
        return [(name, "refused", *one) for one in settings if one[0] != "cell"]
    return [(name, *one) for one in settings] + [(case.cell, *one) for one in settings]


def how_often(name: str, case: Case) -> pytest.MarkDecorator:
    """Of those that are not fast: slow are those of mixing cells for the two rules, and a fifth of all."""
    whole = name in ("bptt", "dfa", "dfa-authors-code") and case.cell in CELLS
    slow = whole or (NUMBER[case] + len(name)) % 5 == 0
    return pytest.mark.slow if slow else pytest.mark.thorough


RULES_AND_CASES = covering(
    itertools.product(RULES, ALL_CASES), places, ids="{}-{}".format, others=how_often
)


def test_how_many_there_are() -> None:
    assert list(RULES) == [
        "bptt",
        "tbptt",
        "rtrl",
        "sparse-rtrl",
        "uoro",
        "snap1",
        "dfa",
        "dfa-authors-code",
        "rflo",
        "eprop",
        "fa",
        "wm",
        "np",
        "anp",
        "wp",
        "np-authors-code",
        "anp-authors-code",
        "wp-authors-code",
    ]
    assert all(rule.spec.name == name for name, rule in RULES.items())
    assert len(CELLS) == 5
    assert len(CHECKS) == 16
    assert len(ELEMENTWISE) == 5
    assert len(ALL_CASES) == 230
    assert len({str(case) for case in ALL_CASES}) == len(set(ALL_CASES)) == len(ALL_CASES)
    assert sum(map(authors_can, ALL_CASES)) == 27
    for what, values in {
        "layers": {1, 2, 3}, "bidirectional": {False, True}, "bias": {False, True},
        "dropout": {0.0, 0.5}, "readout": {"linear", "mlp"}, "at": {"last", "every", "ramp", "mean"},
        "whole": {False, True},
        "loss": {"cross_entropy", "mse", "bce"}, "unequal": {False, True}, "mask": {False, True},
        "batch_first": {False, True}, "cell": {*CELLS, *ELEMENTWISE}, "decorrelate": {False, True},
    }.items():  # fmt: skip
        assert {getattr(case, what) for case in ALL_CASES} == values


def test_fast_cases_hold_every_cell_and_setting() -> None:
    able = [pair for pair in itertools.product(RULES, ALL_CASES) if can(*pair)]
    fast = [param.values for param in RULES_AND_CASES if is_fast(param) and can(*param.values)]
    assert len(fast) < len(able) / 10

    def held(by: Callable[[str, Case], str], some: list[tuple[str, Case]]) -> set[object]:
        return {(by(name, case), *one) for name, case in some for one in vars(case).items()}

    for by in (lambda name, case: name, lambda name, case: case.cell):
        assert held(by, fast) == held(by, able)


@pytest.mark.parametrize(("name", "case"), RULES_AND_CASES)
def test_every_rule_over_every_case(name: str, case: Case) -> None:
    report = ContractReport()
    check_case(RULES[name], case, report)
    if not can(name, case):
        assert list(report.refused) == [str(case)]
    else:
        assert (report.held, report.refused) == (len(CHECKS), {})


# --- rules of other people ---------------------------------------------------------------------


class OneStep(Rule):
    """A third party's rule, from public parts only: the exact error, one step of the past at a time."""

    spec = RuleSpec(
        name="one-step",
        summary="the output error at each step, no further back",
        estimates="exact",
        target="tbptt1",
        online=False,
        autograd_free=True,
        weight_transport=True,
    )

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        network, batch = self.network, forward.batch
        plain = network.num_layers == 1 and network.cell.features_are_hidden
        if not plain or batch.at == "last":
            raise tl.UnsupportedError("one-step: got depth or a last-step loss. Use BPTT.")
        (own,) = forward.trajectory.layers[0]
        weights, cell = network.recurrent.weights(0, 0), network.cell
        signal = readout_signal(network, forward).unflatten(0, batch.inputs.shape[:2])
        delta = cell.node_signal(weights, cell.local_jacobian(own), signal)
        return network.parameter_gradients(forward.trajectory, [[delta]])

    def begin(self, batch_size: int) -> Memory:
        return {"states": no_states(self.network, batch_size)}

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        forward, gradients = self.compute(batch.starting_from(unpacked(memory["states"])))
        return forward, gradients, {"states": packed(forward.trajectory.final_states())}


@pytest.mark.slow
def test_a_rule_of_a_third_party_passes() -> None:
    report = ContractReport()
    some = ALL_CASES[::2]  # half of them, for time
    for case in some:
        check_case(OneStep, case, report)
    able = [c for c in some if c.layers == 1 and not c.bidirectional and c.at != "last"]
    assert report.held == len(able) * len(CHECKS)
    assert set(report.refused) == {str(case) for case in some} - {str(case) for case in able}
    assert len(able) == 30


def spec(**changes: object) -> RuleSpec:
    return replace(tl.DFA.spec, name="broken", **changes)


class Writes(tl.DFA):
    """An estimate that leaves its gradients behind."""

    spec = spec()

    def estimate(self, *args: object, **options: object) -> tl.Estimate:
        found = super().estimate(*args, **options)
        self.accumulate(found)
        return found


class Learns(tl.DFA):
    """An estimate that already moves a weight."""

    spec = spec()

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        result = super().compute(batch)
        self.network.recurrent.weights(0, 0).hh.mul_(0.9)
        return result


class Overwrites(tl.DFA):
    """`.grad` is replaced, not added to."""

    spec = spec()

    def forward(self, *args: object, **options: object) -> Tensor:
        for parameter in self.network.parameters():
            parameter.grad = None
        return super().forward(*args, **options)


class Forgets(tl.DFA):
    """One parameter gets nothing."""

    spec = spec()

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = super().compute(batch)
        del gradients["recurrent.weight_hh_l0"]
        return forward, gradients


class Idles(tl.DFA):
    """One parameter always gets zero."""

    spec = spec()

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = super().compute(batch)
        gradients["recurrent.weight_ih_l0"].zero_()
        return forward, gradients


class DrawsGlobally(tl.DFA):
    """Chance from the global generator."""

    spec = spec()

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = super().compute(batch)
        gradients["readout.weight"] += torch.randn(())
        return forward, gradients


class LosesItsState(tl.DFA):
    """Feedback in a plain attribute: not in the state_dict."""

    spec = spec()

    def _draw(self, generator: torch.Generator) -> None:
        super()._draw(generator)
        for name, matrix in list(self.named_buffers(recurse=False)):
            delattr(self, name)
            self.__dict__[name] = matrix

    def get_buffer(self, name: str) -> Tensor:
        return self.__dict__[name]


class LeavesItsNetwork(tl.DFA):
    """The network in a plain attribute: neither saved nor moved with the rule."""

    spec = spec()

    def __init__(self, network: Network, **options: object) -> None:
        super().__init__(network, **options)
        del self.network
        self.__dict__["network"] = network


class ReadsPadding(tl.DFA):
    """Lengths are ignored: what is padded counts."""

    spec = spec()

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        return super().compute(replace(batch, lengths=None))


class Sums(tl.DFA):
    """Gradients of the sum, not of the mean."""

    spec = spec()

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = super().compute(batch)
        return forward, {name: g * batch.count for name, g in gradients.items()}


class SaysExact(tl.DFA):
    """Exact in name only."""

    spec = spec(estimates="exact", target="bptt")


class SaysBiased(tl.BPTT):
    """The exact rule under another name."""

    spec = replace(tl.BPTT.spec, name="broken", estimates="biased")


class UsesAutograd(tl.DFA):
    """Declares itself free of autograd, and is not."""

    spec = spec()

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        with torch.enable_grad():
            leaf = forward.features.detach().requires_grad_()
            torch.autograd.grad(self.network.readout(leaf), leaf, forward.errors)
        return super().recurrent_gradients(forward)


class RemembersEvaluation(tl.DFA):
    """Evaluation advances the generator."""

    spec = spec()

    def evaluate(self, *args: object, **options: object) -> tl.Evaluation:
        torch.rand((), generator=self.generator)
        return super().evaluate(*args, **options)


class RefusesWithoutHelp(tl.DFA):
    """A refusal that leaves its reader alone."""

    spec = spec()

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        raise tl.UnsupportedError("no.")


class ForgetsItsStates(tl.DFA):
    """Every step of a stream begins at zero."""

    spec = spec()

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        for kept in memory.values():
            kept.zero_()
        return super().advance(memory, batch, key, step)


class RemembersAll(tl.DFA):
    """A stream that keeps every step it has seen."""

    spec = spec()

    def begin(self, batch_size: int) -> Memory:
        return {**super().begin(batch_size), "seen": torch.zeros(batch_size, 1)}

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        seen = torch.cat((memory["seen"], memory["seen"][:, :1]), 1)
        forward, gradients, after = super().advance(memory, batch, key, step)
        return forward, gradients, {**after, "seen": seen}


class ExactForWhatever(tl.DFA):
    """Exact, for a target nobody can look up."""

    spec = spec(estimates="exact", target="whatever")


BROKEN = {
    Writes: "estimates_purely",
    Learns: "estimates_purely",
    Forgets: "estimates_purely",
    Idles: "is_alive",
    Overwrites: "accumulates",
    DrawsGlobally: "accumulates",
    LosesItsState: "state_survives",
    LeavesItsNetwork: "state_survives",
    ReadsPadding: "estimates_purely",
    Sums: "is_the_mean_of_its_members",
    SaysExact: "is_exact_if_it_says_so",
    SaysBiased: "is_exact_if_it_says_so",
    UsesAutograd: "needs_no_autograd_if_it_says_so",
    RemembersEvaluation: "evaluates_without_a_trace",
    RefusesWithoutHelp: "names no alternative",
    ForgetsItsStates: "streams_as_one_call",
    RemembersAll: "streams_as_one_call",
    ExactForWhatever: "agrees_with_its_oracle",
}


def check_all_cases(rule: type[Rule]) -> None:
    for case in ALL_CASES:
        check_case(rule, case, ContractReport())


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_a_broken_rule_is_caught_where_it_breaks(rule: type[Rule]) -> None:
    with pytest.raises((AssertionError, KeyError)) as caught:
        check_all_cases(rule)
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert BROKEN[rule] in told


@pytest.mark.slow
def test_a_stream_that_takes_what_needs_the_end_of_the_sequence_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("timelocal.testing.contract.check_stream", lambda rule: None)
    with pytest.raises(AssertionError) as caught:
        check_rule(tl.DFA)
    assert "refuses_both_directions_online" in str(caught.value)


def test_a_dfa_with_a_flipped_sign_is_caught_by_its_oracle() -> None:
    class Flipped(tl.DFA):
        def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
            forward, gradients = super().compute(batch)
            return forward, {
                name: -gradient if name.startswith("recurrent") else gradient
                for name, gradient in gradients.items()
            }

    with pytest.raises(AssertionError) as caught:
        check_case(Flipped, Case(), ContractReport())
    assert "agrees_with_its_oracle" in caught.value.__notes__[0]


@pytest.mark.slow
def test_all_that_is_broken_is_told_in_one_table() -> None:
    with pytest.raises(AssertionError) as caught:
        check_rule(Idles)
    told = str(caught.value)
    assert told.startswith("Idles: BROKEN")
    assert re.search(r"^estimates +biased, oracle +something else +✗$", told, re.MULTILINE)
    assert re.search(r"^weight_transport +on some networks .*✓$", told, re.MULTILINE)
    assert re.search(r"^  ✗ is_alive on .*\(and on \d+ other cases\)$", told, re.MULTILINE)
    assert re.search(r"^  ✗ agrees_with_its_oracle on ", told, re.MULTILINE)
    assert re.search(r"^checks: \d{3,} held, \d{2,} failed$", told, re.MULTILINE)


def test_the_first_that_is_broken_is_enough_on_request() -> None:
    with pytest.raises(AssertionError) as caught:
        check_rule(Idles, fail_fast=True)
    told = str(caught.value)
    assert "checks:" not in told
    assert "weight_transport" not in told
    assert "recurrent.weight_ih_l0 is of size 0 where" in told


@pytest.mark.slow
def test_a_report_reads_as_a_table() -> None:
    report = check_rule(OneStep)
    lines = str(report).splitlines()
    assert lines[0] == "OneStep: holds"
    assert lines[2].split() == ["property", "declared", "measured", "ok"]
    assert [finding.name for finding in report.findings] == [
        "draws", "clean", "estimates", "weight_transport", "autograd_free", "derivative_free",
        "bidirectional",
    ]  # fmt: skip
    assert all(len(line) <= 130 for line in lines if "such as" not in line)
    assert f"refused: {len(report.refused)} cases" in lines
    assert any("one-step: got depth or a last-step loss" in line for line in lines)


def test_options_make_another_rule_of_it() -> None:
    """What is declared and measured is the instance's, with the options in question."""
    assert estimates(configured(tl.NP, {"credit": "to_go"})).measured.startswith(
        "as declared on average"
    )
    sequence = configured(tl.WP, {"redraw": "sequence"})
    case = Case("rnn", at="every", loss="mse")
    assert make(sequence, case.network(), case).spec.target == "bptt"
    symmetric = configured(tl.DFA, {"feedback": "symmetric"})
    found = weight_transport(symmetric)
    assert found.ok
    assert any("readout.weight" in text for text in found.details)


@pytest.mark.parametrize(
    ("rule", "options", "declared"),
    [
        (tl.NP, {"credit": "local"}, ("unbiased", "tbptt1")),
        (tl.NP, {"credit": "to_go"}, ("unbiased", "bptt")),
        (tl.NP, {"credit": "global"}, ("unbiased", "bptt")),
        (tl.NP, {"credit": "trace(0)"}, ("unbiased", "tbptt1")),
        (tl.NP, {"credit": "trace(1)"}, ("unbiased", "bptt")),
        (tl.NP, {"credit": "trace(0.5)"}, ("biased", "oracle")),
        (tl.WP, {"redraw": "sequence"}, ("unbiased", "bptt")),
        (tl.ANP, {"credit": "to_go"}, ("biased", "oracle")),
        (tl.NPAuthorsCode, {}, ("biased", "oracle")),
        (tl.TBPTT, {"k": 1}, ("exact", "tbptt1")),
        (tl.TBPTT, {"k": 3}, ("exact", "oracle")),
    ],
)
def test_an_instance_declares_what_its_options_make_of_it(
    rule: type[Rule], options: dict[str, object], declared: tuple[str, str]
) -> None:
    spec = rule(Case().network(), **options).spec
    assert (spec.estimates, spec.target) == declared


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (tl.NP, {"credit": "to_go"}),
        (tl.NP, {"credit": "global"}),
        (tl.NP, {"credit": "trace(0.5)"}),
        (tl.NP, {"antithetic": True, "directions": 2, "reward": "batch"}),
        (tl.NP, {"baseline_decay": 0.9, "credit": "global"}),
        (tl.NP, {"baseline_decay": 0.5, "noise": "orthogonal", "directions": 2}),
        (tl.NP, {"baseline_decay": 0.5, "credit": "trace(0.5)", "antithetic": True}),
        (tl.WP, {"redraw": "sequence"}),
        (tl.WP, {"credit": "to_go"}),
        (tl.ANP, {"norm": "layer"}),
        (tl.ANP, {"clean": False}),
        (tl.TBPTT, {"k": 3}),
        (tl.DFA, {"feedback": "kolen_pollack"}),
        (tl.DFA, {"feedback": "sign"}),
        (tl.DFA, {"trace": "diagonal", "feedback_per": "parameter"}),
        (tl.DFA, {"normalize": "frobenius"}),
    ],
    ids=str,
)
def test_options_are_measured_as_they_declare(rule: type[Rule], options: dict[str, object]) -> None:
    subject = configured(rule, options)
    assert estimates(subject).ok
    assert weight_transport(subject).ok
    assert clean(subject).ok
    spread = variance(subject)
    assert spread is None or spread.ok


@pytest.mark.slow
def test_a_dfa_that_breaks_nothing_passes() -> None:
    """The rules above fail for what they break, not for being subclasses."""

    class Renamed(tl.DFA):
        spec = spec()

    for case in ALL_CASES[::10]:
        report = ContractReport()
        check_case(Renamed, case, report)
        assert report.held == len(CHECKS)
