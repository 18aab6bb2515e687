"""Noise that lasts one step (`carry=False`): in one native call or step by step, on any threads; its mean."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import exactly, still_stream
from timelocal import kernels
from timelocal.errors import ArgumentError, UnsupportedError
from timelocal.fast.tanh_layer import run_tanh_layer

RULES = {"np": tl.NP, "anp": tl.ANP}
KINDS = itertools.product(
    RULES, (1, 3, 40), (False, True), ("gaussian", "orthogonal"), ((False, 1.0), (True, 3.0))
)
"""Rule, directions (40 are more than the 32 orthogonal ones of 21 + 2 nodes), antithetic, noise, D, tau."""


def network(decorrelate: bool = False, tau: float = 1.0, outputs: int = 2) -> tl.Network:
    law = tl.Decorrelation(1e-3) if decorrelate else None
    return tl.RNN(3, 21, outputs, decorrelate=law, tau=tau, seed=1).double()


def data(steps: int = 9) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    make = [torch.randn(4, steps, n, generator=draw, dtype=torch.float64) for n in (3, 2)]
    return make[0], make[1]


def after(net: tl.Network) -> list[Tensor]:
    return [tensor.clone() for tensor in net.state_dict().values()]


@pytest.mark.skipif(kernels.describe()["path"] != "native", reason="no native kernels here")
@pytest.mark.parametrize(
    ("name", "directions", "antithetic", "noise", "law"), covering(KINDS, pairs=True)
)
def test_the_native_call_is_the_loop_on_any_threads(
    name: str, directions: int, antithetic: bool, noise: str, law: tuple[bool, float]
) -> None:
    decorrelate, tau = law
    inputs, targets = data()
    found = {}
    for way in ("loop", "one thread", "two threads"):
        net = network(decorrelate, tau)
        options = {"directions": directions, "antithetic": antithetic, "noise": noise}
        if name == "anp" and tau > 1:
            options["norm"] = "layer"
        rule = RULES[name](net, loss="mse", sigma=0.1, carry=False, **options, seed=3)
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.01)
        stream = tl.Stream(rule, optimizer, batch_size=4)
        before = torch.get_num_threads()
        torch.set_num_threads(2 if way == "two threads" else 1)
        try:
            if way == "loop":
                for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
                    stream.step(x, y, gradients=True)  # which no native call gives
            else:  # in chunks of different sizes
                for chunk, start in ((slice(0, 4), 0), (slice(4, None), 4)):
                    x, y = inputs[:, chunk], targets[:, chunk]
                    x, y = (rows.transpose(0, 1) for rows in (x, y))
                    made = run_tanh_layer(rule, optimizer, stream.memory, x, y, stream.key, start)
                    assert made is not None
        finally:
            torch.set_num_threads(before)
        assert stream.memory["states"].shape[1] == 1  # the clean run's alone
        found[way] = [*after(net), stream.memory["states"]]
    for ours, theirs in zip(found["one thread"], found["loop"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(found["one thread"], found["two threads"], strict=True):
        assert torch.equal(ours, theirs)


def gradient(rule: tl.Rule, targets: Tensor | None = None) -> Tensor:
    """At the last step of the stream."""
    inputs, both = data()
    targets = both if targets is None else targets
    stream = still_stream(rule, 4)
    for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
        gradients = stream.step(x, y, gradients=True).gradients
    return torch.cat([gradients[name].flatten() for name, _ in rule.network.named_parameters()])


ONE_STEP = {"loss": "mse", "carry": False, "antithetic": True}


def squared_error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).square().sum() / exact.square().sum())


def test_its_mean_is_the_one_step_gradient_in_the_middle_of_a_stream() -> None:
    """The squared error falls as 1/K."""
    exact = gradient(tl.TBPTT(network(), 1, loss="mse"))
    errors = []
    for directions in (100, 6400):
        made = {**ONE_STEP, "sigma": 1e-3, "directions": directions}
        draws = [gradient(tl.NP(network(), **made, seed=seed)) for seed in range(4)]
        errors.append(sum(squared_error(one, exact) for one in draws) / len(draws))
    assert errors[0] < 1
    assert 64 / 2 < errors[0] / errors[1] < 64 * 2


def test_all_orthogonal_directions_are_the_one_step_gradient_itself() -> None:
    """No noise is left but the third order of the loss, σ²; with one direction less there is."""
    exact = gradient(tl.TBPTT(network(), 1, loss="mse"))
    made = {**ONE_STEP, "sigma": 1e-4, "noise": "orthogonal"}
    found = gradient(tl.NP(network(), **made, directions=32))  # 21 + 2 nodes
    assert squared_error(found, exact) < 1e-14
    assert squared_error(gradient(tl.NP(network(), **made, directions=31)), exact) > 1e-4


def test_activity_perturbation_with_norms_of_each_layer_is_that_gradient_too() -> None:
    """At the hidden nodes exactly, for their change is the noise; at one output too. Not with one norm."""
    _, targets = data()
    made = {**ONE_STEP, "sigma": 1e-4, "noise": "orthogonal"}
    exact, layer, whole = (
        gradient(rule, targets[..., :1])
        for rule in (
            tl.TBPTT(network(outputs=1), 1, loss="mse"),
            tl.ANP(network(outputs=1), **made, directions=32, norm="layer"),
            tl.ANP(network(outputs=1), **made, directions=32),
        )
    )
    assert squared_error(layer, exact) < 1e-14
    assert squared_error(whole, exact) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("directions", [1, 8])
def test_fewer_orthogonal_directions_have_the_same_mean(directions: int) -> None:
    """Over seeds the squared error of the mean falls as 1/K; in 8 of 32 directions it is smaller at once."""
    exact = gradient(tl.TBPTT(network(), 1, loss="mse"))
    made = {**ONE_STEP, "sigma": 1e-3, "directions": directions}

    def errors(noise: str) -> tuple[float, float]:
        draws = [gradient(tl.NP(network(), **made, noise=noise, seed=s)) for s in range(128)]
        each = sum(squared_error(one, exact) for one in draws) / len(draws)
        return each, squared_error(torch.stack(draws).mean(0), exact)

    each, mean = errors("orthogonal")
    assert 128 / 2 < each / mean < 128 * 2
    if directions > 1:
        assert each < 0.9 * errors("gaussian")[0]


def test_orthogonal_noise_runs_over_layers_and_whole_sequences() -> None:
    """All directions of two layers' nodes and the readout's are one orthogonal basis."""
    net = tl.GRU(3, 5, 2, num_layers=2, seed=1).double()
    made = {"loss": "mse", "at": "every", "sigma": 1.0}
    rule = tl.NP(net, **made, directions=32, noise="orthogonal")  # 15 + 15 + 2 nodes
    rule(*data()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in rule.parameters())
    parts = [
        rule._noise(7, 0, 2, place, (4, nodes), torch.zeros((), dtype=torch.float64))[:, 1:]
        for place, nodes in enumerate((15, 15, 2))
    ]
    all_nodes = torch.cat(parts, -1)
    assert torch.equal(all_nodes.abs(), torch.ones_like(all_nodes))
    gram = torch.einsum("tkbi,tkbj->tbij", all_nodes, all_nodes)
    assert torch.equal(gram, 32 * torch.eye(32, dtype=torch.float64).expand_as(gram))


def test_it_is_for_streams_with_local_credit() -> None:
    with pytest.raises(ArgumentError, match=r"carry: got False.*local"):
        tl.NP(network(), carry=False, credit="to_go")
    with pytest.raises(ArgumentError, match="carry"):
        tl.ANP(network(), carry="no")
    with pytest.raises(ArgumentError, match=r"noise.*orthogonal"):
        tl.ANP(network(), noise="ortogonal")
    inputs, targets = data()
    with pytest.raises(UnsupportedError, match=r"tl\.Stream"):
        tl.NP(network(), loss="mse", at="every", carry=False)(inputs, targets)


def test_a_stream_takes_the_loss_at_every_step_wherever_the_rule_has_it() -> None:
    last, every = (gradient(tl.NP(network(), at=at, **ONE_STEP)) for at in ("last", "every"))
    exactly(last, every)
