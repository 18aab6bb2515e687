"""Whatever holds sequences and targets is read into the same sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data import Dataset as TorchDataset

from timelocal.data import Sequences, load
from timelocal.data.sources import sequences_from
from timelocal.errors import ArgumentError

LIKE = torch.zeros(1, dtype=torch.float64)
X, Y = torch.arange(30.0).view(5, 3, 2), torch.tensor([0, 1, 0, 1, 1])


class Series(TorchDataset[Any]):
    """Series of 1, 2, … steps with a label, as arrays; `told` adds their lengths, padded to five steps."""

    def __init__(self, told: bool = False) -> None:
        self.told = told

    def __len__(self) -> int:
        return 5

    def __getitem__(self, n: int) -> Any:
        if n >= 5:
            raise IndexError
        values = np.full((n + 1, 2), n + 1.0)
        if not self.told:
            return values, n % 2
        return np.pad(values, ((0, 4 - n), (0, 0))), n % 2, n + 1


def padded(items: list[Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = [torch.from_numpy(x) for x, _ in items]
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return x, torch.tensor([y for _, y in items]), torch.tensor([len(row) for row in rows])


def same(a: Sequences, b: Sequences) -> None:
    assert torch.equal(a.inputs.double(), b.inputs.double())
    assert torch.equal(a.targets, b.targets)
    assert (a.lengths is None) == (b.lengths is None)
    assert a.lengths is None or b.lengths is None or torch.equal(a.lengths, b.lengths)


@pytest.mark.parametrize(
    "source",
    [
        Sequences(X, Y),
        (X, Y),
        [X, Y, None],
        (X.numpy(), Y.numpy()),
        (list(X), Y.tolist()),
        TensorDataset(X, Y),
        Subset(TensorDataset(X, Y), range(5)),
        DataLoader(TensorDataset(X, Y), batch_size=2),
        DataLoader(TensorDataset(X, Y), batch_size=2, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(X, Y), batch_sampler=[[0, 1, 2], [3, 4]]),
        DataLoader([(X[:2], Y[:2]), (X[2:], Y[2:])], batch_size=None),
    ],
)
def test_every_source_holds_the_same(source: Any) -> None:
    before = torch.get_rng_state()
    same(sequences_from(source, LIKE), Sequences(X, Y))
    if isinstance(source, DataLoader) and source.batch_size:
        assert torch.equal(torch.get_rng_state(), before)


def unequal() -> Sequences:
    series = [np.full((n + 1, 2), n + 1.0) for n in range(5)]
    return Sequences(series, [0, 1, 0, 1, 0])


@pytest.mark.parametrize(
    "source",
    [
        Series(),
        Series(told=True),
        DataLoader(Series(told=True), batch_size=2),
        DataLoader(Series(), batch_size=1),
        DataLoader(Series(), batch_size=2, collate_fn=padded),
        DataLoader(Series(), batch_size=2, collate_fn=padded, shuffle=True),
    ],
)
def test_unequal_series_are_padded_whatever_holds_them(source: Any) -> None:
    found = sequences_from(source, LIKE)
    same(found, unequal())
    assert found.inputs.dtype == torch.float64


def test_targets_at_every_step_are_padded_with_their_batch() -> None:
    batches = [(torch.ones(2, 2, 1), torch.ones(2, 2)), (torch.ones(1, 3, 1), torch.ones(1, 3))]
    found = sequences_from(DataLoader(batches, batch_size=None), LIKE)
    assert found.targets.tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert found.lengths is not None
    assert found.lengths.tolist() == [2, 2, 3]


def test_a_sampler_that_chooses_is_asked() -> None:
    sampler = WeightedRandomSampler([0, 0, 1, 0, 0], 4)
    found = sequences_from(DataLoader(TensorDataset(X, Y), batch_size=2, sampler=sampler), LIKE)
    assert torch.equal(found.inputs, X[[2, 2, 2, 2]])


def test_a_data_set_of_this_package() -> None:
    digits = load("digits-rows")
    assert sequences_from(digits, LIKE).inputs is digits.inputs


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        while True:
            yield torch.zeros(3, 1), 0


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (X, "a Tensor, expected Sequences"),
        ((X,), "a tuple, expected Sequences"),
        (Endless(), "Endless without a length"),
        (DataLoader(Endless()), "Endless without a length"),
        (TensorDataset(X), "an item of the data set: got a tuple"),
        (DataLoader(TensorDataset(X)), "a batch of the loader: got a list"),
        (Subset(TensorDataset(X, Y), []), "no sequence"),
        (DataLoader(Series(), batch_size=2), "a loader that fails.*collate_fn that pads"),
        (
            DataLoader([(X, Y), (torch.zeros(1, 3, 7), Y[:1])], batch_size=None),
            "inputs of batch 1",
        ),
        (DataLoader([(X, Y), (X, Y, Y)], batch_size=None), "some of 2 and some of 3 parts"),
    ],
)
def test_what_holds_no_sequences_is_told(source: Any, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        sequences_from(source, LIKE)
