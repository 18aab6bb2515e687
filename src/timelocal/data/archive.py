"""The time series classification archive: a TRAIN and a TEST file, in several text forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from timelocal.data.dataset import Arrays
from timelocal.data.files import Form
from timelocal.data.parsers import (
    Labelled,
    class_indices,
    join,
    read_arff,
    read_table,
    read_ts,
)

_READERS: dict[str, Callable[[Path], Labelled]] = {
    ".tsv": read_table,
    ".ts": read_ts,
    ".txt": read_table,
    ".arff": read_arff,
}

ARCHIVE = (
    "H. A. Dau, A. Bagnall, K. Kamgar, C.-C. M. Yeh, Y. Zhu, S. Gharghabi, C. A. Ratanamahatana, "
    "E. Keogh. The UCR Time Series Archive. IEEE/CAA Journal of Automatica Sinica 6(6):1293-1305, "
    "2019."
)
TERMS = "No formal licence is published; given freely for research, to be cited."


def archive_forms(
    stem: str, classes: tuple[int, ...], sha256: Mapping[str, str] | None = None
) -> tuple[Form, ...]:
    """The archive's forms of the dataset `stem`, TRAIN and TEST merged in this order.

    Args:
        stem: the archive's name of it, with which the file names begin.
        classes: the labels in the files, in the order of 0..C−1.
        sha256: of the files for which it is known.
    """
    known = sha256 or {}

    def form(ending: str, reader: Callable[[Path], Labelled]) -> Form:
        names = [f"{stem}_{part}{ending}" for part in ("TRAIN", "TEST")]

        def read(paths: list[Path]) -> Arrays:
            values, labels = join(map(reader, paths))
            return values.astype(np.float32), class_indices(labels, classes)

        return Form({name: known.get(name) for name in names}, read)

    return tuple(form(ending, reader) for ending, reader in _READERS.items())
