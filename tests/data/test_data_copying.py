"""Copying: the form of the sequences, and that the test is never seen before."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timelocal import data
from timelocal.data.metrics import bit_errors, mse
from timelocal.data.trivial import blank_then_uniform
from timelocal.errors import ArgumentError


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 5), st.integers(0, 3))
def test_symbols_then_blanks_then_markers(count: int, length: int, delay: int, seed: int) -> None:
    part = data.copying_sequences(count, length, delay, seed)
    assert part.inputs.shape == part.targets.shape == (count, 2 * length + delay, 10)
    for one_hot in (part.inputs, part.targets):
        assert torch.equal(one_hot.sum(-1), torch.ones(one_hot.shape[:2]))
        assert one_hot.amax(-1).eq(1).all()
    read, said = part.inputs.argmax(-1), part.targets.argmax(-1)
    symbols = read[:, :length]
    assert symbols.min() >= 1
    assert symbols.max() <= 8
    assert not read[:, length : length + delay].any()
    assert (read[:, length + delay :] == 9).all()
    assert not said[:, : length + delay].any()
    assert torch.equal(said[:, length + delay :], symbols)


def test_seeds() -> None:
    first = data.copying_sequences(3, seed=1)
    assert torch.equal(first.inputs, data.copying_sequences(3, seed=1).inputs)
    assert torch.equal(first.inputs[:2], data.copying_sequences(2, seed=1).inputs)
    both = torch.cat([first.inputs, data.copying_sequences(3, seed=2).inputs])
    assert len(torch.unique(both, dim=0)) == 6


def test_symbols_are_uniform() -> None:
    counts = data.load("copying").targets[:, 110:].sum((0, 1))
    assert counts[0] == counts[9] == 0
    expected = 100_000 / 8
    assert ((counts[1:9] - expected) ** 2 / expected).sum() < 24.3  # χ² of 7, at 0.1 %


def test_nothing_of_the_test_is_in_the_training() -> None:
    split = data.split(data.load("copying"), 3)
    assert [len(p) for p in (split.train, split.validation, split.test)] == [600, 200, 200]
    assert set(split.duplicates.values()) == {0}


def test_fixed_sequences() -> None:
    split, again = (data.split(data.load("copying-fixed"), seed) for seed in (0, 7))
    assert [len(p) for p in (split.train, split.validation, split.test)] == [1, 1, 1]
    assert torch.equal(split.train.inputs, again.train.inputs)
    assert torch.equal(split.test.targets, again.test.targets)
    assert set(split.duplicates.values()) == {0}


@pytest.mark.parametrize("name", ["copying", "copying-fixed"])
def test_floor(name: str) -> None:
    """0.0417: over 100 of 210 steps, (7/8)² + 7/8² of 10 outputs."""
    split = data.split(data.load(name), 0)
    floors = data.floors(name, split)
    assert floors["blank, then uniform over 8, MSE"] == pytest.approx(
        100 / 210 * (7**2 + 7) / 8**2 / 10
    )
    assert f"{floors['blank, then uniform over 8, MSE']:.4f}" == "0.0417"
    assert floors["blank, then uniform over 8, bit errors"] == 7 / 8


def test_no_better_constant_is_known_without_the_symbols() -> None:
    """The floor is the least MSE of a prediction that depends on the step alone."""
    targets = data.load("copying").targets
    by_step = targets.mean(0, keepdim=True).expand_as(targets)
    predicted = blank_then_uniform(data.copying_sequences(1))
    assert mse(by_step, targets) == pytest.approx(mse(predicted.expand_as(targets), targets), 0.01)


def test_bit_errors_count_symbols_alone() -> None:
    targets = data.copying_sequences(2, length=4).targets
    assert bit_errors(targets, targets) == 0
    outputs = targets.clone()
    outputs[:, :14] = torch.eye(10)[9]  # wrong where a blank is due: not counted
    outputs[0, 14] = torch.eye(10)[0]  # a blank for a symbol: counted
    assert bit_errors(outputs, targets) == 1 / 8


def test_refused() -> None:
    with pytest.raises(ArgumentError, match=r"3 problems[\s\S]*count[\s\S]*length[\s\S]*delay"):
        data.copying_sequences(0, 0, -1)
