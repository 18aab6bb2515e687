"""Feedback matrices: the size each kind declares, its structure, its seeds, its place in the rule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import timelocal as tl
from oracles import close, exactly
from timelocal import feedback
from timelocal.seeding import generator
from timelocal.testing import CELLS

H, O = 400, 30  # noqa: E741
S = feedback.rms(H)
ENTRIES = H * O

# Four standard errors of the root mean square, relative: half of √(Var f² / n) / E f².
TOLERANCES = {
    "gaussian": 4 * math.sqrt(2 / ENTRIES) / 2,
    "uniform": 4 * math.sqrt(0.8 / ENTRIES) / 2,
    "ternary": 4 * math.sqrt(0.5 / ENTRIES) / 2,
    "sparse": 4 * math.sqrt(2 / H) / 2,  # H independent weights
    "orthogonal": 1e-6,
}


def drawn(kind: str, hidden: int = H, outputs: int = O, seed: int = 0) -> Tensor:
    return feedback.FIXED[kind](hidden, outputs, generator(seed, "feedback"))


def test_which_kinds_there_are() -> None:
    assert set(feedback.FIXED) == set(TOLERANCES)
    assert set(feedback.FOLLOWING) == {"sign", "symmetric"}


@pytest.mark.parametrize("kind", TOLERANCES)
@pytest.mark.parametrize("shape", [(H, O), (30, 400)])
def test_the_root_mean_square_is_that_of_a_fresh_readout(kind: str, shape: tuple[int, int]) -> None:
    matrix = drawn(kind, *shape)
    assert matrix.shape == shape
    expected = feedback.rms(shape[0])
    tolerance = TOLERANCES[kind]
    if kind == "sparse":
        tolerance *= math.sqrt(H / shape[0])
    assert float(matrix.square().mean().sqrt()) == pytest.approx(expected, rel=tolerance)


def test_a_fresh_readout_has_that_size() -> None:
    weight = tl.RNN(2, H, output_size=O).readout.weight
    tolerance = TOLERANCES["uniform"]
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(S, rel=tolerance)
    exactly(feedback.symmetric(weight), weight.t())
    sign = feedback.sign(weight)
    exactly(sign.sign(), weight.t().sign())
    close(sign.abs(), torch.full((H, O), S), rtol=1e-6, atol=0)


def test_structure() -> None:
    tall, wide = drawn("orthogonal"), drawn("orthogonal", 30, 400)
    close(tall.t() @ tall, torch.eye(O) * S**2 * H, rtol=1e-4, atol=1e-6)
    close(wide @ wide.t(), torch.eye(30) * feedback.rms(30) ** 2 * 400, rtol=1e-4, atol=1e-4)
    heard = drawn("sparse") != 0
    exactly(heard.sum(1), torch.ones(H, dtype=torch.long))
    assert (heard.sum(0) > 0).all()
    values = drawn("ternary").unique()
    close(values, torch.tensor([-1.0, 0.0, 1.0]) * S * math.sqrt(1.5), rtol=1e-6, atol=0)
    bound = math.sqrt(3) * S
    uniform = drawn("uniform").abs().max()
    assert 0.99 * bound < uniform <= bound


@pytest.mark.parametrize("kind", sorted(feedback.FIXED))
def test_seeds(kind: str) -> None:
    exactly(drawn(kind, seed=1), drawn(kind, seed=1))
    assert not torch.equal(drawn(kind, seed=1), drawn(kind, seed=2))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("per", ["layer", "parameter"])
def test_no_two_matrices_of_a_rule_are_the_same(cell: str, per: str) -> None:
    make = {
        "rnn": tl.RNN, "leaky": lambda *a, **k: tl.RNN(*a, tau=2, **k), "gru": tl.GRU,
        "gru-reset-before": lambda *a, **k: tl.GRU(*a, reset_after=False, **k), "lstm": tl.LSTM,
    }[cell]  # fmt: skip
    network = make(2, 5, 3, num_layers=2, bidirectional=True)
    rule = tl.DFA(network, feedback_per=per)
    gates = len(network.cell.gate_names)
    matrices = [m for buffer in rule.buffers() for m in buffer.reshape(-1, 5, 3)]
    assert len(matrices) == 4 * (1 if per == "layer" else 4 * gates)
    assert len({tuple(matrix.flatten().tolist()) for matrix in matrices}) == len(matrices)
    twin = tl.DFA(network, feedback_per=per)
    exactly(list(twin.buffers()), list(rule.buffers()))
    other = tl.DFA(network, feedback_per=per, seed=1)
    assert not any(torch.equal(a, b) for a, b in zip(rule.buffers(), other.buffers(), strict=True))


def test_matrices_are_buffers_that_move_and_are_saved() -> None:
    network = tl.GRU(2, 5, 3, bidirectional=True)
    rule = tl.DFA(network)
    of_network = [f"network.{name}" for name in network.state_dict()]
    own = ["feedback_l0", "feedback_l0_reverse", "_extra_state"]
    assert list(rule.state_dict()) == own + of_network
    assert not list(rule.parameters(recurse=False))
    rule.to(torch.float64)
    assert rule.feedback_matrix(0, 1).dtype == torch.float64
    rule.to("meta")
    assert rule.feedback_matrix().device.type == "meta"
    wide = tl.DFA(tl.GRU(2, 5, 3, dtype=torch.float64))
    assert wide.feedback_matrix().dtype == torch.float64


def test_following_kinds_follow() -> None:
    network = tl.GRU(2, 5, 3, bidirectional=True)
    rules = {kind: tl.DFA(network, feedback=kind) for kind in ("symmetric", "sign")}
    nn.init.uniform_(network.readout.weight, 2, 3, generator=torch.Generator().manual_seed(0))
    for direction in range(2):
        own = network.readout.weight.t().chunk(2)[direction]
        exactly(rules["symmetric"].feedback_matrix(0, direction), own)
        assert (rules["sign"].feedback_matrix(0, direction) > 0).all()
        assert not list(rules["sign"].buffers())
