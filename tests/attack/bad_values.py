"""What users hand over by mistake: values that no argument wants, and what may go wrong with a good one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Hostile:
    """Raises whatever it is asked for."""

    def _refuse(self, *_: object) -> Any:
        raise ZeroDivisionError("hostile")

    __array__ = __len__ = __getitem__ = __index__ = __float__ = __repr__ = __iter__ = __eq__ = (
        _refuse
    )
    __hash__ = object.__hash__


class Frame:
    """A data frame as far as this package looks at it."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def to_numpy(self) -> Any:
        return np.asarray(self.values)


def _inference() -> Tensor:
    with torch.inference_mode():
        return torch.ones(3, 4, 2)


class Subclass(Tensor):
    """A tensor of another class."""


def _in_itself() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def _mapped() -> Any:
    path = Path(tempfile.gettempdir()) / f"mapped-{os.getpid()}.npy"
    if not path.exists():
        np.save(path, np.ones((3, 4, 2), "f4"))
    return np.load(path, mmap_mode="r")


VALUES: dict[str, Callable[[], object]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "-1": lambda: -1,
    "1": lambda: 1,
    "3": lambda: 3,
    "2.5": lambda: 2.5,
    "1e30": lambda: 1e30,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "10**30": lambda: 10**30,
    "10**5000": lambda: 10**5000,
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "-0.0": lambda: -0.0,
    "5e-324": lambda: 5e-324,
    "decimal": lambda: Decimal("0.5"),
    "1j": lambda: 1j,
    "fraction": lambda: Fraction(1, 3),
    "a large fraction": lambda: Fraction(10**400),
    "np.int64": lambda: np.int64(2),
    "np.uint64": lambda: np.uint64(2**64 - 1),
    "np.float32": lambda: np.float32(0.5),
    "np.longdouble": lambda: np.longdouble("1e4000"),
    "np.bool": lambda: np.True_,
    "np.void": lambda: np.void(b"abc"),
    "np.datetime64": lambda: np.datetime64("2020-01-01"),
    "np.str": lambda: np.str_("mse"),
    "np.float16 nan": lambda: np.float16("nan"),
    "text": lambda: "gaussian",
    "no text": lambda: "",
    "a surrogate": lambda: "\ud800",
    "bytes": lambda: b"abc",
    "a null": lambda: "a\0b",
    "markup": lambda: "[/x] <b>\x1b[31m",
    "a path": lambda: Path("a path"),
    "memory": lambda: memoryview(b"abcd"),
    "range": lambda: range(3),
    "ellipsis": lambda: ...,
    "a list in itself": _in_itself,
    "object": object,
    "hostile": Hostile,
    "a class": lambda: dict,
    "a function": lambda: lambda *_: None,
    "dict": dict,
    "set": lambda: {1, 2},
    "generator": lambda: (n for n in range(3)),
    "[]": list,
    "()": tuple,
    "(1, 2)": lambda: (1, 2),
    "[[1], [2, 3]]": lambda: [[1], [2, 3]],
    "[None]": lambda: [None],
    "['a', 'b']": lambda: ["a", "b"],
    "list of tensors": lambda: [torch.ones(3, 2), torch.ones(4, 2)],
    "list of hostile": lambda: [Hostile(), Hostile()],
    "np text": lambda: np.array(["a", "b", "c"]),
    "np objects": lambda: np.array([1, None, "a"], object),
    "np dates": lambda: np.array(["2020-01-01"] * 3, "M8[D]"),
    "np complex": lambda: np.ones((3, 4, 2), complex),
    "np records": lambda: np.zeros(3, [("x", "f4"), ("y", "f4")]),
    "np masked": lambda: np.ma.array(
        np.ones((3, 4, 2)), mask=np.arange(24).reshape(3, 4, 2) % 5 == 0
    ),
    "np empty": lambda: np.zeros((0,)),
    "np 0-dim": lambda: np.array(1.0),
    "np read-only": lambda: np.broadcast_to(np.float32(1), (3, 4, 2)),
    "frame": lambda: Frame(np.ones((3, 4))),
    "hostile frame": lambda: Frame(Hostile()),
    "np 0 rows": lambda: np.zeros((0, 4, 2), "f4"),
    "np huge": lambda: np.broadcast_to(np.float32(1), (2**40, 4, 2)),
    "np memory map": _mapped,
    "np unsigned": lambda: np.full(3, 2**64 - 1, np.uint64),
    "np half": lambda: np.ones((3, 4, 2), np.float16),
    "scalar tensor": lambda: torch.tensor(1.0),
    "empty tensor": lambda: torch.zeros(0),
    "empty batch": lambda: torch.zeros(0, 4, 2),
    "no steps": lambda: torch.zeros(3, 0, 2),
    "vector": lambda: torch.ones(3),
    "long vector": lambda: torch.ones(3).long(),
    "four axes": lambda: torch.ones(3, 4, 2, 1),
    "inference tensor": _inference,
    "sparse": lambda: torch.ones(3, 4, 2).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(3, 2), torch.ones(4, 2)]),
    "jagged": lambda: torch.nested.nested_tensor(
        [torch.ones(3, 2), torch.ones(4, 2)], layout=torch.jagged
    ),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "uint16": lambda: torch.ones(3).to(torch.uint16),
    "uint64": lambda: torch.full((3,), 2**63 - 1).to(torch.uint64),
    "largest int64": lambda: torch.full((3,), 2**63 - 1),
    "complex half": lambda: torch.ones(3, 4, 2).to(torch.complex32),
    "nan tensor": lambda: torch.full((3, 4, 2), float("nan")),
    "a subclass": lambda: torch.ones(3, 4, 2).as_subclass(Subclass),
    "a type": lambda: torch.float64,
    "a device": lambda: torch.device("meta"),
    "a size": lambda: torch.Size([3, 4, 2]),
    "a generator of torch": torch.Generator,
    "meta": lambda: torch.ones(3, 4, 2, device="meta"),
    "parameter": lambda: torch.nn.Parameter(torch.ones(3)),
    "module": lambda: torch.nn.Linear(2, 2),
    "optimizer": lambda: torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1),
    "packed": lambda: torch.nn.utils.rnn.pack_padded_sequence(
        torch.ones(3, 4, 2), torch.tensor([4, 3, 1]), batch_first=True
    ),
}
"""By name, so that a failure can be read; made anew each time."""

