"""The named datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from timelocal import plugins
from timelocal.data import (
    adding,
    copying,
    delayed_match,
    digits_rows,
    ecg200,
    libras,
    mackey_glass,
    pixel_mnist,
    row_mnist,
    selective,
    strawberry,
    temperature_block,
    ucr,
    weather,
)
from timelocal.data.dataset import Card, Dataset, Entry
from timelocal.data.families import Registry
from timelocal.data.own import own_entry
from timelocal.data.own_files import OwnFile, own_file
from timelocal.data.reading import is_file
from timelocal.data.sequences import Split
from timelocal.errors import Problem, described, raise_problems
from timelocal.files import as_path

_ENTRIES: tuple[Entry, ...] = (
    digits_rows.ENTRY,
    row_mnist.ENTRY,
    pixel_mnist.ENTRY,
    ecg200.ENTRY,
    strawberry.ENTRY,
    libras.ENTRY,
    *ucr.ENTRIES,
    *mackey_glass.ENTRIES,
    *copying.ENTRIES,
    *weather.ENTRIES,
)
_FAMILIES = (
    pixel_mnist.FAMILY,
    copying.FAMILY,
    selective.FAMILY,
    adding.FAMILY,
    delayed_match.FAMILY,
    temperature_block.FAMILY,
)
ENTRIES = Registry(_ENTRIES, _FAMILIES)


def names() -> tuple[str, ...]:
    """The names of the data sets that come with this package, classification first.

    Some stand for a family: `adding` is `adding:steps=200`, and there is also `adding:steps=400`.
    `load` also knows those of installed packages, and `module:name` (`timelocal.plugins`).

    >>> names()[0]
    'digits-rows'
    """
    return tuple(sorted(ENTRIES, key=lambda name: ENTRIES[name].card.classes is None))


def card(name: str, reading: Mapping[str, Any] | None = None) -> Card:
    """What to know about a data set before using it; reads and fetches nothing, except your own file.

    Raises:
        ArgumentError: an unknown name.

    >>> card("ecg200").shape
    (200, 96, 1)
    """
    return _entry(name, reading).card


def locate(name: str, data_dir: str | os.PathLike[str] | None = None) -> str | None:
    """Where `load` would read the data set now, or None if its files are missing.

    Raises:
        ArgumentError: an unknown name.

    >>> locate("digits-rows")
    'built in'
    """
    return _entry(name).locate(_path(data_dir))


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    reading: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load a data set by name; the values are always checked against known ones.

    The files are looked for in `data_dir`, or else in the folder named by TIMELOCAL_DATA: in a sub-folder
    named after the data set or in the folder itself. If neither is given, they are read from the cache
    (TIMELOCAL_CACHE, or the system's usual place) and downloaded if missing.

    Args:
        name: one of `names()`, of an installed package, or `module:name`; or a file or folder of your own.
        data_dir: a folder with data files.
        reading: for your own file, the further arguments of `read`.

    Returns:
        Dataset with inputs (N, T, I) float32 and targets: (N,) int64 in 0..C−1 for classes,
        (N, T, O) float32 for values at every step, (N, O) for values of the whole sequence.

    Raises:
        ArgumentError: an unknown name.
        DataError: files are missing, damaged or cannot be fetched; the message says what to fetch,
            from where, and where to put it.

    >>> digits = load("digits-rows")
    >>> tuple(digits.inputs.shape), digits.targets.dtype
    ((1797, 8, 8), torch.int64)
    """
    entry = _entry(name, reading)
    if isinstance(entry, OwnFile):
        return entry.dataset
    inputs, targets = entry.read(_path(data_dir))
    lengths = entry.card.lengths
    return Dataset(
        name,
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        entry.card,
        None if lengths is None else torch.tensor(lengths),
    )


def floors(name: str, split: Split) -> dict[str, float]:
    """The floors of a data set: test errors of predictors that learn next to nothing.

    Args:
        name: one of `names()`.
        split: of that data set; predictors are fitted to its training part.

    Returns:
        By predictor and metric; empty for a data set of classes.

    Raises:
        ArgumentError: an unknown name, or what is no `Split`.

    >>> from timelocal.data.splits import split
    >>> for what, error in floors("copying", split(load("copying"), seed=0)).items():
    ...     print(f"{what}: {error:.4f}")
    blank, then uniform over 8, MSE: 0.0417
    blank, then uniform over 8, BCE: 0.1435
    blank, then uniform over 8, bit errors: 0.8750
    """
    if not isinstance(split, Split):
        raise_problems([Problem("split", described(split), "a tl.data.Split")])
    return _entry(name).floors(split)


def _entry(name: str, reading: Mapping[str, Any] | None = None) -> Entry:
    if isinstance(name, str) and name not in ENTRIES and is_file(name):
        return own_file(name, reading or {})
    raise_problems(
        [
            Problem("reading", ", ".join(reading), "none: it is for a file of your own")
            if reading
            else None
        ]
    )
    found = plugins.find("dataset", name, ENTRIES)
    return found if name in ENTRIES else own_entry(name, found)


def _path(data_dir: str | os.PathLike[str] | None) -> Path | None:
    return None if data_dir is None else as_path(data_dir, "data_dir")
