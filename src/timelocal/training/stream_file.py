"""A stream in one safetensors file: rule, optimizer and stream, with a digest. Nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from timelocal.errors import Problem, RunError, described, raise_problems
from timelocal.files import as_path, read_bytes, write_bytes
from timelocal.rules import Rule
from timelocal.training.state import packed, unpacked

State: TypeAlias = dict[str, Any]
"""The `state_dict` of the rule, of the optimizer and of the stream, under these names."""

_FORMAT = 1
_ABOUT, _DIGEST = "about", "sha256"


def description(
    rule: Rule, optimizer: Optimizer, missing: str, clip: float | None
) -> dict[str, object]:
    """What a file must have in common with the stream that continues from it."""
    names = {id(own): name for name, own in rule.named_parameters()}
    groups = optimizer.param_groups
    return {
        "rule": type(rule).__name__,
        "cell": type(rule.network.cell).__name__,
        "loss": type(rule.loss).__name__,
        "optimizer": type(optimizer).__name__,
        "groups": [[names.get(id(own), "") for own in group["params"]] for group in groups],
        "missing": missing,
        "clip": clip,
    }


def check_is_state(given: object, what: str = "state") -> None:
    """Raise an `ArgumentError` unless `given` is a mapping by name."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise_problems([Problem(what, described(given), "what state_dict() returned")])


def check_state(
    own: Mapping[str, object], given: Mapping[str, object], what: str = "state"
) -> None:
    """Raise an `ArgumentError` unless `given` has the names, shapes and types of `own`."""
    check_is_state(given, what)

    def told(tensor: object) -> str:
        return "nothing" if tensor is None else described(tensor)

    remedy = "Create the stream like the saved one: rule, network, batch size and options."
    raise_problems(
        Problem(f"{what} {name!r}", told(given.get(name)), told(own.get(name)), remedy)
        for name in sorted({*own, *given})
        if told(given.get(name)) != told(own.get(name))
    )


def copied(state: State) -> State:
    """The same with tensors of its own."""
    tensors: dict[str, Tensor] = {}
    return unpacked(packed(state, tensors, "state"), tensors)


def write(path: str | os.PathLike[str], state: State, description: Mapping[str, object]) -> None:
    """Write a state and its description; a `RunError` if that is impossible."""
    tensors: dict[str, Tensor] = {}
    content = packed(state, tensors, "stream")
    about = json.dumps(
        {"timelocal": "stream", "format": _FORMAT, "of": description, "state": content},
        allow_nan=False,
    ).encode()
    tensors = {name: own.contiguous() for name, own in tensors.items()}
    tensors |= {_ABOUT: _as_tensor(about), _DIGEST: _as_tensor(_digest(about, tensors))}
    write_bytes(as_path(path, "path"), save(tensors))


def read(path: str | os.PathLike[str], description: Mapping[str, object]) -> State:
    """Read a state; a `RunError` for a file that is damaged or the state of something else."""
    place = as_path(path, "path")
    data = read_bytes(place)
    try:
        # Copies are aligned as fresh tensors are: vector code may round differently on others.
        tensors = {name: own.clone() for name, own in load(data).items()}
        about, digest = (bytes(tensors.pop(name).tolist()) for name in (_ABOUT, _DIGEST))
        if digest != _digest(about, tensors):
            raise ValueError("its sha256 does not match its content")
        content = json.loads(about)
        if (content["timelocal"], content["format"]) != ("stream", _FORMAT):
            raise ValueError(f"it has format {content['format']}, expected {_FORMAT}")
        given, state = content["of"], unpacked(content["state"], tensors)
    except (
        SafetensorError,
        LookupError,
        ValueError,
        TypeError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise RunError(
            f"{place} is damaged, or not a file written by `Stream.save` ({error}). Use another one."
        ) from None
    remedy = f"Create the stream like the one in {place}."
    raise_problems(
        (
            Problem(name, repr(own), f"{given.get(name)!r}, as in the file", remedy)
            for name, own in description.items()
            if given.get(name) != own
        ),
        RunError,
    )
    return state


def does_not_fit(path: str | os.PathLike[str], error: Exception) -> RunError:
    """For a valid file that is the state of a stream with other sizes."""
    return RunError(
        f"{path} does not fit this stream ({str(error).rstrip('.')}). Nothing was changed. Create the stream "
        "like the saved one."
    )


def _digest(about: bytes, tensors: Mapping[str, Tensor]) -> bytes:
    return hashlib.sha256(about + save(dict(tensors))).digest()


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
