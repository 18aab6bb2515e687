"""Files as people have them: the right series, or one clear line."""

from __future__ import annotations

import os
import re
import warnings
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from timelocal import data
from timelocal.data import read, read_frame, split
from timelocal.data.own_series import Series, filled, told_classes
from timelocal.data.reading import Reading, series_of
from timelocal.errors import ArgumentError, DataError, ReadingWarning

LENGTHS = [4, 2, 5]
KINDS = ["up", "düster", "up"]


@pytest.fixture
def cases() -> list[np.ndarray]:
    """Three series of two channels, with numbers that text writes exactly."""
    draw = np.random.default_rng(0)
    return [np.round(draw.normal(size=(length, 2)), 3) for length in LENGTHS]


def long_frame(cases: list[np.ndarray]) -> pd.DataFrame:
    return pd.concat(
        pd.DataFrame(
            {"who": f"s{n}", "at": np.arange(len(case)), "a": case[:, 0], "b": case[:, 1], "kind": kind}
        )
        for n, (case, kind) in enumerate(zip(cases, KINDS, strict=True))
    )  # fmt: skip


def write_long(folder: Path, cases: list[np.ndarray]) -> Path:
    path = folder / "long.csv"
    long_frame(cases).to_csv(path, index=False)
    return path


def write_shuffled(folder: Path, cases: list[np.ndarray]) -> Path:
    """Rows in any order, but the first of each series in the order of the series."""
    frame = long_frame(cases).reset_index(drop=True)
    heads = frame.groupby("who", sort=False).tail(1)
    rest = frame.drop(heads.index).sample(frac=1, random_state=1)
    path = folder / "shuffled.csv"
    pd.concat([heads, rest]).to_csv(path, index=False, sep=";", decimal=",", encoding="utf-8-sig")
    return path


def write_latin(folder: Path, cases: list[np.ndarray]) -> Path:
    path = folder / "latin.tsv"
    long_frame(cases).to_csv(path, index=False, sep="\t", encoding="cp1252", lineterminator="\r\n")
    return path


def write_utf16(folder: Path, cases: list[np.ndarray]) -> Path:
    path = folder / "wide.csv"
    long_frame(cases).to_csv(path, index=False, encoding="utf-16")
    return path


def write_parquet(folder: Path, cases: list[np.ndarray]) -> Path:
    path = folder / "long.parquet"
    long_frame(cases).to_parquet(path)
    return path


def write_folder(folder: Path, cases: list[np.ndarray]) -> Path:
    for n, (case, kind) in enumerate(zip(cases, KINDS, strict=True)):
        (folder / "many").mkdir(exist_ok=True)
        frame = pd.DataFrame({"at": np.arange(len(case)), "a": case[:, 0], "b": case[:, 1]})
        frame.assign(kind=kind).to_csv(folder / "many" / f"s{n}.csv", index=False)
    return folder / "many"


def write_ts(folder: Path, cases: list[np.ndarray]) -> Path:
    path = folder / "own.ts"
    lines = ["# a comment", "@problemName own", "@classLabel true up düster", "@data"]
    for case, kind in zip(cases, KINDS, strict=True):
        lines.append(":".join([*(",".join(map(str, channel)) for channel in case.T), kind]))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_arff(folder: Path, cases: list[np.ndarray]) -> Path:
    path = folder / "own.arff"
    lines = ["@relation own", "@attribute bag relational", "@attribute a0 numeric", "@end bag"]
    lines += ["@attribute class {up, düster}", "@data"]
    longest = max(LENGTHS)
    for case, kind in zip(cases, KINDS, strict=True):
        channels = (",".join([*map(str, one), *["?"] * (longest - len(case))]) for one in case.T)
        lines.append("'" + r"\n".join(channels) + "'," + kind)
    path.write_text("\n".join(lines) + "\n")
    return path


def write_npz(folder: Path, cases: list[np.ndarray]) -> Path:
    path = folder / "own.npz"
    inputs = np.zeros((3, max(LENGTHS), 2))
    for row, case in zip(inputs, cases, strict=True):
        row[: len(case)] = case
    np.savez(path, inputs=inputs, targets=np.array(KINDS), lengths=LENGTHS)
    return path


TABLES = [write_long, write_shuffled, write_latin, write_utf16, write_parquet]
FORMS = [*TABLES, write_folder, write_ts, write_arff, write_npz]


