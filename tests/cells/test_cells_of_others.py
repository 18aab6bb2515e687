"""A cell from outside the package trains under every rule that it can bear, and the others say why not."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from cells_of_others import (
    Competing,
    DerivedLSTM,
    DerivedRNN,
    HandwrittenIndRNN,
    IndRNN,
    MinGRU,
    OneScale,
    Rotating,
)
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import close, exactly, still_stream
from timelocal.cells import CELLS
from timelocal.experiments.config import TrainConfig
from timelocal.model.build import CELLS as NETWORKS
from timelocal.network import Network
from timelocal.report.style import cell_dash, cell_label, cell_order
from timelocal.testing import Case, check_cell, reference

ELEMENTWISE = ("indrnn-of-others", "mingru-of-others", "rotating")
LOCAL = (*ELEMENTWISE, "derived-leaky", "derived-lstm")
ALL = (*LOCAL, "competing", "one-scale")
SHAPES = {
    "last": {},
    "every": {"at": "every"},
    "masked": {"at": "every", "mask": True, "loss": "bce"},
    "unequal": {"at": "every", "unequal": True},
    "unequal-last": {"unequal": True},
    "two-layers": {"at": "every", "layers": 2, "unequal": True},
    "both-ways": {"at": "every", "layers": 2, "bidirectional": True, "unequal": True},
}


def found_by(rule: tl.Rule, case: Case) -> dict[str, Tensor]:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask).gradients


def make(name: str, case: Case, **options: object) -> tl.Rule:
    return tl.RULES[name](case.network(), loss=case.loss, at=case.at, **options)


def alive(gradients: dict[str, Tensor], exact: bool = False) -> None:
    """Every gradient moves; what only a later step sees (`Rotating`'s m) rests under rules without a past."""
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
        assert gradient.any() or (not exact and "weight_im" in name), name


# --- exact rules -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", ALL)
def test_bptt_is_autograd_through_everything(cell: str, shape: str) -> None:
    case = Case(cell, **SHAPES[shape])
    network = case.network()
    _, wanted = reference.bptt(network, case.loss_function(), case.at, *case.batch())
    found = found_by(tl.BPTT(network, loss=case.loss, at=case.at), case)
    close(found, wanted)
    alive(found, exact=True)


@pytest.mark.parametrize("cell", ["indrnn-of-others", "derived-leaky", "derived-lstm", "competing"])
def test_bptt_is_autograd_with_decorrelation(cell: str) -> None:
    case = Case(cell, at="every", layers=2, bidirectional=True, unequal=True, decorrelate=True)
    network = case.network()
    _, wanted = reference.bptt(network, case.loss_function(), case.at, *case.batch())
    close(found_by(tl.BPTT(network, loss=case.loss, at=case.at), case), wanted)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ALL)
def test_rtrl_is_bptt(cell: str, layers: int) -> None:
    case = Case(cell, at="every", layers=layers, unequal=True)
    close(found_by(make("rtrl", case, full=True), case), found_by(make("bptt", case), case))


@pytest.mark.parametrize("cell", ELEMENTWISE)
@pytest.mark.parametrize("shape", ["last", "every", "unequal", "masked"])
def test_e_prop_is_bptt_where_each_unit_sees_its_own_past_only(cell: str, shape: str) -> None:
    """One state that is seen: the diagonal of the Jacobian is all of it."""
    case = Case(cell, **SHAPES[shape])
    found = found_by(make("eprop", case, feedback="symmetric"), case)
    close(found, found_by(make("bptt", case), case))


def test_e_prop_is_not_bptt_where_units_see_each_other() -> None:
    case = Case("derived-lstm", at="every")
    found = found_by(make("eprop", case, feedback="symmetric"), case)
    assert not torch.allclose(
        found["recurrent.weight_ih_l0"],
        found_by(make("bptt", case), case)["recurrent.weight_ih_l0"],
        rtol=1e-3,
    )


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("cell", ALL)
def test_tbptt_is_autograd_through_windows(cell: str, k: int) -> None:
    case = Case(cell, at="every", layers=2, unequal=True)
    network = case.network()
    wanted = reference.tbptt(network, k, case.loss_function(), case.at, *case.batch())
    close(found_by(tl.TBPTT(network, k, loss=case.loss, at=case.at), case), wanted)


# --- rules with feedback -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", ALL)
def test_dfa_is_its_surrogate(cell: str, shape: str) -> None:
    case = Case(cell, **SHAPES[shape])
    rule = make("dfa", case)
    batch = case.batch()
    wanted = reference.dfa(
        rule.network, rule.feedback_matrix, case.loss_function(), case.at, *batch
    )
    found = found_by(rule, case)
    close(found, wanted)
    alive(found)


