"""A user's own tables: a `.csv`, `.tsv` or `.parquet` as a data frame, and a data frame as series."""

from __future__ import annotations

import csv
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from timelocal.data.own_series import CUT, Series
from timelocal.data.own_text import split_lines, text_of
from timelocal.errors import (
    ArgumentError,
    DataError,
    Problem,
    ReadingWarning,
    described,
    did_you_mean,
    raise_problems,
    warn,
)

Column = str | int

LABELS = ("label", "class", "target", "y")
"""Names that mark a column as the labels if none is given, in lower case."""
_NAMES_OF_SERIES = ("id", "series")
_CLOCKS = ("t", "time", "timestamp", "date")
"""Names of columns that hardly measure anything, in lower case."""

_MISSING = ["", "?", "NaN", "nan", "NA", "N/A", "n/a", "null", "None", "-nan", "#N/A"]
_DELIMITERS = (";", "\t", ",", "|", " ")
"""Tried in this order if several fit; a space stands for any number of spaces."""
_SAMPLE = 100
_HEAD = 1 << 20
"""The numbers of rows and bytes at the start of a file from which its format is detected."""
_BLOCK = 4096


@dataclass(frozen=True)
class Table:
    """A data frame, its name in messages, and the source of its rows."""

    frame: pd.DataFrame
    source: str
    place: Callable[[int], str]
    """The place of a row in its file, in words."""
    named: bool = True
    """Whether the columns have names; else they are numbered from 0."""
    decimal_comma: bool = False
    """Whether numbers have a decimal comma; a point is then not a decimal sign."""


def read_delimited(
    path: Path, time: Column | None = None, names_of: Sequence[Column | None] = ()
) -> Table:
    """A text file of rows; its delimiter, decimal sign and header are detected from its first lines.

    time: the column of times, parsed if they are in ISO 8601. names_of: columns of names of series or
    classes, in which 007 is not a number.

    Raises:
        DataError: for rows of different lengths and for two columns of the same name; it names the line.
    """
    text, encoding = text_of(path, _HEAD)
    lines = [line.strip(" ") for line in split_lines(text)[:_SAMPLE] if line.strip()]
    if not lines:
        raise DataError(f"{path}: got an empty file, expected rows of a table")
    delimiter = _delimiter(lines)
    rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    names = [unicodedata.normalize("NFC", cell.strip()) for cell in rows[0]]
    named = not all(_is_number(cell) or cell in _MISSING for cell in names)
    if re.fullmatch(r"sep=.", lines[0].strip(), re.IGNORECASE):
        remedy = "It is for Excel alone: delete it"
        raise DataError(f"{path}, line 1: got {lines[0].strip()!r}, expected the header. {remedy}")
    for number, row in enumerate(rows, 1):
        if len(row) > len(names):
            raise DataError(
                f"{path}, row {number}: got {len(row)} cells, expected {len(names)} as in the first row. "
                f"The delimiter was detected as {delimiter!r}"
                + (". Delete everything above the header" if len(names) == 1 else "")
            )
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if named and twice:
        raise DataError(f"{path}, line 1: got two columns {twice[0]!r}, expected different names")
    comma = delimiter != "," and any(
        re.fullmatch(r"[+-]?\d+,\d+(e[+-]?\d+)?", cell.strip(), re.IGNORECASE)
        for row in rows[1:]
        for cell in row
    )
    options: dict[str, Any] = {
        "sep": r"\s+" if delimiter == " " else delimiter,
        "decimal": "," if comma else ".",
        "header": 0 if named else None,
        "index_col": False,
        # a fifth of the reading time; files with spaces after delimiters have some in the first megabyte
        "skipinitialspace": any(f"{before} " in "\n" + text for before in (delimiter, "\n")),
        "na_values": _MISSING,
        "keep_default_na": False,
    }
    if (
        named
        and time in names
        and not all(
            _is_number(row[names.index(time)]) for row in rows[1:] if len(row) == len(names)
        )
    ):
        options |= {"parse_dates": [rows[0][names.index(time)]], "date_format": "ISO8601"}
    columns: Sequence[Column] = names if named else range(len(names))
    options["dtype"] = {
        (rows[0][place] if named else place): str
        for place, name in enumerate(columns)
        if (name in names_of or (named and str(name).lower() in LABELS))
        and any(re.fullmatch(r"0\d+", row[place].strip()) for row in rows if len(row) > place)
    }
    try:
        frame = _read_csv(path, encoding, options)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: {str(error).removeprefix('Error tokenizing data. ')}") from None
    frame.columns = columns

    def place(row: int) -> str:
        return f"line {_line_of(path, delimiter, row + named)}"

    return Table(_without_leftovers(frame), str(path), place, named, comma)


