"""The door: what is a number, an array and a series, in every form in which people have them."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from timelocal import arguments
from timelocal.arguments import as_positions, as_real, as_series, as_tensor, is_whole
from timelocal.errors import ArgumentError, described
from timelocal.files import as_path

X = np.random.default_rng(0).standard_normal((6, 4, 2))


class Frame:
    """A data frame as far as it matters: pandas and polars have both of these."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def to_numpy(self) -> NDArray[Any]:
        return np.asarray(self.values)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


SAME: dict[str, Callable[[NDArray[Any]], Any]] = {
    "as it is": lambda x: x,
    "flipped": lambda x: x[::-1].copy()[::-1],
    "flipped in time": lambda x: x[:, ::-1].copy()[:, ::-1],
    "every other": lambda x: np.repeat(x, 2, 1)[:, ::2],
    "Fortran's order": np.asfortranarray,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "little-endian": lambda x: x.astype(x.dtype.newbyteorder("<")),
    "long double": lambda x: x.astype(np.longdouble),
    "read-only": read_only,
    "a field of records": lambda x: np.rec.fromarrays([x, x], names="a,b")["a"],
    "a matrix of objects": lambda x: x.astype(object),
    "masked, but nothing is": np.ma.array,
    "nested lists": lambda x: x.tolist(),
    "a list of arrays": list,
    "a tuple of tensors": lambda x: tuple(torch.from_numpy(x).float()),
    "a list of frames": lambda x: [Frame(own) for own in x],
    "a frame": Frame,
}


@pytest.mark.parametrize("form", SAME)
def test_arrays_in_any_form_are_the_same_tensor(form: str) -> None:
    expected = torch.from_numpy(X).float()
    found = as_tensor("x", SAME[form](X))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert found.is_contiguous()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_of_one_may_have_any_stride(axis: int) -> None:
    """NumPy calls such arrays contiguous; torch refuses them."""
    one = X.take([0], axis)
    expected = torch.from_numpy(one).float()
    assert torch.equal(as_tensor("x", np.flip(one, axis)), expected)
    field = np.rec.fromarrays([one, one.astype("i1")], names="a,b")["a"]
    assert torch.equal(as_tensor("x", field), expected)


@pytest.mark.parametrize("form", sorted(SAME.keys() - {"long double", "a tuple of tensors"}))
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8, np.uint32, np.int64, np.bool_])
def test_integers_have_64_bits(form: str, dtype: type) -> None:
    values = (np.arange(12).reshape(3, 2, 2) % 2).astype(dtype)
    found = as_tensor("x", SAME[form](values))
    assert found.dtype == torch.int64
    assert found.tolist() == values.astype(int).tolist()


def test_memory_mapped_files_are_read_without_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = as_tensor("x", mapped)
    found += 1  # its own memory: the file is not written to
    assert np.array_equal(np.load(tmp_path / "x.npy"), X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
def test_arrays_get_the_type_that_is_asked_for_and_tensors_stay(dtype: torch.dtype) -> None:
    like = torch.zeros(1, dtype=dtype)
    assert as_tensor("x", X, like=like).dtype == dtype
    assert as_tensor("x", X.astype(np.float16), like=like).dtype == dtype
    assert as_tensor("x", [1, 2], like=like).dtype == torch.int64
    assert as_tensor("x", [1, 2], like=like, floating=True).dtype == dtype
    given = torch.zeros(2, dtype=torch.float64)
    assert as_tensor("x", given, like=like) is given


@pytest.mark.parametrize(
    "rows",
    [
        [np.ones((3, 2)), np.ones((5, 2)), np.ones((1, 2))],
        [torch.ones(3, 2), torch.ones(5, 2), torch.ones(1, 2)],
        [[[1.0, 1.0]] * 3, [[1.0, 1.0]] * 5, [[1.0, 1.0]]],
        [Frame(np.ones((3, 2))), np.ones((5, 2), ">f4")[::-1], np.ones((1, 2), np.longdouble)],
        np.array([np.ones((3, 2)), np.ones((5, 2)), np.ones((1, 2))], object),
        torch.nn.utils.rnn.pack_sequence(
            [torch.ones(3, 2), torch.ones(5, 2), torch.ones(1, 2)], enforce_sorted=False
        ),
    ],
    ids=["arrays", "tensors", "lists", "mixed", "objects", "packed"],
)
def test_series_of_unequal_length_are_padded(rows: Any) -> None:
    padded, lengths = as_series("x", rows)
    assert lengths is not None
    assert lengths.tolist() == [3, 5, 1]
    assert padded.sum((1, 2)).tolist() == [6, 10, 2]
    assert padded[:, 0].tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (["cat", "dog"], "text"),
        (np.array(["cat", "dog"], object), "text"),
        (np.array(["2020-01-01"], "M8[D]"), "dates"),
        (np.array([1], "m8[h]"), "durations"),
        (np.ones(2, complex), "complex"),
        (torch.ones(2) * 1j, "complex64"),
        (np.zeros(2, [("a", "f4")]), "records"),
        (np.ma.array([1.0, 2.0], mask=[True, False]), r"masked values.*filled"),
        ([np.ones(2), np.ma.array([1.0, 2.0], mask=[True, False])], r"x\[1\]: .*masked values"),
        (np.array([2**64 - 1], np.uint64), "beyond 64 bits"),
        ([10**30], "a list"),
        ([1, None], "a list"),
        (None, "None"),
        ({1: 2}, "a dict"),
        (object(), "an object"),
        ([np.ones((2, 3)), np.ones((2, 4))], r"x\[1\]: got shape \(2, 4\)"),
        ([torch.ones(2), torch.ones(2).double()], r"x\[1\].*float64"),
        (torch.ones(2, 2).to_sparse(), r"sparse_coo.*x\.to_dense\(\)"),
        (torch.ones(2, device="meta"), "meta tensor"),
        (torch.ones(2).to(torch.uint16), "uint16"),
    ],
)
def test_what_is_no_array_of_numbers_is_told(value: object, told: str) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){told}"):
        as_series("x", value)