@pytest.mark.parametrize("trace", ["leak", "diagonal"])
@pytest.mark.parametrize("cell", LOCAL)
def test_traces_are_those_of_autograd(cell: str, trace: str) -> None:
    case = Case(cell, at="every", layers=2, unequal=True)
    rule = make("dfa", case, trace=trace)
    wanted = reference.traced(
        rule.network, rule.feedback_matrix, trace, case.loss_function(), case.at, *case.batch()
    )
    close(found_by(rule, case), wanted)


@pytest.mark.parametrize("cell", ["indrnn-of-others", "derived-leaky", "derived-lstm"])
def test_traces_with_decorrelation_are_those_of_autograd(cell: str) -> None:
    case = Case(cell, at="every", decorrelate=True)
    for trace in ("leak", "diagonal"):
        rule = make("dfa", case, trace=trace)
        wanted = reference.traced(
            rule.network, rule.feedback_matrix, trace, case.loss_function(), case.at, *case.batch()
        )
        close(found_by(rule, case), wanted)


@pytest.mark.parametrize("cell", ALL)
def test_feedback_of_each_parameter_s_own(cell: str) -> None:
    """Each gate's block of δ is made by that parameter's matrix of the gate: one surrogate a gate, summed."""
    case = Case(cell, at="every")
    rule = make("dfa", case, feedback_per="parameter")
    found = found_by(rule, case)
    same = make("dfa", case, feedback_per="parameter")
    for kind in rule.network.recurrent.parameter_kinds:
        matrices = rule.feedback_matrix(0, 0, kind)
        getattr(same, f"feedback_{kind}_l0").copy_(matrices[:1].expand_as(matrices))

        def one(layer: int, direction: int, kind: str = kind) -> Tensor:
            return same.feedback_matrix(layer, direction, kind)[0]

        wanted = reference.dfa(same.network, one, case.loss_function(), case.at, *case.batch())
        name = f"recurrent.{kind}_l0"
        close(found_by(same, case)[name], wanted[name])
        if len(rule.network.cell.gate_names) == 1:
            close(found[name], wanted[name])


# --- streams -----------------------------------------------------------------------------------

STREAMS = [
    ("tbptt", {}), ("tbptt", {"k": 3}), ("rtrl", {}), ("dfa", {}), ("rflo", {}), ("eprop", {}),
    ("snap1", {}), ("uoro", {}), ("np", {}), ("anp", {}), ("wp", {}), ("np", {"credit": "to_go"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "name", "options"),
    covering(
        ((cell, *rule) for rule in STREAMS for cell in LOCAL),
        lambda cell, *rule: (cell, (cell in ELEMENTWISE, rule)),
    ),
)
def test_a_stream_adds_up_to_the_whole_sequence(
    cell: str, name: str, options: dict[str, object]
) -> None:
    case = Case(cell, at="every", layers=2, loss="mse")
    network = case.network()
    whole, step_by_step = (
        tl.RULES[name](network, loss="mse", at="every", **options) for _ in range(2)
    )
    estimate = whole.estimate(*case.batch()[:2])
    stream = still_stream(step_by_step, case.sequences)
    if whole.spec.draws:
        stream.key = int(torch.randint(2**62, (), generator=copy.deepcopy(_fresh(step_by_step))))
    inputs, targets = case.batch()[:2]
    total = {key: torch.zeros_like(own) for key, own in estimate.gradients.items()}
    for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
        for key, gradient in stream.step(x, y, gradients=True).gradients.items():
            total[key] += gradient / case.steps
    close(total, estimate.gradients)
    alive(estimate.gradients)


def _fresh(rule: tl.Rule) -> torch.Generator:
    """The generator as it was before the stream drew its key."""
    return type(rule)(rule.network, loss="mse", at="every").generator


@pytest.mark.parametrize(
    "cell", ["indrnn-of-others", "mingru-of-others", "rotating", "derived-lstm"]
)
def test_orthogonal_noise_of_one_step_is_the_one_step_gradient(cell: str) -> None:
    """As many directions as nodes (a power of two), a small σ: node perturbation is TBPTT(1) itself."""
    case = Case(cell, at="every", loss="mse")
    nodes = len(case.network().cell.gate_names) * case.HIDDEN + case.OUTPUTS
    directions = 1 << (nodes - 1).bit_length()
    options = {"sigma": 1e-5, "carry": False, "noise": "orthogonal", "directions": directions}
    found = []
    for rule in (
        tl.NP(case.network(), loss="mse", antithetic=True, **options),
        tl.TBPTT(case.network(), 1, loss="mse"),
    ):
        stream = still_stream(rule, case.sequences)
        inputs, targets = case.batch()[:2]
        total = {name: torch.zeros_like(p) for name, p in rule.network.named_parameters()}
        for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
            for name, gradient in stream.step(x, y, gradients=True).gradients.items():
                total[name] += gradient
        found.append(total)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


# --- every rule of the registry ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cell"),
    covering(
        product(tl.RULES, ALL),
        lambda name, cell: (cell, (name, "local" if cell in LOCAL else cell)),
    ),
)
def test_every_rule_trains_it_or_says_why_not(name: str, cell: str) -> None:
    network = tl.from_cell(CELLS[cell](), 2, 6, 3)
    if name == "dfa-authors-code":
        with pytest.raises(tl.UnsupportedError, match="Use DFA"):
            tl.RULES[name](network)
        return
    if name == "sparse-rtrl" and cell == "one-scale":  # nothing says whom a unit would follow
        with pytest.raises(tl.UnsupportedError, match=r"weight_hh.*Use RTRL"):
            tl.RULES[name](network)
        return
    at = "every"
    rule = tl.RULES[name](network, loss="mse", at=at)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = copy.deepcopy(dict(network.named_parameters()))
    torch.manual_seed(0)
    inputs, targets = torch.randn(4, 7, 2), torch.randn(4, 7, 3)
    for _ in range(2):
        optimizer.zero_grad()
        loss = rule(inputs, targets)
        loss.backward()
        optimizer.step()
    assert loss.isfinite()
    for key, parameter in network.named_parameters():
        assert parameter.isfinite().all()
        rests = "weight_im" in key and name in ("tbptt", "dfa", "rflo")  # no rule of these sees m
        assert rests or not torch.equal(parameter, before[key]), key


