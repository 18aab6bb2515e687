"""Perturbation rules: the mean of K draws approaches the declared target as 1/K, and no other one."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import still_stream
from timelocal.errors import ArgumentError
from timelocal.rules.perturbation import draw_key
from timelocal.testing import perturbation as oracle
from timelocal.testing.cases import Case
from timelocal.testing.measure import LivelyCase, judged
from timelocal.testing.oracles import expected
from timelocal.testing.setting import estimate, make
from timelocal.typing import Place

slow, thorough = pytest.mark.slow, pytest.mark.thorough
CELLS = ("rnn", "leaky", "gru", "gru-reset-before", "lstm")
CREDITS = ("local", "trace(0.5)", "to_go", "global")
TASK = {"loss": "mse", "at": "every"}
SMALL = 1e-4
"""σ so small that the loss is linear in the noise, in float64."""
MANY = 100
"""Directions of activity perturbation, each of which it credits apart: enough to tell wrong targets."""


def how_often(cell: str, fast: bool) -> object:
    """Two cells stand for all where a test is slow; the others are in the thorough ones."""
    return () if fast else slow if cell in ("rnn", "gru") else thorough


def flat(gradients: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([gradients[name].flatten() for name in names])


def draws(rule: tl.Rule, case: Case, count: int) -> list[Tensor]:
    inputs, targets, lengths, mask = case.batch()
    names = [name for name, _ in rule.network.named_parameters()]
    return [
        flat(rule.estimate(inputs, targets, lengths, mask=mask).gradients, names)
        for _ in range(count)
    ]


def slope(found: list[Tensor], target: Tensor) -> float:
    """The slope of log E‖mean of K draws − target‖² against log K, over disjoint groups of draws."""
    stacked = torch.stack(found)
    sizes = [1, 2, 4, 8, 16]
    errors = []
    for size in sizes:
        means = stacked.unflatten(0, (-1, size)).mean(1)
        errors.append(float((means - target).square().sum(1).mean()))
    x, y = torch.tensor(sizes).double().log(), torch.tensor(errors).double().log()
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def converges(rule: tl.Rule, case: Case, right: Tensor, wrong: list[Tensor]) -> None:
    found = draws(rule, case, 64)
    assert slope(found, right) == pytest.approx(-1, abs=0.2)
    for other in wrong:
        assert slope(found, other) > -0.75, "the test could not tell a wrong target"


def case_of(cell: str, **options: object) -> Case:
    return Case(cell=cell, loss="mse", at="every", sequences=2, steps=3, **options)  # type: ignore[arg-type]


def targets_of(network: tl.Network, case: Case) -> dict[str, Tensor]:
    names = [name for name, _ in network.named_parameters()]
    kinds = ("local", "trace(0.5)", "to_go")
    found = {kind: flat(oracle.target(network, case, kind), names) for kind in kinds}
    return {**found, "global": found["to_go"]}


@pytest.mark.parametrize(
    ("cell", "credit"),
    [
        pytest.param(cell, credit, marks=how_often(cell, (cell == "rnn") != (credit == "to_go")))
        for cell in CELLS
        for credit in CREDITS
    ],
)
def test_node_perturbation_converges_to_its_target_and_no_other(cell: str, credit: str) -> None:
    case = case_of(cell)
    network = case.network()
    rule = tl.NP(network, **TASK, sigma=SMALL, credit=credit, directions=400, antithetic=True)
    targets = targets_of(network, case)
    other = "to_go" if credit == "local" else "local"
    converges(rule, case, targets[credit], [targets[other], -targets[credit]])


FAST = {("rnn", "local", True), ("gru", "local", False)}


@pytest.mark.parametrize(
    ("cell", "credit", "clean"),
    [
        pytest.param(
            cell,
            credit,
            clean,
            marks=how_often(cell, (cell, credit, clean) in FAST),
        )
        for cell in CELLS
        for credit in ("local", "to_go")
        for clean in (True, False)
    ],
)
def test_activity_perturbation_converges_to_its_preconditioned_target(
    cell: str, credit: str, clean: bool
) -> None:
    case = case_of(cell)
    network = case.network()
    options = {"directions": MANY, "antithetic": clean, "clean": clean}
    rule = tl.ANP(network, **TASK, sigma=SMALL, credit=credit, **options)
    names = [name for name, _ in network.named_parameters()]
    right = flat(oracle.target(network, case, credit, activity="network"), names)
    plain = flat(oracle.target(network, case, credit), names)
    converges(rule, case, right, [-2 * right, plain] if cell == "rnn" and clean else [-2 * right])


def test_activity_perturbation_is_the_gradient_where_the_change_is_isotropic() -> None:
    """One step, hidden nodes: nothing is carried, and without readout noise to mix in δα is the noise."""
    case = Case(cell="rnn", loss="mse", at="every", sequences=2, steps=1)
    network = case.network()
    with torch.no_grad():
        network.readout.weight.zero_()  # then δβ is its own noise too
    names = [name for name, _ in network.named_parameters()]
    plain = flat(oracle.target(network, case, "local"), names)
    seen = flat(oracle.target(network, case, "local", activity="network"), names)
    torch.testing.assert_close(seen, plain, rtol=1e-6, atol=1e-12)
    rule = tl.ANP(network, **TASK, sigma=SMALL, directions=MANY, antithetic=True)
    converges(rule, case, plain, [-plain])


@pytest.mark.parametrize(
    "cell", [pytest.param(cell, marks=how_often(cell, False)) for cell in ("rnn", "gru", "lstm")]
)
@pytest.mark.parametrize("credit", [*CREDITS, "sequence"])
def test_weight_perturbation_converges_to_its_target_and_no_other(cell: str, credit: str) -> None:
    case = case_of(cell)
    network = case.network()
    options = {"redraw": "sequence"} if credit == "sequence" else {"credit": credit}
    rule = tl.WP(network, **TASK, sigma=SMALL, directions=8, antithetic=True, **options)
    targets = targets_of(network, case)
    right = targets["to_go" if credit == "sequence" else credit]
    found = draws(rule, case, 64)
    assert slope(found, right) == pytest.approx(-1, abs=0.25)
    assert slope(found, -3 * right) > -0.75, "the test could not tell a wrong target"


@pytest.mark.parametrize(
    ("redraw", "noise"),
    [
        ("step", "low_rank(1)"),
        pytest.param("step", "sparse(1)", marks=slow),
        pytest.param("step", "low_rank(3)", marks=slow),
        pytest.param("step", "sparse(2)", marks=slow),
        pytest.param("sequence", "low_rank(1)", marks=slow),
        pytest.param("sequence", "sparse(2)", marks=slow),
    ],
)
def test_cheap_noise_on_weights_converges_to_the_same_target(redraw: str, noise: str) -> None:
    case = case_of("rnn")
    network = case.network()
    options = {"redraw": redraw, "noise": noise, "directions": 8, "antithetic": True}
    rule = tl.WP(network, **TASK, sigma=SMALL, **options)
    right = targets_of(network, case)["local" if redraw == "step" else "to_go"]
    found = draws(rule, case, 64)
    assert slope(found, right) == pytest.approx(-1, abs=0.25)
    assert slope(found, -3 * right) > -0.75, "the test could not tell a wrong target"


@pytest.mark.parametrize("noise", ["gaussian", "low_rank(2)", "sparse(2)"])
def test_entries_of_noise_on_weights_are_uncorrelated_and_of_variance_one(noise: str) -> None:
    rule = tl.WP(tl.RNN(2, 3, output_size=1), **TASK, noise=noise)
    drawn = [rule._noise(7, step, 0)["recurrent.weight_hh_l0"].flatten() for step in range(4_000)]
    entries = torch.stack(drawn).double()
    assert entries.mean(0).abs().max() < 0.08  # 5 standard errors of a mean of 4,000
    second = entries.t() @ entries / len(entries)
    # at most 5 standard errors, with the fourth moment of the sparse kind
    torch.testing.assert_close(second, torch.eye(9, dtype=torch.float64), rtol=0, atol=0.25)


def test_cheap_noise_is_of_low_rank_and_sparse() -> None:
    network = tl.RNN(40, 50, output_size=30)
    drawn = tl.WP(network, **TASK, noise="low_rank(4)")._noise(7, 3, 0)
    assert torch.linalg.matrix_rank(drawn["recurrent.weight_ih_l0"]) == 4
    drawn = tl.WP(network, **TASK, noise="sparse(4)")._noise(7, 3, 0)
    rows = (drawn["recurrent.weight_hh_l0"] != 0).sum(1)
    assert 1 <= rows.min() <= rows.max() == 4
    assert (drawn["recurrent.bias_hh_l0"] != 0).all()


@pytest.mark.parametrize("noise", ["low_rank(2)", "sparse(1)"])
def test_a_stream_has_the_cheap_noise_of_the_whole_sequence(noise: str) -> None:
    case = case_of("rnn")
    network = case.network()
    whole = tl.WP(network, seed=3, noise=noise, **TASK)
    key = draw_key(tl.WP(network, seed=3, **TASK).generator)
    inputs, targets, _, _ = case.batch()
    expected = whole.estimate(inputs, targets).gradients
    stream = still_stream(tl.WP(network, noise=noise, **TASK), len(inputs))
    stream.key = key
    pairs = zip(inputs.unbind(1), targets.unbind(1), strict=True)
    steps = [stream.step(x, y, gradients=True).gradients for x, y in pairs]
    found = {name: sum(one[name] for one in steps) / len(steps) for name in expected}
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise", ["orthogonal", "low_rank", "low_rank(0)", "sparse(0.1)", 3, None])
def test_unknown_noise_on_weights_is_refused(noise: object) -> None:
    with pytest.raises(ArgumentError, match=r"low_rank\(4\)"):
        tl.WP(tl.RNN(2, 3, output_size=1), **TASK, noise=noise)


@pytest.mark.parametrize(
    ("rule", "cell", "credit"),
    [
        pytest.param(
            rule,
            cell,
            credit,
            marks=() if (cell, credit, rule) == ("gru", "local", tl.NP) else slow,
        )
        for rule in (tl.NP, tl.ANP, tl.WP)
        for cell in CELLS
        for credit in CREDITS
        if rule is not tl.WP or cell == "rnn"
    ],
)
def test_all_converge_with_decorrelation(rule: type[tl.Rule], cell: str, credit: str) -> None:
    """Through a matrix D that is far from the identity, which stays what it is."""
    case = case_of(cell, decorrelate=True)
    network = case.network().eval()
    names = [name for name, _ in network.named_parameters()]
    right = flat(
        oracle.target(network, case, credit, activity="network" if rule is tl.ANP else None), names
    )
    plain = case_of(cell).network()
    plain.load_state_dict(network.state_dict(), strict=False)
    without = flat(
        oracle.target(plain, case, credit, activity="network" if rule is tl.ANP else None), names
    )
    assert float((right - without).norm() / right.norm()) > 0.2
    many = {tl.WP: 16, tl.NP: 400, tl.ANP: MANY}[rule]
    options = {"credit": credit, "directions": many, "antithetic": True}
    found = draws(rule(network, **TASK, sigma=SMALL, **options), case, 64)
    assert slope(found, right) == pytest.approx(-1, abs=0.25)
    assert slope(found, -3 * right) > -0.75


@pytest.mark.parametrize("rule", [tl.NP, tl.ANP])
@pytest.mark.parametrize(
    "cell", [pytest.param(cell, marks=how_often(cell, False)) for cell in CELLS]
)
def test_layers_lengths_and_the_last_step_converge_too(cell: str, rule: type[tl.Rule]) -> None:
    many = MANY if rule is tl.ANP else 400
    for at, credit in itertools.product(("last", "every"), ("local", "to_go", "global")):
        case = Case(
            cell=cell, loss="cross_entropy", at=at, sequences=2, steps=3, layers=2, unequal=True
        )
        network = case.network()
        names = [name for name, _ in network.named_parameters()]
        activity = "network" if rule is tl.ANP else None
        right = flat(oracle.target(network, case, credit, activity), names)
        options = {"credit": credit, "loss": "cross_entropy", "at": at}
        learner = rule(network, sigma=SMALL, directions=many, antithetic=True, **options)
        assert slope(draws(learner, case, 32), right) == pytest.approx(-1, abs=0.35), (at, credit)


@slow
@pytest.mark.parametrize("at", ["last", "every"])
def test_noise_on_what_is_over_is_in_no_norm(at: Place) -> None:
    """The paper's code takes ‖δα‖ over the whole batch: of a shorter sequence no more than its own steps."""
    case = LivelyCase("rnn", at=at, loss="mse", sequences=2, steps=3, unequal=True, seed=5)
    rule = make(tl.ANPAuthorsCode, case.network(), case, sigma=SMALL)
    verdicts = judged(rule, case, expected(rule, case))
    assert {name: found.wrong for name, found in verdicts.items()} == {
        "recurrent": "",
        "readout": "",
    }


