"""Read a file of your own, a folder of files or a data frame."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from timelocal.arguments import is_one_of, is_whole, whole_problem
from timelocal.data.dataset import Card, Dataset
from timelocal.data.forecasting import FRACTIONS, windows
from timelocal.data.own_series import (
    MISSING,
    Missing,
    Series,
    are_values,
    filled,
    in_order,
    in_pieces,
    told_classes,
)
from timelocal.data.own_text import read_arff, read_ts
from timelocal.data.sequences import valid
from timelocal.errors import ArgumentError, DataError, Problem, described, raise_problems
from timelocal.files import as_path, is_there
from timelocal.optional import require

SUFFIXES = (".csv", ".tsv", ".txt", ".ts", ".arff", ".npz", ".parquet")
_LONG = 256
_SHEETS = (".xlsx", ".xls", ".ods")
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".tar")


@dataclass(frozen=True)
class Reading:
    """How a file is to be read: the arguments of `read` behind the path, checked."""

    series: str | int | None = None
    time: str | int | None = None
    label: str | int | None = None
    features: Sequence[str | int] | None = None
    target: str | None = None
    horizon: int = 1
    window: int | None = None
    missing: Missing = "refuse"
    task: Literal["classes", "values"] | None = None

    def __post_init__(self) -> None:
        name = str | int | None
        raise_problems(
            [
                *(
                    None
                    if isinstance(getattr(self, what), name)
                    else Problem(what, described(getattr(self, what)), "a column, or None")
                    for what in ("series", "time", "label", "target")
                ),
                None
                if self.features is None
                or (
                    isinstance(self.features, list | tuple)
                    and self.features
                    and all(isinstance(one, str | int) for one in self.features)
                )
                else Problem("features", described(self.features), "a list of columns, or None"),
                whole_problem("horizon", self.horizon),
                None if self.window is None else whole_problem("window", self.window),
                None
                if is_one_of(self.missing, MISSING)
                else Problem("missing", described(self.missing), f"one of {MISSING}"),
                None
                if is_one_of(self.task, (None, "classes", "values"))
                else Problem("task", described(self.task), "'classes', 'values' or None"),
                None
                if self.target is not None or not is_whole(self.horizon, 2)
                else Problem("target", "None", "the column to forecast, with horizon="),
                None
                if self.target is None or self.missing != "interpolate"
                else Problem(
                    "missing",
                    "'interpolate'",
                    "'hold' or 'refuse' with target=",
                    "Interpolation would leak the values to be forecast into the past.",
                ),
                None
                if self.target is None or self.label is None
                else Problem(
                    "label", described(self.label), "None with target=", "Give one of the two."
                ),
            ]
        )

    @property
    def steps(self) -> int:
        """The steps of a window; the default reaches twice as far back as forward, and 24 at least."""
        return max(24, 2 * self.horizon) if self.window is None else self.window


def reading_of(options: Mapping[str, Any]) -> Reading:
    """A `Reading` from options by name; unknown names are refused."""
    known = [one.name for one in fields(Reading)]
    raise_problems(
        Problem("reading", repr(name), f"one of {', '.join(known)}")
        for name in options
        if name not in known
    )
    return Reading(**options)


def read(
    path: str | os.PathLike[str],
    *,
    series: str | int | None = None,
    time: str | int | None = None,
    label: str | int | None = None,
    features: Sequence[str | int] | None = None,
    target: str | None = None,
    horizon: int = 1,
    window: int | None = None,
    missing: Missing = "refuse",
    task: Literal["classes", "values"] | None = None,
) -> Dataset:
    """Read your own file: series with a class or a value each, or series to forecast.

    Tables (`.csv`, `.tsv`, `.parquet`) are read in long form, one row per step, if `series`, `time` or
    `target` is given; otherwise in wide form, one row per series. Delimiter, decimal sign, encoding and
    header of a text table are detected from its first lines. `.ts` and `.arff` are those of the UEA and UCR
    archives. An `.npz` holds `inputs` (N, T, I), `targets` and optionally `lengths`. A folder holds one file
    per series, in folders named after their classes, or the files of one table.

    Args:
        path: the file, or the folder.
        series: the column that names the series of each row.
        time: the column of times, numbers or time stamps; rows are sorted by it.
        label: the column of the class or the value of a series; if not given, the one called label, class,
            target or y. In a table without names columns are numbered from 0, and the first of a `.tsv` is
            the label.
        features: the columns of the inputs; None for all others.
        target: the column to forecast. Each window of the past is then a sequence and the next values its
            target; parts are split by time: 60 % training, 20 % validation, 20 % test.
        horizon: how many values to forecast. window: how many steps to forecast from; None for twice the
            horizon, at least 24. For one series with a label at every step: the number of steps per piece.
            Pieces follow each other, and parts are also split by time.
        missing: how to treat missing values: "refuse"; "hold" the last value; "interpolate". Missing values
            at the end of a row in wide form make the series shorter.
        task: whether labels are "classes" or "values" (numbers to predict); None: values if one has a
            fraction. Labels that change within a series belong to its steps; for classes this must be stated.

    Returns:
        A `Dataset`: inputs (N, T, I) float32, padded with zeros; targets (N,) int64 classes or (N, K) float32
        values per sequence, (N, T) or (N, T, 1) per step; names in `card.classes` and `card.features`.

    Raises:
        ArgumentError: for options that do not fit the file.
        DataError: for anything that cannot be read, with line and column.
        MissingExtraError: tables need the extra `data`.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "own.csv")
    >>> _ = file.write_text("id,x,kind\\na,1,up\\na,2,up\\nb,3,down\\n")
    >>> own = read(file, series="id", label="kind")
    >>> own.inputs.shape, own.card.classes, own.targets.tolist(), own.lengths.tolist()
    (torch.Size([2, 2, 1]), ('down', 'up'), [1, 0], [2, 1])
    """
    reading = Reading(series, time, label, features, target, horizon, window, missing, task)
    return dataset_of(series_of(as_path(path, "path"), reading), reading)


def read_frame(
    frame: Any,
    *,
    series: str | int | None = None,
    time: str | int | None = None,
    label: str | int | None = None,
    features: Sequence[str | int] | None = None,
    target: str | None = None,
    horizon: int = 1,
    window: int | None = None,
    missing: Missing = "refuse",
    task: Literal["classes", "values"] | None = None,
) -> Dataset:
    """As `read`, from a data frame of pandas or polars.

    >>> import pandas
    >>> frame = pandas.DataFrame({"hour": range(200), "load": [n % 24 for n in range(200)]})
    >>> own = read_frame(frame, time="hour", target="load", horizon=2, window=24)
    >>> own.inputs.shape, own.targets.shape, own.card.parts
    (torch.Size([175, 24, 1]), torch.Size([175, 2]), (95, 39, 39))
    """
    reading = Reading(series, time, label, features, target, horizon, window, missing, task)
    require("pandas", extra="data", for_="timelocal.data.read_frame")
    from timelocal.data.own_tables import table_of

    return dataset_of(_from_table(table_of(frame), reading, needs_label=True), reading)


def is_file(name: str) -> bool:
    """Whether the name of a data set is a path: it has a table's suffix, or such a file or folder exists."""
    path = Path(name).expanduser()
    return (
        path.suffix.lower() in SUFFIXES + _SHEETS
        or (path.suffix != "" and path.is_file())
        or (("/" in name or os.sep in name) and path.is_dir())
    )


