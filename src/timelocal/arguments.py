"""Checks on the numbers, tensors and array-likes that callers pass: they are converted or refused here.

The one place that knows what a whole number, a real number, a plain tensor and an array of numbers are.
Every public function asks here, so that a NumPy scalar is a number and a flipped array an array everywhere.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence

from timelocal.errors import Problem, described, raise_problems

LARGEST = 2**31 - 1
"""The largest size or count that is taken: beyond it indices overflow, and no machine has the memory."""

TO_LABELS = "Encode labels as integers from 0: np.unique(targets, return_inverse=True)[1]."

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NUMBERS = frozenset(
    {
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
        *_FLOATS,
    }
)  # fmt: skip
_NOT_NUMBERS = {
    "M": (
        "dates",
        "Convert to numbers in a unit of your choice: (x - x[0]) / np.timedelta64(1, 'h').",
    ),
    "m": ("durations", "Convert to numbers in a unit of your choice: x / np.timedelta64(1, 'h')."),
    "c": ("complex numbers", "Use the real and the imaginary part as two features."),
    "V": ("records", "Use an array with a feature axis instead of fields."),
}


# --- numbers ------------------------------------------------------------------------------------


def is_whole(value: object, least: int = 1, most: int = LARGEST) -> bool:
    """Whether a value is an integer of Python or NumPy in a range; True and False are not."""
    return (
        isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most
    )


def whole_problem(what: str, value: object, least: int = 1, most: int = LARGEST) -> Problem | None:
    """A problem unless `value` is an integer in a range.

    >>> print(whole_problem("batch_size", 2.5))
    batch_size: got 2.5, expected an integer of at least 1
    """
    if is_whole(value, least, most):
        return None
    too_large = isinstance(value, Integral) and int(value) > most
    expected = (
        f"an integer from {least} to {most:,}" if too_large else f"an integer of at least {least}"
    )
    return Problem(what, described(value), expected)


def seed_problem(value: object) -> Problem | None:
    """A problem unless `value` is what every random number can be derived from."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return None
    return Problem("seed", described(value), "a non-negative integer")


def as_real(value: object) -> float:
    """A real number as Python's float; NaN for anything else, which lies in no range.

    >>> 0 <= as_real(np.float32(0.5)) < 1, 0 <= as_real("half") < 1
    (True, False)
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def is_flag(value: object) -> bool:
    """Whether a value is True or False, of Python or NumPy."""
    return isinstance(value, bool | np.bool_)


def flag_problem(what: str, value: object) -> Problem | None:
    """A problem unless `value` is True or False."""
    return None if is_flag(value) else Problem(what, described(value), "True or False")


def is_one_of(value: object, options: Iterable[object]) -> bool:
    """Whether a value is one of some names, or None among them: an array is no name."""
    return isinstance(value, str | None) and value in options


def memory_problem(what: str, needed: float) -> Problem | None:
    """A problem if `needed` bytes are more than this machine has."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return None
    if needed <= memory:
        return None
    got = f"sizes that take {needed / 2**30:,.0f} GiB"
    return Problem(what, got, f"less than this machine's {memory / 2**30:,.0f} GiB")


def placement_problems(device: object, dtype: object) -> list[Problem]:
    """The problems of a device and a type that parameters are to have; None is torch's default."""
    problems = []
    try:
        torch.device("cpu" if device is None else device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError, ValueError) as error:
        line = str(error).partition("\n")[0]
        problems.append(Problem("device", described(device), f"a torch device ({line})"))
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in _FLOATS):
        expected = "a floating-point type such as torch.float32"
        problems.append(
            Problem(
                "dtype", dtype if isinstance(dtype, torch.dtype) else described(dtype), expected
            )
        )
    return problems


# --- tensors ------------------------------------------------------------------------------------


