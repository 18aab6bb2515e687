"""Readers of `.ts` and `.arff` as people have them: text labels, unequal lengths, missing values, channels.

`parsers` reads the published files of named data sets, where a difference means damage; here whatever the
forms allow is read, and the rest is told with its line and column.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timelocal.data.own_series import Series
from timelocal.errors import DataError
from timelocal.files import read_bytes, run_error

_MISSING = ("?", "", "nan", "na")


def text_of(path: Path, most: int | None = None) -> tuple[str, str]:
    """The text of a file and its encoding: UTF-8 or UTF-16, a byte order mark left out, or Windows' Latin.

    most: of its first bytes, up to the end of a line.
    """
    data = _head(path, most) if most else read_bytes(path)
    if data.startswith(b"PK\x03\x04"):
        raise DataError(
            f"{path}: got a zip file, such as an Excel file, expected text. Save it as .csv"
        )
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "cp1252"):
        with suppress(UnicodeDecodeError):
            return data.decode(encoding), encoding
    return data.decode("latin-1"), "latin-1"


def _head(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most)
    except OSError as error:
        raise run_error(path, error, "read") from error
    return data if len(data) < most else data[: data.rfind(b"\n") + 1 or most]


def split_lines(text: str) -> list[str]:
    """The lines of a text, at its line ends alone: not at a form feed, as `str.splitlines` cuts."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_ts(path: Path) -> Series:
    """A `.ts` file of the UEA and UCR archives: channels between colons, and the label last.

    Raises:
        DataError: with the line, and the place in it, of what is no number.
    """
    header, body = _parts(path, comment="#")
    told = {words[0].lower(): words[1:] for _, line in header if (words := line[1:].split())}
    if told.get("timestamps", ["false"])[0].lower() == "true":
        raise DataError(f"{path}: got time stamps in a .ts file, expected only values. Give a .csv")
    classes = _is_true(told.get("classlabel"))
    values = _is_true(told.get("targetlabel"))
    cases, labels = [], []
    for number, line in body:
        channels = line.split(":")
        if classes or values:
            labels.append(channels.pop().strip())
        cases.append(_case(path, number, channels))
    return _joined(path, cases, labels, values=values)


def read_arff(path: Path) -> Series:
    r"""An `.arff` file: a column a step and the label last, or channels as 'x1,…,xT\ny1,…,yT' and the label.

    Raises:
        DataError: with the line, and the place in it, of what is no number.
    """
    header, body = _parts(path, comment="%")
    kinds = [
        found[1]
        for _, line in header
        if (found := re.match(r"(?i)@attribute\s+(?:'[^']*'|\"[^\"]*\"|\S+)\s+(.+)", line))
    ]
    if not kinds:
        raise DataError(f"{path}: got no @attribute, expected one for each column of an .arff file")
    # the label: the last attribute, if it lists its values or is the number behind a relational one
    relational = any(kind.lower().startswith("relational") for kind in kinds)
    nominal = kinds[-1].startswith("{")
    labelled = nominal or relational
    cases, labels = [], []
    for number, line in body:
        if line.startswith("{"):
            raise DataError(f"{path}, line {number}: got a sparse row, expected a value per column")
        if relational:
            found = re.fullmatch(r"""(['"])(.*)\1\s*,\s*(.*)""", line)
            if found is None:
                raise DataError(f"{path}, line {number}: got no channels in quotes and a label")
            channels, label = found[2].split(r"\n"), found[3]
        else:
            cells = next(csv.reader([line], quotechar="'", skipinitialspace=True))
            if len(cells) != len(kinds) and not relational:
                raise DataError(
                    f"{path}, line {number}: got {len(cells)} values, expected {len(kinds)}, one for "
                    "each @attribute"
                )
            label = cells.pop() if labelled else ""
            channels = [",".join(cells)]
        if labelled:
            labels.append(label.strip().strip("'\""))
        cases.append(_case(path, number, channels))
    return _joined(path, cases, labels, values=labelled and not nominal)


def _is_true(words: list[str] | None) -> bool:
    return bool(words) and words[0].lower() == "true"  # type: ignore[index]


def _parts(path: Path, comment: str) -> tuple[list[tuple[int, str]], Iterator[tuple[int, str]]]:
    """The lines of the header and those of the data, with their numbers."""
    lines = [
        (number, line.strip())
        for number, line in enumerate(split_lines(text_of(path)[0]), 1)
        if line.strip() and not line.lstrip().startswith(comment)
    ]
    for place, (_, line) in enumerate(lines):
        if line.lower() == "@data":
            return lines[:place], iter(lines[place + 1 :])
    raise DataError(f"{path}: got no @data line, expected one before the series")


def _case(path: Path, number: int, channels: list[str]) -> NDArray[np.float64]:
    """One series (T, I) from the text of its channels."""
    found = [_numbers(path, number, place, text) for place, text in enumerate(channels, 1)]
    lengths = sorted({len(one) for one in found})
    if len(lengths) > 1:
        raise DataError(
            f"{path}, line {number}: got channels of {lengths} values, expected the same number in each"
        )
    return np.stack(found, 1)


def _numbers(path: Path, number: int, channel: int, text: str) -> NDArray[np.float64]:
    cells = text.split(",")
    try:
        return np.array(cells, np.float64)
    except ValueError:
        values = np.empty(len(cells))
        for place, cell in enumerate(cells):
            try:
                bare = cell.strip()
                values[place] = np.nan if bare.lower() in _MISSING else float(bare)
            except ValueError:
                raise DataError(
                    f"{path}, line {number}, value {place + 1} of channel {channel}: got "
                    f"{cell.strip()[:40]!r}, expected a number, or ? where it is missing"
                ) from None
        return values


def _joined(
    path: Path, cases: list[NDArray[np.float64]], labels: list[str], values: bool
) -> Series:
    if not cases:
        raise DataError(f"{path}: got no series after @data, expected at least one")
    widths = sorted({case.shape[1] for case in cases})
    if len(widths) > 1:
        raise DataError(
            f"{path}: got series of {widths} channels, expected the same number in each"
        )
    # values that are missing at the end of all channels are how the archive pads shorter series
    cases = [without_empty_end(case) for case in cases]
    empty = [n for n, case in enumerate(cases, 1) if not len(case)]
    if empty:
        raise DataError(f"{path}: got no value in series {empty[0]}, expected at least one")
    told = np.array(labels) if labels else None
    if told is not None and values:
        try:
            told = told.astype(np.float64)
        except ValueError as error:
            raise DataError(f"{path}: got a label that is not a number: {error}") from None
    width = widths[0]
    return Series(
        rows=np.concatenate(cases),
        lengths=np.array([len(case) for case in cases]),
        features=("value",) if width == 1 else tuple(f"channel {n}" for n in range(1, width + 1)),
        names=tuple(str(n) for n in range(1, len(cases) + 1)),
        labels=told,
        source=str(path),
        values=values if labels else None,
    )


def without_empty_end(case: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, I) without trailing steps whose values are all missing."""
    known = np.flatnonzero((~np.isnan(case)).any(1))
    return case[: known[-1] + 1] if len(known) else case[:0]