def series_of(
    path: Path,
    reading: Reading,
    needs_label: bool = True,
    features: Sequence[str] | None = None,
) -> Series:
    """The series in a file or a folder, as they are: missing values are still missing.

    features: of a table in which other columns are left out, as they are called in `Series.features`.
    """
    if not is_there(path):
        raise DataError(f"{path}: no such file. Check its name and the current folder")
    if path.is_dir():
        return _folder(path, reading, needs_label, features)
    suffix = path.suffix.lower()
    if suffix == ".ts":
        return read_ts(path)
    if suffix == ".arff":
        return read_arff(path)
    if suffix == ".npz":
        return _read_npz(path)
    if suffix not in SUFFIXES:
        remedy = "Unpack it first" if suffix in _PACKED else "Save it as .csv"
        expected = f"expected one of {', '.join(SUFFIXES)}. {remedy}"
        raise DataError(f"{path}: got a file {suffix!r}, {expected}")
    return _from_table(_table(path, reading), reading, needs_label, features=features)


def _table(path: Path, reading: Reading) -> Any:
    require("pandas", extra="data", for_="timelocal.data.read of tables")
    from timelocal.data import own_tables

    if path.suffix.lower() == ".parquet":
        require("pyarrow", extra="data", for_="timelocal.data.read of tables")
        return own_tables.read_parquet(path, (reading.series, reading.label))
    return own_tables.read_delimited(path, reading.time, (reading.series, reading.label))


