"""Readers of the file forms in which the archives publish labelled series.

Each returns the values (N, T, I) in float64 and the N labels as the file writes them. A damaged
file raises a `DataError` that names it and the line.
"""

from __future__ import annotations

import codecs
import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from timelocal.data.fetch import read_at_most
from timelocal.errors import DataError

Labelled: TypeAlias = tuple[NDArray[np.float64], NDArray[np.int64]]

_Case: TypeAlias = tuple[list[list[str]], str]
"""One series as text: I channels of T numbers each, and the label."""

_HEADER = ("#", "@", "%")  # comments and declarations, in all these forms


def read_table(path: Path) -> Labelled:
    """Rows of a label and T numbers, white space between them: the archive's .tsv and .txt."""

    def case(line: str) -> _Case:
        label, *values = line.split()
        return [values], label

    return _read(path, case)


def read_interleaved(path: Path) -> Labelled:
    """Rows x1,y1,…,xT,yT,label: the UCI .data file of two-dimensional curves."""

    def case(line: str) -> _Case:
        *values, label = line.split(",")
        return [values[0::2], values[1::2]], label

    return _read(path, case)


def read_ts(path: Path) -> Labelled:
    """Rows of channels and a label, a colon between them: the archive's .ts."""

    def case(line: str) -> _Case:
        *channels, label = line.split(":")
        return [channel.split(",") for channel in channels], label

    return _read(path, case)


def read_arff(path: Path) -> Labelled:
    r"""Rows v1,…,vT,label or, with more channels, 'x1,…,xT\ny1,…,yT',label: the archive's .arff."""

    def case(line: str) -> _Case:
        values, label = line.rsplit(",", 1)
        return [channel.split(",") for channel in values.strip("'\"").split(r"\n")], label

    return _read(path, case)


def _read(path: Path, case: Callable[[str], _Case]) -> Labelled:
    values: list[NDArray[np.float64]] = []
    labels: list[int] = []
    for number, line in _data_lines(path):
        try:
            channels, label = case(line)
            series = np.array(channels, dtype=np.float64).T
            labels.append(_whole(label.strip("'\"")))
            if not series.size or not np.isfinite(series).all():
                raise ValueError
            if values and series.shape != values[0].shape:
                raise ValueError
        except ValueError:
            size = f"{values[0].size} finite" if values else "finite"
            raise DataError(
                f"{path}, line {number}: got {_shorten(line)!r}, expected {size} numbers and a "
                "whole number as label. The file is damaged or truncated: fetch it again"
            ) from None
        values.append(series)
    if not values:
        raise DataError(f"{path}: got no series, expected some. It is truncated: fetch it again")
    return np.stack(values), np.array(labels)


def _whole(text: str) -> int:
    number = float(text)  # some forms write the label 1 as 1.0 or 1.0000000e+00
    if not number.is_integer():
        raise ValueError
    return int(number)


def _data_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text_lines(path), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith(_HEADER):
            yield number, stripped


def text_lines(path: Path) -> list[str]:
    """The lines of a text file, at its line ends alone and without a byte order mark.

    `str.splitlines` would cut at a form feed, and at the byte 0x85 that many encodings have in a letter.
    """
    # Latin-1 decodes any byte: the headers carry Portuguese names in one encoding or another.
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _shorten(line: str) -> str:
    return line if len(line) <= 40 else re.sub(r"(?s)^(.{18}).*(.{18})$", r"\1 … \2", line)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """A gzipped IDX file of bytes, of any number of dimensions."""
    try:
        with gzip.open(path) as stream:
            content = read_at_most(stream)
    except (EOFError, zlib.error, gzip.BadGzipFile, DataError) as error:
        raise DataError(
            f"{path}: {error}. The file is damaged or truncated: fetch it again"
        ) from None
    # Three bytes say "unsigned bytes", one the number of dimensions, then four for each of them.
    start = 4 + 4 * content[3] if content[:3] == b"\x00\x00\x08" and len(content) > 4 else 0
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist()) if start <= len(content) else ()
    if not shape or len(content) - start != math.prod(shape):
        raise DataError(
            f"{path}: got {len(content)} bytes, expected an IDX header and as many bytes as it "
            "announces. The file is damaged or truncated: fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def join(parts: Iterable[Labelled]) -> Labelled:
    """The series of several files in one array, in the order of the files."""
    values, labels = zip(*parts, strict=True)
    shapes = {v.shape[1:] for v in values}
    if len(shapes) > 1:
        raise DataError(
            f"the files hold series of different shapes {sorted(shapes)}, expected the same for all"
        )
    return np.concatenate(values), np.concatenate(labels)


def class_indices(labels: NDArray[np.int64], classes: tuple[int, ...]) -> NDArray[np.int64]:
    """Labels as the file writes them to 0..C−1, in the order of `classes`."""
    unknown = sorted(set(labels.tolist()) - set(classes))
    if unknown:
        raise DataError(f"got the labels {unknown}, expected only {list(classes)}: fetch it again")
    order = np.argsort(classes)
    return order[np.searchsorted(np.array(classes)[order], labels)].astype(np.int64)