TWISTS: dict[str, Callable[[Tensor], object]] = {
    "as array": lambda x: x.numpy(),
    "as list": lambda x: x.tolist(),
    "as list of rows": lambda x: list(x),
    "as list of arrays": lambda x: [row.numpy() for row in x],
    "flipped array": lambda x: x.numpy()[::-1],
    "flipped array of one": lambda x: x[:1].numpy()[::-1],
    "foreign byte order": lambda x: x.numpy().astype(x.numpy().dtype.newbyteorder(">")),
    "long double": lambda x: x.numpy().astype(np.longdouble),
    "strided array": lambda x: np.repeat(x.numpy(), 2, -1)[..., ::2],
    "frame": lambda x: Frame(x.numpy()),
    "sparse": lambda x: x.to_sparse(),
    "complex": lambda x: x.to(torch.complex64),
    "conjugate": lambda x: x.to(torch.complex64).conj(),
    "imaginary part": lambda x: x.to(torch.complex64).conj().imag,
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "int8": lambda x: x.to(torch.int8),
    "int32": lambda x: x.int(),
    "int64": lambda x: x.long(),
    "uint16": lambda x: x.to(torch.uint16),
    "bool": lambda x: x.bool(),
    "meta": lambda x: x.to("meta"),
    "one less": lambda x: x[:-1],
    "one more": lambda x: torch.cat((x, x[-1:])),
    "none": lambda x: x[:0],
    "an axis more": lambda x: x.unsqueeze(-1),
    "an axis in front": lambda x: x.unsqueeze(0),
    "an axis less": lambda x: x.select(-1, 0) if x.dim() else x,
    "transposed": lambda x: x.transpose(0, -1),
    "expanded": lambda x: x[:1].expand_as(x),
    "strided": lambda x: torch.stack((x, x), -1)[..., 0],
    "negative": lambda x: x.neg() - 1 if x.dtype != torch.bool else x,
    "large": lambda x: x.double().add(1).mul(1e300).to(x.dtype),
    "nan": lambda x: torch.full_like(x.float(), float("nan")),
    "inf": lambda x: torch.full_like(x.float(), float("inf")),
    "one nan": lambda x: x.float().index_fill(0, torch.tensor([0]), float("nan")),
    "a graph": lambda x: x.float().requires_grad_() * 1,
    "subclass": lambda x: torch.nn.Parameter(x.float()),
    "inference": lambda x: _as_inference(x),
}
"""What may have become of a good tensor."""


def _as_inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()