def _from_table(
    table: Any,
    reading: Reading,
    needs_label: bool,
    one_series: str | None = None,
    features: Sequence[str] | None = None,
) -> Series:
    from timelocal.data.own_tables import series_from

    if reading.target is not None and reading.series is None:
        one_series = "1"
    wanted = reading.features
    if wanted is None and features is not None and features != ("value",):
        columns = {str(name): name for name in table.frame.columns}
        wanted = [columns.get(name, name) for name in features]
    return series_from(
        table,
        series=reading.series,
        time=reading.time,
        label=reading.label,
        features=wanted,
        needs_label=needs_label,
        one_series=one_series,
        finds_label=reading.target is None,
        changes=reading.task == "classes",
    )


def _folder(
    path: Path, reading: Reading, needs_label: bool, features: Sequence[str] | None = None
) -> Series:
    """A file a series, whose class is the name of its folder if that is not `path`; in order of names."""
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) != 1:
        got = f"files {', '.join(kinds)}" if kinds else "no data file"
        raise DataError(f"{path}: got {got}, expected data files of one format")
    if kinds[0] not in (".csv", ".tsv", ".txt", ".parquet"):
        raise DataError(f"{path}: got files {kinds[0]}, expected tables. Give one file: {files[0]}")
    named = [str(file.relative_to(path).with_suffix("")) for file in files]
    parts = []
    for file, name in zip(files, named, strict=True):
        one = None if reading.series is not None else name
        part = _from_table(_table(file, reading), reading, needs_label, one, features)
        if file.parent != path and part.labels is None and reading.target is None:
            kind = file.parent.relative_to(path).as_posix()
            part = replace(part, labels=np.array([kind] * len(part)))
        parts.append(part)
    return _joined(path, parts)