@pytest.mark.parametrize(
    ("rule", "cell", "credit"),
    covering(itertools.product((tl.NP, tl.ANP), CELLS, ("trace(0.5)", "to_go")), pairs=True),
)
def test_a_stream_with_traces_says_what_the_whole_sequence_says(
    rule: type[tl.Rule], cell: str, credit: str
) -> None:
    case = case_of(cell, layers=2)
    network = case.network()
    options = {**TASK, "credit": credit, "directions": 2, "antithetic": True}
    whole = rule(network, seed=3, **options)
    key = draw_key(rule(network, seed=3, **options).generator)
    inputs, targets, _, _ = case.batch()
    expected = whole.estimate(inputs, targets).gradients
    stream = still_stream(rule(network, **options), len(inputs))
    stream.key = key
    pairs = zip(inputs.unbind(1), targets.unbind(1), strict=True)
    steps = [stream.step(x, y, gradients=True).gradients for x, y in pairs]
    found = {name: sum(one[name] for one in steps) / len(steps) for name in expected}
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_stream_has_no_end_to_be_credited_with() -> None:
    with pytest.raises(tl.UnsupportedError, match="Use credit='to_go'"):
        still_stream(tl.NP(case_of("rnn").network(), credit="global"), 1)


def test_as_in_the_authors_code_weights_that_nothing_enters_are_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """h_0 = 0: no noise on W at the first step, where it moves the update alone."""
    found = {}
    for steps in (1, 4):
        case = Case("rnn", steps=steps, at="every", loss="mse")
        rule = make(tl.WPAuthorsCode, case.network(), case, sigma=0.1)
        found[steps] = estimate(rule, case).gradients
    inputs, targets, _, _ = case.batch()
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), len(inputs))
    first, second = (
        stream.step(inputs[:, t], targets[:, t], gradients=True).gradients for t in (0, 1)
    )
    for gradients, moves in ((found[1], False), (found[4], True), (first, False), (second, True)):
        assert bool(gradients["recurrent.weight_hh_l0"].any()) == moves
        assert gradients["recurrent.weight_ih_l0"].any()
    monkeypatch.setattr(tl.WPAuthorsCode, "_still", tl.WP._still)
    rule = make(tl.WPAuthorsCode, case.network(), case, sigma=0.1)
    for name, shaken in estimate(rule, case).gradients.items():
        assert torch.allclose(shaken, found[4][name]) == ("weight_hh" not in name)
