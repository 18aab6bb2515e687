"""Weather: which rows are where, what the scale knows, the known floors, and damaged files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from timelocal import data
from timelocal.data.files import FileDataset
from timelocal.data.registry import ENTRIES
from timelocal.data.weather import FEATURES, pairs, read_columns, scaled
from timelocal.errors import ArgumentError, DataError

ROWS, TEST, VALIDATION, TARGET = 35064, 33600, 30240, 1
HORIZONS = [1, 24, 48]


def filed(horizon: int) -> FileDataset:
    entry = ENTRIES[f"weather-{horizon}h"]
    assert isinstance(entry, FileDataset)
    return entry


def made_of(rows: np.ndarray, horizon: int) -> data.Dataset:
    """The dataset, of other rows than those of the file."""
    card = filed(horizon).card
    inputs, targets = map(torch.from_numpy, pairs(rows, horizon))
    return data.Dataset(card.name, inputs, targets, card, torch.tensor(card.lengths))


@pytest.mark.parametrize("horizon", HORIZONS)
def test_every_row_is_where_its_time_puts_it(horizon: int) -> None:
    """Of rows that are their own numbers."""
    rows = np.repeat(np.arange(ROWS, dtype=np.float64)[:, None], 9, axis=1)
    parts = data.split(made_of(rows, horizon), 0)
    for part, count, first, end in (
        (parts.train, 10, 0, VALIDATION),
        (parts.validation, 1, VALIDATION, TEST),
        (parts.test, 1, TEST, ROWS),
    ):
        assert part.lengths is None
        now, later = part.inputs[..., TARGET].flatten(), part.targets.flatten()
        assert len(part) == count
        assert (now.diff() == 1).all()  # in the order of time, through all streams
        assert torch.equal(later, now + horizon)
        assert now[0] == first
        assert end - 10 <= later[-1] + 1 <= end


def test_the_seed_changes_nothing() -> None:
    dataset = made_of(np.random.default_rng(0).random((ROWS, 9)), 1)
    first, second = data.split(dataset, 0), data.split(dataset, 1)
    assert torch.equal(first.train.inputs, second.train.inputs)
    with pytest.raises(ArgumentError, match=r"fractions.*is already split into \(10, 1, 1\)"):
        data.split(dataset, 0, fractions=(0.8, 0.1, 0.1))
    with pytest.raises(ArgumentError, match="stratified"):
        data.split(dataset, 0, stratified=True)


def test_the_scale_knows_the_training_rows_alone() -> None:
    rows = np.random.default_rng(0).random((ROWS, 9))
    changed = rows.copy()
    changed[VALIDATION:] *= 100
    assert np.array_equal(scaled(rows)[:VALIDATION], scaled(changed)[:VALIDATION])
    assert scaled(rows)[:VALIDATION].min(0).tolist() == [0] * 9
    assert scaled(rows)[:VALIDATION].max(0).tolist() == [1] * 9
    assert scaled(changed)[VALIDATION:].max() > 50


@pytest.mark.data
@pytest.mark.parametrize(
    ("horizon", "persistence", "ridge"),
    [(1, "0.00060", 4.1e-4), (24, "0.00581", 2.94e-3), (48, "0.01083", 4.65e-3)],
)
def test_floors(horizon: int, persistence: str, ridge: float, data_dir: Path) -> None:
    """Persistence to the last known digit; the ridge, fitted to the training part alone, is at most
    a tenth above one that is fitted to all rows before the test."""
    name = f"weather-{horizon}h"
    floors = data.floors(name, data.split(data.load(name, data_dir), 0))
    assert f"{floors['persistence, MSE']:.5f}" == persistence
    assert ridge < floors["ridge on 48 lags, MSE"] < 1.1 * ridge


@pytest.mark.data
def test_values_are_those_of_the_file(data_dir: Path) -> None:
    dataset = data.load("weather-24h", data_dir)
    # 1/1/2010 0:00: visibility 10 of 0..10, 16 °F of −15..86; a day later it was 12 °F.
    assert dataset.inputs[0, 0, 0] == 1
    assert dataset.inputs[0, 0, TARGET].item() == pytest.approx(31 / 101)
    fahrenheit = read_columns(data_dir / "weather" / "WTH.csv", ["DryBulbFarenheit"])[:, 0]
    assert dataset.targets[0, 0].item() == pytest.approx((fahrenheit[24] + 15) / 101)
    assert dataset.targets[11, 1439].item() == pytest.approx((fahrenheit[-1] + 15) / 101)


def made_up(folder: Path, rows: int = ROWS) -> Path:
    """A file of the right form, with other values."""
    path = folder / "WTH.csv"
    lines = [f"1/1/2010 0:00,{','.join([str(row % 97)] * 9)}" for row in range(rows)]
    path.write_text("\n".join([",".join(["date", *FEATURES]), *lines]) + "\n")
    return path


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("date,b,a\r\n1/1/2010 0:00,1,2\r\n1/1/2010 1:00,3,4\r\n")
    assert read_columns(path, ["a", "b"]).tolist() == [[2, 1], [4, 3]]
    with pytest.raises(DataError, match=r"x.csv: got the columns.*expected also \['c'\]"):
        read_columns(path, ["a", "c"])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        data.load("weather-1h", tmp_path)
    assert "missing WTH.csv" in str(caught.value)
    assert "https://raw.githubusercontent.com/" in str(caught.value)
    assert f"put them into {tmp_path}" in str(caught.value)


def test_other_values_are_refused(tmp_path: Path) -> None:
    path = made_up(tmp_path)
    with pytest.raises(DataError, match=r"WTH.csv: wrong checksum: got sha256 \w+, expected 153f"):
        data.load("weather-1h", tmp_path)
    path.write_text("\n".join(path.read_text().splitlines()[:1000]))
    with pytest.raises(DataError, match=r"got 999 rows, expected 35,064. The file is truncated"):
        data.load("weather-48h", tmp_path)


def test_cut_in_a_line(tmp_path: Path) -> None:
    path = made_up(tmp_path, rows=50)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"WTH.csv, line 51: got .*expected 10 fields"):
        data.load("weather-1h", tmp_path)


def test_download(tmp_path: Path, cache: Path, server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the right form with other values is not kept: the checksum pins it."""
    server.files["WTH.csv"] = made_up(tmp_path).read_bytes()
    entry = filed(1)
    source = replace(entry.sources[0], urls=(server.url("WTH.csv"),))
    monkeypatch.setitem(ENTRIES, "weather-1h", replace(entry, sources=(source,)))
    with pytest.raises(DataError, match="wrong checksum"):
        data.load("weather-1h")
    assert server.asked == ["/good/WTH.csv"]
    assert not list(cache.rglob("WTH.csv"))


def test_the_three_horizons_share_a_file() -> None:
    assert len({(filed(h).folders, filed(h).sources) for h in HORIZONS}) == 1


@pytest.mark.parametrize(
    "data",
    [
        "D,Station,T\n1,Ålesund,2\n".encode(),
        b"D,Station,T\n1,a\x85b,2\n",
        b"\xef\xbb\xbfT,S\n2,1\n",
        b"D,T\na,2\n\n",
        b"\r\nD,T\r\n\r\na,2\r\n\r\n",
    ],
)
def test_encodings_marks_and_blank_lines_do_no_harm(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_bytes(data)
    assert read_columns(path, ["T"]).tolist() == [[2]]


def test_a_field_without_an_end_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_bytes(b'D,T\n1,2\n1,"' + b"3" * 200_000)
    with pytest.raises(DataError, match="line 3"):
        read_columns(path, ["T"])
