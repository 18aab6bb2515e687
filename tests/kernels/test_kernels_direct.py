"""Direct feedback alignment of a layer in one call: native against the twin, and where the rule uses it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_head import doubled
from test_kernels_native import CASES, DOUBLE, LEAVES, TOLERANCE, make_cell, problem, shapes
from torch.testing import assert_close

import timelocal as tl
from timelocal import kernels
from timelocal.errors import ArgumentError
from timelocal.kernels import DirectCall, native_direct, torch_direct
from timelocal.rules import single_call

heads = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["cross_entropy", "mse"]),
        "outputs": st.integers(1, 12),
        "bias": st.booleans(),
    }
)


def tensors(found):
    """Everything that `direct` returns, by name."""
    trajectory, head, weights = found
    named = {f"state {i}": state for i, state in enumerate(trajectory.states)}
    named |= {"gates": trajectory.gates, "auxiliary": trajectory.auxiliary}
    return named | head._asdict() | weights._asdict()


@pytest.mark.parametrize(("name", "tau"), CASES)
@LEAVES
@given(shape=shapes, head=heads, count=st.sampled_from([1, 2]), from_zero=st.booleans())
def test_native_is_the_twin(module, threads, name, tau, shape, head, count, from_zero):
    cell = make_cell(name, tau)
    weights, inputs, initial, _, draw = problem(cell, **shape)
    outputs, (batch, hidden) = head["outputs"], initial[0].shape
    classes = draw(batch).abs().long() % outputs
    targets = classes if head["kind"] == "cross_entropy" else draw(batch, outputs)
    bias = draw(outputs) if head["bias"] else None
    rest = (draw(outputs, hidden), bias, targets, draw(hidden, outputs))
    threads(count)
    start = None if from_zero else initial
    call = DirectCall(cell, weights, inputs, start, head["kind"], *rest)
    found = tensors(native_direct.direct(call))
    threads(1)
    exact = tensors(
        torch_direct.direct(
            DirectCall(
                cell, type(weights)(*doubled(weights)), inputs.double(),
                start and tuple(doubled(start)), head["kind"], *doubled(rest),
            )
        )
    )  # fmt: skip
    assert found.keys() == exact.keys()
    for key, wanted in exact.items():
        assert (found[key] is None) == (wanted is None), key
        if wanted is not None:
            assert found[key].dtype == shape["dtype"]
            size = max(1.0, float(wanted.abs().max()))
            tolerance = {
                **TOLERANCE[shape["dtype"]],
                "atol": size * TOLERANCE[shape["dtype"]]["atol"],
            }
            assert_close(
                found[key].double(), wanted, **tolerance, msg=lambda m, key=key: f"{key}: {m}"
            )


def test_a_feedback_of_another_size_is_refused(module):
    network = tl.RNN(2, 5, output_size=3)
    start = (torch.zeros(4, 5),)
    given_tensors = (torch.zeros(6, 4, 2), start, "cross_entropy", network.readout.weight, None)
    with pytest.raises(ArgumentError, match="feedback"):
        native_direct.direct(
            DirectCall(
                network.cell, network.recurrent.weights(0, 0), *given_tensors,
                torch.zeros(4, dtype=torch.int64), torch.zeros(3, 5),
            )
        )  # fmt: skip


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("feedback", ["gaussian", "symmetric", "kolen_pollack"])
def test_an_estimate_is_the_same_in_parts(cell, feedback, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    network = getattr(tl, cell)(3, 8, output_size=4).double()
    rule = tl.DFA(network, feedback=feedback).double()
    inputs = torch.randn(5, 7, 3, generator=generator, dtype=DOUBLE)
    targets = torch.randint(4, (5,), generator=generator)
    initial = torch.randn(1, 5, 8, generator=generator, dtype=DOUBLE)
    initial = (initial, -initial) if cell == "LSTM" else initial
    calls = []
    direct = kernels.direct
    monkeypatch.setattr(kernels, "direct", lambda *given: calls.append(1) or direct(*given))
    found = rule.estimate(inputs, targets, initial=initial)
    monkeypatch.setattr(single_call, "prepare", lambda *given: None)
    wanted = rule.estimate(inputs, targets, initial=initial)
    assert calls == [1]
    assert found.gradients.keys() == wanted.gradients.keys()
    for field in ("gradients", "loss", "outputs", "accuracy", "final_states", "local_updates"):
        assert_close(getattr(found, field), getattr(wanted, field), atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        {"trace": "diagonal"},
        {"feedback_per": "parameter"},
        {"at": "every"},
        {"loss": tl.losses.CrossEntropy(label_smoothing=0.1)},
    ],
)
def test_what_it_cannot_do_is_done_in_parts(other, monkeypatch):
    monkeypatch.delattr(kernels, "direct")
    targets = torch.zeros((2, 3) if "at" in other else 2, dtype=torch.int64)
    tl.DFA(tl.RNN(2, 4, output_size=3), **other).estimate(torch.zeros(2, 3, 2), targets)


@pytest.mark.parametrize(
    "network",
    [
        tl.RNN(2, 4, output_size=3, num_layers=2),
        tl.RNN(2, 4, output_size=3, bidirectional=True),
        tl.RNN(2, 4, output_size=3, decorrelate=1e-3),
    ],
    ids=["layers", "directions", "decorrelation"],
)
def test_networks_it_cannot_serve_are_done_in_parts(network, monkeypatch):
    monkeypatch.delattr(kernels, "direct")
    tl.DFA(network).estimate(torch.zeros(2, 3, 2), torch.zeros(2, dtype=torch.int64))
