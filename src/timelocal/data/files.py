"""Datasets in files: found in a local folder or in the cache, or fetched; always checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timelocal.data.dataset import Arrays, Card, Floors, no_floors
from timelocal.data.fetch import Source, by_hand, cache_dir, fetch, sha256_of
from timelocal.errors import DataError
from timelocal.files import as_path


@dataclass(frozen=True)
class Form:
    """One way in which the data are published.

    Args:
        files: every file of it, with its sha256 if known (None otherwise). The checksum identifies a damaged
            file; the decision is made by the fingerprint of the parsed arrays, so that a file with other
            line endings is as good as the original.
        read: from the paths, in the order of `files`, to the arrays.
    """

    files: Mapping[str, str | None]
    read: Callable[[list[Path]], Arrays]


@dataclass(frozen=True)
class FileDataset:
    """A dataset in files.

    Args:
        card: what it is.
        folders: names of its sub-folder in a data folder; the first is its name in the cache.
        forms: the forms it is read from, the preferred one first.
        sources: the files to download, which make up one of the forms.
        fingerprint: sha256 of the parsed arrays, the same for every form (see `fingerprint`).
        floors: the test errors of its trivial predictors.
    """

    card: Card
    folders: tuple[str, ...]
    forms: tuple[Form, ...]
    sources: tuple[Source, ...]
    fingerprint: str
    floors: Floors = no_floors

    def locate(self, data_dir: Path | None) -> str | None:
        """The folder that holds every file of one form, or None."""
        for folder in self._places(data_dir):
            if self._form_in(folder) is not None:
                return str(folder)
        return None

    def read(self, data_dir: Path | None) -> Arrays:
        """The arrays: from the data folder if one is given, else the cache, else downloaded."""
        if (local := _local_dir(data_dir)) is not None:
            folder = self.locate(local)
            if folder is None:
                raise self._missing(local)
            try:
                return self.read_folder(Path(folder))
            except DataError as error:
                raise DataError(f"{error}\n{by_hand(self.sources, Path(folder))}") from None
        cached = cache_dir() / self.folders[0]
        form = self._form_in(cached)
        return self._fetch(cached) if form is None else self._read_cached(form, cached)

    def _fetch(self, folder: Path) -> Arrays:
        return fetch(self.sources, folder, self.read_folder)

    def _read_cached(self, form: Form, cached: Path) -> Arrays:
        """The file in the cache; if its checksum is wrong, the file that replaces it."""
        try:
            return self.read_folder(cached)
        except DataError as wrong:
            try:
                arrays = self._fetch(cached)
            except DataError as error:
                raise DataError(f"{wrong}\nReplacing it failed: {error}") from None
            # Files of another form than the one downloaded would be preferred to it for ever.
            for name in form.files.keys() - {source.file for source in self.sources}:
                try:
                    (cached / name).unlink()
                except OSError as error:
                    raise DataError(f"{cached / name}: {error.strerror}: delete it") from error
            return arrays

    def read_folder(self, folder: Path) -> Arrays:
        """The arrays from the files in exactly this folder.

        Raises:
            DataError: a file is missing or damaged, or the arrays are not the expected ones.
        """
        form = self._form_in(folder)
        if form is None:
            raise self._missing(folder)
        paths = [folder / name for name in form.files]
        try:
            inputs, targets = form.read(paths)
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}: make it readable") from error
        if fingerprint(inputs, targets) != self.fingerprint:
            raise self._wrong(form, folder, inputs)
        return inputs, targets

    def _places(self, data_dir: Path | None) -> Iterator[Path]:
        local = _local_dir(data_dir)
        if local is None:
            yield cache_dir() / self.folders[0]
            return
        for name in self.folders:
            yield local / name
        yield local

    def _form_in(self, folder: Path) -> Form | None:
        complete = (f for f in self.forms if all(_is_file(folder / name) for name in f.files))
        return next(complete, None)

    def _missing(self, folder: Path) -> DataError:
        if not folder.is_dir():
            return DataError(
                f"{folder}: no such folder. Give the folder that holds the data sets, or unset "
                f"TIMELOCAL_DATA to have them downloaded"
            )
        missing = []
        for form in self.forms:
            absent = [
                [name for name in form.files if not _is_file(place / name)]
                for place in self._places(folder)
            ]
            fewest = min(absent, key=len)
            missing.append(" and ".join(fewest))
        return DataError(
            f"{self.card.name} is not complete in {folder}: missing {', or else '.join(missing)}.\n"
            f"{by_hand(self.sources, folder)}\n"
            "Or give no data folder and unset TIMELOCAL_DATA to have them downloaded"
        )

    def _wrong(self, form: Form, folder: Path, inputs: NDArray[Any]) -> DataError:
        """Name the wrong file, if its checksum shows which one it is."""
        lines = [
            f"{folder / name}: wrong checksum: got sha256 {got}, expected {expected}"
            for name, expected in form.files.items()
            if expected is not None and (got := sha256_of(folder / name)) != expected
        ] or [
            f"{', '.join(str(folder / n) for n in form.files)}: the values differ from the known ones"
        ]
        return DataError(
            f"{self.card.name}: got inputs {inputs.shape}, expected {self.card.shape} with the "
            "known values.\n" + "\n".join(lines)
        )


def fingerprint(inputs: NDArray[Any], targets: NDArray[Any]) -> str:
    """sha256 of two arrays: their types, shapes and little-endian bytes."""
    digest = hashlib.sha256()
    for array in (inputs, targets):
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(little.data)
    return digest.hexdigest()


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a `DataError` where the system does not let us look."""
    try:
        return path.is_file()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: make its folder readable") from error


def _local_dir(data_dir: Path | None) -> Path | None:
    if data_dir is not None:
        return data_dir
    named = os.environ.get("TIMELOCAL_DATA")
    return as_path(named, "TIMELOCAL_DATA") if named else None