@pytest.mark.parametrize("write", FORMS, ids=lambda write: write.__name__.removeprefix("write_"))
def test_all_forms_hold_the_same_series(write, cases, tmp_path):
    options = {"time": "at", "label": "kind"} if write in (*TABLES, write_folder) else {}
    if write in TABLES:
        options["series"] = "who"
    own = read(write(tmp_path, cases), **options)
    assert own.card.classes == ("düster", "up")
    assert own.targets.tolist() == [1, 0, 1]
    assert own.lengths.tolist() == LENGTHS
    for row, case in zip(own.inputs, cases, strict=True):
        torch.testing.assert_close(row[: len(case)], torch.from_numpy(case).float())
        assert not row[len(case) :].any()


def test_a_row_a_series(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("name,t0,t1,t2,label\nx,1,2,3,2\ny,4,5,,10\n")
    own = read(path, series="name")
    assert (own.card.classes, own.targets.tolist()) == (("2", "10"), [0, 1])
    assert own.inputs[..., 0].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert own.lengths.tolist() == [3, 2]
    path = tmp_path / "own.tsv"  # as the UCR archive: no header, the label first
    path.write_text("1.0000000e+00\t.5\t.25\n-1.0000000e+00\t1.5\tNaN\n")
    own = read(path)
    assert (own.card.classes, own.targets.tolist(), own.lengths.tolist()) == (
        ("-1", "1"),
        [1, 0],
        [2, 1],
    )


@pytest.mark.parametrize(
    ("columns", "options", "told"),
    [
        (["id", "t"], {}, "'id' and 't' .* give series='id', time='t' "),
        (["x", "Date"], {}, "'Date' .* time='Date' .*; in a sweep `reading.time=Date`"),
        (["SERIES", "x"], {}, "'SERIES' .*`--series SERIES`"),
        (["id", "time", "x"], {"series": "id"}, "and 'time' as .* give time='time' "),
        (["a", "b"], {}, None),
        (["t0", "t1"], {}, None),
        (["id", "a", "b"], {"series": "id"}, None),
        (["id", "t", "a"], {"series": "id", "time": "t"}, None),
        (["id", "t", "a"], {"features": ["t", "a"]}, None),
    ],
)
def test_what_is_hardly_a_measurement_in_a_row_is_warned_of(columns, options, told):
    frame = pd.DataFrame({name: [1, 2, 3] for name in columns} | {"kind": list("aba")})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_frame(frame, label="kind", **options)
    assert len(caught) == (told is not None)
    for one in caught:
        assert one.category is ReadingWarning
        assert one.filename == __file__
        assert re.search(told, str(one.message)), one.message


def test_values_of_series_and_of_their_steps():
    frame = pd.DataFrame({"id": [0, 0, 1, 1], "x": [1.0, 2, 3, 4], "y": [0.5, 0.5, 1.5, 1.5]})
    own = read_frame(frame, series="id")
    assert own.card.classes is None
    assert own.targets.tolist() == [[0.5], [1.5]]
    assert (
        read_frame(frame.assign(y=[0, 0, 1, 1]), series="id", task="values").targets.dtype
        == torch.float32
    )
    whole = read_frame(frame.assign(y=[0, 1, 1, 2]), series="id", task="values")
    torch.testing.assert_close(whole.targets[..., 0], torch.tensor([[0.0, 1], [1, 2]]))
    steps = read_frame(frame.assign(y=[0.5, 0.6, 1.5, 1.5]), series="id")
    torch.testing.assert_close(steps.targets[..., 0], torch.tensor([[0.5, 0.6], [1.5, 1.5]]))


@pytest.mark.parametrize("form", ["text.csv", "numbers.csv", "own.npz", "folder"])
def test_a_class_at_every_step(form, tmp_path):
    """Series of 3 and 2 steps, the second of one class throughout."""
    kinds = ["up", "down", "up", "down", "down"]
    if form == "numbers.csv":
        kinds = [10 * (kind == "up") for kind in kinds]
    frame = pd.DataFrame({"id": list("aaabb"), "x": [1.0, 2, 3, 4, 5], "label": kinds})
    path = tmp_path / form
    options = {"series": "id", "task": "classes"}
    if form == "own.npz":
        inputs, targets = np.zeros((2, 3, 1)), np.full((2, 3), "nothing")
        inputs[0, :, 0], inputs[1, :2, 0] = [1, 2, 3], [4, 5]
        targets[0], targets[1, :2] = kinds[:3], kinds[3:]
        np.savez(path, inputs=inputs, targets=targets, lengths=np.array([3, 2]))
        options = {}
    elif form == "folder":
        path.mkdir()
        for name, own in frame.groupby("id"):
            own.drop(columns="id").to_csv(path / f"{name}.csv", index=False)
        options = {"task": "classes", "time": "x", "features": ["x"]}
    else:
        frame.to_csv(path, index=False)
    own = read(path, **options)
    assert own.card.classes == (("0", "10") if form == "numbers.csv" else ("down", "up"))
    assert own.card.class_counts == (3, 2)
    assert own.card.stepwise
    assert own.lengths.tolist() == [3, 2]
    assert own.targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert own.inputs[..., 0].tolist() == [[1, 2, 3], [4, 5, 0]]


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_one_labelled_series_in_pieces_by_time(kind):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"t": np.arange(103), "x": draw.normal(size=103)})
    frame["label"] = draw.integers(0, 2, 103) if kind == "classes" else draw.normal(size=103)
    own = read_frame(frame.sample(frac=1, random_state=0), time="t", task=kind, window=10)
    assert own.lengths.tolist() == [10] * 10 + [3]
    assert own.card.parts == (6, 2, 3)
    parts = split(own, seed=1)
    rows = np.concatenate([parts.train.inputs.flatten(), parts.validation.inputs.flatten()])
    np.testing.assert_array_equal(rows, frame["x"][:80].astype(np.float32))
    targets = parts.test.targets.reshape(3, 10)
    np.testing.assert_array_equal(targets[:2].flatten(), frame["label"][80:100].astype(np.float32))
    for options in ({"window": 60}, {"window": 1}, {"window": 10, "series": "id"}):
        with pytest.raises(ArgumentError, match="window"):
            read_frame(frame.assign(id=frame["t"] // 60), time="t", task=kind, **options)


@pytest.mark.parametrize("missing", ["hold", "interpolate"])
def test_missing_values_are_filled_from_their_own_series_alone(missing):
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 9, 200)
    rows = draw.normal(size=(lengths.sum(), 2))
    rows[draw.random(rows.shape) < 0.4] = np.nan
    codes = np.repeat(np.arange(200), lengths)
    known = pd.DataFrame(rows).groupby(codes).transform("count").to_numpy() > 0
    rows[~known] = 0  # a series without any value is refused
    series = Series(rows, lengths, ("a", "b"), tuple(map(str, range(200))))
    groups = pd.DataFrame(rows).groupby(codes, group_keys=False)
    fill = {
        "hold": lambda one: one.ffill().bfill(),
        "interpolate": lambda one: one.interpolate("linear", limit_direction="both"),
    }[missing]
    expected = pd.concat([fill(group) for _, group in groups]).to_numpy()
    np.testing.assert_allclose(filled(series, missing).rows, expected)


@pytest.mark.parametrize("ids", [1, 3])
def test_windows_by_time_and_no_target_before_its_part(ids):
    count, window, horizon = 90, 7, 3
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(ids), count), "at": np.tile(np.arange(count), ids)}
    )
    frame["load"] = frame["at"] + 1000.0 * frame["id"]
    frame["other"] = -frame["load"]
    columns = ID if ids > 1 else {"features": ["load", "other"]}
    own = read_frame(
        frame.sample(frac=1, random_state=0), time="at", target="load", horizon=horizon, window=window,
        **columns,
    )  # fmt: skip
    assert own.card.features == ("load", "other")
    for inputs, targets in zip(own.inputs, own.targets, strict=True):
        begin = inputs[0, 0]
        assert torch.equal(inputs[:, 0], begin + torch.arange(window))
        assert torch.equal(inputs[:, 1], -inputs[:, 0])
        assert torch.equal(targets, begin + window + torch.arange(horizon))
    parts = split(own, seed=1)
    when = [part.targets % 1000 for part in (parts.train, parts.validation, parts.test)]
    assert when[0].max() == 53  # of 90 steps, 60 % are those to 53
    assert (when[1].min(), when[1].max()) == (54, 71)
    assert (when[2].min(), when[2].max()) == (72, 89)
    assert own.card.parts == tuple(
        len(part) for part in (parts.train, parts.validation, parts.test)
    )
    assert own.card.parts == (ids * (54 - 7 - 2), ids * (18 - 2), ids * (18 - 2))


