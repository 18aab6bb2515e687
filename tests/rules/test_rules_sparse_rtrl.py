"""Sparse RTRL: both ends are other rules, the middle a recursion written out; whom a unit follows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import timelocal as tl
from oracles import close, exactly
from timelocal.rules.sparse_rtrl import strongest
from timelocal.testing import Case, check_case
from timelocal.testing.report import ContractReport
from timelocal.testing.setting import configured

CELLS = ("rnn", "leaky", "gru", "gru-reset-before", "lstm")


def estimate(rule: tl.Rule, case: Case) -> dict[str, Tensor]:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask).gradients


@pytest.mark.parametrize("at", ["last", "every", "mean"])
@pytest.mark.parametrize("cell", CELLS)
def test_at_its_ends_it_is_snap1_and_rtrl(cell: str, at: str) -> None:
    case = Case(cell, at=at, unequal=True)  # type: ignore[arg-type]
    network = case.network()
    none, some, all_ = (estimate(tl.SparseRTRL(network, k, at=at), case) for k in (0, 1, 3))  # type: ignore[arg-type]
    close(all_, estimate(tl.BPTT(network, at=at), case))  # type: ignore[arg-type]
    if cell != "gru-reset-before":  # whose reset gates act on all units
        close(none, estimate(tl.SnAp1(network, at=at), case))  # type: ignore[arg-type]
    for end in (none, all_):
        assert not torch.allclose(
            some["recurrent.weight_ih_l0"], end["recurrent.weight_ih_l0"], rtol=1e-3
        )


def test_in_between_it_is_the_masked_recursion() -> None:
    """For the tanh RNN: P_t = (M ⊙ diag(φ') W) P_{t-1} + φ' ⊗ pre, one number at a time."""
    case = Case("rnn", at="every", loss="mse", sequences=1, steps=4)
    network, (inputs, targets, _, _) = case.network(), case.batch()
    weight = network.recurrent.get_parameter("weight_hh_l0").detach()
    from_input = network.recurrent.get_parameter("weight_ih_l0").detach()
    biases = sum(
        network.recurrent.get_parameter(f"bias_{kind}_l0").detach() for kind in ("ih", "hh")
    )
    readout = network.readout
    size = len(weight)
    follows = torch.eye(size, dtype=torch.bool)
    for u in range(size):
        others = sorted((abs(float(weight[u, v])), v) for v in range(size) if v != u)
        for _, v in others[-2:]:
            follows[u, v] = True
    state = torch.zeros(size, dtype=torch.float64)
    influence = torch.zeros(size, size, size, dtype=torch.float64)  # of W_ij on h_u
    total = torch.zeros_like(weight)
    for x, y in zip(inputs[0], targets[0], strict=True):
        new = torch.tanh(from_input @ x + weight @ state + biases)
        slope = 1 - new**2
        before = influence.clone()
        for u in range(size):
            influence[u] = sum(
                slope[u] * weight[u, v] * before[v] for v in range(size) if follows[u, v]
            )
            influence[u, u] += slope[u] * state
        state = new
        error = 2 * (readout(state).detach() - y) / len(y) / 4
        total += torch.einsum("h,hij->ij", error @ readout.weight.detach(), influence)
    found = estimate(tl.SparseRTRL(network, 2, loss="mse", at="every"), case)
    close(found["recurrent.weight_hh_l0"], total)


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_the_contract_holds(cell: str, k: int) -> None:
    """Held to autograd through a network in which each unit sees only the states it follows."""
    report = ContractReport()
    for case in (
        Case(cell, layers=2, unequal=True),
        Case(cell, at="every", mask=True),
        Case(cell, at="every", decorrelate=True, layers=2),
    ):
        check_case(configured(tl.SparseRTRL, {"k": k, "refresh": 2}), case, report)
    assert not report.refused


def test_it_follows_the_strongest_of_all_gates() -> None:
    network = tl.GRU(1, 3, 1, dtype=torch.float64)
    with torch.no_grad():
        weight = network.recurrent.get_parameter("weight_hh_l0")
        weight.zero_()
        weight[0, 1] = -0.5  # reset gate
        weight[3, 2], weight[6, 2] = 0.3, 0.3  # the other two: 0.6 in all
        weight[1, 1] = 9.0  # its own: not another
        weight[4, 0], weight[4, 2] = 0.1, 0.2
    mask = strongest(network, 0, 1)
    exactly(mask[:2], torch.tensor([[1, 0, 1], [0, 1, 1]], dtype=torch.float64))
    assert mask.sum(1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("refresh", "after"), [(1, [1, 2, 1, 2]), (3, [1, 1, 1, 2]), (9, [1] * 4)])
def test_a_stream_chooses_anew_at_its_times(refresh: int, after: list[int]) -> None:
    """The strongest of two others changes at every step; `after` is whom unit 0 follows."""
    network = tl.RNN(1, 3, 1)
    rule = tl.SparseRTRL(network, 1, refresh=refresh, loss="mse")
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.0), 2)
    weight = network.recurrent.get_parameter("weight_hh_l0")
    seen = []
    for step in range(4):
        with torch.no_grad():
            weight[0, 1], weight[0, 2] = (1.0, 0.5) if step % 2 == 0 else (0.5, 1.0)
        stream.step(torch.zeros(2, 1), torch.zeros(2, 1))
        row = stream.memory["followed_l0"][1, 0]
        assert float(row.sum()) == 2
        seen.append(1 if row[1] else 2)
    assert seen == after
    stream.reset(torch.tensor([0]))  # a row that begins again chooses at once
    stream.step(torch.zeros(2, 1), torch.zeros(2, 1))
    assert bool(stream.memory["followed_l0"][0].any())


def test_it_declares_what_its_k_makes_it() -> None:
    network = tl.RNN(1, 4, 1)
    assert (tl.SparseRTRL(network, 2).spec.estimates, tl.SparseRTRL(network, 2).spec.target) == (
        "biased",
        "oracle",
    )
    assert (tl.SparseRTRL(network, 3).spec.estimates, tl.SparseRTRL(network, 3).spec.target) == (
        "exact",
        "bptt",
    )
    with pytest.raises(tl.ArgumentError, match=r"(?s)k: got -1.*refresh: got 0"):
        tl.SparseRTRL(network, -1, refresh=0)
