"""weather: the air temperature at one place, 1, 24 or 48 hours ahead."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timelocal.data.dataset import Arrays, Card
from timelocal.data.fetch import Source
from timelocal.data.files import FileDataset, Form
from timelocal.data.metrics import mse
from timelocal.data.parsers import text_lines
from timelocal.data.sequences import Split
from timelocal.data.trivial import linear_on_lags, persistence
from timelocal.errors import DataError

_FILE = "WTH.csv"
_SHA256 = "153fead3ea2a83dc5c4127d3994af6b167322f6f5e292c99491f43a2caf14cd4"
_HOME = (
    "https://raw.githubusercontent.com/jesusgf96/NP_RNNs/"
    "0a33229c2bc114ad5ebb24132e34b8ac56384f85/data/WTH.csv"
)
# The columns of the file that are kept: not those that repeat a temperature in Celsius.
FEATURES = (
    "Visibility",
    "DryBulbFarenheit",
    "WetBulbFarenheit",
    "DewPointFarenheit",
    "RelativeHumidity",
    "WindSpeed",
    "WindDirection",
    "StationPressure",
    "Altimeter",
)
TARGET = FEATURES.index("DryBulbFarenheit")
ROWS = 35064
_TEST = 33600  # the first row of the test
_VALIDATION = 30240  # the first row of the validation: the last tenth of what is before the test
_STREAMS = 10
LAGS = 48


def read_columns(path: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """The named columns of a file of comma-separated numbers under a line of names.

    Returns:
        (rows, columns), in the order of `names`.

    Raises:
        DataError: a column is missing, or a line is damaged.
    """
    reader = csv.reader(text_lines(path))
    rows = filter(None, reader)  # blank lines have no fields
    header = next(rows, [])
    missing = [name for name in names if name not in header]
    if missing:
        raise DataError(
            f"{path}: got the columns {header}, expected also {missing}. Fetch the file again"
        )
    columns = [header.index(name) for name in names]
    values = []
    row: list[str] = []
    try:
        for row in rows:
            values.append([float(row[column]) for column in columns])
    except (ValueError, IndexError, csv.Error):
        raise DataError(
            f"{path}, line {reader.line_num}: got {','.join(row)!r}, expected {len(header)} "
            "fields, numbers all but the first. The file is damaged or truncated: fetch it again"
        ) from None
    return np.array(values).reshape(-1, len(names))


def scaled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every column to 0..1 over the training rows; a later row may lie outside.

    Args:
        rows: (35064, I).

    Returns:
        The same shape.
    """
    known = rows[:_VALIDATION]
    low, high = known.min(0), known.max(0)
    return (rows - low) / (high - low)


def pairs(rows: NDArray[np.float64], horizon: int) -> Arrays:
    """Inputs now and the target `horizon` rows later, within each part; the training in 10 streams.

    No pair reaches from one part into another; each of the training is in one stream alone.

    Args:
        rows: (35064, I), scaled.
        horizon: rows from an input to its target.

    Returns:
        Inputs (12, T, I) and targets (12, T, 1), padded with zeros to the longest (see `_lengths`).
    """
    lengths = _lengths(horizon)
    starts = [n * lengths[0] for n in range(_STREAMS)] + [_VALIDATION, _TEST]
    inputs = np.zeros((len(lengths), max(lengths), rows.shape[1]), np.float32)
    targets = np.zeros((len(lengths), max(lengths), 1), np.float32)
    for n, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        inputs[n, :length] = rows[start : start + length]
        targets[n, :length, 0] = rows[start + horizon : start + horizon + length, TARGET]
    return inputs, targets


def _lengths(horizon: int) -> tuple[int, ...]:
    """Of the 10 training streams, the validation and the test."""
    train = (_VALIDATION - horizon) // _STREAMS
    return (train,) * _STREAMS + (_TEST - _VALIDATION - horizon, ROWS - _TEST - horizon)