def test_time_stamps_with_zones_are_brought_in_the_order_of_the_moments(tmp_path):
    path = tmp_path / "zones.csv"  # the hour that comes twice when summer time ends
    path.write_text(
        "when,x\n2026-10-25T02:30:00+02:00,1\n2026-10-25T02:10:00+01:00,2\n2026-10-25T02:50:00+02:00,3\n"
    )
    series = series_of(path, Reading(time="when"))
    assert series.rows[:, 0].tolist() == [1, 3, 2]


@pytest.mark.parametrize("shuffled", [False, True])
def test_times_twice_and_gaps_are_counted_within_each_series(shuffled, tmp_path):
    """The last time of one series may be the first of the next, and lie far from it."""
    times = {"a": [1, 2, 3, 3, 4], "b": [4, 5, 6, 9], "c": [50, 51, 51, 51, 52, 60]}
    frame = pd.DataFrame(
        [(name, t) for name, own in times.items() for t in own], columns=["id", "t"]
    )
    frame["x"] = np.arange(len(frame))
    written = frame.sample(frac=1, random_state=0) if shuffled else frame
    path = tmp_path / "long.csv"
    written.to_csv(path, index=False)
    series = series_of(path, Reading(series="id", time="t"))
    steps = frame.groupby("id")["t"].diff().dropna()
    assert sum(series.duplicates.values()) == (steps == 0).sum() == 3
    assert series.gaps == sum(step - 1 for step in steps if step > 1) == 9
    assert set(series.names) == set(times)


