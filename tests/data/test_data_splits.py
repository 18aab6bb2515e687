"""Seeded splits, their duplicates, and the common scale."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timelocal.data import Sequences, Split, collate, load, moments, split, standardize
from timelocal.errors import ArgumentError


def numbered(labels: torch.Tensor) -> Sequences:
    """Sequences whose input tells which one it is."""
    ids = torch.arange(len(labels), dtype=torch.float64)
    return Sequences(ids.reshape(-1, 1, 1), labels)


def members(part: Sequences) -> list[int]:
    return part.inputs[:, 0, 0].int().tolist()


def parts(parted: Split) -> tuple[Sequences, Sequences, Sequences]:
    return parted.train, parted.validation, parted.test


@given(
    labels=st.lists(st.integers(0, 4), min_size=5, max_size=60),
    seed=st.integers(0, 2**40),
    stratified=st.booleans(),
)
def test_every_sequence_is_in_one_part(labels: list[int], seed: int, stratified: bool) -> None:
    targets = torch.tensor(labels)
    parted = split(numbered(targets), seed, stratified=stratified)
    together = [i for part in parts(parted) for i in members(part)]
    assert sorted(together) == list(range(len(labels)))
    for part in parts(parted):
        assert part.targets.tolist() == targets[members(part)].tolist()
    count = len(labels)
    for part, share in zip(parts(parted), (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) - share * count) <= 1


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (200, [120, 40, 40]),
        (360, [216, 72, 72]),
        (983, [590, 196, 197]),
        (1797, [1078, 360, 359]),
        (70000, [42000, 14000, 14000]),
        (5, [3, 1, 1]),
    ],
)
def test_sizes(count: int, sizes: list[int], stratified: bool) -> None:
    parted = split(numbered(torch.arange(count) % 3), 0, stratified=stratified)
    assert [len(part) for part in parts(parted)] == sizes


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=6).filter(lambda c: sum(c) >= 5),
    seed=st.integers(0, 99),
)
def test_stratified_parts_have_their_share_of_each_class(counts: list[int], seed: int) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    parted = split(numbered(shuffled), seed, stratified=True)
    for part in parts(parted):
        got = part.targets.bincount(minlength=len(counts))
        for class_count, expected in zip(got.tolist(), counts, strict=True):
            assert abs(class_count - expected * len(part) / len(labels)) < 2


def test_the_seed_alone_decides() -> None:
    labels = torch.arange(100) % 4
    for stratified in (False, True):
        torch.manual_seed(0)
        first = members(split(numbered(labels), 3, stratified=stratified).train)
        torch.manual_seed(1)
        assert members(split(numbered(labels), 3, stratified=stratified).train) == first
        assert members(split(numbered(labels), 4, stratified=stratified).train) != first
        assert first != sorted(first)


def test_splits_stay_what_they_are() -> None:
    """A published result names its seed: the same seed must give the same parts for ever."""
    labels = torch.arange(50) % 4
    made = [
        members(part)
        for stratified in (False, True)
        for part in parts(split(numbered(labels), 7, stratified=stratified))
    ]
    assert hashlib.sha256(repr(made).encode()).hexdigest()[:16] == "e47b41a78b27f1af"


def test_lengths_and_float_targets_go_along() -> None:
    whole = Sequences(torch.rand(10, 4, 1), torch.rand(10, 4, 2), torch.arange(10) % 4 + 1)
    parted = split(whole, 0)
    for part in parts(parted):
        assert part.lengths is not None
        for row, target, length in zip(part.inputs, part.targets, part.lengths, strict=True):
            index = (whole.inputs == row).all(dim=(1, 2)).nonzero().item()
            assert whole.lengths is not None
            assert whole.lengths[index] == length
            assert torch.equal(whole.targets[index], target)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"seed": 0, "fractions": (0.6, 0.2, 0.3)}, "fractions"),
        ({"seed": 0, "fractions": (0.6, 0.4)}, "fractions"),
        ({"seed": 0, "fractions": (1.2, -0.4, 0.2)}, "fractions"),
        ({"seed": 0, "fractions": (0, 0.5, 0.5)}, "fractions"),
        ({"seed": -1, "fractions": (1, 1, 1)}, "2 problems"),
    ],
)
def test_bad_arguments(arguments, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        split(numbered(torch.zeros(20, dtype=torch.int64)), **arguments)


def test_too_few_sequences() -> None:
    with pytest.raises(ArgumentError, match=r"2 sequences, expected enough for a test part of 20%"):
        split(numbered(torch.tensor([0, 1])), 0)


def test_a_part_may_be_left_out() -> None:
    parted = split(numbered(torch.arange(10)), 0, fractions=(0.8, 0, 0.2))
    assert [len(part) for part in parts(parted)] == [8, 0, 2]


def test_only_classes_can_be_stratified() -> None:
    with pytest.raises(ArgumentError, match="stratified=False"):
        split(Sequences(torch.zeros(9, 2, 1), torch.zeros(9, 2)), 0, stratified=True)


def test_duplicates_are_counted_in_pairs() -> None:
    def of(*values: float) -> Sequences:
        return Sequences(torch.tensor(values).double().reshape(-1, 1, 1), torch.zeros(len(values)))

    parted = Split(of(1, 1, 2, 0.0), of(1, 3), of(1, 3, 3, -0.0))
    assert parted.duplicates == {"train/validation": 2, "train/test": 3, "validation/test": 3}


def test_padding_does_not_make_duplicates() -> None:
    """(1, 1) padded to three steps is not (1, 1, 0)."""
    batch = collate([torch.ones(2, 1), torch.tensor([[1.0], [1.0], [0.0]])], torch.zeros(2))
    short, long = batch[torch.tensor([0])], batch[torch.tensor([1])]
    duplicates = Split(short, long, short).duplicates
    assert duplicates == {"train/validation": 0, "train/test": 1, "validation/test": 0}


@pytest.mark.data
def test_duplicates_of_libras(data_dir) -> None:
    libras = load("libras", data_dir)
    rows = [tuple(row) for row in libras.inputs.flatten(1).tolist()]
    assert len(rows) - len(set(rows)) == 30
    parted = split(libras, 0)
    named = {"train": parted.train, "validation": parted.validation, "test": parted.test}
    counted = {
        f"{a}/{b}": sum(torch.equal(x, y) for x in named[a].inputs for y in named[b].inputs)
        for a, b in itertools.combinations(named, 2)
    }
    assert parted.duplicates == counted
    assert sum(counted.values()) > 0


def test_standardized_by_the_training_part_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 5, 3, generator=generator) * torch.tensor([1.0, 20, 0]) + 7
    whole = Sequences(inputs, torch.arange(100))
    parted = split(whole, 0)
    scaled = standardize(parted)
    rows = parted.train.inputs.double().flatten(0, 1)
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    deviation[2] = 1
    for before, after in zip(parts(parted), parts(scaled), strict=True):
        expected = (before.inputs.double() - mean) / deviation
        torch.testing.assert_close(after.inputs.double(), expected, rtol=1e-5, atol=1e-5)
        assert after.inputs.dtype == torch.float32
        assert torch.equal(after.targets, before.targets)
    assert torch.equal(parted.train.inputs, whole.inputs[parted.train.targets])  # left as it was


def test_moments_do_not_cancel() -> None:
    """A small spread far from 0, where mean(x²) − mean(x)² would lose every digit."""
    values = 1e6 + torch.tensor([-1.0, 1.0]).repeat(500)
    mean, deviation = moments(Sequences(values.reshape(-1, 1, 1), torch.zeros(1000)))
    assert mean.item() == 1e6
    assert deviation.item() == 1


def test_padding_neither_counts_nor_changes() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 5, 1, 4, 2, 5, 3, 2, 1, 4]
    series = [torch.randn(n, 2, generator=generator) * 3 + 5 for n in lengths]
    parted = split(collate(series, torch.arange(10)), 0)
    scaled = standardize(parted)
    valid = torch.cat([series[i] for i in parted.train.targets])
    for part in parts(scaled):
        assert part.lengths is not None
        for row, target, length in zip(part.inputs, part.targets, part.lengths, strict=True):
            expected = (series[target] - valid.mean(0)) / valid.std(0, correction=0)
            torch.testing.assert_close(row[:length], expected)
            assert not row[length:].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 14.62, 1e4, -0.3, 0.0])
def test_a_constant_channel_is_zero(dtype: torch.dtype, value: float) -> None:
    inputs = torch.full((30, 7, 2), value, dtype=dtype)
    inputs[..., 1] = torch.randn(30, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    parted = split(Sequences(inputs, torch.zeros(30)), 0)
    parted.test.inputs[0] += 1e-6
    scaled = standardize(parted)
    assert not scaled.train.inputs[..., 0].any()
    assert float(scaled.test.inputs[..., 0].abs().max()) < 1e-2
    torch.testing.assert_close(
        scaled.train.inputs[..., 1].float().std(correction=0), torch.tensor(1.0), rtol=0.01, atol=0
    )


def test_constant_up_to_rounding_is_constant_and_a_small_spread_is_not() -> None:
    def of(values: torch.Tensor) -> float:
        return moments(Sequences(values.view(-1, 1, 1), torch.zeros(len(values))))[1].item()

    base = torch.full((200,), 0.1, dtype=torch.float64)
    ulp = torch.finfo(torch.float64).eps * 0.1
    wobbling = base + ulp * (torch.arange(200) % 2)
    assert of(wobbling) == 1
    assert of(base + 1e-9 * (torch.arange(200) % 2)) == pytest.approx(5e-10, rel=1e-4)


def test_half_precision_neither_overflows_nor_stops() -> None:
    inputs = torch.tensor([-3e4, 3e4], dtype=torch.float16).repeat(10).view(10, 2, 1)
    assert moments(Sequences(inputs, torch.zeros(10)))[1].item() == 3e4
    whole = Sequences(inputs.bfloat16(), torch.zeros(10))
    assert Split(whole, whole, whole).duplicates["train/test"] == 100


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3)])
def test_seeds_and_fractions_from_numpy(seed) -> None:
    whole = numbered(torch.arange(20) % 2)
    fractions = tuple(np.float32([0.5, 0.25, 0.25]))
    found = split(whole, seed, fractions, stratified=np.True_)
    assert torch.equal(found.test.inputs, split(whole, 3, (0.5, 0.25, 0.25), True).test.inputs)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: split((torch.zeros(9, 2, 1), torch.zeros(9)), 0), "dataset: got a tuple, expected Seq"),
        (lambda: standardize(numbered(torch.arange(5))), "split: got a Sequences, expected a Split"),
        (lambda: moments(numbered(torch.arange(0))), "sequences: got no values"),
        (lambda: Split(1, 2, 3), "3 problems"),
        (lambda: split(numbered(torch.arange(9)), 0, fractions="abc"), "fractions: got 'abc'"),
    ],
)  # fmt: skip
def test_what_is_no_part_is_told(call, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        call()


@pytest.mark.parametrize("lengths", [None, torch.tensor([4, 2, 3])])
def test_moments_with_weights_are_those_of_repeated_sequences(lengths: torch.Tensor | None) -> None:
    inputs = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs[1:, :, 1] = 0.1  # constant in all that count
    part = Sequences(inputs, torch.zeros(3), lengths)
    found = moments(part, np.array([0, 0.1, 0.3]))  # more than float32 holds
    expected = moments(part[[1, 2, 2, 2]])
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
    assert found[1][1] == 1


@pytest.mark.parametrize("weights", [[1, 1], [1, -1, 1], [0, 0, 0], [1, float("nan"), 1], "junk"])
def test_weights_that_are_none_are_told(weights: object) -> None:
    with pytest.raises(ArgumentError, match="weights"):
        moments(Sequences(torch.rand(3, 4, 2), torch.zeros(3)), weights)