def _line_of(path: Path, delimiter: str, index: int) -> int:
    """The line where the row of this index begins. Empty lines are not rows, but are part of quoted cells."""
    lines = (line.strip(" ") for line in split_lines(text_of(path)[0]))
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    end = 0
    for row in reader:
        begin, end = end + 1, reader.line_num
        if len(row) > 1 or "".join(row).strip():
            if index == 0:
                return begin
            index -= 1
    return end


def _without_leftovers(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without empty rows at its end and unnamed columns that are empty or count the rows.

    Spreadsheets write cells that were emptied, and data frames write their index, which is no feature.
    """
    if len(frame) and frame.iloc[-1].isna().all():
        full = frame.notna().any(axis=1).to_numpy()
        frame = frame.iloc[: len(full) - int(full[::-1].argmax()) if full.any() else 0]
    kept = [
        place
        for place, name in enumerate(frame.columns)
        if name != "" or not _is_left_over(frame.iloc[:, place])
    ]
    return frame if len(kept) == frame.shape[1] else frame.iloc[:, kept]


def _is_left_over(column: pd.Series) -> bool:
    """Whether a column is empty, or counts the rows from 0 or from 1."""
    if column.isna().all():
        return True
    rows = np.arange(len(column))
    return column.dtype.kind == "i" and any((column == rows + one).all() for one in (0, 1))


def _read_csv(path: Path, encoding: str, options: dict[str, Any]) -> pd.DataFrame:
    """Read the frame. A file of which only the first lines are UTF-8 is read as Windows Latin (cp1252).

    It is read in chunks, which is faster, or as a whole if the chunks of a column have different types.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        warnings.simplefilter("error", pd.errors.DtypeWarning)
        warnings.filterwarnings("ignore", "Could not infer format", UserWarning)
        warnings.filterwarnings("ignore", ".*mixed time zones", FutureWarning)  # see `_parsed`
        try:
            return pd.read_csv(path, encoding=encoding, **options)
        except UnicodeDecodeError:
            return pd.read_csv(path, encoding=text_of(path)[1], low_memory=False, **options)
        except pd.errors.DtypeWarning:
            return _read_csv(path, encoding, {**options, "low_memory": False})


def read_parquet(path: Path, repeated: Sequence[Column | None] = ()) -> Table:
    """A parquet file.

    repeated: columns of a few texts that recur, such as the names of series; these, and columns called as
    labels are, are read as a dictionary and indices into it.
    """
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        texts = [
            field.name
            for field in schema
            if (field.name in repeated or field.name.lower() in LABELS)
            and str(field.type) in ("string", "large_string")
        ]
        return table_of(pd.read_parquet(path, read_dictionary=texts), str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None


def table_of(frame: Any, source: str = "frame") -> Table:
    """A data frame of pandas or polars as a table; levels of its index that have names become columns.

    Raises:
        ArgumentError: if it is not a data frame.
    """
    if not isinstance(frame, pd.DataFrame) and hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if not isinstance(frame, pd.DataFrame):
        got = f"a {type(frame).__name__}"
        raise_problems([Problem("frame", got, "a data frame of pandas or polars")])
    levels = [level for level in frame.index.names if level is not None]
    frame = frame.reset_index(levels) if levels else frame
    twice = frame.columns[frame.columns.duplicated()].tolist()
    if twice:
        raise_problems([Problem(source, f"two columns {twice[0]!r}", "different names")])
    return Table(frame, source, lambda row: f"row {row}")


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter that splits most lines into as many cells as the first line, and into more than one."""

    def agreement(delimiter: str) -> tuple[int, int]:
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        cells = [len(row) for row in rows]
        return sum(count == cells[0] for count in cells) if cells[0] > 1 else 0, cells[0]

    best = max(_DELIMITERS, key=lambda one: agreement(one)[0])
    fits = agreement(best)[0]
    # names may hold spaces too: spaces are the delimiter only if they split all lines alike
    return best if fits == len(lines) or (fits and best != " ") else ","


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().replace(",", ".", 1))
    except ValueError:
        return False
    return True


# --- from a table to series ----------------------------------------------------------------------


def series_from(
    table: Table,
    *,
    series: Column | None,
    time: Column | None,
    label: Column | None,
    features: Sequence[Column] | None,
    needs_label: bool = True,
    one_series: str | None = None,
    finds_label: bool = True,
    changes: bool = False,
) -> Series:
    """The series of a table: one row per step with `series`, `time` or `one_series`, else one per series.

    one_series: the name of the series to which all rows belong. finds_label: whether a column may be taken as
    the labels because of its name. changes: whether the class may change within a series.

    Raises:
        ArgumentError: for missing columns and invalid cells.
    """
    frame = table.frame
    known = [name for name in (series, time, label) if name is not None]
    wanted = [*known, *(features or ())]
    raise_problems(
        _unknown(table, name) for name in wanted if not _has(table, name, needs_label, label)
    )
    if len(frame) == 0:
        raise DataError(f"{table.source}: got no rows, expected at least one")
    if label is None and finds_label:
        label = _label_column(table, [series, time, *(features or ())])
    elif label not in frame.columns:
        label = None
    others = [name for name in frame.columns if name not in (series, time, label)]
    used = list(features) if features is not None else others
    if not used:
        raise_problems([Problem(table.source, "no column of features", "at least one")])
    if features is None and "" in used:
        place = list(frame.columns).index("") + 1
        remedy = "Give it one, or name the columns of features."
        raise_problems([Problem(table.source, f"column {place} without a name", "a name", remedy)])
    stepwise = series is not None or time is not None or one_series is not None
    codes: Any = None
    names: Any = None
    if series is not None:
        codes, uniques = pd.factorize(frame[series])
        names = uniques.tolist()
        codes, names = _stripped(codes, names)
        if (codes < 0).any():
            _refuse(table, int((codes < 0).argmax()), series, "a missing cell", "a series' name")
        if len(names) == len(frame) and time is None and len(used) > 1:
            stepwise = False  # one row per series, and a column that names them
    values = _side_by_side([_numbers(table, name) for name in used])
    labels, kinds = (None, None) if label is None else _labels(table, label)
    if not stepwise:
        if features is None:
            _warn_of_what_is_no_measurement(table, used, len(frame))
        names = range(1, len(frame) + 1) if names is None else names
        return _row_a_series(table, values, labels, kinds, names)
    if codes is None:
        codes, names = np.zeros(len(frame), np.int64), [one_series or "1"]
    times = None if time is None else _times(table, time)
    lengths = np.bincount(codes, minlength=len(names))
    if times is not None and time is not None:
        _refuse_midnight(table, time, codes, times)
    if labels is not None:
        labels, kinds = _one_a_series(table, labels, kinds, codes, names, label, changes)
    ends = np.cumsum(lengths)[:-1]  # the steps before them lead from one series to the next
    order = _order(codes, times, ends)
    if order is not None:
        values = values.take(order, 0)
        times = None if times is None else times.take(order)
        if labels is not None and len(labels) == len(codes):
            labels = labels.take(order)
    duplicates, gaps = {}, 0
    if times is not None:
        steps = np.diff(times)
        same = steps == 0
        same[ends - 1] = False
        if same.any():
            place = int(same.argmax()) + 1
            row = place if order is None else int(order[place])
            duplicates = {f"{frame[time].iloc[row]} ({table.place(row)})": int(same.sum())}
        gaps = _gaps(np.delete(steps, ends - 1) if len(ends) else steps)
    return Series(
        rows=values,
        lengths=lengths,
        features=tuple(map(str, used)),
        names=tuple(map(str, names)),
        labels=labels,
        kinds=kinds,
        times=times,
        duplicates=duplicates,
        gaps=gaps,
        source=table.source,
    )


def _has(table: Table, name: Column, needs_label: bool, label: Column | None) -> bool:
    return name in table.frame.columns or (name == label and not needs_label)


def _unknown(table: Table, name: Column) -> Problem:
    columns = [str(column) for column in table.frame.columns]
    shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
    return Problem(
        f"{table.source}: column", described(name), f"one of {shown}", did_you_mean(name, columns)
    )


def _label_column(table: Table, others: list[Any]) -> Column | None:
    """The label column, found by its name, or by its position as in the UCR archive."""
    if not table.named:
        return 0 if table.source.endswith((".tsv", ".txt")) else None
    found = [
        name for name in table.frame.columns if str(name).lower() in LABELS and name not in others
    ]
    return found[0] if len(found) == 1 else None


def _order(
    codes: NDArray[Any], times: NDArray[Any] | None, ends: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """The order of rows by series and, within a series, by time or as given; None if already sorted.

    ends: where in that order each series but the first begins.
    """
    together = bool((codes[1:] >= codes[:-1]).all())
    if times is None:
        return None if together else np.argsort(codes, kind="stable")
    if together:
        back = times[1:] < times[:-1]
        back[ends - 1] = False
        if not back.any():
            return None
    if times.dtype == np.int64:
        # one integer for both sorts several times faster than the two
        since = times - times.min()
        since //= max(int(np.gcd.reduce(since)), 1)
        span = int(since.max()) + 1
        if span * (int(codes.max()) + 1) < np.iinfo(np.int64).max:
            return np.argsort(codes * span + since)
    return np.lexsort((times, codes))


def _gaps(steps: NDArray[Any]) -> int:
    """The number of steps that are missing in between, in units of the median distance."""
    if not len(steps) or (steps == steps[0]).all():  # a quick check; the median below is slower
        return 0
    steps = steps[steps > 0]
    usual = float(np.median(steps))
    wide = steps[steps > 1.5 * usual]
    return int(np.round(wide / usual - 1).sum())


def _refuse(table: Table, row: int, column: Column, got: object, expected: str) -> None:
    raise ArgumentError(
        f"{table.source}, {table.place(row)}, column {column!r}: got {got}, expected {expected}"
    )


def _numbers(table: Table, name: Column) -> NDArray[Any]:
    """A column of numbers, NaN where a cell is missing."""
    column = table.frame[name]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        numbers = pd.to_numeric(column, errors="coerce")
        wrong = (numbers.isna() & column.notna()).to_numpy()
        expected = "a number"
        if table.decimal_comma:  # 1.234 may mean 1234
            point = column.astype("str").str.contains(".", regex=False)
            wrong = wrong | point.fillna(False).to_numpy(bool)
            expected = "a number with a decimal comma and no other separators"
        if wrong.any():
            row = int(wrong.argmax())
            _refuse(
                table, row, name, repr(column.iloc[row])[:60],
                f"{expected}. Name the columns of features, or give series=, time= or label= its name",
            )  # fmt: skip
        values = numbers.to_numpy(np.float64, na_value=np.nan)
    if np.isinf(values).any():
        _refuse(table, int(np.isinf(values).argmax()), name, "an infinite number", "a finite one")
    return values


def _side_by_side(columns: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Columns as (R, I), written in blocks of rows, so that a block stays in the cache for all columns."""
    values = np.empty((len(columns[0]), len(columns)))
    for start in range(0, len(values), _BLOCK):
        block = slice(start, start + _BLOCK)
        for place, column in enumerate(columns):
            values[block, place] = column[block]
    return values


def _labels(table: Table, name: Column) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """A column of labels: numbers and None, or indices into the distinct texts and these texts."""
    column = table.frame[name]
    gone = column.isna().to_numpy()
    if gone.any():
        _refuse(table, int(gone.argmax()), name, "a missing cell", "a label")
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        codes, kinds = pd.factorize(column)
        codes, names = _stripped(codes, [str(kind) for kind in kinds])
        return codes, np.array(names)
    return column.to_numpy(), None


def _stripped(codes: NDArray[Any], names: list[Any]) -> tuple[NDArray[Any], list[Any]]:
    """Indices into a list of texts, and the list without spaces around texts: "a" and "a " are one."""
    bare = [name.strip() if isinstance(name, str) else name for name in names]
    different = list(dict.fromkeys(bare))
    if len(different) == len(names):
        return codes, bare
    place = {name: n for n, name in enumerate(different)}
    return np.array([place[name] for name in bare])[codes], different


def _one_a_series(
    table: Table,
    labels: NDArray[Any],
    kinds: NDArray[Any] | None,
    codes: NDArray[Any],
    names: Sequence[Any],
    label: Column | None,
    changes: bool,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The label of each series, or of each row if labels vary within a series and are numbers or may vary."""
    first = np.empty(len(names), labels.dtype)
    first[codes[::-1]] = labels[::-1]
    differs = labels != first[codes]
    if not differs.any():
        return first, kinds
    if kinds is None:
        return labels.astype(np.float64), None
    if changes:
        return labels, kinds
    row = int(differs.argmax())
    _refuse(
        table, row, label or "", repr(str(kinds[labels[row]])),
        f"{str(kinds[first[codes[row]]])!r} as in the earlier rows of series {str(names[codes[row]])!r}: "
        f"one label per series. Say task='classes' for a class at every step, {CUT}",
    )  # fmt: skip
    raise AssertionError


def _warn_of_what_is_no_measurement(table: Table, used: Sequence[Column], count: int) -> None:
    """Warn if rows are series, and the columns look as if rows were steps."""
    found = {
        option: [name for name in used if str(name).lower() in names]
        for option, names in (("series", _NAMES_OF_SERIES), ("time", _CLOCKS))
    }
    given = {option: str(names[0]) for option, names in found.items() if names}
    if not given:
        return
    columns = [repr(str(name)) for names in found.values() for name in names]
    warn(
        f"{table.source}: each of the {count:,} rows is read as a whole series, and "
        f"{' and '.join(columns)} as measurements in it. If they are none, give "
        f"{', '.join(f'{option}={name!r}' for option, name in given.items())} "
        f"(`{' '.join(f'--{option} {quote(name)}' for option, name in given.items())}`; in a sweep "
        f"`{' '.join(f'reading.{option}={quote(name)}' for option, name in given.items())}`), "
        "or name the columns of features.",
        ReadingWarning,
    )


def _row_a_series(
    table: Table,
    values: NDArray[np.float64],
    labels: NDArray[Any] | None,
    kinds: NDArray[Any] | None,
    names: Sequence[Any],
) -> Series:
    """Series of one feature, one per row; missing cells at the end of a row shorten its series."""
    missing = np.isnan(values)
    lengths = np.full(len(values), values.shape[1])
    if missing.any():
        empty = missing.all(1)
        if empty.any():
            row = int(empty.argmax())
            raise ArgumentError(
                f"{table.source}, {table.place(row)}: got no value, expected at least one"
            )
        lengths -= missing[:, ::-1].argmin(1)
        values = values[np.arange(values.shape[1]) < lengths[:, None]]
    rows = values.reshape(-1, 1)
    return Series(rows, lengths, ("value",), names, labels, kinds, source=table.source)


# --- time ------------------------------------------------------------------------------------------

_ZONE = r"[T ]\d{2}.*(?:Z|z|[+-]\d{2}:?\d{2}|[+-]\d{2})$"


def _times(table: Table, name: Column) -> NDArray[Any]:
    """A column of times as numbers that rise with time: unchanged, or from time stamps, in UTC."""
    column = table.frame[name]
    gone = column.isna().to_numpy()
    if gone.any():
        _refuse(table, int(gone.argmax()), name, "a missing cell", "a time")
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy()
    if not pd.api.types.is_datetime64_any_dtype(column):
        column = _parsed(table, name, column)
    if getattr(column.dt, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return column.to_numpy().view(np.int64)


def _refuse_midnight(table: Table, name: Column, codes: NDArray[Any], times: NDArray[Any]) -> None:
    """Refuse times of day without a date that go back: sorting would put what follows midnight first."""
    column = table.frame[name]
    if not re.fullmatch(r"\s*\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*", str(column.iloc[0])):
        return
    back = (np.diff(times) < 0) & (np.diff(codes) == 0)
    if back.any():
        row = int(back.argmax()) + 1
        _refuse(
            table, row, name, repr(str(column.iloc[row])), "a date as well, or increasing times"
        )


def _parsed(table: Table, name: Column, column: Any) -> Any:
    """Parse time stamps: ISO 8601, or another form in which day and month can be told apart."""
    text = column.astype("str")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # pandas 2 warns of several zones
            return pd.to_datetime(text, format="ISO8601")
    except (ValueError, FutureWarning) as error:
        if any(word in str(error).lower() for word in ("timezone", "time zone", "tz")):
            zoned = text.str.contains(_ZONE, regex=True).to_numpy()
            if zoned.all():
                return pd.to_datetime(text, format="ISO8601", utc=True)
            row = int((~zoned).argmax()) if zoned[0] else int(zoned.argmax())
            _refuse(table, row, name, repr(text.iloc[row]), "all time stamps with a zone, or none")
    parts = text.str.extract(r"^\s*(\d{1,2})([./-])(\d{1,2})[./-]\d{2,4}")
    day_first = False
    if parts[0].notna().all():
        one, two = parts[0].astype(int), parts[2].astype(int)
        if (one > 12).any() or (parts[1] == ".").all():
            day_first = True
        elif not (two > 12).any():
            _refuse(
                table, 0, name, repr(text.iloc[0]),
                "a date whose day and month are unambiguous, such as 2026-01-31",
            )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            parsed = pd.to_datetime(text, dayfirst=day_first)
    except ValueError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = pd.to_datetime(text, dayfirst=day_first, errors="coerce")
        row = int(found.isna().to_numpy().argmax())
        _refuse(
            table, row, name, repr(text.iloc[row])[:60], "a time stamp such as 2026-01-31 12:00:00"
        )
        raise
    yearless = (parsed.dt.year == 1).to_numpy()  # pandas reads "Jan-26" as the 26th of January
    if yearless.any():
        row = int(yearless.argmax())
        _refuse(table, row, name, repr(text.iloc[row]), "a date with its year, such as 2026-01-31")
    return parsed