@pytest.mark.parametrize("late", [False, True])
def test_spaces_behind_delimiters(late, tmp_path):
    """They are looked for in the first megabyte: behind that a cell that is missing must be empty."""
    path = tmp_path / "long.csv"
    rows = ["a,1,u"] * (200_000 if late else 1)
    path.write_text("\n".join(["id,x,label", *rows, "b, 2, v", "b,\t3,v", ""]))
    own = read(path, series="id", label="label")
    assert own.card.classes == ("u", "v")
    assert own.inputs[1, :2, 0].tolist() == [2, 3]
    path.write_text("\n".join(["id,x,label", *rows, "b, ,v", ""]))
    told = "column 'x': got ' ', expected a number" if late else "1 missing value"
    with pytest.raises(ArgumentError, match=told):
        read(path, series="id", label="label")


def test_a_column_of_several_types_is_read_as_one(tmp_path):
    """Pandas reads by chunks, each with a type of its own: 7 and "7" would be two classes."""
    path = tmp_path / "long.csv"
    rows = [f"{n},0.5,{7 if n % 2 else 8}" for n in range(60_000)]
    path.write_text("\n".join(["id,x,label", *rows, "last,0.5,seven", "end,0.5,7", ""]))
    series = series_of(path, Reading(series="id", label="label", features=["x"]))
    assert len(series) == 60_002
    assert set(told_classes(series)[0]) == {"7", "8", "seven"}
    assert series.names[1] == "1"


def test_text_that_comes_often_in_a_parquet_is_text_all_the_same(tmp_path):
    path = tmp_path / "own.parquet"
    frame = pd.DataFrame({"id": ["b", "b", "a"], "y": ["1", "2.5", "-3"], "label": ["u", "u", "v"]})
    frame.to_parquet(path)
    own = read(path, series="id", label="label", features=["y"])
    assert own.inputs[..., 0].tolist() == [[1, 2.5], [-3, 0]]
    assert own.card.classes == ("u", "v")
    assert series_of(path, Reading(series="id", label="label")).names == ("b", "a")
    frame.assign(label=["u", "u", None]).to_parquet(path)
    with pytest.raises(ArgumentError, match="row 2, column 'label': got a missing cell"):
        read(path, series="id", label="label")
    frame.assign(y=["1", "x", "3"]).to_parquet(path)
    with pytest.raises(ArgumentError, match="row 1, column 'y': got 'x'"):
        read(path, series="id", label="label", features=["y"])


