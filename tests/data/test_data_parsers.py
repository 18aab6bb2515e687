"""The text forms carry the same values; a damaged file is named with its line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from written_forms import Array, as_arff, as_data, as_ts, as_tsv, as_txt

from timelocal.data.parsers import (
    class_indices,
    join,
    read_arff,
    read_idx,
    read_interleaved,
    read_table,
    read_ts,
)
from timelocal.errors import DataError

FORMS = {
    "tsv": (as_tsv, read_table, {1}),
    "txt": (as_txt, read_table, {1}),
    "ts": (as_ts, read_ts, {1, 2, 3}),
    "arff": (as_arff, read_arff, {1, 2, 3}),
    "data": (as_data, read_interleaved, {2}),
}
CASES = [(name, features) for name, form in FORMS.items() for features in sorted(form[2])]


@pytest.mark.parametrize(("name", "features"), CASES)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read(name: str, features: int, data, tmp_path: Path) -> None:
    write, read, _ = FORMS[name]
    count, steps = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    values = data.draw(arrays(np.float64, (count, steps, features), elements=finite))
    labels = data.draw(arrays(np.int64, count, elements=st.integers(-3, 15)))
    path = tmp_path / f"x.{name}"
    path.write_text(write(values, labels), encoding="latin-1", newline="")
    got_values, got_labels = read(path)
    np.testing.assert_array_equal(got_values, values)
    np.testing.assert_array_equal(got_labels, labels)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("damage", ["cut", "word", "nan", "inf", "label", "missing"])
def test_damage_names_the_line(name: str, damage: str, tmp_path: Path) -> None:
    write, read, features = FORMS[name]
    values = np.arange(18.0).reshape(3, 3, 2)[:, :, : min(features)] + 100
    lines = write(values, np.array([1, 2, 1])).splitlines()
    last = lines[-1]
    number = f"{values[2, 1, 0]:.17e}" if name == "txt" else repr(float(values[2, 1, 0]))
    label = {"tsv": "1\t", "txt": f"{1:.17e}"}.get(name)
    lines[-1] = {
        "cut": last[: len(last) // 2],
        "word": last.replace(number, "x"),
        "nan": last.replace(number, "nan"),
        "inf": last.replace(number, "1e999"),
        "label": last.replace(label, "1.5 ", 1) if label else last[: last.rindex("1")] + "1.5",
        "missing": last.replace(number, "?"),
    }[damage]
    assert lines[-1] != last
    path = tmp_path / f"x.{name}"
    path.write_text("\n".join(lines), encoding="latin-1")
    with pytest.raises(DataError, match=rf"x\.{name}, line {len(lines)}: .*fetch it again"):
        read(path)


@pytest.mark.parametrize("name", FORMS)
def test_an_empty_file_is_truncated(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{name}"
    path.write_text("@data\n")
    with pytest.raises(DataError, match="truncated"):
        FORMS[name][1](path)


def idx(array: Array) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (4, 2, 3)])
def test_idx(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (tmp_path / "x.gz").write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "x.gz"), array)


GOOD = idx(np.arange(200, dtype=np.uint8).reshape(2, 100))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        GOOD[:-20],
        GOOD[:50] + bytes([GOOD[50] ^ 255]) + GOOD[51:],
        b"no gzip",
        gzip.compress(gzip.decompress(GOOD)[:-1], mtime=0),
        gzip.compress(gzip.decompress(GOOD) + b"!", mtime=0),
        gzip.compress(gzip.decompress(GOOD)[:7], mtime=0),
        gzip.compress(b"\0\0\x09\1\0\0\0\1!", mtime=0),
        gzip.compress(b"", mtime=0),
        gzip.compress(b"\0\0\x08\0", mtime=0),
    ],
)
def test_damaged_idx(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.gz: .*fetch it again"):
        read_idx(tmp_path / "x.gz")


def test_labels_become_indices_in_the_given_order() -> None:
    assert class_indices(np.array([1, -1, 1]), (-1, 1)).tolist() == [1, 0, 1]
    assert class_indices(np.array([1, -1, 7]), (7, -1, 1)).tolist() == [2, 1, 0]
    with pytest.raises(DataError, match=r"\[3\].*\[-1, 1\]"):
        class_indices(np.array([1, 3]), (-1, 1))


def test_files_of_different_shapes_do_not_join() -> None:
    part = np.zeros((2, 3, 1)), np.zeros(2, np.int64)
    other = np.zeros((2, 4, 1)), np.zeros(2, np.int64)
    assert join([part, part])[0].shape == (4, 3, 1)
    with pytest.raises(DataError, match="different shapes"):
        join([part, other])


@pytest.mark.parametrize(
    "comment",
    [b"one \x85 two", "by Åse".encode(), b"one \x0c two", b"a\x1cb\x1db\x1ec", b"one \x0b two"],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_at_line_ends_alone(comment: bytes, end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(end.join([b"# " + comment, b"@data", b"1,2,3:1", b"", b"4,5,x:2", b""]))
    with pytest.raises(DataError, match="line 5"):
        read_ts(path)
    path.write_bytes(path.read_bytes().replace(b"x", b"6"))
    values, labels = read_ts(path)
    assert values[..., 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert labels.tolist() == [1, 2]


@pytest.mark.parametrize("name", FORMS)
def test_a_byte_order_mark_is_no_value(name: str, tmp_path: Path) -> None:
    write, read, features = FORMS[name]
    values = np.arange(6.0).reshape(1, 3, 2)[:, :, : min(features)]
    path = tmp_path / f"x.{name}"
    path.write_bytes(b"\xef\xbb\xbf" + write(values, np.array([1])).encode("latin-1"))
    assert np.array_equal(read(path)[0], values)
