"""Sequences, padding and minibatches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timelocal.data import Sequences, collate, minibatches
from timelocal.data.trivial import majority_class
from timelocal.errors import ArgumentError


def numbered(count: int, lengths: bool = False) -> Sequences:
    """Sequences whose inputs, targets and lengths all tell which one it is."""
    ids = torch.arange(count)
    inputs = ids.float().reshape(-1, 1, 1).expand(-1, max(count, 1), 2).clone()
    return Sequences(inputs, ids, ids + 1 if lengths else None)


@given(
    count=st.integers(0, 30),
    batch_size=st.integers(1, 40),
    seed=st.none() | st.integers(0, 99),
    lengths=st.booleans(),
)
def test_minibatches_go_through_everything_once(
    count: int, batch_size: int, seed: int | None, lengths: bool
) -> None:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = list(minibatches(numbered(count, lengths), batch_size, generator))
    seen = [i for batch in batches for i in batch.targets.tolist()]
    assert sorted(seen) == list(range(count))
    assert [len(b) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert all(len(b) > 0 for b in batches)
    for batch in batches:
        assert batch.inputs[:, 0, 0].tolist() == batch.targets.tolist()
        if lengths:
            assert batch.lengths is not None
            assert batch.lengths.tolist() == (batch.targets + 1).tolist()
    if seed is None:
        assert seen == list(range(count))


def order(seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    batches = minibatches(numbered(50), 7, generator)
    return [i for batch in batches for i in batch.targets.tolist()]


def test_the_order_is_the_generators_alone() -> None:
    torch.manual_seed(0)
    first = order(3)
    before = torch.get_rng_state()
    torch.manual_seed(1)
    assert order(3) == first
    assert order(4) != first
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn from the global one


def test_a_second_pass_has_another_order() -> None:
    generator = torch.Generator().manual_seed(0)
    passes = [
        [i for b in minibatches(numbered(50), 50, generator) for i in b.targets.tolist()]
        for _ in range(2)
    ]
    assert passes[0] != passes[1]


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_bad_batch_size_is_told_at_the_call(batch_size) -> None:
    with pytest.raises(ArgumentError, match="batch_size"):
        minibatches(numbered(3), batch_size)


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    features=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_collate_pads_on_the_right_with_zeros(
    lengths: list[int], features: int, dtype: torch.dtype
) -> None:
    parts = [torch.rand(n, features, dtype=dtype) + 1 for n in lengths]
    batch = collate(parts, torch.arange(len(lengths)))
    assert batch.inputs.shape == (len(lengths), max(lengths), features)
    assert batch.inputs.dtype == dtype
    for row, part in zip(batch.inputs, parts, strict=True):
        assert torch.equal(row[: len(part)], part)
        assert not row[len(part) :].any()
    if len(set(lengths)) == 1:
        assert batch.lengths is None
    else:
        assert batch.lengths is not None
        assert batch.lengths.tolist() == lengths


def test_collate_pads_targets_at_every_step() -> None:
    batch = collate(
        [torch.ones(2, 1), torch.ones(3, 1)],
        [torch.tensor([1, 2]), torch.tensor([3, 4, 5])],
    )
    assert batch.targets.tolist() == [[1, 2, 0], [3, 4, 5]]


@pytest.mark.parametrize(
    ("parts", "targets"),
    [
        ([], torch.zeros(0)),
        ([torch.ones(2, 1), torch.ones(2, 2)], torch.zeros(2)),
        ([torch.ones(0, 1)], torch.zeros(1)),
        ([torch.ones(2)], torch.zeros(1)),
        ([torch.ones(2, 1)], torch.zeros(2)),
        ([torch.ones(2, 1)], [torch.zeros(3)]),
    ],
)
def test_collate_refuses(parts, targets) -> None:
    with pytest.raises(ArgumentError, match=r"sequences|targets"):
        collate(parts, targets)


@pytest.mark.parametrize(
    ("inputs", "targets", "lengths", "told"),
    [
        (torch.zeros(3, 2), torch.zeros(3), None, "unsqueeze"),
        (torch.zeros(3, 2, 1, dtype=torch.int64), torch.zeros(3), None, "floating point"),
        (torch.zeros(3, 2, 1), torch.zeros(2), None, "targets"),
        (torch.zeros(3, 2, 1), torch.zeros(3), torch.tensor([1, 2]), "lengths"),
        (torch.zeros(3, 2, 1), torch.zeros(3), torch.tensor([1.0, 2, 2]), "lengths"),
        (torch.zeros(3, 2, 1), torch.zeros(3), torch.tensor([0, 2, 2]), "0 and 2"),
        (torch.zeros(3, 2, 1), torch.zeros(3), torch.tensor([1, 2, 3]), "1 and 3"),
        (torch.zeros(3, 2), torch.zeros(2), torch.tensor([1]), "3 problems"),
    ],
)
def test_shapes_that_do_not_agree(inputs, targets, lengths, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        Sequences(inputs, targets, lengths)


def test_majority_class() -> None:
    assert majority_class(torch.tensor([2, 2, 0]), torch.tensor([2, 0, 0, 0])) == 0.25
    assert majority_class(torch.tensor([3, 1]), torch.tensor([1, 3, 3])) == pytest.approx(1 / 3)
    with pytest.raises(ArgumentError, match=r"2 problems[\s\S]*train_targets[\s\S]*test_targets"):
        majority_class(torch.zeros(0, dtype=torch.int64), torch.zeros(3))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (np.array([4, 0, 2]), [4, 0, 2]),
        ([4, 0], [4, 0]),
        ((1, 3), None),
        ([], []),
        (slice(2), [0, 1]),
        (slice(None, None, -2), [4, 2, 0]),
        (3, [3]),
        (-1, [4]),
        (np.int64(1), [1]),
        (torch.tensor(2), [2]),
        (torch.tensor([3, 3]), [3, 3]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (np.array([False, True, False, False, False]), [1]),
        (5, None),
        ([0, -6], None),
        (torch.tensor([7]), None),
        (torch.tensor([True, False]), None),
        (torch.tensor([1.0]), None),
        (None, None),
        ("a", None),
    ],
)
def test_sequences_are_cut_as_numpy_cuts(index, expected) -> None:
    part = Sequences(
        torch.arange(10.0).view(5, 2, 1), torch.arange(5), torch.tensor([1, 2, 1, 2, 1])
    )
    if expected is None:
        with pytest.raises(ArgumentError, match="index: got"):
            part[index]
        return
    cut = part[index]
    assert cut.targets.tolist() == expected
    assert cut.inputs[:, 0, 0].tolist() == [2 * n for n in expected]
    assert cut.lengths is not None
    assert cut.lengths.tolist() == [1 + n % 2 for n in expected]


def test_sequences_come_one_after_the_other() -> None:
    assert [one.targets.tolist() for one in numbered(3)] == [[0], [1], [2]]


@pytest.mark.parametrize("batch_size", [np.int64(2), np.uint8(2)])
def test_batch_sizes_from_numpy(batch_size) -> None:
    assert [len(batch) for batch in minibatches(numbered(3), batch_size)] == [2, 1]


@pytest.mark.parametrize(
    "targets", [[0, 1], np.array([0, 1]), [np.int64(0), torch.tensor(1)], torch.tensor([0, 1])]
)
@pytest.mark.parametrize(
    "series",
    [
        [np.ones((3, 2), ">f4"), np.ones((5, 2), np.longdouble)[::-1]],
        [torch.ones(3, 2), torch.ones(5, 2)],
        [[[1, 1]] * 3, [[1, 1]] * 5],
    ],
    ids=["arrays", "tensors", "lists"],
)
@pytest.mark.parametrize("make", [Sequences, collate])
def test_unequal_series_with_labels_as_people_have_them(make, series, targets) -> None:
    part = make(series, targets)
    assert part.inputs.shape == (2, 5, 2)
    assert part.inputs.dtype == torch.float32
    assert part.inputs.sum((1, 2)).tolist() == [6, 10]
    assert part.targets.tolist() == [0, 1]
    assert part.lengths.tolist() == [3, 5]


def test_unequal_series_with_targets_at_every_step() -> None:
    part = Sequences([np.ones((2, 1)), np.ones((3, 1))], [[1, 2], [3, 4, 5]])
    assert part.targets.tolist() == [[1, 2, 0], [3, 4, 5]]


@pytest.mark.parametrize(
    ("series", "targets", "lengths", "told"),
    [
        ([np.ones((2, 1)), np.ones((3, 1))], [[1, 2], [3, 4]], [2, 2], "lengths.*those of the series, 2, 3"),
        ([np.ones((2, 1)), np.ones((3, 1))], [[1], [3, 4]], None, "targets: got rows of 1, 2 steps"),
        ([np.ones((2, 1)), np.ones((3, 2))], [0, 1], None, r"inputs\[1\]: got shape \(3, 2\)"),
        ([np.ones((2, 1)), np.ones((0, 1))], [0, 1], None, "lengths: got values between 0 and 2"),
    ],
)  # fmt: skip
def test_series_that_do_not_fit_are_told(series, targets, lengths, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        Sequences(series, targets, lengths)