def test_what_a_cell_cannot_bear_is_refused_by_name() -> None:
    competing = tl.from_cell(Competing(), 2, 6, 3)
    with pytest.raises(tl.UnsupportedError, match=r"Competing\(\).*own unit.*Use"):
        still_stream(tl.EProp(competing), 2)
    scale = tl.from_cell(OneScale(), 2, 6, 3)
    with pytest.raises(tl.UnsupportedError, match=r"scale \(1,\).*one for each unit.*Use"):
        still_stream(tl.EProp(scale), 2)
    rule = tl.DFA(
        tl.from_cell(MinGRU(), 2, 6, 3), at="every", trace="diagonal", feedback_per="parameter"
    )
    with pytest.raises(tl.UnsupportedError, match=r"weight_z \(6, 2\).*Use feedback_per='layer'"):
        still_stream(rule, 2)
    with pytest.raises(
        tl.UnsupportedError, match=r"'mingru-of-others' declares.*Use decorrelate=None"
    ):
        tl.from_cell(MinGRU(), 2, 6, 3, decorrelate=0.1)


def test_derivatives_written_out_are_those_of_autograd() -> None:
    for name in tl.RULES.keys() - {"dfa-authors-code"}:
        found = []
        for cell in ("indrnn-of-others", "indrnn-by-hand"):
            case = Case(cell, at="every", layers=2, loss="mse", unequal=True)
            found.append(found_by(make(name, case), case))
        close(*found)


@pytest.mark.parametrize(
    ("derived", "known"), [(DerivedRNN(), "leaky"), (DerivedLSTM(), "lstm")], ids=str
)
@pytest.mark.parametrize("decorrelate", [False, True])
def test_derived_cells_are_the_built_in_ones(
    derived: tl.AutogradCell, known: str, decorrelate: bool
) -> None:
    """The same parameters from the same seed, the same gradients by every rule."""
    for bias in (True, False):
        one = Case(known, at="every", layers=2, loss="mse", bias=bias, decorrelate=decorrelate)
        other = replace(one, cell=derived.name)
        exactly(one.network().state_dict(), other.network().state_dict())
        for name in ("bptt", "tbptt", "rtrl", "dfa", "rflo", "eprop", "np", "anp", "wp"):
            close(found_by(make(name, one), one), found_by(make(name, other), other))


# --- one registry ------------------------------------------------------------------------------


def test_a_line_in_the_registry_is_all_that_names_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        NETWORKS, "indrnn-of-others", lambda *sizes, **o: tl.from_cell(IndRNN(), *sizes, **o)
    )
    config = TrainConfig(dataset="digits-rows", cell="indrnn-of-others", rule="bptt", hidden=5)
    network = NETWORKS[config.cell](3, config.hidden, 2)
    assert isinstance(network, Network)
    assert cell_label("indrnn-of-others") == "indrnn-of-others"
    assert cell_label("gru-reset-before") == "GRU (reset before)"
    assert cell_dash("indrnn-of-others") != cell_dash("lif") or len(CELLS) > 6
    assert cell_order("rnn") < cell_order("indrnn-of-others") < cell_order("nobody's")
    assert [cell_dash(name) for name in ("rnn", "gru", "gru-reset-before", "lstm", "lif")] == [
        "solid", "dash", "dot", "dashdot", "longdash",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cell", [IndRNN, MinGRU, Rotating, Competing, HandwrittenIndRNN, DerivedRNN, DerivedLSTM]
)
def test_they_keep_the_contract(cell: type[tl.Cell]) -> None:
    assert check_cell(cell).failures == ()