ID = {"series": "id"}
WINDOWS = {"time": "t", "target": "x", "window": 4}
BAD = {
    "no number": ("id,x,kind\na,1,u\na,oops,u\n", ID, "line 3, column 'x': got 'oops'"),
    "blank lines count": ("id,x,kind\n\n\na,1,u\na,oops,u\n", ID, "line 5, column 'x'"),
    "a label that changes": ("id,x,kind\na,1,u\na,2,v\n", {**ID, "label": "kind"}, "line 3.*'v'.*'u'"),
    "a label that is missing": ("id,x,kind\na,1,u\nb,2,\n", {**ID, "label": "kind"}, "line 3.*a label"),
    "a series without a name": ("id,x,label\na,1,u\n,2,u\n", ID, "line 3, column 'id'"),
    "a time twice": ("t,x,label\n1,1,u\n1,2,u\n", {"time": "t"}, "1 step with the same time.*line 3"),
    "no such column": ("id,x,label\na,1,u\n", {"series": "di"}, "'di'.*Did you mean 'id'"),
    "a missing value": ("id,x,label\na,1,u\na,,u\nb,1,v\n", ID, "1 missing value, .*'a'.*'x'"),
    "nothing known": ("id,x,label\na,,u\na,,u\nb,1,v\n", {**ID, "missing": "hold"}, "no value of 'x'"),
    "one class": ("id,x,label\na,1,u\nb,2,u\n", ID, "one class, 'u'"),
    "no label": ("id,x\na,1\n", ID, "no labels"),
    "a cell too many": ("id,x,label\na,1,u\nb,2,v,w\n", ID, "row 3: got 4 cells"),
    "a cell too many, late": ("id,x,label\n" + "a,1,u\n" * 300 + "b,2,v,w\n", ID, "line 302"),
    "two columns of a name": ("x,x,label\n1,2,u\n", {}, "two columns 'x'"),
    "empty": ("", {}, "empty file"),
    "a header alone": ("x,label\n", {}, "no rows"),
    "infinite": ("id,x,label\na,1,u\na,inf,u\n", ID, "line 3.*infinite"),
    "months or days": ("t,x,label\n01/02/2026,1,u\n03/04/2026,2,u\n", {"time": "t"}, "month are unambiguous"),
    "zones in some": ("t,x,label\n2026-01-01,1,u\n2026-01-02T00:00Z,2,u\n", {"time": "t"}, "line 3.*zone"),
    "no time": ("t,x,label\n2026-01-01,1,u\nsoon,2,u\n", {"time": "t"}, "line 3.*'soon'"),
    "beyond float32": ("id,x,label\na,1e9,u\nb,1000000001,v\n", ID, "float32"),
    "classes or values": ("id,x,y\n" + "".join(f"{n},1,{n}\n" for n in range(60)), ID, "task="),
    "thousands": ('id,x,label\na,"1,234",u\nb,3,v\n', ID, "line 2, column 'x': got '1,234'"),
    "decimal commas": ("id;x;z;label\na;1.234;0,5;u\nb;2.5;1,5;v\n", ID, "'1.234'.*a decimal comma"),
    "both in a column": ("id;x;label\na;1.234,5;u\nb;1,5;v\n", ID, "line 2.*got '1.234,5'"),
    "units": ("id,x,label\na,1 V,u\nb,2 V,v\n", ID, "line 2.*got '1 V'"),
    "percent": ("id,x,label\na,1%,u\nb,2%,v\n", ID, "line 2.*got '1%'"),
    "Excel's errors": ("id,x,label\na,#DIV/0!,u\nb,2,v\n", ID, "line 2.*got '#DIV/0!'"),
    "a dash for nothing": ("id,x,label\na,-,u\nb,2,v\n", ID, "line 2.*got '-'"),
    "minus infinity": ("id,x,label\na,-Infinity,u\nb,2,v\n", ID, "line 2.*infinite"),
    "hexadecimal": ("id,x,label\na,0x1,u\nb,2,v\n", ID, "line 2.*got '0x1'"),
    "Excel's sep": ("sep=;\nid;x;label\na;1;u\nb;2;v\n", ID, "line 1: got 'sep=;'.*delete it"),
    "a title above": ("My data\n\nid,x,label\na,1,u\n", ID, "row 2: got 3 cells, expected 1"),
    "a row of units": ("id,x,label\n,V,\na,1,u\nb,2,v\n", ID, "line 2, column 'id'"),
    "capitals": ("ID,x,label\na,1,u\n", ID, "Did you mean 'ID'"),
    "a column without a name": ("id,,label\na,1.5,u\nb,2,v\n", ID, "column 2 without a name"),
    "behind quoted line ends": ('id,x,label\n"a\nz",1,u\n"a\nz",oops,u\n', ID, "line 4.*'oops'"),
    "weeks": ("t,x\n2026-W01,1\n2026-W02,2\n", WINDOWS, "line 2.*got '2026-W01'"),
    "classes of steps": ("id,x,label\na,1,0\na,2,1\n", ID, "change within a series.*task='values'"),
    "a class of steps": ("id,x,label\na,1,u\na,2,v\n", ID, "one label per series. Say task='classes'"),
    "steps of one class": ("id,x,label\na,1,u\na,2,\n", {**ID, "task": "classes"}, "line 3.*a label"),
    "one series": ("id,x,label\na,1,u\na,2,u\n", ID, "expected two or more different classes"),
    "a page of the web": ("<!DOCTYPE html>\n<html></html>\n", ID, "expected one of <!DOCTYPE html>"),
    "cells that are left out": ("id,x,label\na,1,u\na,2\n", ID, "line 3, column 'label'"),
    "zoned times twice": ("t,x\n2026-10-25T02:30+02:00,1\n2026-10-25T01:30+01:00,2\n", WINDOWS, "1 step w"),
    "the minus of typography": ("id,x,label\na,−1,u\nb,2,v\n", ID, "line 2.*got '−1'"),
    "beyond all numbers": ("id,x,label\na,1e400,u\nb,2,v\n", ID, "line 2.*infinite"),
    "classes that differ in a capital": ("id,x,label\na,1,u\na,2,U\nb,1,v\n", ID, "line 3.*got 'U'.*'u'"),
    "a class that is called nothing": ("id,x,label\na,1,NA\nb,2,v\n", ID, "line 2, column 'label'"),
    "remarks above": ("# a logger\nid,x,label\na,1,u\n", ID, "row 2: got 3 cells.*Delete everything above"),
    "a second header": ("id,x,label\na,mV,u\na,1,u\nb,1,v\n", ID, "line 2, column 'x': got 'mV'"),
    "a thirteenth month": ("t,x\n2026-12-01,1\n2026-13-01,2\n", WINDOWS, "line 3.*got '2026-13-01'"),
    "months and two digits": ("t,x\nJan-20,1\nFeb-20,2\nJan-21,3\n", WINDOWS, "line 2.*with its year"),
    "past midnight": ("t,x,label\n23:59,1,u\n00:01,2,u\n", {"time": "t"}, "line 3.*'00:01'.*a date as well"),
    "text to forecast": ("t,x\n1,1\n2,calm\n", WINDOWS, "line 3, column 'x': got 'calm'"),
    "a target that is not there": ("t,x\n1,1\n2,2\n", {**WINDOWS, "target": "y"}, "got 'y'.*features x"),
    "a hole in a row": ("a,b,c,label\n1,,3,u\n4,5,6,v\n", {}, "1 missing value, the first in series '1'"),
    "an empty series in a row": ("a,b,label\n1,2,u\n,,v\n", {}, "line 3: got no value"),
    "a row without a class": ("a,b,label\n1,2,\n3,4,v\n", {}, "line 2, column 'label'"),
    "too short": ("t,x\n1,1\n2,2\n", {"time": "t", "target": "x"}, "at most 2 steps"),
}  # fmt: skip


