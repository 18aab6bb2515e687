"""Windows of one series are views of it from the file to the batch, and give what copies give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import timelocal as tl
from timelocal.data import Sequences, Split, moments, read_frame, split, standardize
from timelocal.data.overlapping import rows_under, times_seen, windows_over
from timelocal.data.splits import scaled
from timelocal.training.parts import fingerprint

PARTS = ("train", "validation", "test")


def forecasts() -> tl.data.Dataset:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"load": draw.normal(5, 3, 200), "other": draw.normal(size=200)})
    return read_frame(frame, target="load", horizon=3, window=12)


def copied(part: Sequences) -> Sequences:
    return Sequences(part.inputs.contiguous().clone(), part.targets.contiguous().clone())


def test_every_part_lies_in_the_memory_of_its_rows():
    parts = split(forecasts(), seed=0)
    for name in PARTS:
        for one in (parts, standardize(parts)):
            part = getattr(one, name)
            rows = rows_under(part.inputs)
            assert rows is not None
            assert rows.shape == (len(part) + 11, 2)
            assert torch.equal(windows_over(rows, 12), part.inputs)
            assert part.inputs.untyped_storage().nbytes() <= 200 * 2 * 4


def test_moments_and_scales_are_those_of_copies():
    parts = split(forecasts(), seed=0)
    copies = Split(*(copied(getattr(parts, name)) for name in PARTS))
    assert rows_under(copies.train.inputs) is None
    for ours, theirs in zip(moments(parts.train), moments(copies.train), strict=True):
        torch.testing.assert_close(ours, theirs)
    ours, theirs = standardize(parts), standardize(copies)
    for name in PARTS:
        torch.testing.assert_close(getattr(ours, name).inputs, getattr(theirs, name).inputs)
        assert fingerprint(getattr(parts, name)) == fingerprint(getattr(copies, name))


@pytest.mark.parametrize(("count", "steps"), [(2, 2), (5, 3), (3, 5), (4, 4)])
def test_rows_count_as_often_as_windows_hold_them(count, steps):
    windows = windows_over(torch.arange(float(count + steps - 1))[:, None], steps)
    held = torch.bincount(windows.flatten().long())
    assert torch.equal(times_seen(windows), held)


def test_training_on_views_is_training_on_copies():
    parts = split(forecasts(), seed=0)
    parts = replace(
        parts, **{n: replace(p, targets=p.targets / 5) for n in PARTS if (p := getattr(parts, n))}
    )
    copies = Split(*(copied(getattr(parts, name)) for name in PARTS))
    losses = []
    for one in (parts, copies):
        rule = tl.DFA(tl.GRU(2, 8, 3, seed=0), loss="mse")
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.01)
        history = tl.fit(rule, optimizer, one.train, one.validation, epochs=2, batch_size=16)
        losses.append([record["validation_loss"] for record in history.epochs])
    assert losses[0] == losses[1]


def test_padding_of_windows_of_the_same_rows_is_zero_in_its_own_window_alone() -> None:
    inputs = windows_over(torch.arange(1.0, 7.0)[:, None], 3)
    part = Sequences(inputs, torch.zeros(4, 1), torch.tensor([1, 3, 3, 3]))
    found = scaled(part, torch.zeros(1), torch.ones(1)).inputs[:, :, 0]
    assert found.tolist() == [[1, 0, 0], [2, 3, 4], [3, 4, 5], [4, 5, 6]]
    assert inputs[0, :, 0].tolist() == [1, 2, 3]