def test_text_labels_come_with_the_way_to_numbers() -> None:
    with pytest.raises(ArgumentError, match=r"np\.unique\(targets, return_inverse=True\)\[1\]"):
        as_tensor("targets", ["cat", "dog"])


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.int16(3)])
def test_whole_numbers(value: object) -> None:
    assert is_whole(value)
    assert is_whole(value, 3, 3)
    assert not is_whole(value, 4)
    assert not is_whole(value, 0, 2)


@pytest.mark.parametrize(
    "value",
    [
        *(3.0, "3", True, np.True_, None, np.array(3), torch.tensor(3), 2**31, 10**30),
        pytest.param(10**5000, id="10**5000"),
    ],
)
def test_what_is_no_whole_number_or_too_large(value: object) -> None:
    assert not is_whole(value)
    assert len(str(arguments.whole_problem("n", value))) < 120


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (np.float32(0.5), 0.5),
        (np.int8(2), 2.0),
        (np.longdouble("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
        pytest.param(10**5000, math.inf, id="10**5000"),
        pytest.param(-(10**5000), -math.inf, id="-10**5000"),
    ],
)
def test_real_numbers(value: object, expected: float) -> None:
    assert as_real(value) == expected
    assert type(as_real(value)) is float


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, Decimal(1), [1.0], math.nan])
def test_what_is_no_real_number_lies_in_no_range(value: object) -> None:
    assert math.isnan(as_real(value))


@given(
    count=st.integers(0, 6),
    index=st.one_of(
        st.slices(6), st.integers(-8, 8), st.lists(st.integers(-6, 5)), st.lists(st.booleans())
    ),
    form=st.sampled_from(["as it is", "array", "tensor"]),
)
def test_positions_are_numpys(count: int, index: Any, form: str) -> None:
    if form != "as it is" and not isinstance(index, slice):
        index = np.array(index, None if index != [] else int)
        index = index if form == "array" else torch.from_numpy(index)
    asked = np.asarray(index) if isinstance(index, torch.Tensor) else index
    asked = slice(0) if isinstance(asked, list) and not asked else asked
    try:
        expected = np.atleast_1d(np.arange(count)[asked]).tolist()
    except IndexError:
        with pytest.raises(ArgumentError, match="index: got"):
            as_positions("index", index, count)
    else:
        assert as_positions("index", index, count).tolist() == expected


@pytest.mark.parametrize("index", [None, "a", 1.5, (slice(1), 1), [0.5], np.ones((2, 2), int), {}])
def test_what_is_no_index_is_told(index: object) -> None:
    with pytest.raises(ArgumentError, match="index: got"):
        as_positions("index", index, 4)


@pytest.mark.parametrize("value", ["x", Path("x"), "~/x"])
def test_paths(value: object) -> None:
    assert as_path(value) == Path(value).expanduser()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [1, None, b"x", "a\0b", "\ud800", ["x"], pytest.param(10**5000, id="10**5000")]
)
def test_what_is_no_path(value: object) -> None:
    with pytest.raises(ArgumentError, match="folder: got"):
        as_path(value)


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Silent(), "a Silent"),
        pytest.param(10**5000, "an integer of more than 15 digits", id="10**5000"),
        (np.int64(3), "3"),
        ("x" * 100, "'" + "x" * 56 + "..."),
        (np.zeros((2, 3)), "shape (2, 3), float64"),
        (torch.zeros(2), "shape (2,), torch.float32"),
        (int, "the class int"),
        (None, "None"),
    ],
)
def test_values_in_messages(value: object, told: str) -> None:
    assert described(value) == told


def test_more_memory_than_the_machine_has_is_told() -> None:
    assert arguments.memory_problem("network", 1e9) is None
    assert "GiB" in str(arguments.memory_problem("network", 1e21))