def is_plain(value: object) -> bool:
    """Whether a value is a dense tensor of numbers with its data in memory."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_nested
        and value.dtype in _NUMBERS
    )


def tensor_problem(
    what: str, value: object, expected: str = "a tensor", *, may_be_meta: bool = False
) -> Problem | None:
    """A problem unless `value` is a plain tensor, and has values."""
    if is_plain(value):
        if may_be_meta or not value.is_meta:  # type: ignore[attr-defined]
            return None
        return Problem(what, "a meta tensor, which has no values", expected)
    if not isinstance(value, Tensor):
        remedy = f"Use torch.as_tensor({what})."
        if isinstance(value, list | tuple) and any(isinstance(one, Tensor) for one in value):
            remedy = f"Use torch.stack({what}), or timelocal.data.collate where lengths differ."
        return Problem(what, described(value), expected, remedy)
    if value.is_nested:
        return Problem(
            what, "a nested tensor", expected, f"Use {what}.to_padded_tensor(0), and lengths."
        )
    if value.layout is not torch.strided:
        got = f"a tensor of layout {str(value.layout).removeprefix('torch.')}"
        return Problem(what, got, expected, f"Use {what}.to_dense().")
    if value.is_complex():
        return Problem(what, f"{value.dtype}", expected, _NOT_NUMBERS["c"][1])
    remedy = "dequantize()" if value.is_quantized else "long() or .float()"
    return Problem(what, f"{value.dtype}", expected, f"Use {what}.{remedy}.")


def lengths_problem(lengths: object, sequences: int, steps: int) -> Problem | None:
    """A problem unless `lengths` (b,) are numbers of valid steps."""
    expected = f"a tensor of {sequences} integers between 1 and {steps}, one per sequence"
    problem = tensor_problem("lengths", lengths, expected)
    if problem is not None or not isinstance(lengths, Tensor):
        return problem
    if lengths.shape != (sequences,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        return Problem("lengths", described(lengths), expected)
    low, high = map(int, lengths.aminmax()) if sequences else (1, steps)
    if low < 1 or high > steps:
        return Problem("lengths", f"values between {low} and {high}", expected)
    return None


# --- arrays -------------------------------------------------------------------------------------


def as_tensor(
    what: str, value: object, *, like: Tensor | None = None, floating: bool = False
) -> Tensor:
    """A tensor from a plain tensor, which is taken as it is, or from whatever NumPy reads as numbers.

    Arrays of any strides, byte order and precision, read-only and memory-mapped ones, numbers, lists of all
    these, and data frames. Floating-point values get the type of `like` (torch's default type without it),
    integers and truth values 64 bits, or with `floating` the type of `like` too; all of them its device.

    Raises:
        ArgumentError: for what is none of these, by the name `what`.

    >>> as_tensor("x", np.arange(3, dtype=">i2")[::-1])
    tensor([2, 1, 0])
    """
    tensor, lengths = as_series(what, value, like=like, floating=floating)
    if lengths is not None:
        got = f"rows of {int(lengths.min())} to {int(lengths.max())} steps"
        raise_problems([Problem(what, got, "rows of one length")])
    return tensor


def as_series(
    what: str, value: object, *, like: Tensor | None = None, floating: bool = False
) -> tuple[Tensor, Tensor | None]:
    """As `as_tensor`; and from a list of series of unequal length, padded with zeros on the right.

    Returns:
        (N, ...), and the lengths (N,) of the rows (T_n, ...), None if all have one length.
    """
    if isinstance(value, Tensor):
        raise_problems([tensor_problem(what, value, "numbers")])
        return value, None
    if isinstance(value, PackedSequence):
        return pad_packed_sequence(value, batch_first=True)
    rows = _rows(value)
    if rows is not None:
        return _joined(
            what,
            [
                as_tensor(f"{what}[{n}]", row, like=like, floating=floating)
                for n, row in enumerate(rows)
            ],
        )
    tensor = torch.from_numpy(_numbers(what, value))
    if floating or tensor.is_floating_point():
        tensor = tensor.to(torch.get_default_dtype() if like is None else like.dtype)
    return (tensor if like is None else tensor.to(like.device)), None


def _rows(value: object) -> Iterable[object] | None:
    """The rows of a list of arrays, or of lists of unequal length; None of what is one array by itself."""
    if isinstance(value, np.ndarray):
        own = value.dtype == object and value.ndim == 1 and len(value) and _is_series(value[0])
        return list(value) if own else None
    if not isinstance(value, list | tuple):
        return None
    if any(isinstance(row, Tensor) or _is_array(row) for row in value):
        return value
    if len({len(row) for row in value if isinstance(row, list | tuple)}) > 1:
        return value
    return None


def _is_array(value: object) -> bool:
    """An array or a data frame: more than one number, less than a list."""
    known = hasattr(value, "__array__") or hasattr(value, "to_numpy")
    return known and not isinstance(value, np.generic | type)


def _is_series(value: object) -> bool:
    return isinstance(value, Tensor | list | tuple) or _is_array(value)


def _joined(what: str, rows: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Rows of one tensor, padded where their first axes differ."""
    first = rows[0]
    raise_problems(
        None
        if row.dim() == first.dim()
        and row.shape[1:] == first.shape[1:]
        and (row.dtype, row.device) == (first.dtype, first.device)
        else Problem(
            f"{what}[{n}]",
            f"{described(row)} on {row.device}",
            f"what {what}[0] has, except in the first axis: {described(first)} on {first.device}",
        )
        for n, row in enumerate(rows)
    )
    if all(row.shape == first.shape for row in rows):
        return torch.stack(rows), None
    lengths = torch.tensor([len(row) for row in rows])
    return pad_sequence(rows, batch_first=True), lengths


def as_positions(what: str, index: object, count: int) -> Tensor:
    """What NumPy's indexing picks out of `count` rows, as positions (n,) that are there.

    Raises:
        ArgumentError: for what is no index, by the name `what`.

    >>> as_positions("index", [True, False, True], 3), as_positions("index", slice(1), 3)
    (tensor([0, 2]), tensor([0]))
    """
    expected = f"positions among {count}, a mask ({count},) or a slice"
    chosen: Any = index
    if isinstance(index, Tensor):
        raise_problems([tensor_problem(what, index, expected)])
        floating = (
            index.is_floating_point()
        )  # no index: NumPy says so, but has not all of these types
        chosen = (index.double() if floating else index).detach().cpu().resolve_neg().numpy()
    elif isinstance(index, list | tuple) and not index:
        chosen = slice(0)
    try:
        positions = np.arange(count)[chosen]
    except Exception as error:  # whatever NumPy, or a foreign object when asked, ends in
        raise_problems([Problem(what, f"{described(index)} ({error})", expected)])
        raise
    raise_problems([None if np.ndim(positions) < 2 else Problem(what, described(index), expected)])
    return torch.from_numpy(np.array(positions, np.int64, ndmin=1))


def _numbers(what: str, value: object) -> NDArray[Any]:
    """An array of its own memory, in the machine's byte order: int64 or a floating type of up to 64 bits."""
    if np.ma.is_masked(value):
        remedy = "Fill them, x.filled(0), and mark them by lengths or a mask."
        raise_problems([Problem(what, "an array with masked values", "numbers", remedy)])
    problem = Problem(what, described(value), "numbers: a tensor, an array or a list")
    try:
        own = getattr(value, "to_numpy", None)
        array = np.asarray(own() if own and not hasattr(value, "__array__") else value)
        if array.dtype.kind == "O":
            array = _of_objects(array)
        kind = array.dtype.kind
        if kind in "USTO":
            got = "text" if kind != "O" else described(value)
            problem = Problem(
                what, got, problem.expected, TO_LABELS if what == "targets" and array.ndim else ""
            )
        elif kind not in "buif":
            got, remedy = _NOT_NUMBERS.get(kind, (f"values of type {array.dtype}", ""))
            problem = Problem(what, got, problem.expected, remedy)
        elif (problem_of_size := memory_problem(what, 8.0 * array.size)) is not None:
            problem = problem_of_size
        elif kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
            problem = Problem(what, "integers beyond 64 bits", problem.expected)
        else:
            wide = array.dtype.itemsize > 8
            dtype = np.float64 if wide else array.dtype.newbyteorder("=")
            with np.errstate(over="ignore"):
                array = np.asarray(array, dtype if kind == "f" else np.int64, order="C")
            plain = all(step >= 0 and step % array.itemsize == 0 for step in array.strides)
            return array if plain and array.flags.writeable else array.copy()
    except Exception as error:  # whatever a foreign object's own way to an array ends in
        problem = Problem(what, f"{described(value)} ({error})", problem.expected)
    raise_problems([problem])
    raise AssertionError


def _of_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers that NumPy keeps as objects, such as a data frame's column of both kinds; text as text."""
    kinds = [type(value) for value in array.flat]
    if kinds and all(issubclass(kind, str | bytes) for kind in kinds):
        return array.astype(str)
    if kinds and all(issubclass(kind, Real) for kind in kinds):
        return array.astype(np.int64 if all(issubclass(k, Integral) for k in kinds) else np.float64)
    return array
