"""User files in place of named data sets, and further files of the same kind for a trained model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timelocal.data.dataset import Arrays, Card, Dataset, Floors, no_floors
from timelocal.data.forecasting import last_windows, windows
from timelocal.data.own_series import Series, filled
from timelocal.data.reading import (
    Reading,
    class_indices,
    dataset_of,
    reading_of,
    refuse_coarse,
    refuse_duplicates,
    series_of,
    values_of,
)
from timelocal.errors import DataError
from timelocal.files import as_path, is_there, read_bytes


@dataclass(frozen=True)
class OwnFile:
    """A file or a folder as an entry of the registry, read when first asked for."""

    path: Path
    options: str

    @property
    def dataset(self) -> Dataset:
        """The data set, read again if the file has changed."""
        return _dataset(self.path, self.options, _stamp(self.path))

    @property
    def card(self) -> Card:
        return self.dataset.card

    @property
    def floors(self) -> Floors:
        return no_floors

    def locate(self, data_dir: Path | None) -> str | None:
        return str(self.path) if is_there(self.path) else None

    def read(self, data_dir: Path | None) -> Arrays:
        return self.dataset.inputs.numpy(), self.dataset.targets.numpy()


def own_file(name: str, options: Mapping[str, Any]) -> OwnFile:
    """The entry of a path; `options` are arguments of `timelocal.data.read`."""
    reading_of(options)
    return OwnFile(as_path(name, "dataset"), json.dumps(dict(options), sort_keys=True))


@lru_cache(maxsize=4)
def _dataset(path: Path, options: str, stamp: object) -> Dataset:
    reading = reading_of(json.loads(options))
    return dataset_of(series_of(path, reading), reading)


def _files(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _stamp(path: Path) -> object:
    if not is_there(path):
        return None
    return tuple((str(one), one.stat().st_mtime_ns, one.stat().st_size) for one in _files(path))


def digest(name: str) -> str:
    """The sha256 of a file, or of the names and contents of a folder."""
    path = as_path(name, "dataset")
    found = hashlib.sha256()
    for one in _files(path):
        if one != path:
            found.update(str(one.relative_to(path)).encode())
        found.update(read_bytes(one))
    return found.hexdigest()


@dataclass(frozen=True, eq=False)
class More:
    """Sequences of a file read like those that a model was trained on; `targets` is None if there are none.

    names (N,) of the series; steps (N,) of the last input of each in its series.
    """

    inputs: Tensor
    lengths: Tensor | None
    targets: Tensor | None
    names: Sequence[Any]
    steps: NDArray[np.int64]


def read_more(
    path: Path,
    options: Mapping[str, Any],
    features: tuple[str, ...],
    classes: tuple[str, ...] | None,
    *,
    labelled: bool,
    stepwise: bool,
) -> More:
    """Read a file with known features and classes, in the same form as the training data.

    Args:
        options: arguments of `timelocal.data.read` by which the training data were read.
        features: the names of the inputs; other columns are left out.
        classes: the names of the classes, None for values.
        labelled: True for every sequence with its target (every window of a series to forecast); False for
            inputs only (the last window of a series to forecast).
        stepwise: whether there is a target per step.

    Raises:
        DataError: for missing features, labels that are not among the classes, and labels per step where one
            per series is needed.
        ArgumentError: as `read`.
    """
    reading = reading_of(options)
    series = series_of(path, reading, needs_label=labelled, features=features)
    if series.features != features:
        raise DataError(
            f"{path}: got the features {list(series.features)}, expected {list(features)}, as in training"
        )
    refuse_duplicates(series)
    series = filled(series, reading.missing)
    refuse_coarse(series)
    if reading.target is not None:
        return _windows(series, reading, labelled)
    if labelled and series.labels is None:
        raise DataError(f"{path}: got no labels, expected one for each series")
    targets = None
    if labelled:
        if series.stepwise and not stepwise:
            raise DataError(
                f"{path}: got labels per step, expected one for each series, as in training"
            )
        series = series.with_labels_of_steps() if stepwise else series
        targets = values_of(series) if classes is None else class_indices(series, classes)
    unequal = bool((series.lengths != series.lengths[0]).any())
    return More(
        torch.from_numpy(series.padded(series.rows, np.float32)),
        torch.from_numpy(series.lengths) if unequal else None,
        None if targets is None else torch.from_numpy(targets),
        series.names,
        series.lengths - 1,
    )


def _windows(series: Series, reading: Reading, labelled: bool) -> More:
    if not labelled:
        inputs = torch.from_numpy(last_windows(series, reading.steps))
        return More(inputs, None, None, series.names, series.lengths - 1)
    assert reading.target is not None
    made = windows(series, reading.target, reading.horizon, reading.steps, cut=False)
    names = tuple(series.names[one] for one in made.series)
    return More(made.inputs, None, made.targets, names, made.steps)