def _joined(path: Path, parts: Sequence[Series]) -> Series:
    first = parts[0]
    for part in parts:
        if part.features != first.features:
            raise DataError(
                f"{part.source}: got the features {list(part.features)}, expected those of {first.source}: "
                f"{list(first.features)}"
            )
        if (part.labels is None) != (first.labels is None):
            raise DataError(
                f"{part.source}: got labels in some files, expected them in all or none"
            )
    names = [name for part in parts for name in part.names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: got series {twice!r} in two files, expected each in one")
    if any(part.stepwise for part in parts):
        parts = [part.with_labels_of_steps() for part in parts]
    labels = [
        part.labels if part.kinds is None else part.kinds[part.labels]
        for part in parts
        if part.labels is not None
    ]
    times = [part.times for part in parts if part.times is not None]
    return replace(
        first,
        rows=np.concatenate([part.rows for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        names=tuple(names),
        labels=np.concatenate(labels) if labels else None,
        kinds=None,
        times=np.concatenate(times) if times else None,
        duplicates={text: n for part in parts for text, n in part.duplicates.items()},
        gaps=sum(part.gaps for part in parts),
        source=str(path),
    )


def _read_npz(path: Path) -> Series:
    """Arrays `inputs` (N, T, I) or (N, T), `targets` (N,) or (N, T), and `lengths` (N,); no objects."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {error}. Save arrays of numbers or text, no objects") from None
    inputs = next((found[name] for name in ("inputs", "x", "X") if name in found), None)
    if inputs is None or inputs.ndim not in (2, 3) or inputs.dtype.kind not in "fiub":
        got = f"the arrays {', '.join(found) or '(none)'}" if inputs is None else described(inputs)
        raise DataError(f"{path}: got {got}, expected `inputs`, numbers (N, T, I) or (N, T)")
    inputs = inputs[..., None] if inputs.ndim == 2 else inputs
    labels = next((found[name] for name in ("targets", "y", "labels") if name in found), None)
    lengths = found.get("lengths", np.full(len(inputs), inputs.shape[1]))
    problems = []
    if labels is not None and labels.shape[:1] != inputs.shape[:1]:
        problems.append(
            Problem(f"{path}: targets", described(labels), f"one for each of {len(inputs)}")
        )
    whole = lengths.shape == (len(inputs),) and lengths.dtype.kind in "iu"
    if not whole or ((lengths < 1) | (lengths > inputs.shape[1])).any():
        problems.append(
            Problem(f"{path}: lengths", described(lengths), f"1 to {inputs.shape[1]} each")
        )
    if labels is not None and labels.shape not in (inputs.shape[:1], inputs.shape[:2]):
        expected = "(N,), one for each series, or (N, T), one for each step"
        problems.append(Problem(f"{path}: targets", described(labels), expected))
    raise_problems(problems, DataError)
    valid = np.arange(inputs.shape[1]) < lengths[:, None]
    if labels is not None and labels.ndim == 2:
        labels = labels[valid]
    names = found.get("features")
    return Series(
        rows=inputs[valid].astype(np.float64),
        lengths=lengths.astype(np.int64),
        features=tuple(map(str, names)) if names is not None else _channels(inputs.shape[2]),
        names=tuple(map(str, range(1, len(inputs) + 1))),
        labels=labels,
        source=str(path),
    )


def _channels(width: int) -> tuple[str, ...]:
    return ("value",) if width == 1 else tuple(f"channel {n}" for n in range(1, width + 1))


# --- series to a data set ------------------------------------------------------------------------


def dataset_of(series: Series, reading: Reading) -> Dataset:
    """The data set that these series make; what cannot be learned from is refused."""
    refuse_duplicates(series)
    whole = filled(series, reading.missing)
    refuse_coarse(whole)
    if reading.target is not None:
        return _forecasts(whole, reading)
    if series.labels is None:
        remedy = "Give label=, the column of classes or values; or target=, a column to forecast."
        raise_problems([Problem(series.source, "no labels", "one for each series", remedy)])
    assert series.labels is not None
    if reading.window is not None:
        series, whole = (in_pieces(one, reading.window) for one in (series, whole))
    classes: tuple[str, ...] | None = None
    targets: NDArray[Any]
    if are_values(series, reading.task):
        targets = values_of(series)
    else:
        classes = in_order(told_classes(series)[0])
        targets = class_indices(series, classes)
        if len(classes) == 1:
            got = f"one class, {classes[0]!r}, in all {len(series):,} series"
            if len(series) == 1:
                got = "one series"
            raise_problems([Problem(series.source, got, "two or more different classes")])
    inputs = torch.from_numpy(whole.padded(whole.rows, np.float32))
    made = _dataset(series, inputs, torch.from_numpy(targets), classes, lengths=series.lengths)
    return made if reading.window is None else _in_order_of_time(made)


def _in_order_of_time(pieces: Dataset) -> Dataset:
    """Pieces of one series; the parts follow each other in time."""
    first, second = (int(share * len(pieces)) for share in FRACTIONS)
    parts = (first, second - first, len(pieces) - second)
    if min(parts) < 1:
        got, remedy = f"{len(pieces)} pieces", "Give a longer series, or a shorter window."
        expected = "3 or more, for training, validation and test"
        raise_problems([Problem(pieces.name, got, expected, remedy)])
    notes = (
        *pieces.card.notes,
        "Pieces of one series. The parts are split by time, whatever the seed.",
    )
    return replace(pieces, card=replace(pieces.card, parts=parts, notes=notes))


def values_of(series: Series) -> NDArray[np.float32]:
    """(N, 1) values of the series, or (N, T, 1) of their steps."""
    assert series.labels is not None
    labels = series.labels if series.kinds is None else series.kinds[series.labels]
    try:
        values = labels.astype(np.float64)
    except ValueError as error:
        raise ArgumentError(f"{series.source}: label: got text, expected values: {error}") from None
    if not np.isfinite(values).all():
        raise ArgumentError(f"{series.source}: label: got a missing value, expected numbers")
    return (
        series.padded(values[:, None], np.float32)
        if series.stepwise
        else values[:, None].astype(np.float32)
    )


def class_indices(series: Series, classes: Sequence[str]) -> NDArray[np.int64]:
    """Places of the labels in `classes`: (N,) of the series, or (N, T) of their steps.

    Raises:
        DataError: for a label that is none of them.
    """
    names, places = told_classes(series)
    known = {name: place for place, name in enumerate(classes)}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise DataError(
            f"{series.source}: got the labels {unknown[:5]}, expected only {list(classes)[:20]}"
        )
    indices = np.array([known[name] for name in names], np.int64)[places]
    return series.padded(indices, np.int64) if series.stepwise else indices


def _forecasts(series: Series, reading: Reading) -> Dataset:
    assert reading.target is not None
    made = windows(series, reading.target, reading.horizon, reading.steps)
    dataset = _dataset(series, made.inputs, made.targets, None)
    notes = (
        *dataset.card.notes,
        f"Forecasts of {reading.target}, {reading.horizon} steps from {reading.steps}.",
        "The parts are split by time, whatever the seed; a window whose targets cross a boundary is in no "
        "part.",
    )
    outputs = tuple(f"{reading.target} +{step}" for step in range(1, reading.horizon + 1))
    card = replace(
        dataset.card, parts=made.parts, between=made.between, notes=notes, outputs=outputs
    )
    return replace(dataset, card=card)


def refuse_duplicates(series: Series) -> None:
    """Refuse series in which a time comes twice."""
    if series.duplicates:
        count, (first, _) = sum(series.duplicates.values()), next(iter(series.duplicates.items()))
        steps = "step" if count == 1 else "steps"
        got = f"{count:,} {steps} with the same time as the step before, the first {first}"
        remedy = "Keep only one, or give series= if they belong to several."
        raise_problems([Problem(series.source, got, "each time once in a series", remedy)])


def refuse_coarse(series: Series) -> None:
    """Refuse features whose changes are too small, relative to their size, for float32."""
    low, high = _extremes(series.rows)
    largest, spread = np.maximum(-low, high), high - low
    coarse = (largest > np.finfo(np.float32).max) | (
        (spread > 0) & (largest * np.finfo(np.float32).eps > 1e-3 * spread)
    )
    if coarse.any():
        column = int(coarse.argmax())
        got = f"values up to {largest[column]:.6g} that differ by at most {spread[column]:.3g}"
        remedy = "Subtract a constant first, such as the first value."
        what = f"{series.source}: feature {series.features[column]!r}"
        raise_problems([Problem(what, got, "numbers that are distinct in float32", remedy)])


def _extremes(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the greatest value (I,) of each column of rows (R, I).

    Many rows are taken for one long one, of which all columns are compared at once.
    """
    width = rows.shape[1]
    whole = len(rows) // _LONG * _LONG
    parts = [rows[whole:]]
    if whole:
        long = rows[:whole].reshape(-1, _LONG * width)
        parts += [one.reshape(_LONG, width) for one in (long.min(0), long.max(0))]
    few = np.concatenate(parts)
    return few.min(0), few.max(0)


def _dataset(
    series: Series,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    classes: tuple[str, ...] | None,
    lengths: NDArray[np.int64] | None = None,
) -> Dataset:
    unequal = lengths is not None and bool((lengths != lengths[0]).any())
    counts = None
    if classes is not None:
        counted = valid(targets, torch.from_numpy(lengths) if unequal else None).flatten()
        counts = torch.bincount(counted, minlength=len(classes)).tolist()
    count, steps, width = inputs.shape
    name = series.source
    card = Card(
        name=name,
        title="own data",
        shape=(count, steps, width),
        classes=classes,
        class_counts=None if counts is None else tuple(counts),
        source=name,
        citation=(),
        terms="your own",
        notes=(f"The times leave out {series.gaps:,} steps.",) if series.gaps else (),
        lengths=tuple(lengths.tolist()) if unequal and lengths is not None else None,
        features=series.features,
        outputs=() if classes is not None else ("value",),
        stepwise=series.stepwise,
    )
    return Dataset(
        name,
        inputs,
        targets,
        card,
        torch.from_numpy(lengths) if unequal and lengths is not None else None,
    )