def _rows(path: Path) -> NDArray[np.float64]:
    rows = read_columns(path, FEATURES)
    if len(rows) != ROWS:
        raise DataError(
            f"{path}: got {len(rows):,} rows, expected {ROWS:,}. The file is truncated or "
            "another edition: fetch it again"
        )
    return rows


def _read(horizon: int, paths: list[Path]) -> Arrays:
    return pairs(scaled(_rows(paths[0])), horizon)


def _read_series(paths: list[Path]) -> Arrays:
    rows = _rows(paths[0]).astype(np.float32)[None]
    return rows, rows[..., [TARGET]]


def _floors(split: Split) -> dict[str, float]:
    train, test = split.train, split.test
    linear = linear_on_lags(train, test, LAGS, ridge=1.0)
    return {
        "persistence, MSE": mse(persistence(test, TARGET), test.targets),
        f"ridge on {LAGS} lags, MSE": mse(linear, test.targets[:, LAGS - 1 :]),
    }


def _entry(horizon: int, fingerprint: str) -> FileDataset:
    hours = "1 hour" if horizon == 1 else f"{horizon} hours"
    lengths = _lengths(horizon)
    return FileDataset(
        card=Card(
            name=f"weather-{horizon}h",
            title=f"Hourly weather at one place; the air temperature {hours} ahead",
            shape=(len(lengths), max(lengths), len(FEATURES)),
            classes=None,
            class_counts=None,
            source="https://www.ncei.noaa.gov/data/local-climatological-data/, one station, "
            "2010-2013 (the file does not say which), as compiled for Informer, "
            "https://github.com/zhouhaoyi/Informer2020",
            citation=(
                "NOAA National Centers for Environmental Information. Local Climatological Data.",
                "H. Zhou, S. Zhang, J. Peng, S. Zhang, J. Li, H. Xiong, W. Zhang. Informer: Beyond "
                "efficient Transformer for long sequence time-series forecasting. AAAI 2021.",
            ),
            terms="The observations are in the public domain in the US, to be cited; the compiled "
            "file is published without a licence.",
            notes=(
                f"Features: {', '.join(FEATURES)} (the file's spelling).",
                f"Target: DryBulbFarenheit, {hours} later. One step is one hour.",
                "Rows 0-30,239 train, in 10 consecutive streams; 30,240-33,599 validate; the last "
                "1,464 (two months) test. Split by time, whatever the seed.",
                "Scaled to 0..1 by the training rows alone; 1 is 101 °F of temperature.",
                "As in the paper, missing readings are left as the file has them: zeros in place of the "
                "humidity and, partly, of the temperatures in 149 hours, the mean in place of a pressure "
                "in 90.",
            ),
            parts=(_STREAMS, 1, 1),
            lengths=lengths,
        ),
        folders=("weather",),
        forms=(Form({_FILE: _SHA256}, partial(_read, horizon)),),
        sources=(Source(_FILE, (_HOME,), _SHA256),),
        fingerprint=fingerprint,
        floors=_floors,
    )


ENTRIES = (
    _entry(1, "5c71371fa3551bc7bb5d609746b3f2d22d489743c94fe425790a8a2ce9237be7"),
    _entry(24, "f2aee484dff779ddb5024c1891f4e6b37bf26ea562048d0553c0085c90941112"),
    _entry(48, "35cda3e89dfe214f5cece956036d3294b31502c59f155a5e6eff66608005f586"),
)

SERIES = replace(
    ENTRIES[0],
    card=replace(
        ENTRIES[0].card,
        name="weather",
        title="Hourly weather at one place, as measured",
        shape=(1, ROWS, len(FEATURES)),
        notes=ENTRIES[0].card.notes[:1],
        parts=None,
        lengths=None,
    ),
    forms=(Form({_FILE: _SHA256}, _read_series),),
    fingerprint="18da0468d619d420cd6fd83c95b762583cb9726c73d4a5ec75b6c01490e30661",
)
"""The rows of the file and the temperature among them, of which other data sets are made."""
