"""The mean of the losses is torch's: class weights, smoothing, masks; what does not count says nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import timelocal as tl
from oracles import CLASS_WEIGHTS, close, exactly
from timelocal.testing import Case


@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
@pytest.mark.parametrize("ignored", [False, True])
def test_cross_entropy_is_torchs_mean(
    at: str, smoothing: float, weights: Tensor | None, ignored: bool
) -> None:
    """A bool mask here is `ignore_index` there."""
    case = Case("gru", at=at, sequences=6)
    inputs, targets, _, _ = case.batch()
    mask = None
    if ignored:
        generator = torch.Generator().manual_seed(0)
        mask = torch.rand(targets.shape, generator=generator) < 0.6
    loss = tl.losses.CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    rule = tl.BPTT(case.network(), loss=loss, at=at)
    found = rule.estimate(inputs, targets, mask=mask)
    rows = found.outputs.flatten(0, -2).requires_grad_()
    flat = targets.flatten() if mask is None else targets.masked_fill(~mask, -100).flatten()
    expected = F.cross_entropy(rows, flat, weights, label_smoothing=smoothing)
    close(found.loss, expected.detach())
    (errors,) = torch.autograd.grad(expected, rows)
    close(found.gradients["readout.bias"], errors.sum(0))
    right = (rows.argmax(1) == targets.flatten())[flat >= 0].double().mean()
    close(found.accuracy, right)
    assert found.count == float((flat >= 0).sum())


@pytest.mark.parametrize(("loss", "function"), [
    ("mse", F.mse_loss), ("bce", F.binary_cross_entropy_with_logits),
])  # fmt: skip
@pytest.mark.parametrize("at", ["last", "every"])
def test_real_valued_losses_are_torchs_mean(loss: str, function: object, at: str) -> None:
    case = Case("gru", at=at, loss=loss)
    inputs, targets, _, _ = case.batch()
    found = tl.BPTT(case.network(), loss=loss, at=at).estimate(inputs, targets)
    close(found.loss, function(found.outputs, targets))
    assert found.accuracy is None


@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("rule", [tl.BPTT, tl.DFA])
def test_weights_in_a_mask_are_repetitions(at: str, rule: type[tl.Rule]) -> None:
    """A sequence with weight 2 counts as two of it."""
    case = Case("lstm", at=at)
    inputs, targets, _, _ = case.batch()
    mask = torch.ones(targets.shape, dtype=torch.float64)
    mask[0] = 2
    weighted = rule(case.network(), at=at).estimate(inputs, targets, mask=mask)
    repeated = rule(case.network(), at=at).estimate(inputs[[0, 0, 1, 2]], targets[[0, 0, 1, 2]])
    close(weighted.loss, repeated.loss)
    close(weighted.accuracy, repeated.accuracy)
    close(weighted.gradients, repeated.gradients)
    assert weighted.count == repeated.count


@pytest.mark.parametrize("rule", [tl.BPTT, tl.DFA])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.float64])
def test_masks_of_any_type(rule: type[tl.Rule], dtype: torch.dtype) -> None:
    case = Case("rnn", at="every")
    inputs, targets, _, _ = case.batch()
    mask = torch.arange(15).reshape(3, 5) % 3 > 0
    expected = rule(case.network(), at="every").estimate(inputs, targets, mask=mask)
    found = rule(case.network(), at="every").estimate(inputs, targets, mask=mask.to(dtype))
    exactly(found.gradients, expected.gradients)


def relative(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that is not finite where the target is zero, as a blank target is."""
    return ((outputs - targets) / targets).square().mean(-1)


@pytest.mark.parametrize("rule", [tl.BPTT, tl.DFA])
def test_a_loss_that_explodes_where_nothing_counts(rule: type[tl.Rule]) -> None:
    case = Case("gru", at="every", loss="mse", unequal=True, mask=True)
    inputs, targets, lengths, mask = case.batch()
    learner = rule(case.network(), loss=relative, at="every")
    found = learner.estimate(inputs, targets + 1, lengths, mask=mask)
    assert found.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in found.gradients.values())


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda y, t: None, "got None"),
        (lambda y, t: 1.0, "got 1.0"),
        (lambda y, t: y.detach().numpy().sum(-1), "got shape"),
        (lambda y, t: y.sum(-1) * 1j, "complex"),
        (lambda y, t: y.detach().sum(-1), "do not depend on the outputs"),
        (lambda y, t: y.argmax(-1), "do not depend on the outputs"),
        (lambda y, t: torch.ones(len(y), requires_grad=True), "do not depend on the outputs"),
    ],
)
def test_functions_that_are_no_loss_are_told(function, told: str) -> None:
    rule = tl.BPTT(tl.RNN(2, 3, 2), loss=function)
    with pytest.raises(tl.ArgumentError, match=f"loss function: .*{told}"):
        rule.estimate(torch.zeros(4, 5, 2), torch.zeros(4))


def test_rules_that_perturb_need_no_gradient_of_the_loss_and_take_any_numbers() -> None:
    def count(y: Tensor, t: Tensor) -> Tensor:
        return y.argmax(-1) != t

    rule = tl.NP(tl.RNN(2, 3, 2), loss=count, sigma=1.0)
    loss = rule.estimate(torch.zeros(4, 5, 2), torch.tensor([0, 1, 0, 1])).loss
    assert loss.dtype == torch.float32
    assert loss.item() == 0.5