LONG = "id,x,label\na,1,u\na,2,u\nb,3,v\nb,4,v\n"
AS_PEOPLE_HAVE_THEM = {
    "tabs in a .csv": LONG.replace(",", "\t"),
    "every cell quoted": '"' + LONG.strip().replace(",", '","').replace("\n", '"\n"') + '"\n',
    "delimiters and line ends in quotes": LONG.replace("a,", '"a,\nz",').replace(",u", ',"u,u"'),
    "empty lines at the end": LONG + "\n\n  \n\t\n",
    "cells that a spreadsheet emptied": LONG + ",,\n,,\n",
    "a delimiter behind each row": LONG.replace("\n", ",\n"),
    "several delimiters behind each row": LONG.replace("\n", ",,,\n"),
    "the index of a data frame": pd.read_csv(StringIO(LONG)).to_csv(),
    "rows counted from one": pd.read_csv(StringIO(LONG)).set_axis([1, 2, 3, 4]).to_csv(),
    "no line end at the end": LONG.rstrip(),
    "mixed line ends": LONG.replace("\n", "\r\n", 2),
    "line ends of an old Macintosh": LONG.replace("\n", "\r"),
    "spaces around names": LONG.replace("id,x,label", " id , x , label "),
    "spaces behind cells": LONG.replace("a,2,u", "a ,2 ,u "),
    "series in turn": "id,x,label\na,1,u\nb,3,v\na,2,u\nb,4,v\n",
    "decimal commas": LONG.replace(",", ";").replace("1;", "1,0;"),
    "Windows' Latin": LONG.replace("u", "größe €").encode("cp1252"),
    "what Excel calls Unicode text": LONG.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
    "a byte order mark": LONG.encode("utf-8-sig"),
    "names that begin with zeros": LONG.replace("a,", "007,").replace("b,", "7,"),
    "classes that begin with zeros": LONG.replace("u", "01").replace("v", "1"),
    "truth values": LONG.replace("u", "True").replace("v", "False"),
    "classes with a point": LONG.replace("u", "0.0").replace("v", "1.0"),
    "signs beyond the first plane": LONG.replace("u", "🙂"),
    "vertical bars": LONG.replace(",", "|"),
    "spaces": LONG.replace(",", " "),
    "columns of a width": "".join(f"  {line.replace(',', '     ')}  \n" for line in LONG.splitlines()),
    "empty lines between": LONG.replace("\nb", "\n\n\nb", 1),
    "exponents": LONG.replace("a,1,", "a,1e0,").replace("b,4,", "b,.4E+1,"),
    "signs before numbers": LONG.replace("a,1,", "a,+1,"),
    "other scripts": LONG.replace("u", "样本").replace("v", "температура"),
}  # fmt: skip


