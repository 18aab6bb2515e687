"""The named datasets."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from timelocal.data import digits_rows, ecg200, libras, row_mnist, strawberry
from timelocal.data.dataset import Card, Dataset, Entry
from timelocal.errors import raise_problems, unknown_name

_MODULES = (digits_rows, row_mnist, ecg200, strawberry, libras)
ENTRIES: dict[str, Entry] = {module.ENTRY.card.name: module.ENTRY for module in _MODULES}


def names() -> tuple[str, ...]:
    """The names that `load` knows, the built-in one first.

    >>> names()[0]
    'digits-rows'
    """
    return tuple(ENTRIES)


def card(name: str) -> Card:
    """What to know of a dataset before using it; reads and fetches nothing.

    Raises:
        ArgumentError: an unknown name.

    >>> card("ecg200").shape
    (200, 96, 1)
    """
    return _entry(name).card


def locate(name: str, data_dir: str | os.PathLike[str] | None = None) -> str | None:
    """Where `load` would read the dataset now, or None if its files are not there.

    Raises:
        ArgumentError: an unknown name.

    >>> locate("digits-rows")
    'built in'
    """
    return _entry(name).locate(_path(data_dir))


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a dataset by name, in full; the values are always checked against known ones.

    The files are looked for in `data_dir`, else in the folder that TIMELOCAL_DATA names: in a
    sub-folder named after the dataset or in the folder itself. If neither is given they are read
    from the cache (TIMELOCAL_CACHE, or the system's usual place) and downloaded when not there.

    Args:
        name: one of `names()`.
        data_dir: a folder with data files.

    Returns:
        Dataset with inputs (N, T, I) float32 and targets: (N,) int64 in 0..C−1 for classes.

    Raises:
        ArgumentError: an unknown name.
        DataError: files are missing, damaged or cannot be fetched; the message says what to fetch,
            from where, and where to put it.

    >>> digits = load("digits-rows")
    >>> tuple(digits.inputs.shape), digits.targets.dtype
    ((1797, 8, 8), torch.int64)
    """
    entry = _entry(name)
    inputs, targets = entry.read(_path(data_dir))
    return Dataset(name, torch.from_numpy(inputs), torch.from_numpy(targets), entry.card)


def _entry(name: str) -> Entry:
    raise_problems([unknown_name("dataset", name, ENTRIES)])
    return ENTRIES[name]


def _path(data_dir: str | os.PathLike[str] | None) -> Path | None:
    return None if data_dir is None else Path(data_dir).expanduser()
