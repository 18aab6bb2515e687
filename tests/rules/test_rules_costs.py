"""What is never made and never read: no (b, h, h) tensor, no transposed recurrent weight in DFA."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import timelocal as tl
from oracles import exactly
from timelocal.network import Network
from timelocal.rules import single_call
from timelocal.testing import CELLS, Case

B, T, I, H, O = 11, 13, 2, 17, 3  # noqa: E741 — sizes that tell every axis from every other
NETWORKS: dict[str, Callable[..., Network]] = {
    "rnn": lambda **options: tl.RNN(I, H, O, **options),
    "leaky": lambda **options: tl.RNN(I, H, O, tau=2, **options),
    "gru": lambda **options: tl.GRU(I, H, O, **options),
    "gru-reset-before": lambda **options: tl.GRU(I, H, O, reset_after=False, **options),
    "lstm": lambda **options: tl.LSTM(I, H, O, **options),
}


@pytest.fixture(params=["active", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with the kernels that are active here, once with their plain-torch twin."""
    if request.param == "torch":
        monkeypatch.setattr("timelocal.kernels.native.handles", lambda *_: False)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never in one call: there would be no place between scan and credit to stand at."""
    monkeypatch.setattr(single_call, "prepare", lambda *_: None)


class Shapes(TorchDispatchMode):
    """The shape of every tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(
        self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        self.seen |= {tuple(leaf.shape) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        return result


def batch(at: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    surface = (B,) if at == "last" else (B, T)
    return (
        torch.randn(B, T, I, generator=generator),
        torch.randint(O, surface, generator=generator),
    )


def is_per_sample_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a shape has a batch (or time·batch) axis and two axes of hidden units or nodes."""
    wide = [size for size in shape if size % H == 0]
    batched = any(size in (B, T * B) for size in shape)
    return batched and len(wide) >= 2


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("rule", [tl.BPTT, tl.DFA])
@pytest.mark.parametrize("decorrelates", [False, True])
def test_no_outer_product_per_sample(
    cell: str, at: str, rule: type[tl.Rule], decorrelates: bool
) -> None:
    decorrelate = 0.1 if decorrelates else None
    learner = rule(NETWORKS[cell](num_layers=2, decorrelate=decorrelate), at=at)
    inputs, targets = batch(at)
    with Shapes() as shapes:
        learner.estimate(inputs, targets)
    assert (B, T, I) in shapes.seen or (T, B, I) in shapes.seen
    assert not [shape for shape in shapes.seen if is_per_sample_matrix(shape)]
    largest = max(torch.Size(shape).numel() for shape in shapes.seen)
    assert largest <= (T + decorrelates) * B * 4 * H


def test_the_test_would_see_one() -> None:
    with Shapes() as shapes:
        torch.einsum("bg,bh->bgh", torch.ones(B, 3 * H), torch.ones(B, H))
    assert [shape for shape in shapes.seen if is_per_sample_matrix(shape)]


def gradients_with_weights_lost_after_the_scan(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """DFA where every recurrent parameter is NaN as soon as the forward run is over."""
    inputs, targets = batch("last")
    rule = tl.DFA(network)
    right = Network.unroll

    def forgets(self: Network, *args: object, **options: object) -> tl.Trajectory:
        trajectory = right(self, *args, **options)
        for parameter in self.recurrent.parameters():
            parameter.data.fill_(float("nan"))
        return trajectory

    with monkeypatch.context() as context:
        context.setattr(Network, "unroll", forgets)
        return rule.estimate(inputs, targets).gradients


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("cell", ["rnn", "leaky", "gru", "lstm"])
def test_dfa_reads_no_weight_after_the_scan(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tl.DFA(NETWORKS[cell](num_layers=2)).estimate(*batch("last")).gradients
    network = NETWORKS[cell](num_layers=2)
    found = gradients_with_weights_lost_after_the_scan(network, monkeypatch)
    exactly(found, expected)


@pytest.mark.usefixtures("path", "in_parts")
def test_dfa_on_reset_before_needs_the_candidates_for_the_reset_gate_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = tl.DFA(NETWORKS["gru-reset-before"]()).estimate(*batch("last")).gradients
    network = NETWORKS["gru-reset-before"]()
    found = gradients_with_weights_lost_after_the_scan(network, monkeypatch)
    for name in network.recurrent.state_dict():
        gradient, wanted = found[f"recurrent.{name}"], expected[f"recurrent.{name}"]
        assert gradient[:H].isnan().all()
        exactly(gradient[H:], wanted[H:])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("cell", CELLS)
def test_bptt_does_read_them(cell: str) -> None:
    """The control of the two tests above: here a lost weight is seen."""
    case = Case(cell)
    network = case.network()
    inputs, targets, _, _ = case.batch()
    rule = tl.BPTT(network)
    right = rule.recurrent_gradients

    def forgets(forward: object) -> object:
        network.recurrent.weight_hh_l0.data.fill_(float("nan"))
        return right(forward)

    object.__setattr__(rule, "recurrent_gradients", forgets)
    found = rule.estimate(inputs, targets).gradients
    assert found["recurrent.weight_ih_l0"].isnan().any()
