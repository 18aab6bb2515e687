"""temperature-block: the temperature hours ahead in one of six blocks, with everything before it known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from timelocal.arguments import whole_problem
from timelocal.data.dataset import Arrays, Derived
from timelocal.data.families import Family
from timelocal.data.metrics import mse
from timelocal.data.own_series import Series, filled
from timelocal.data.sequences import Sequences, Split
from timelocal.data.trivial import chosen_ridge
from timelocal.data.weather import FEATURES, ROWS, SERIES, TARGET
from timelocal.errors import raise_problems

BLOCKS = 6
"""They share the second half of the time."""

LAGS = (24, 48, 96, 168)
PENALTIES = (1.0, 1e1, 1e2, 1e3, 1e4)
_STREAMS = 10
_EACH = ROWS // (2 * BLOCKS)


_FROM_ZERO = ("DryBulbFarenheit", "WetBulbFarenheit", "DewPointFarenheit", "RelativeHumidity")
_FROM_MEAN = ("StationPressure", "Altimeter")


def with_readings(rows: np.ndarray) -> np.ndarray:
    """Rows in which a missing reading holds the value of the hour before.

    The file has no gaps, but it marks missing readings: where there is no humidity, which is never 0, there
    are zeros among the humidity and the temperatures; where there is no pressure, there is the column's mean,
    which has more decimals than a reading, all of which are multiples of 0.01.

    Args:
        rows: (n, I), in the units of the file.
    """
    found = rows.copy()
    at_zero, at_mean = ([*map(FEATURES.index, names)] for names in (_FROM_ZERO, _FROM_MEAN))
    no_humidity = rows[:, [FEATURES.index("RelativeHumidity")]] == 0
    hundreds = 100 * rows[:, at_mean].astype(np.float64)
    found[:, at_zero] = np.where(no_humidity & (rows[:, at_zero] == 0), np.nan, rows[:, at_zero])
    no_reading = np.abs(hundreds - hundreds.round()) > 0.01
    found[:, at_mean] = np.where(no_reading, np.nan, rows[:, at_mean])
    return filled(Series(found, np.array([len(rows)]), FEATURES, ("weather",)), "hold").rows


def _cuts(block: int) -> tuple[int, int, int]:
    """The first rows whose temperature validates and is tested, and the row after the block."""
    begin = ROWS // 2 + (block - 1) * _EACH
    return begin * 4 // 5, begin, begin + _EACH


def _lengths(horizon: int, block: int) -> tuple[int, ...]:
    """Of the training streams, the validation and the test."""
    validation, test, end = _cuts(block)
    return ((validation - horizon) // _STREAMS,) * _STREAMS + (test - validation, end - test)


def _spans(horizon: int, shorter: int) -> tuple[int, ...]:
    """The hours ahead of the targets: the horizon, and with `shorter` the powers of two below it."""
    powers = (2**n for n in range(horizon.bit_length()))
    return (horizon, *(span for span in powers if shorter and span < horizon))


def block_pairs(rows: np.ndarray, horizon: int, block: int, shorter: int = 0) -> Arrays:
    """Inputs, and the change of the temperature over the next `horizon` rows.

    Args:
        rows: (35064, I).
        horizon: rows from an input to its target.
        block: 1 to 6.
        shorter: 1 for the changes over the next 1, 2, 4, … rows, up to the horizon, as further targets.

    Returns:
        Inputs (12, T, I) and targets (12, T, O), padded with zeros to the longest: 10 streams to train on,
        one to validate and one to test, all of mean 0 and deviation 1 over the rows before the validation.
    """
    validation, test, _ = _cuts(block)
    lengths = _lengths(horizon, block)
    starts = [n * lengths[0] for n in range(_STREAMS)] + [validation - horizon, test - horizon]
    known = rows[:validation].astype(np.float64)
    values = (rows - known.mean(0)) / known.std(0)
    inputs = np.zeros((len(lengths), max(lengths), rows.shape[1]), np.float32)
    spans = _spans(horizon, shorter)
    targets = np.zeros((len(lengths), max(lengths), len(spans)), np.float32)
    for n, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        now = values[start : start + length]
        inputs[n, :length] = now
        for output, span in enumerate(spans):
            later = values[start + span : start + span + length]
            targets[n, :length, output] = (later - now)[:, TARGET]
    return inputs, targets


def _floors(split: Split) -> dict[str, float]:
    """The test block begins where the validation ends: what ridge looks back on is there."""
    before = max(LAGS) - 1
    reaching = Sequences(
        torch.cat((split.validation.inputs[:, -before:], split.test.inputs), 1),
        torch.cat((split.validation.targets[:, -before:], split.test.targets), 1),
    )
    told = chosen_ridge(split.train, split.validation, reaching, LAGS, PENALTIES)
    return {
        "persistence, MSE": mse(torch.zeros_like(split.test.targets), split.test.targets),
        "ridge on the past, MSE": mse(told, split.test.targets),
    }


def _block(name: str, horizon: int, block: int, shorter: int) -> Derived:
    raise_problems(
        [
            whole_problem(f"dataset {name}: horizon", horizon, 1, 1000),
            whole_problem(f"dataset {name}: block", block, 1, BLOCKS),
            whole_problem(f"dataset {name}: shorter", shorter, 0, 1),
        ]
    )
    lengths = _lengths(horizon, block)

    def change(arrays: Arrays) -> Arrays:
        return block_pairs(with_readings(arrays[0][0]), horizon, block, shorter)

    further = ", ".join(f"{span}" for span in _spans(horizon, shorter)[1:])
    card = replace(
        SERIES.card,
        name=name,
        title=f"Hourly weather at one place; the air temperature {horizon} hours ahead, in block {block} of "
        f"{BLOCKS}",
        shape=(len(lengths), max(lengths), len(FEATURES)),
        notes=(
            *SERIES.card.notes,
            f"Target: the change of DryBulbFarenheit over the next {horizon} hours"
            + (f"; further targets: those over the next {further}." if further else "."),
            "The blocks share the second half of the time. Everything before a block is known: its last "
            "fifth is for validation, the rest for training, in 10 consecutive streams.",
            "Standardised over the training part.",
            "Missing readings hold the value of the hour before: the file has zeros in place of the humidity "
            "and, partly, of the temperatures in 149 hours, and the mean in place of a pressure in 90.",
        ),
        parts=(_STREAMS, 1, 1),
        lengths=lengths,
        consecutive=True,
    )
    return Derived(SERIES, card, change, _floors)


FAMILY = Family("temperature-block", {"horizon": 24, "block": 1, "shorter": 0}, _block)
