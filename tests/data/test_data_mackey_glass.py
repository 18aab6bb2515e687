"""Mackey-Glass: the equation, the seeds, and what is known of its difficulty."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from timelocal import data
from timelocal.data.mackey_glass import solve
from timelocal.data.metrics import nrmse
from timelocal.errors import ArgumentError


def test_solves_the_equation_step_by_step() -> None:
    """Against Euler's method in plain numbers, over more than three delays."""
    history = np.random.default_rng(0).uniform(1.1, 1.3, 171)
    x = history.tolist()
    for _ in range(600):
        now, past = x[-1], x[-171]
        tenth = ((past**2) ** 2) ** 2 * past**2
        x.append(now + (0.2 * past / (1 + tenth) - 0.1 * now) / 10)
    assert solve(history[:, None], 60)[:, 0] == pytest.approx(x[180::10], abs=1e-12)


def test_the_step_is_small_enough() -> None:
    """A finer solution by Heun's method is close while chaos has not yet drawn them apart."""
    substeps = 100
    x = [1.2] * (17 * substeps + 1)

    def slope(past: float, now: float) -> float:
        return 0.2 * past / (1 + past**10) - 0.1 * now

    for _ in range(100 * substeps):
        now, past, past_next = x[-1], x[-17 * substeps - 1], x[-17 * substeps]
        first = slope(past, now)
        x.append(now + (first + slope(past_next, now + first / substeps)) / (2 * substeps))
    coarse = solve(np.full((171, 1), 1.2), 100)[:, 0]
    assert np.abs(coarse - np.array(x[18 * substeps :: substeps])).max() < 0.05


def test_targets_are_the_inputs_later_or_before() -> None:
    ahead = data.mackey_glass_streams(2, 60)
    assert torch.equal(ahead.inputs[:, 15:], ahead.targets[:, :-15])
    back = data.mackey_glass_streams(2, 60, horizon=-15)
    assert torch.equal(back.inputs, ahead.targets)
    assert torch.equal(back.targets, ahead.inputs)
    assert ahead.inputs.shape == ahead.targets.shape == (2, 60, 1)
    assert ahead.inputs.dtype == ahead.targets.dtype == torch.float32


def test_seeds() -> None:
    first = data.mackey_glass_streams(3, 100, seed=1)
    assert torch.equal(first.inputs, data.mackey_glass_streams(3, 100, seed=1).inputs)
    # A stream is the same in whatever company, and no stream is one of another seed.
    assert torch.equal(first.inputs[:2], data.mackey_glass_streams(2, 100, seed=1).inputs)
    others = torch.cat([first.inputs, data.mackey_glass_streams(3, 100, seed=2).inputs])
    assert len(torch.unique(others, dim=0)) == 6


def test_streams_are_independent() -> None:
    """Their beginnings are no more alike than distant pieces of one long stream."""

    def likeness(rows: torch.Tensor) -> float:
        upper = torch.triu_indices(len(rows), len(rows), offset=1)
        return rows.corrcoef()[upper[0], upper[1]].abs().mean().item()

    streams = data.mackey_glass_streams(30, 300).inputs[..., 0]
    one = data.mackey_glass_streams(1, 30 * 500).inputs[0, :, 0].reshape(30, 500)[:, :300]
    assert likeness(streams) == pytest.approx(likeness(one), abs=0.1)
    assert likeness(streams) < 0.6


def test_the_set_and_its_floors() -> None:
    dataset = data.load("mackey-glass")
    split = data.split(dataset, 0)
    assert [len(p) for p in (split.train, split.validation, split.test)] == [10, 10, 10]
    assert torch.equal(split.train.inputs, dataset.inputs[:10])
    assert torch.equal(split.test.targets, dataset.targets[20:])
    assert split.duplicates == {"train/validation": 0, "train/test": 0, "validation/test": 0}
    assert abs(dataset.inputs.mean().item()) < 0.005
    assert dataset.inputs.std().item() == pytest.approx(0.216, abs=0.002)
    # 1.62 and 0.445 where the streams are other ones; they differ by about 1 % from set to set.
    floors = data.floors("mackey-glass", split)
    assert floors["persistence, NRMSE"] == pytest.approx(1.62, rel=0.01)
    assert floors["linear on 50 lags, NRMSE"] == pytest.approx(0.445, rel=0.01)


def test_recall_is_another_task() -> None:
    """What is to be recalled is among the lags."""
    ahead, back = data.load("mackey-glass"), data.load("mackey-glass-recall")
    assert torch.equal(back.inputs, ahead.targets)
    assert torch.equal(back.targets, ahead.inputs)
    floors = data.floors("mackey-glass-recall", data.split(back, 0))
    assert floors["persistence, NRMSE"] == pytest.approx(1.62, rel=0.01)
    assert floors["linear on 50 lags, NRMSE"] < 1e-3


def test_a_constant_has_error_one() -> None:
    targets = data.mackey_glass_streams(2, 50).targets
    assert nrmse(targets.mean().expand_as(targets), targets) == pytest.approx(1)


def test_refused() -> None:
    with pytest.raises(ArgumentError, match=r"2 problems[\s\S]*streams: got 0[\s\S]*steps: got 0"):
        data.mackey_glass_streams(0, 0)
    with pytest.raises(ArgumentError, match="seed"):
        data.mackey_glass_streams(1, 1, seed=-1)
