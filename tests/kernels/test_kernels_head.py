"""The head of an estimate: the twin against autograd, the native kernel against the twin."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import timelocal as tl
from timelocal import kernels
from timelocal.errors import ArgumentError
from timelocal.kernels import native_head, torch_head
from timelocal.losses import MSE, CrossEntropy
from timelocal.rules.heads import head_loss

DOUBLE, SINGLE = torch.float64, torch.float32
TOLERANCE = {DOUBLE: {"atol": 1e-13, "rtol": 1e-12}, SINGLE: {"atol": 1e-5, "rtol": 1e-5}}

problems = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["cross_entropy", "mse"]),
        "rows": st.integers(1, 40),
        "hidden": st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 31, 50, 64, 65, 97, 130]),
        "outputs": st.integers(1, 12),
        "bias": st.booleans(),
        "dtype": st.sampled_from([DOUBLE, SINGLE]),
        "scale": st.sampled_from([0.1, 1.0, 300.0]),
        "seed": st.integers(0, 2**31),
    }
)
ONES = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def problem(*, kind, rows, hidden, outputs, bias, dtype, scale, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    classes = torch.randint(outputs, (rows,), generator=generator)
    targets = classes if kind == "cross_entropy" else draw(rows, outputs)
    weight = draw(outputs, hidden) * scale / hidden**0.5
    return kind, draw(rows, hidden).tanh(), weight, draw(outputs) if bias else None, targets


def doubled(arguments):
    return [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
            for x in arguments]  # fmt: skip


def close(found, wanted, **tolerance):
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert_close(one.double(), other.double(), **tolerance)


@ONES
@given(given_problem=problems)
def test_the_twin_is_autograd(given_problem):
    kind, features, weight, bias, targets = doubled(problem(**given_problem))
    found = torch_head.head(kind, features, weight, bias, targets)
    leaves = [x.requires_grad_() for x in (weight, bias) if x is not None]
    outputs = F.linear(features, weight, bias)
    loss = (F.cross_entropy if kind == "cross_entropy" else F.mse_loss)(outputs, targets)
    errors, *gradients = torch.autograd.grad(loss, [outputs, *leaves])
    right = (outputs.argmax(-1) == targets).double().mean() if kind == "cross_entropy" else None
    wanted = (outputs, errors, loss, right, *gradients, *([None] if bias is None else []))
    close(found, wanted, atol=1e-12, rtol=1e-12)


@ONES
@given(given_problem=problems)
def test_native_is_the_twin(module, given_problem):
    arguments = problem(**given_problem)
    found = native_head.head(*arguments)
    assert {x.dtype for x in found if x is not None} == {given_problem["dtype"]}
    tolerance = dict(TOLERANCE[given_problem["dtype"]])
    tolerance["atol"] *= max(1.0, given_problem["scale"])
    close(found, torch_head.head(*doubled(arguments)), **tolerance)


@ONES
@given(given_problem=problems)
def test_projection_is_the_twin_s(module, given_problem):
    _, features, weight, _, _ = problem(**given_problem)
    found = native_head.project(features, weight)
    wanted = torch_head.project(features.double(), weight.double())
    tolerance = dict(TOLERANCE[given_problem["dtype"]])
    tolerance["atol"] *= max(1.0, given_problem["scale"])
    assert found.dtype == given_problem["dtype"]
    assert_close(found.double(), wanted, **tolerance)
    strided = (features.t().contiguous().t(), weight.t().contiguous().t())
    assert torch.equal(native_head.project(*strided), found)


def test_errors_of_another_size_than_the_feedback_are_refused(module):
    with pytest.raises(ArgumentError, match="feedback"):
        native_head.project(torch.zeros(4, 3), torch.zeros(7, 2))
    with pytest.raises(ArgumentError, match="errors"):
        native_head.project(torch.zeros(4, 3).double(), torch.zeros(7, 3))


def test_ties_and_nan_are_torchs(module):
    features = torch.tensor([[0.0], [1.0], [float("nan")], [float("inf")]])
    weight, targets = torch.tensor([[1.0], [1.0], [0.0]]), torch.tensor([0, 2, 0, 1])
    found = native_head.head("cross_entropy", features, weight, None, targets)
    wanted = torch_head.head("cross_entropy", features, weight, None, targets)
    assert found.accuracy == 0.5
    assert found.loss.isnan()
    assert_close(found.errors, wanted.errors, equal_nan=True)


def test_strided_tensors_and_wrong_ones(module):
    kind, features, weight, bias, targets = problem(
        kind="cross_entropy",
        rows=9,
        hidden=5,
        outputs=3,
        bias=True,
        dtype=SINGLE,
        scale=1.0,
        seed=0,
    )
    wanted = native_head.head(kind, features, weight, bias, targets)
    strided = [x.t().contiguous().t() for x in (features, weight)]
    close(native_head.head(kind, *strided, bias, targets), wanted, atol=0, rtol=0)
    with pytest.raises(ArgumentError, match="readout bias"):
        native_head.head(kind, features, weight, bias[:2], targets)
    with pytest.raises(ArgumentError, match="targets"):
        native_head.head(kind, features, weight, bias, targets.int())
    with pytest.raises(ArgumentError, match="targets"):
        native_head.head("mse", features, weight, bias, targets)


# --- where rules use it ---------------------------------------------------------------------------


class Doubled(MSE):
    """A variation on a loss is another loss."""

    def losses_and_errors(self, outputs, targets):
        losses, errors = super().losses_and_errors(outputs, targets)
        return 2 * losses, 2 * errors


def test_losses_know_what_they_are_to_the_kernels():
    assert head_loss(CrossEntropy()) == "cross_entropy"
    assert head_loss(MSE()) == "mse"
    assert head_loss(CrossEntropy(label_smoothing=0.1)) is None
    assert head_loss(CrossEntropy(class_weights=torch.ones(2))) is None
    assert head_loss(Doubled()) is None


@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_an_estimate_is_the_same_with_and_without(at, loss, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    network = tl.GRU(3, 8, output_size=4, num_layers=2, bidirectional=True).double()
    rule = tl.BPTT(network, loss=loss, at=at)
    inputs = torch.randn(5, 7, 3, generator=generator, dtype=DOUBLE)
    entries = (5,) if at == "last" else (5, 7)
    classes = torch.randint(4, entries, generator=generator)
    values = torch.randn(*entries, 4, generator=generator, dtype=DOUBLE)
    targets = classes if loss == "cross_entropy" else values
    calls = []
    head = kernels.head
    monkeypatch.setattr(kernels, "head", lambda *given: calls.append(1) or head(*given))
    found = rule.estimate(inputs, targets)
    monkeypatch.setattr(kernels, "SMALL_HEAD", 0)
    wanted = rule.estimate(inputs, targets)
    assert calls == [1]
    assert_close(found.gradients, wanted.gradients, atol=1e-13, rtol=1e-12)
    for one, other in (
        (found.loss, wanted.loss),
        (found.outputs, wanted.outputs),
        (found.accuracy, wanted.accuracy),
    ):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other, atol=1e-13, rtol=1e-12)


def test_a_hook_on_the_readout_is_heard():
    network = tl.RNN(2, 4, output_size=3)
    assert isinstance(network.readout, nn.Linear)
    network.readout.register_forward_hook(lambda module, entered, left: 2 * left)
    inputs, targets = torch.randn(2, 5, 2), torch.tensor([0, 2])
    estimate = tl.DFA(network).estimate(inputs, targets)
    leaf = network.scan(inputs).last()
    with torch.enable_grad():
        loss = F.cross_entropy(network.readout(leaf), targets)
        (wanted,) = torch.autograd.grad(loss, network.readout.weight)
    assert_close(estimate.gradients["readout.weight"], wanted)
