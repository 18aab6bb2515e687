"""Element-wise cells over whole sequences: native units are the twin, their traces autograd's gradient."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import timelocal as tl
from timelocal.bench import exact
from timelocal.kernels import native_elementwise, torch_scan
from timelocal.network import at_last_valid

NETWORKS = {
    "indrnn": tl.IndRNN,
    "lru": tl.LRU,
    "rtu": tl.RTU,
    "rtu tanh": lambda *sizes, **more: tl.RTU(*sizes, nonlinearity="tanh", **more),
    "mingru": tl.MinGRU,
    "minlstm": tl.MinLSTM,
}
SIZES = [(1, 1, 1, 1), (7, 3, 5, 19), (40, 33, 9, 16), (70, 2, 8, 37)]
"""t, b, i, h: one of each; odd; more rows than a tile; more steps than a stretch."""


def layer(name: str, size: tuple[int, ...], dtype: torch.dtype, bias: bool = True):
    """A cell, weights with no zeros among them, and a draw."""
    network = NETWORKS[name](*size[2:], 1, bias=bias).to(dtype)
    draw = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    for parameter in network.requires_grad_(False).parameters():
        parameter += 0.3 * normal(*parameter.shape)
    return network, network.recurrent.weights(0, 0), normal


def alike(found, expected, dtype: torch.dtype) -> None:
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_units_are_the_twin(name, dtype, module):
    for size, bias in zip(SIZES, (True, True, False, True), strict=True):
        steps, batch, inputs, hidden = size
        network, weights, normal = layer(name, size, dtype, bias)
        cell, x = network.cell, normal(steps, batch, inputs)
        noise = normal(steps, batch, len(cell.gate_names) * hidden)
        initial, final = (tuple(normal(batch, hidden) for _ in cell.state_names) for _ in range(2))
        assert native_elementwise.handles(cell, weights, x)
        ran, twin = (
            path.scan(cell, weights, x, initial, noise) for path in (native_elementwise, torch_scan)
        )
        alike((*ran.states, ran.gates, ran.auxiliary, ran.seen),
              (*twin.states, twin.gates, twin.auxiliary, twin.seen), dtype)  # fmt: skip
        signal = normal(steps, batch, network.features_size)
        last = normal(batch, network.features_size)
        expected, start = torch_scan.backward_scan(cell, weights, twin, signal, final)
        for past in (ran, twin):  # states side by side, or each for itself
            found = native_elementwise.backward_scan(cell, weights, past, signal, final)
            alike((found[0], *found[1]), (expected, *start), dtype)
        for trace in ("leak", "diagonal"):
            found, expected = (
                path.traced_scan(cell, weights, trace, twin, signal, last)
                for path in (native_elementwise, torch_scan)
            )
            alike([found], [expected], dtype)


@pytest.mark.parametrize("unequal", [False, True], ids=["", "lengths"])
@pytest.mark.parametrize("name", NETWORKS)
def test_traces_carried_forward_meet_what_goes_back(name, unequal, module):
    for size in SIZES:
        steps, batch, inputs, _ = size
        network, weights, normal = layer(name, size, torch.float64)
        cell = network.cell
        x, signal = normal(steps, batch, inputs), normal(steps, batch, network.features_size)
        past = network.unroll(x).layers[0][0]
        lengths = torch.arange(batch) * 7 % steps + 1 if unequal else None
        if lengths is not None:
            signal[torch.arange(steps)[:, None] >= lengths] = 0
        at_end = normal(batch, network.features_size)
        for given, spread in ((signal, signal), (at_end, at_last_valid(at_end, steps, lengths))):
            found = native_elementwise.traced_gradients(cell, weights, past, given, lengths)
            delta = torch_scan.traced_scan(cell, weights, "diagonal", past, spread, None)
            alike(found, torch_scan.weight_gradients(cell, weights, past, delta), torch.float64)


@pytest.mark.parametrize("at", ["last", "every", "mean"])
@pytest.mark.parametrize("name", exact.CELLS)
def test_rtrl_of_a_whole_sequence_is_autograd(name, at, monkeypatch):
    monkeypatch.setattr(exact, "HIDDEN", 11)
    network = exact.CELLS[name](3, 11, 2, seed=1).double()
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 50, 3, generator=draw, dtype=torch.float64)
    targets = torch.randn(
        *((4, 50) if at == "every" else (4,)), 2, generator=draw, dtype=torch.float64
    )
    found = tl.RTRL(network, loss="mse", at=at).estimate(inputs, targets).gradients
    monkeypatch.setattr(
        exact, "first_state", lambda name, batch: torch.zeros(batch, 11, dtype=torch.complex128)
        if name in ("lru", "rtu") else torch.zeros(batch, 11, dtype=torch.float64)
    )  # fmt: skip
    outputs = exact.by_torch(name, network, inputs)
    seen = {"last": outputs[:, -1], "every": outputs, "mean": outputs.mean(1)}[at]
    torch.nn.functional.mse_loss(seen, targets).backward()
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(found[key], parameter.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("unequal", [False, True], ids=["", "lengths"])
@pytest.mark.parametrize(("batch", "hidden"), [(40, 128), (1, 131), (2, 67), (1, 5)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_bits_do_not_depend_on_threads(name, batch, hidden, unequal, threads):
    """Many rows; fewer rows than threads, whose units are divided; more threads than vectors of units."""
    steps = 33 if batch == 40 else 8000
    network, weights, normal = layer(name, (steps, batch, 8, hidden), torch.float32)
    x, signal = normal(steps, batch, 8), normal(steps, batch, network.features_size)
    final = tuple(normal(batch, hidden) for _ in network.cell.state_names)
    lengths = (torch.arange(batch) * 7 + steps // 2) % steps + 1 if unequal else None

    def computed(count):
        threads(count)
        past = native_elementwise.scan(network.cell, weights, x, final)
        deltas, start = native_elementwise.backward_scan(network.cell, weights, past, signal, final)
        made = native_elementwise.traced_gradients(network.cell, weights, past, signal, lengths)
        seen = [] if past.seen is None else [past.seen]
        return [*past.states, past.gates, *seen, deltas, *start, *made[:-1]]

    expected = computed(1)
    for count in (2, 5):
        # a new thread has not yet learned that the others are busy, and divides the work
        with ThreadPoolExecutor(1) as executor:
            found = executor.submit(computed, count).result()
        assert all(map(torch.equal, found, expected))


def test_gates_far_below_zero_keep_their_quotient():
    """Both are too small for a number, their shares are not."""
    cell = tl.MinLSTM(1, 2, 1).cell
    weights = cell.weights(
        {"weight_ih": torch.zeros(6, 1), "bias": torch.tensor([-300.0, -90, -301, -200, 1, 1])}
    )
    state = (torch.zeros(1, 2),)
    run = native_elementwise.scan(cell, weights, torch.zeros(1, 1, 1), state)
    share = 1 / (1 + math.e)
    torch.testing.assert_close(run.states[0][1], torch.tensor([[share, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_complex_unit_may_turn_by_any_angle(dtype):
    angles = torch.tensor([1e-3, 0.7, 1.6, 3.2, 4.0, 6.2, 50.0, 900.0, 3e5], dtype=dtype)
    cell = tl.LRU(1, 9, 1).cell
    weights = cell.weights(
        {"nu": torch.full((9,), -30.0, dtype=dtype), "theta": angles.log(),
         "weight_ih": torch.zeros(18, 1, dtype=dtype), "bias": torch.zeros(18, dtype=dtype)}
    )  # fmt: skip
    state = torch.ones(1, 9, dtype=dtype), torch.zeros(1, 9, dtype=dtype)
    run = native_elementwise.scan(cell, weights, torch.zeros(1, 1, 1, dtype=dtype), state)
    turned = angles.log().double().exp()
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    tolerance = bound * (1 + turned)  # of the angle itself
    assert (run.states[0][1][0].double() - turned.cos()).abs().le(tolerance).all()
    assert (run.states[1][1][0].double() - turned.sin()).abs().le(tolerance).all()


def test_d_in_the_recurrence_is_left_to_the_twin():
    x = torch.zeros(3, 2, 1)
    for make, served in ((tl.IndRNN, False), (tl.LRU, True), (tl.MinGRU, True)):
        network = make(1, 4, 1, decorrelate=0.1)
        weights = network.recurrent.weights(0, 0)
        assert native_elementwise.handles(network.cell, weights, x) == served
