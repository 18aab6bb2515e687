"""Tasks in many sizes, told in the name; the pixels of MNIST; the archive's sets that a package brings."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from timelocal import data
from timelocal.data.metrics import bit_errors
from timelocal.data.pixel_mnist import ENTRY, FAMILY, permutation
from timelocal.data.ucr import ENTRIES as ARCHIVE
from timelocal.errors import ArgumentError, MissingExtraError


@pytest.mark.parametrize(
    "name",
    [
        "adding:steps=7",
        "copying-memory:length=3,delay=2-6",
        "copying-memory:delay=4",
        "selective-copying:steps=9,length=4",
    ],
)
def test_what_is_loaded_is_what_the_card_says(name: str) -> None:
    card, loaded = data.card(name), data.load(name)
    assert card.name == loaded.name == name
    assert loaded.inputs.shape == card.shape
    assert (
        loaded.targets.shape[: 2 if card.stepwise else 1] == card.shape[: 2 if card.stepwise else 1]
    )
    parts = data.split(loaded, seed=3)
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [10_000, 1000, 1000]
    assert torch.equal(parts.test.inputs, loaded.inputs[-1000:])
    assert data.floors(name, parts)


def test_two_numbers_are_marked_one_in_each_half() -> None:
    part = data.adding_sequences(200, steps=9, seed=1)
    values, marks = part.inputs.unbind(-1)
    assert (marks[:, :4].sum(1) == 1).all()
    assert (marks[:, 4:].sum(1) == 1).all()
    assert set(marks.unique().tolist()) == {0.0, 1.0}
    assert ((values >= 0) & (values < 1)).all()
    for n in range(200):
        assert float(part.targets[n]) == pytest.approx(float(values[n][marks[n] == 1].sum()))
    assert torch.equal(part.inputs[:50], data.adding_sequences(50, steps=9, seed=1).inputs)
    assert not torch.equal(part.inputs, data.adding_sequences(200, steps=9, seed=2).inputs)


def test_a_delay_is_drawn_anew_for_each_sequence() -> None:
    part = data.copying_sequences(300, length=3, delay=(2, 5), seed=1)
    read, due = part.inputs.argmax(-1), part.targets.argmax(-1)
    delays = []
    for own, wanted in zip(read.tolist(), due.tolist(), strict=True):
        start = own.index(9)
        delays.append(start - 3)
        assert own == [*own[:3], *[0] * (start - 3), 9, 9, 9, *[0] * (11 - start - 3)]
        assert wanted == [*[0] * start, *own[:3], *[0] * (11 - start - 3)]
    assert set(delays) == {2, 3, 4, 5}
    fixed = data.copying_sequences(300, length=3, delay=5, seed=1)
    assert torch.equal(read[:, :3], fixed.inputs.argmax(-1)[:, :3])


def test_symbols_are_scattered_and_due_in_order() -> None:
    part = data.selective_copying_sequences(100, length=4, steps=10, seed=1)
    read, due = part.inputs.argmax(-1), part.targets.argmax(-1)
    places = set()
    for own, wanted in zip(read, due, strict=True):
        there = own[:10].nonzero()[:, 0]
        places |= set(there.tolist())
        assert torch.equal(own[there], wanted[10:])
        assert not wanted[:10].any()
        assert (own[10:] == 9).all()
    assert places == set(range(10))
    assert bit_errors(part.targets, part.targets) == 0


def test_the_last_stimulus_matches_the_first_in_every_second_sequence() -> None:
    part = data.delayed_match_sequences(400, delay=6, seed=1)
    first, last = part.inputs[:, 0].argmax(-1), part.inputs[:, -1].argmax(-1)
    assert torch.equal((first == last).long(), part.targets)
    assert part.targets.bincount().tolist() == [200, 200]
    assert 150 < int(first.sum()) < 250  # no stimulus comes first by rule
    between = part.inputs[:, 1:-1]
    assert float(between.std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(part.inputs[:9], data.delayed_match_sequences(9, delay=6, seed=1).inputs)
    loaded = data.load("delayed-match:delay=2")
    assert loaded.inputs.shape == loaded.card.shape == (3000, 4, 2)
    assert tuple(loaded.targets.bincount().tolist()) == loaded.card.class_counts


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("adding:step=3", "option of adding: got 'step'.*Did you mean 'steps'"),
        ("adding:steps=3,steps=4", "steps: got given twice"),
        ("adding:steps=1", "steps: got 1, expected an integer of at least 2"),
        ("adding:steps=2-5", "got '2-5', expected a whole number$"),
        ("adding:", "x"),
        ("delayed-match:delay=1-2", "got '1-2', expected a whole number$"),
        ("copying-memory:delay=7-3", "delay: got \\(7, 3\\), expected two numbers"),
        ("copying-memory:delay=1-2-3", "a whole number or a span"),
        ("selective-copying:length=200", "steps: got 128, expected an integer of at least 200"),
        ("permuted-mnist:seed=one", "seed: got 'one', expected a whole number"),
    ],
)
def test_bad_numbers_are_told(name: str, told: str) -> None:
    if told == "x":
        assert data.card(name).shape == data.card("adding").shape
        return
    with pytest.raises(ArgumentError, match=told):
        data.card(name)


def test_pixels_are_read_row_after_row_or_in_one_order() -> None:
    images = np.arange(2 * 784, dtype=np.float32).reshape(2, 28, 28)
    labels = np.array([3, 4])
    pixels, kept = ENTRY.change((images, labels))
    assert pixels.shape == (2, 784, 1)
    assert pixels[1, :, 0].tolist() == list(range(784, 2 * 784))
    assert kept is labels
    orders = []
    for name in ("permuted-mnist", "permuted-mnist:seed=0", "permuted-mnist:seed=1"):
        changed, _ = FAMILY.entry(name).change((images, labels))  # type: ignore[attr-defined]
        assert sorted(changed[0, :, 0].tolist()) == list(range(784))
        assert (changed[1] == changed[0] + 784).all()
        orders.append(changed[0, :, 0].tolist())
    assert orders[0] == orders[1] == permutation(0).tolist() != orders[2]
    assert data.card("sequential-mnist").parts == data.card("permuted-mnist").parts


@pytest.mark.skipif(data.locate("row-mnist") is None, reason="MNIST is not here")
@pytest.mark.slow
def test_the_parts_of_mnist_are_those_of_its_files() -> None:
    rows, pixels = data.load("row-mnist"), data.load("sequential-mnist")
    parts = data.split(pixels, seed=5)
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [50_000, 10_000, 10_000]
    assert torch.equal(parts.test.inputs, rows.inputs[60_000:].reshape(10_000, 784, 1))
    assert torch.equal(parts.test.targets, rows.targets[60_000:])


@pytest.mark.skipif(
    find_spec("aeon") is None, reason="aeon, which brings the files, is not installed"
)
@pytest.mark.parametrize("name", [entry.card.name for entry in ARCHIVE])
def test_sets_of_the_archive_are_read_from_aeon(name: str) -> None:
    loaded = data.load(name)  # checked against its fingerprint
    assert loaded.inputs.shape == loaded.card.shape
    assert tuple(loaded.targets.bincount().tolist()) == loaded.card.class_counts


@pytest.mark.skipif(find_spec("aeon") is not None, reason="aeon is installed")
def test_without_aeon_its_extra_is_told() -> None:
    with pytest.raises(MissingExtraError, match=r"needs aeon.*timelocal\[ucr\]"):
        data.load("gunpoint")