@pytest.mark.parametrize("name", AS_PEOPLE_HAVE_THEM)
def test_the_right_series(name, tmp_path):
    written = AS_PEOPLE_HAVE_THEM[name]
    path = tmp_path / "データ own.csv"
    path.write_bytes(written if isinstance(written, bytes) else written.encode())
    own = read(path, series="id", label="label")
    assert own.inputs[..., 0].tolist() == [[1, 2], [3, 4]]
    assert own.card.features == ("x",)
    assert len(own.card.classes) == 2
    assert own.targets[0] != own.targets[1]
    assert own.lengths is None


def test_names_keep_their_zeros(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("id,x,label\n007,1,01\n7,2,1\n")
    series = series_of(path, Reading(series="id"))
    assert series.names == ("007", "7")
    assert told_classes(series)[0] == ["01", "1"]


@pytest.mark.parametrize("name", ["own.xlsx", "own.csv.gz", "own.json", "own.dat"])
def test_a_form_that_is_not_read_is_told_as_a_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(DataError, match=f"{name}: got a file.*expected one of .csv"):
        data.load(name)


def test_times_of_day_begin_anew_in_each_series(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("id,t,x,label\na,09:30,1,u\na,10:00,2,u\nb,09:30,3,v\nb,09:45,4,v\n")
    assert read(path, series="id", time="t").inputs[..., 0].tolist() == [[1, 2], [3, 4]]


def test_an_accent_may_be_a_sign_of_its_own(tmp_path):
    path = tmp_path / "own.csv"  # as names of macOS have it
    path.write_text(LONG.replace("x", "Wa\u0308rme"))
    assert read(path, series="id", features=["W\u00e4rme"]).card.features == ("W\u00e4rme",)


TIMES = {
    "ISO": [f"2026-01-{day:02d}T00:00:00" for day in range(1, 30)],
    "months": [f"{2020 + n // 12}-{n % 12 + 1:02d}" for n in range(29)],
    "years": [str(1990 + n) for n in range(29)],
    "days first": [f"{day:02d}.03.2026 12:00" for day in range(1, 30)],
    "months first": [f"3/{day}/2026 3:00 PM" for day in range(1, 30)],
    "milliseconds": [str(1767225600000 + 1000 * n) for n in range(29)],
    "two zones": [
        f"2026-10-25T{n:02d}:00:00+{'02' if n < 3 else '01'}:00" for n in (0, 1, 2, *range(3, 24))
    ],
}


@pytest.mark.parametrize("name", TIMES)
def test_times_of_all_kinds_are_in_their_order(name, tmp_path):
    stamps = TIMES[name]
    rows = [f"{stamp},{n}" for n, stamp in enumerate(stamps)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["t,x", *rows[::-1], ""]))
    own = read(path, **WINDOWS)
    assert own.inputs[0, :, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", BAD)
def test_one_clear_line(name, tmp_path):
    text, options, message = BAD[name]
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises((ArgumentError, DataError), match=message) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)


BAD_TEXT = {
    "own.ts": (
        "@classLabel true a\n@data\n1,2:a\n1,x:a\n",
        "line 4, value 2 of channel 1: got 'x'",
    ),
    "data.ts": ("1,2:a\n", "no @data line"),
    "channels.ts": ("@classLabel true a\n@data\n1,2:1:a\n", "line 3: got channels of"),
    "own.arff": (
        "@attribute a numeric\n@attribute c {u,v}\n@data\n1,2,u\n",
        "line 4: got 3 values",
    ),
}


@pytest.mark.parametrize("name", BAD_TEXT)
def test_one_clear_line_of_the_archives_forms(name, tmp_path):
    text, message = BAD_TEXT[name]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_byte_order_mark_and_quoted_names_in_the_archives_forms(tmp_path):
    path = tmp_path / "own.arff"
    head = "\ufeff@RELATION 'my x'\n@ATTRIBUTE 'a b' NUMERIC\n@ATTRIBUTE c REAL\n"
    path.write_text(head + "@ATTRIBUTE class {'up up', \"down\"}\n@DATA\n1,2,'up up'\n3,4,down\n")
    own = read(path)
    assert own.card.classes == ("down", "up up")
    assert own.inputs[..., 0].tolist() == [[1, 2], [3, 4]]
    path = tmp_path / "own.ts"
    path.write_text("\ufeff@problemName x\n@classLabel true u v\n@data\n1,2:u\n3,4:v\n")
    assert read(path).inputs[..., 0].tolist() == [[1, 2], [3, 4]]


def test_what_is_no_table_is_told(tmp_path):
    for name, content, message in (
        (
            "own.csv",
            b"PK\x03\x04\x14\x00",
            "got a zip file, such as an Excel file.*Save it as .csv",
        ),
        ("own.xlsx", b"PK\x03\x04", "got a file '.xlsx'.*Save it as .csv"),
        ("own.json", b"[]", "got a file '.json', expected one of .csv"),
        ("own.parquet", b"PAR1", "own.parquet: "),
        ("lfs.csv", b"version https://git-lfs\noid sha256:a\n", "expected one of version, https"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises((ArgumentError, DataError), match=message):
            read(tmp_path / name, **ID)
    folder = tmp_path / "many"
    folder.mkdir()
    with pytest.raises(DataError, match="got no data file"):
        read(folder)
    (folder / "a.csv").write_text("x\n1\n")
    (folder / "b.tsv").write_text("x\n1\n")
    with pytest.raises(
        DataError, match=r"got files \.csv, \.tsv, expected data files of one format"
    ):
        read(folder)


def test_a_folder_of_classes_with_what_systems_leave_in_it(tmp_path):
    for kind, value in (("u", 2), ("v", 3)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "one.csv").write_text(f"x\n1\n{value}\n")
    for left in (".DS_Store", "Thumbs.db", "u/~$one.xlsx", "u/._one.csv"):
        (tmp_path / left).write_bytes(b"\0\1")
    own = read(tmp_path)
    assert own.inputs[..., 0].tolist() == [[1, 2], [1, 3]]
    assert own.card.classes == ("u", "v")


def test_an_npz_of_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "own.npz", inputs=np.array([[1], [1, 2]], dtype=object))
    with pytest.raises(DataError, match="no objects"):
        read(tmp_path / "own.npz")


@pytest.mark.data
def test_a_published_file_reads_as_the_named_data_set():
    folder = Path(os.environ["TIMELOCAL_DATA"], "ecg200")
    parts = [read(folder / f"ECG200_{part}.tsv") for part in ("TRAIN", "TEST")]
    named = data.load("ecg200")
    assert torch.equal(torch.cat([part.inputs for part in parts]), named.inputs)
    assert torch.equal(torch.cat([part.targets for part in parts]), named.targets)
