"""Native kernels against the equations (float64, autograd), on every instruction set built here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernels_reference import run
from torch.testing import assert_close

from timelocal import kernels
from timelocal.cells import CELLS, CellWeights, LayerTrajectory, RNNCell
from timelocal.errors import ArgumentError, UnsupportedError
from timelocal.kernels import native, torch_scan

DOUBLE, SINGLE = torch.float64, torch.float32
TOLERANCE = {DOUBLE: {"atol": 1e-12, "rtol": 1e-11}, SINGLE: {"atol": 3e-5, "rtol": 3e-5}}
CASES = [("rnn", 1.0), ("rnn", 2.5), ("gru", 1.0), ("gru-reset-before", 1.0), ("lstm", 1.0)]
LEAVES = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

shapes = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 6),
        "batch": st.integers(1, 14),
        "features": st.sampled_from([1, 2, 3, 5, 16, 19]),
        "hidden": st.sampled_from([1, 2, 3, 5, 8, 13, 16, 17, 31, 33, 50, 64, 65, 97, 130]),
        "bias": st.booleans(),
        "dtype": st.sampled_from([DOUBLE, SINGLE]),
        "seed": st.integers(0, 2**31),
    }
)


def make_cell(name, tau):
    return RNNCell(tau) if name == "rnn" else CELLS[name]()


def problem(cell, *, steps, batch, features, hidden, bias, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    nodes = len(cell.gate_names) * hidden

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    scale = hidden**-0.5
    ih, hh = draw(nodes, features) * scale, draw(nodes, hidden) * scale
    biases = (draw(nodes), draw(nodes)) if bias else (None, None)
    initial = tuple(draw(batch, hidden) for _ in cell.state_names)
    inputs, noise = draw(steps, batch, features), draw(steps, batch, nodes)
    return CellWeights(ih, hh, *biases), inputs, initial, noise, draw


def doubled(tensors):
    return [None if tensor is None else tensor.double() for tensor in tensors]


@pytest.mark.parametrize("trace", ["leak", "diagonal"])
@pytest.mark.parametrize(("name", "tau"), [case for case in CASES if case[0] != "gru-reset-before"])
@LEAVES
@given(shape=shapes, count=st.sampled_from([1, 2]), where=st.sampled_from(["all", "last", "both"]))
def test_along_a_trace(module, threads, name, tau, trace, shape, count, where):
    cell = make_cell(name, tau)
    weights, inputs, initial, _, draw = problem(cell, **shape)
    found = torch_scan.scan(cell, weights, inputs, initial)
    signal = None if where == "last" else draw(*found.hidden.shape)
    final = None if where == "all" else draw(*found.hidden.shape[1:])
    threads(count)
    deltas = module.traced_scan(cell, weights, trace, found, signal, final)
    threads(1)
    exact = LayerTrajectory(
        found.inputs.double(),
        tuple(doubled(found.states)),
        *doubled((found.gates, found.auxiliary)),
    )
    precise = CellWeights(*doubled(weights))
    wanted = torch_scan.traced_scan(cell, precise, trace, exact, *doubled((signal, final)))
    assert_close(deltas.double(), wanted, **TOLERANCE[shape["dtype"]])
    assert torch.equal(deltas, module.traced_scan(cell, weights, trace, found, signal, final))


@pytest.mark.parametrize(("name", "tau"), CASES)
@LEAVES
@given(shape=shapes)
def test_forward(module, name, tau, shape):
    cell = make_cell(name, tau)
    weights, inputs, initial, noise, _ = problem(cell, **shape)
    found = module.scan(cell, weights, inputs, initial, noise)
    hs, cs = run(name, tau, doubled(weights), inputs.double(), doubled(initial), noise.double())
    tolerance = TOLERANCE[shape["dtype"]]
    assert torch.equal(found.states[0][0], initial[0])
    assert_close(found.hidden.double(), torch.stack(hs), **tolerance)
    if name == "lstm":
        assert_close(found.states[1][1:].double(), torch.stack(cs), **tolerance)
    twin = torch_scan.scan(cell, weights, inputs, initial, noise)
    assert_close(found.gates, twin.gates, **tolerance)
    assert (found.auxiliary is None) == (twin.auxiliary is None)
    if twin.auxiliary is not None:
        assert_close(found.auxiliary, twin.auxiliary, **tolerance)


@pytest.mark.parametrize(("name", "tau"), CASES)
@LEAVES
@given(shape=shapes, direct=st.booleans())
def test_backward(module, name, tau, shape, direct):
    cell = make_cell(name, tau)
    weights, inputs, initial, noise, draw = problem(cell, **shape)
    size = (shape["batch"], shape["hidden"])
    signal = draw(shape["steps"], *size) if direct else None
    final = tuple(draw(*size) for _ in initial)
    leaf = noise.double().clone().requires_grad_()
    starts = [state.double().clone().requires_grad_() for state in initial]
    hs, cs = run(name, tau, doubled(weights), inputs.double(), starts, leaf)
    total = sum((last[-1] * s.double()).sum() for last, s in zip((hs, cs), final, strict=False))
    if signal is not None:
        total = total + (torch.stack(hs) * signal.double()).sum()
    expected, *expected_initial = torch.autograd.grad(total, [leaf, *starts])

    trajectory = torch_scan.scan(cell, weights, inputs, initial, noise)
    deltas, carried = module.backward_scan(cell, weights, trajectory, signal, final)
    tolerance = TOLERANCE[shape["dtype"]]
    assert_close(deltas.double(), expected, **tolerance)
    for one, other in zip(carried, expected_initial, strict=True):
        assert_close(one.double(), other, **tolerance)


@pytest.mark.parametrize(("name", "tau"), CASES)
@LEAVES
@given(shape=shapes, everywhere=st.booleans(), padded=st.booleans())
def test_node_signals(module, name, tau, shape, everywhere, padded):
    cell = make_cell(name, tau)
    weights, inputs, initial, noise, draw = problem(cell, **shape)
    steps, batch = shape["steps"], shape["batch"]
    signal = draw(*(() if everywhere else (steps,)), batch, shape["hidden"])
    lengths = torch.arange(batch) % steps + 1 if padded else None
    leaf = noise.double().clone().requires_grad_()
    hs, _ = run(
        name, tau, doubled(weights), inputs.double(), doubled(initial), leaf, through_time=False
    )
    (expected,) = torch.autograd.grad((torch.stack(hs) * signal.double()).sum(), leaf)
    if lengths is not None:
        expected[torch.arange(steps)[:, None] >= lengths] = 0

    trajectory = torch_scan.scan(cell, weights, inputs, initial, noise)
    deltas = module.node_signals(cell, weights, trajectory, signal, lengths)
    assert_close(deltas.double(), expected, **TOLERANCE[shape["dtype"]])


@pytest.mark.parametrize(("name", "tau"), CASES)
@LEAVES
@given(shape=shapes)
def test_weight_gradients(module, name, tau, shape):
    cell = make_cell(name, tau)
    weights, inputs, initial, noise, draw = problem(cell, **shape)
    trajectory = torch_scan.scan(cell, weights, inputs, initial, noise)
    signal = draw(*trajectory.hidden.shape)
    leaves = [None if w is None else w.double().clone().requires_grad_() for w in weights]
    hs, _ = run(
        name, tau, leaves, inputs.double(), doubled(initial), noise.double(), through_time=False
    )
    total = (torch.stack(hs) * signal.double()).sum()
    expected = torch.autograd.grad(total, [leaf for leaf in leaves if leaf is not None])

    deltas = torch_scan.node_signals(cell, weights, trajectory, signal)
    found = module.weight_gradients(cell, weights, trajectory, deltas)
    assert [w is None for w in found] == [w is None for w in weights]
    tolerance = TOLERANCE[shape["dtype"]]
    for one, other in zip([w for w in found if w is not None], expected, strict=True):
        assert_close(one.double(), other, atol=5 * tolerance["atol"], rtol=tolerance["rtol"])


@pytest.mark.parametrize(("name", "tau"), CASES)
@LEAVES
@given(shape=shapes, everywhere=st.booleans(), padded=st.booleans(), many=st.booleans())
def test_credit(module, name, tau, shape, everywhere, padded, many):
    """Straight from the state signal: as through the node signals, over few rows and over many."""
    shape = {**shape, "steps": shape["steps"] + 20 * many}
    cell = make_cell(name, tau)
    weights, inputs, initial, noise, draw = problem(cell, **shape)
    steps, batch = shape["steps"], shape["batch"]
    signal = draw(*(() if everywhere else (steps,)), batch, shape["hidden"])
    lengths = torch.arange(batch) % steps + 1 if padded else None
    trajectory = torch_scan.scan(cell, weights, inputs, initial, noise)
    found = module.credit(cell, weights, trajectory, signal, lengths)
    twin = torch_scan.credit(cell, weights, trajectory, signal, lengths)
    tolerance = TOLERANCE[shape["dtype"]]
    for one, other in zip(found, twin, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other, atol=20 * tolerance["atol"], rtol=tolerance["rtol"])


@pytest.mark.parametrize(("name", "tau"), CASES)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_one_and_two_threads_agree_to_the_bit(module, threads, name, tau, dtype):
    cell = make_cell(name, tau)
    weights, inputs, initial, noise, draw = problem(
        cell, steps=8, batch=13, features=3, hidden=150, bias=True, dtype=dtype, seed=0
    )
    signal = draw(8, 13, 150)
    runs = []
    for count in (1, 2, 3):
        threads(count)
        trajectory = module.scan(cell, weights, inputs, initial, noise)
        deltas, carried = module.backward_scan(cell, weights, trajectory, signal, initial)
        local = module.node_signals(cell, weights, trajectory, signal)
        gradients = module.weight_gradients(cell, weights, trajectory, deltas)
        direct = module.credit(cell, weights, trajectory, signal)
        past = (*trajectory.states, trajectory.gates, deltas, *carried, local)
        runs.append([*past, *gradients[:4], *direct[:4]])
    for other in runs[1:]:
        assert all(map(torch.equal, runs[0], other))


def test_an_element_does_not_depend_on_its_neighbours(module):
    """A row of a large batch equals the same row alone: tails and tiles take no other path."""
    cell = CELLS["gru"]()
    weights, inputs, initial, noise, _ = problem(
        cell, steps=4, batch=11, features=2, hidden=37, bias=True, dtype=SINGLE, seed=1
    )
    together = module.scan(cell, weights, inputs, initial, noise).hidden
    for row in range(11):
        one = slice(row, row + 1)
        alone = module.scan(cell, weights, inputs[:, one], (initial[0][one],), noise[:, one])
        assert torch.equal(alone.hidden, together[:, one])


def activations(module, dtype, values):
    """tanh and σ as the kernels compute them: one LSTM step whose pre-activations are `values`."""
    x = torch.as_tensor(values, dtype=dtype)[None, :, None]
    weights = CellWeights(torch.ones(4, 1, dtype=dtype), torch.zeros(4, 1, dtype=dtype), None, None)
    start = torch.zeros(x.shape[1], 1, dtype=dtype)
    gates = module.scan(CELLS["lstm"](), weights, x, (start, start)).gates[0]
    return gates[:, 2], gates[:, 0]


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_activations_are_within_a_few_units_in_the_last_place(module, dtype):
    kind = np.float32 if dtype is SINGLE else np.float64
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.uniform(-30, 30, 20000), rng.normal(0, 1, 20000), 10.0 ** rng.uniform(-30, 1, 20000)]
    ).astype(kind)
    tanh, sigmoid = (found.numpy() for found in activations(module, dtype, values))
    wide = values.astype(np.longdouble)
    for found, truth in ((tanh, np.tanh(wide)), (sigmoid, 1 / (1 + np.exp(-wide)))):
        error = np.abs(found.astype(np.longdouble) - truth) / np.spacing(np.abs(truth).astype(kind))
        assert error.max() < 4
    assert np.abs(tanh).max() <= 1
    negative, _ = activations(module, dtype, -values)
    assert np.array_equal(negative.numpy(), -tanh)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_activations_at_the_edges(module, dtype):
    huge = torch.finfo(dtype).max
    tanh, sigmoid = activations(module, dtype, [0.0, -0.0, huge, -huge, np.inf, -np.inf, np.nan])
    assert_close(tanh, torch.tensor([0, -0.0, 1, -1, 1, -1, np.nan], dtype=dtype), equal_nan=True)
    assert torch.equal(tanh[2:6], torch.tensor([1, -1, 1, -1], dtype=dtype))  # so their slope is 0
    assert_close(sigmoid[:3], torch.tensor([0.5, 0.5, 1], dtype=dtype))
    assert sigmoid[3] < 1e-37
    assert sigmoid[6].isnan()


def test_subnormals_are_flushed_inside_and_kept_outside(module, threads):
    threads(2)
    tiny = torch.tensor([1e-39])
    weights = CellWeights(torch.ones(300, 1), torch.zeros(300, 300), None, None)
    inputs = torch.full((2, 4, 1), 1e-39)
    hidden = module.scan(RNNCell(), weights, inputs, (torch.zeros(4, 300),)).hidden
    assert hidden.count_nonzero() == 0
    assert (tiny * 0.5).item() != 0


def test_nothing_is_read_wrongly_from_strided_tensors(module):
    cell = CELLS["gru-reset-before"]()
    weights, inputs, initial, noise, draw = problem(
        cell, steps=4, batch=5, features=3, hidden=9, bias=True, dtype=SINGLE, seed=2
    )
    signal = draw(4, 5, 9)

    def strided(tensor):
        return torch.stack((tensor, tensor * 0 + 7), -1)[..., 0]

    loose = CellWeights(*map(strided, weights[:4]))
    one = module.scan(cell, weights, inputs, initial, noise)
    other = module.scan(cell, loose, strided(inputs), (strided(initial[0]),), strided(noise))
    assert torch.equal(one.gates, other.gates)
    past = LayerTrajectory(
        inputs, (strided(one.states[0]),), strided(one.gates), strided(one.auxiliary)
    )
    for f in (
        lambda w, p, s: module.backward_scan(cell, w, p, s, (s[0],))[0],
        lambda w, p, s: module.node_signals(cell, w, p, s),
        lambda w, p, s: module.credit(cell, w, p, s).hh,
    ):
        assert torch.equal(f(weights, one, signal), f(loose, past, strided(signal)))


def test_every_wrong_tensor_is_named(module):
    cell = CELLS["gru"]()
    weights, inputs, initial, noise, _ = problem(
        cell, steps=2, batch=3, features=2, hidden=4, bias=True, dtype=SINGLE, seed=0
    )
    with pytest.raises(ArgumentError, match=r"(?s)2 problems.*node_noise.*initial state"):
        module.scan(cell, weights, inputs, (initial[0].double(),), noise[:, :, 1:])
    trajectory = module.scan(cell, weights, inputs, initial)
    with pytest.raises(ArgumentError, match="signal"):
        module.node_signals(cell, weights, trajectory, torch.zeros(3, 5))
    with pytest.raises(ArgumentError, match="signal"):
        module.credit(cell, weights, trajectory, torch.zeros(3, 5))
    with pytest.raises(ArgumentError, match="lengths"):
        module.node_signals(
            cell, weights, trajectory, torch.zeros(3, 4), torch.ones(3, dtype=torch.int32)
        )
    with pytest.raises(ArgumentError, match="final signal"):
        module.backward_scan(cell, weights, trajectory, None, (torch.zeros(4, 3),))


def test_an_unknown_cell_is_left_to_the_twin(module):
    class OwnCell(RNNCell):
        pass

    weights, inputs, initial, _, _ = problem(
        RNNCell(), steps=2, batch=3, features=2, hidden=4, bias=True, dtype=SINGLE, seed=0
    )
    assert not native.handles(OwnCell(), inputs)
    with pytest.raises(UnsupportedError, match="twin"):
        module.scan(OwnCell(), weights, inputs, initial)
    assert_close(
        kernels.scan(OwnCell(), weights, inputs, initial).hidden,
        kernels.scan(RNNCell(), weights, inputs, initial).hidden,
    )
    assert not native.handles(RNNCell(), inputs.half())
