"""Blocks of the temperature: which rows are where, what is known of them, and what regression makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from timelocal import data
from timelocal.data.temperature_block import BLOCKS, block_pairs, with_readings
from timelocal.data.trivial import chosen_ridge
from timelocal.data.weather import FEATURES, ROWS, SERIES, TARGET
from timelocal.errors import ArgumentError


def parts(rows: np.ndarray, horizon: int, block: int) -> data.Split:
    card = data.card(f"temperature-block:horizon={horizon},block={block}")
    inputs, targets = map(torch.from_numpy, block_pairs(rows, horizon, block))
    assert card.lengths is not None
    lengths = torch.tensor(card.lengths)
    return data.split(data.Dataset(card.name, inputs, targets, card, lengths), 0)


@pytest.mark.parametrize("horizon", [1, 48])
@pytest.mark.parametrize("block", [1, BLOCKS])
def test_a_block_comes_after_all_that_is_known_of_it(horizon: int, block: int) -> None:
    """Of rows whose first column is their number, and whose temperature its square."""
    number = np.arange(ROWS, dtype=np.float64)
    rows = np.repeat(number[:, None], len(FEATURES), axis=1)
    rows[:, TARGET] = number**2
    begin = ROWS // 2 + (block - 1) * ROWS // 12
    known = number[: begin * 4 // 5]
    made = parts(rows, horizon, block)
    edges = [(0, len(known)), (len(known), begin), (begin, begin + ROWS // 12)]
    for part, (first, end) in zip((made.train, made.validation, made.test), edges, strict=True):
        now = part.inputs[..., 0].double().flatten().numpy() * known.std() + known.mean()
        change = part.targets.double().flatten().numpy() * (known**2).std()
        assert np.allclose(change, (now + horizon) ** 2 - now**2, rtol=1e-3)
        assert np.allclose(np.diff(now), 1, atol=0.02)
        assert first - 0.1 < now[0] + horizon * (first > 0) < first + 0.1
        assert end - 10.1 < now[-1] + horizon + 1 < end + 0.1


def test_further_targets_are_the_changes_over_shorter_times() -> None:
    rows = np.random.default_rng(0).random((ROWS, len(FEATURES)))
    inputs, targets = block_pairs(rows, 12, 2, shorter=1)
    assert np.array_equal(inputs, block_pairs(rows, 12, 2)[0])
    assert targets.shape[-1] == 5
    known = rows[: (ROWS // 2 + ROWS // 12) * 4 // 5, TARGET]
    for n in (0, 9):
        length = data.card("temperature-block:horizon=12,block=2").lengths[n]
        first = n * length
        for output, span in enumerate((12, 1, 2, 4, 8)):
            change = rows[first + span : first + span + length, TARGET]
            change = (change - rows[first : first + length, TARGET]) / known.std()
            np.testing.assert_allclose(targets[n, :length, output], change, atol=1e-5)


def test_the_scale_does_not_know_what_comes_later() -> None:
    rows = np.random.default_rng(0).random((ROWS, len(FEATURES)))
    changed = rows.copy()
    changed[ROWS // 2 :] += 100
    for one, other in zip(block_pairs(rows, 24, 1), block_pairs(changed, 24, 1), strict=True):
        assert np.array_equal(one[:10], other[:10])
        assert not np.array_equal(one[11], other[11])


def test_ridge_takes_the_lags_and_the_penalty_that_validate_best() -> None:
    """scikit-learn's ridge on every choice, written out apart."""
    drawn = torch.randn(3, 60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    signal = drawn[..., :1].roll(2, 1) + 0.5 * drawn
    train, validation, test = (
        data.Sequences(drawn[n : n + 1], signal[n : n + 1, :, :1]) for n in range(3)
    )

    def table(part: data.Sequences, lags: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = part.inputs[0].numpy(), part.targets[0, 4:].numpy()
        return np.stack([x[t - lags + 1 : t + 1].ravel() for t in range(4, 60)]), y

    found = []
    for lags in (1, 3, 5):
        for penalty in (0.1, 10.0):
            ridge = Ridge(penalty).fit(*table(train, lags))
            x, y = table(validation, lags)
            error = ((ridge.predict(x).reshape(-1, 1) - y) ** 2).mean()
            found.append((error, ridge.predict(table(test, lags)[0]).reshape(-1)))
    expected = min(found, key=lambda one: one[0])[1]
    got = chosen_ridge(train, validation, test, (1, 3, 5), (0.1, 10.0))
    assert np.allclose(got[0, :, 0].numpy(), expected)


def test_a_missing_reading_holds_the_value_of_the_hour_before() -> None:
    """Zero temperatures stay where there is a humidity, as do pressures of two decimals."""
    rows = np.full((6, len(FEATURES)), 20.0)
    dry, wet, humid, pressure = (
        FEATURES.index(name)
        for name in ("DryBulbFarenheit", "WetBulbFarenheit", "RelativeHumidity", "StationPressure")
    )
    rows[:, dry] = [1, 2, 0, 0, 0, 6]
    rows[:, wet] = [1, 0, 0, 0, 5, 6]
    rows[:, humid] = [50, 51, 0, 0, 54, 55]
    rows[:, pressure] = [21.68, 21.47868, 21.7, 21.65, 21.47868, 21.47868]
    expected = rows.copy()
    expected[:, dry] = [1, 2, 2, 2, 0, 6]
    expected[:, wet] = [1, 0, 0, 0, 5, 6]
    expected[:, humid] = [50, 51, 51, 51, 54, 55]
    expected[:, pressure] = [21.68, 21.68, 21.7, 21.65, 21.65, 21.65]
    assert np.array_equal(with_readings(rows), expected)
    single = rows.astype(np.float32)
    assert np.array_equal(with_readings(single), expected.astype(np.float32))


@pytest.mark.data
def test_the_file_lacks_readings_in_a_few_hours(data_dir: Path) -> None:
    rows = SERIES.read(data_dir)[0][0]
    changed = rows != with_readings(rows)
    hours = dict(zip(FEATURES, changed.sum(0).tolist(), strict=True))
    assert hours["RelativeHumidity"] == 149
    assert (
        80 <= hours["StationPressure"] <= 85
    )  # a pressure before that equals the mean changes none
    assert hours["Visibility"] == hours["WindSpeed"] == hours["WindDirection"] == 0
    assert (with_readings(rows)[1:, FEATURES.index("RelativeHumidity")] > 0).all()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("temperature-block:block=7", "block: got 7, expected an integer from 1 to 6"),
        ("temperature-block:horizon=0", "horizon: got 0"),
        ("temperature-block:shorter=2", "shorter: got 2"),
    ],
)
def test_bad_numbers_are_told(name: str, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        data.card(name)


@pytest.mark.slow
@pytest.mark.data
def test_a_regression_is_better_than_no_change(data_dir: Path) -> None:
    name = "temperature-block:horizon=1,block=1"
    floors = data.floors(name, data.split(data.load(name, data_dir), 0))
    assert floors["ridge on the past, MSE"] < 0.7 * floors["persistence, MSE"]
