"""Which path runs, and how it appears to the compiler."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import timelocal as tl
from timelocal import kernels
from timelocal.cells import CELLS, BlackBox, CellWeights, ElementwiseCell, LIFCell
from timelocal.errors import ArgumentError
from timelocal.kernels import native

built = pytest.mark.skipif(native._module is None, reason="no native kernel is active")


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("TIMELOCAL_KERNELS", "torch")
    assert native._pick() == (None, "", "TIMELOCAL_KERNELS=torch")
    monkeypatch.setenv("TIMELOCAL_KERNELS", "nativ")
    with pytest.raises(ArgumentError, match=r"Did you mean 'native'\?"):
        native._pick()


def test_without_an_extension_the_twin_runs_and_says_why(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(native.importlib, "import_module", missing)
    monkeypatch.setenv("TIMELOCAL_KERNELS", "auto")
    module, _, reason = native._pick()
    assert module is None
    assert "compiler" in reason
    monkeypatch.setenv("TIMELOCAL_KERNELS", "native")
    with pytest.raises(ArgumentError, match="compiler"):
        native._pick()
    monkeypatch.setattr(native, "_module", None)
    monkeypatch.setattr(native, "_reason", reason)
    assert kernels.describe() == {"path": "torch", "reason": reason}
    weights = CellWeights(torch.ones(4, 2), torch.ones(4, 4), None, None)
    states = kernels.scan(CELLS["rnn"](), weights, torch.ones(3, 2, 2), (torch.zeros(2, 4),))
    assert states.hidden.shape == (3, 2, 4)


@built
def test_describe_names_the_instruction_set():
    found = kernels.describe()
    assert found["path"] == "native"
    assert found["instruction set"] in ("generic", "avx2", "avx512")


def arguments(cell, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    nodes = 5 * len(cell.gate_names)
    weights = CellWeights(draw(nodes, 3), draw(nodes, 5), draw(nodes), draw(nodes))
    return weights, draw(4, 2, 3), tuple(draw(2, 5) for _ in cell.state_names), draw(4, 2, 5)


NATIVE = sorted(
    name
    for name, cell in CELLS.items()
    if not issubclass(cell, BlackBox | ElementwiseCell | LIFCell)
)


@built
@pytest.mark.parametrize("name", NATIVE)
def test_operators_keep_the_compiler_s_rules(name):
    cell = CELLS[name]()
    weights, inputs, initial, signal = arguments(cell)
    trajectory = native.scan(cell, weights, inputs, initial)
    past = (list(trajectory.states), trajectory.gates, trajectory.auxiliary)
    kind, operators = native.kind_of(cell), torch.ops.timelocal
    for operator, rest in (
        (operators.scan, (inputs, *weights[:4], list(initial), None)),
        (operators.backward_scan, (weights.hh, *past, signal, list(initial))),
        (operators.node_signals, (weights.hh, *past, signal, torch.tensor([4, 2]))),
        (operators.weight_gradients, (weights.hh, *past, inputs, trajectory.gates.clone(), True)),
        *(
            [(operators.credit, (weights.hh, *past, inputs, signal, torch.tensor([4, 2]), True))]
            if name != "gru-reset-before"  # made of the two operators above
            else []
        ),
    ):
        torch.library.opcheck(
            operator, (*kind, *rest), test_utils=("test_schema", "test_faketensor")
        )


@built
@pytest.mark.parametrize("name", NATIVE)
def test_compiled_equals_eager_without_a_break_in_the_graph(name):
    cell = CELLS[name]()
    weights, inputs, initial, signal = arguments(cell)

    def everything(weights, inputs, initial, signal):
        trajectory = kernels.scan(cell, weights, inputs, initial)
        deltas, carried = kernels.backward_scan(cell, weights, trajectory, signal, None)
        return (
            trajectory.hidden,
            deltas,
            carried,
            kernels.node_signals(cell, weights, trajectory, signal),
            kernels.credit(cell, weights, trajectory, signal),
        )

    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert_close(
            compiled(weights, inputs, initial, signal),
            everything(weights, inputs, initial, signal),
            atol=0,
            rtol=0,
        )
    torch._dynamo.reset()


@built
def test_a_network_exports():
    network = tl.GRU(3, 5, output_size=2)
    inputs = torch.rand(2, 4, 3)
    with torch.no_grad():
        exported = torch.export.export(network, (inputs,))
        assert_close(exported.module()(inputs), network(inputs), atol=0, rtol=0)


WITHOUT_TORCH = """
import importlib.util, sys
import numpy as np
name, path = sys.argv[1:]
spec = importlib.util.spec_from_file_location(name, path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "torch" not in sys.modules and not module.shares_torch_threads()
rng = np.random.default_rng(0)
T, B, I, H = 3, 8, 2, 120
ih, hh, x, h0 = (rng.normal(size=s) / 9 for s in ((H, I), (H, H), (T, B, I), (B, H)))
results = []
for threads in (1, 4):
    h = np.zeros((T + 1, B, H))
    at = lambda a: a.ctypes.data
    module.scan(8, 0, threads, T, B, I, H, 1.0, at(ih), at(hh), 0, 0, at(h), 0, at(h[1]), 0,
                at(x), 0, at(h0), 0)
    results.append(h)
expected = h0
for t in range(T):
    expected = np.tanh(x[t] @ ih.T + expected @ hh.T)
assert np.array_equal(*results)
assert np.allclose(results[0][-1], expected, atol=1e-13)
"""


@built
@pytest.mark.skipif(sys.platform == "win32", reason="another loader")
def test_without_torch_s_threads_the_kernels_start_their_own():
    found = native._module
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, found.__name__.rpartition(".")[2], found.__file__],
        check=True,
    )


AFTER_FORK = """
import multiprocessing as mp
import torch
from timelocal import kernels
from timelocal.cells import CELLS, CellWeights

torch.set_num_threads(2)
weights = CellWeights(torch.ones(50, 1) / 9, torch.ones(50, 50) / 99, None, None)
inputs, start = torch.ones(235, 10, 1), torch.zeros(10, 50)

def run():
    states = kernels.scan(CELLS["rnn"](), weights, inputs, (start,))
    return states.hidden.numpy(), kernels.describe()["thread pool"]

def child(end):
    torch.set_num_threads(2)
    end.send(run())

found, _ = run()
here, there = mp.get_context("fork").Pipe()
process = mp.get_context("fork").Process(target=child, args=(there,), daemon=True)
process.start()
assert here.poll(60), "the child waits for threads that its parent had"
again, pool = here.recv()
assert (again == found).all() and pool == "started for each call"
"""


@built
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_does_not_wait_for_its_parent_s_threads():
    subprocess.run([sys.executable, "-W", "ignore", "-c", AFTER_FORK], check=True)


@built
def test_the_twin_and_the_kernel_agree_through_a_whole_rule(monkeypatch):
    rng = np.random.default_rng(0)
    inputs = torch.as_tensor(rng.normal(size=(6, 9, 3)))
    targets = torch.arange(6) % 2
    lengths = torch.tensor([9, 4, 1, 7, 9, 2])
    network = tl.LSTM(3, 17, output_size=2, num_layers=2).double()
    for kind in (tl.DFA, tl.BPTT):
        rule = kind(network)
        fast = rule.estimate(inputs, targets, lengths).gradients
        with monkeypatch.context() as patch:
            patch.setattr(native, "handles", lambda *_: False)
            slow = rule.estimate(inputs, targets, lengths).gradients
        for name, gradient in slow.items():
            assert_close(fast[name], gradient, atol=1e-13, rtol=1e-11)
