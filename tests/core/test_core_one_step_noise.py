"""Noise that lasts one step (`carry=False`): fused or not, on any number of threads, and what its mean is."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import timelocal as tl
from timelocal import kernels
from timelocal.errors import ArgumentError, UnsupportedError
from timelocal.kernels import OnlineSettings, OnlineState, OnlineWeights, torch_online
from timelocal.rules.fused import run_fused

RULES = {"np": tl.NP, "anp": tl.ANP}
KINDS = list(itertools.product(RULES, (1, 3), (False, True)))


def network(decorrelate: bool = False, tau: float = 1.0) -> tl.Network:
    law = tl.Decorrelation(1e-3) if decorrelate else None
    return tl.RNN(3, 21, 2, decorrelate=law, tau=tau, seed=1).double()


def stream(steps: int = 9) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    make = [torch.randn(4, steps, n, generator=draw, dtype=torch.float64) for n in (3, 2)]
    return make[0], make[1]


def after(net: tl.Network) -> list[Tensor]:
    return [tensor.clone() for tensor in net.state_dict().values()]


@pytest.mark.skipif(kernels.describe()["path"] != "native", reason="nothing is fused on this path")
@pytest.mark.parametrize(("name", "directions", "antithetic"), KINDS)
@pytest.mark.parametrize(("decorrelate", "tau"), [(False, 1.0), (True, 3.0)])
def test_fused_is_the_loop_on_any_threads(
    name: str, directions: int, antithetic: bool, decorrelate: bool, tau: float
) -> None:
    inputs, targets = stream()
    found = {}
    for way in ("loop", "one thread", "two threads"):
        net = network(decorrelate, tau)
        rule = RULES[name](
            net, sigma=0.1, carry=False, directions=directions, antithetic=antithetic, seed=3
        )
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        session = rule.stream(4)
        before = torch.get_num_threads()
        torch.set_num_threads(2 if way == "two threads" else 1)
        try:
            if way == "loop":
                for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
                    optimizer.zero_grad()
                    session.step(x, y)
                    optimizer.step()
            else:  # in chunks of different sizes
                assert run_fused(session, inputs[:, :4], targets[:, :4], optimizer) is not None
                assert run_fused(session, inputs[:, 4:], targets[:, 4:], optimizer) is not None
        finally:
            torch.set_num_threads(before)
        assert session.memory["states"].shape[1] == 1  # the clean run's alone
        found[way] = [*after(net), session.memory["states"]]
    for ours, theirs in zip(found["one thread"], found["loop"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(found["one thread"], found["two threads"], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("name", "directions", "antithetic"), KINDS)
def test_the_kernel_is_its_twin(name: str, directions: int, antithetic: bool) -> None:
    settings = OnlineSettings(
        name, 0.01, 2.0, 0.1, 5, 1e-3, directions=directions, antithetic=antithetic
    )
    ends = []
    for online in (torch_online.online, kernels.online):
        draw = torch.Generator().manual_seed(0)

        def normal(*shape: int, draw: torch.Generator = draw) -> Tensor:
            return 0.3 * torch.randn(*shape, generator=draw, dtype=torch.float64)

        weights = OnlineWeights(
            normal(33, 3), normal(33, 33), normal(33), normal(33), normal(2, 33), normal(2),
            torch.eye(33, dtype=torch.float64) + normal(33, 33) / 10,
        )  # fmt: skip
        state = OnlineState(normal(4, 33))
        losses, outputs = online(settings, weights, state, normal(12, 4, 3), normal(12, 4, 2), 7)
        ends.append([losses, outputs, state.hidden, *weights])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_its_mean_is_the_one_step_gradient_in_the_middle_of_a_stream() -> None:
    """The squared error falls as 1/K."""
    inputs, targets = stream()

    def gradient(rule: tl.Rule) -> Tensor:
        session = rule.stream(4)
        for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
            rule.network.zero_grad()
            session.step(x, y)
        return torch.cat([p.grad.flatten() for p in rule.network.parameters()])

    exact = gradient(tl.TBPTT(network(), 1, loss="mse"))
    errors = []
    for directions in (100, 6400):
        made = {"sigma": 1e-3, "carry": False, "directions": directions, "antithetic": True}
        draws = [gradient(tl.NP(network(), **made, seed=seed)) for seed in range(4)]
        squares = [float((one - exact).square().sum() / exact.square().sum()) for one in draws]
        errors.append(sum(squares) / len(squares))
    assert errors[0] < 1
    assert 64 / 2 < errors[0] / errors[1] < 64 * 2


def test_it_is_for_streams_with_local_credit() -> None:
    for wrong in ({"credit": "to_go"}, {"at": "last"}):
        with pytest.raises(ArgumentError, match=r"carry: got False.*local"):
            tl.NP(network(), carry=False, **wrong)
    with pytest.raises(ArgumentError, match="carry"):
        tl.ANP(network(), carry="no")
    inputs, targets = stream()
    with pytest.raises(UnsupportedError, match=r"rule\.stream"):
        tl.NP(network(), carry=False)(inputs, targets)
