"""Metrics and trivial predictors, against other ways to the same numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from timelocal.data import Sequences
from timelocal.data.metrics import bit_errors, mse, nrmse
from timelocal.data.trivial import linear_on_lags, persistence
from timelocal.errors import ArgumentError


def random_part(count: int, steps: int, features: int, outputs: int, seed: int) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    return Sequences(
        torch.randn(count, steps, features, generator=generator),
        torch.randn(count, steps, outputs, generator=generator) + 3,
    )


def lagged(part: Sequences, lags: int) -> tuple[list[list[float]], list[list[float]]]:
    """One step at a time, in plain Python: all features of the lags, and the targets."""
    x, y = [], []
    for inputs, targets in zip(part.inputs, part.targets, strict=True):
        for t in range(lags - 1, len(inputs)):
            x.append(inputs[t - lags + 1 : t + 1].flatten().tolist())
            y.append(targets[t].tolist())
    return x, y


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), st.integers(1, 2), st.integers(0, 99)
)
def test_linear_on_lags_is_ridge_regression(
    count: int, lags: int, features: int, outputs: int, seed: int
) -> None:
    train = random_part(count, 20, features, outputs, seed)
    test = random_part(2, 9, features, outputs, seed + 100)
    reference = Ridge(alpha=0.5).fit(*lagged(train, lags))
    expected = torch.tensor(reference.predict(lagged(test, lags)[0])).reshape(2, -1, outputs)
    got = linear_on_lags(train, test, lags, ridge=0.5)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


def test_linear_on_lags_does_not_look_at_test_targets() -> None:
    train, test = random_part(2, 20, 1, 1, 0), random_part(1, 20, 1, 1, 1)
    other = Sequences(test.inputs, test.targets + 1)
    first, second = (linear_on_lags(train, part, 3, ridge=1.0) for part in (test, other))
    assert torch.equal(first, second)


def test_linear_on_lags_refuses() -> None:
    part = random_part(1, 5, 1, 1, 0)
    padded = Sequences(part.inputs, part.targets, torch.tensor([3]))
    with pytest.raises(ArgumentError, match=r"3 problems[\s\S]*ridge[\s\S]*lags[\s\S]*lags"):
        linear_on_lags(part, part, 6, ridge=0)
    with pytest.raises(ArgumentError, match=r"test.lengths: got several"):
        linear_on_lags(part, padded, 2, ridge=1)


def test_persistence_takes_its_feature() -> None:
    part = random_part(2, 4, 3, 1, 0)
    assert torch.equal(persistence(part, 2), part.inputs[..., 2:])


def test_metrics_agree_with_their_definitions() -> None:
    part = random_part(2, 50, 3, 3, 0)
    outputs, targets = part.inputs, part.targets
    expected = torch.nn.functional.mse_loss(outputs, targets).item()
    assert mse(outputs, targets) == pytest.approx(expected)
    scale = targets.std(correction=0).item()
    assert nrmse(outputs, targets) == pytest.approx(expected**0.5 / scale)
    # In other units the one changes and the other does not.
    assert nrmse(9 * outputs + 4, 9 * targets + 4) == pytest.approx(nrmse(outputs, targets))
    assert mse(9 * outputs + 4, 9 * targets + 4) == pytest.approx(81 * expected, rel=1e-5)


@pytest.mark.parametrize("metric", [mse, nrmse, bit_errors])
def test_metrics_refuse_what_would_be_broadcast(metric) -> None:
    with pytest.raises(ArgumentError, match=r"outputs: got \(2, 3\), expected \(2, 3, 1\)"):
        metric(torch.zeros(2, 3), torch.zeros(2, 3, 1))
    with pytest.raises(ArgumentError, match="not empty"):
        metric(torch.zeros(0, 1), torch.zeros(0, 1))


def test_metrics_refuse_targets_that_say_nothing() -> None:
    with pytest.raises(ArgumentError, match=r"all equal.*Use mse"):
        nrmse(torch.zeros(2, 1), torch.ones(2, 1))
    with pytest.raises(ArgumentError, match="blanks alone"):
        bit_errors(torch.zeros(1, 2), torch.eye(2)[:1])
