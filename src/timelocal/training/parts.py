"""What a caller may hand to `fit` as a part of the data, turned into `Sequences`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from timelocal.data import Sequences
from timelocal.errors import ArgumentError, Problem
from timelocal.network import Network
from timelocal.rules import Rule

Part: TypeAlias = (
    Sequences
    | tuple[Tensor | ArrayLike, Tensor | ArrayLike]
    | tuple[Tensor | ArrayLike, Tensor | ArrayLike, Tensor | ArrayLike | None]
)
"""`Sequences`, `(inputs, targets)` or `(inputs, targets, lengths)`, tensors or arrays."""


def as_sequences(parts: Mapping[str, Part | None], network: Network) -> dict[str, Sequences]:
    """The given parts (those that are not None) as `Sequences`.

    Arrays become tensors on the network's device, floating-point ones of its dtype and integers of
    64 bits; tensors are taken as they are. Raises `ArgumentError`.
    """
    made: dict[str, Sequences] = {}
    for name, part in parts.items():
        if part is None:
            continue
        try:
            made[name] = part if isinstance(part, Sequences) else _sequences(part, network)
            if len(made[name]) == 0:
                raise ArgumentError(str(Problem("inputs", "no sequence", "at least one")))
        except ArgumentError as error:
            raise ArgumentError(f"{name}: {error}") from error
    return made


def check_parts(rule: Rule, parts: Mapping[str, Sequences]) -> None:
    """Raise an `ArgumentError` for what the rule cannot learn from or be measured on, part by part."""
    problems = []
    for name, part in parts.items():
        try:
            rule.check(*entering(rule, part))
        except ArgumentError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ArgumentError("\n".join(problems))


def entering(rule: Rule, batch: Sequences) -> tuple[Tensor, Tensor, Tensor | None]:
    """A batch (b, t, ...) as the network wants it: some take time first."""
    inputs, targets = batch.inputs, batch.targets
    if not rule.network.batch_first:
        inputs = inputs.transpose(0, 1)
        stepwise = rule.at == "every" and targets.dim() > 1  # what is not is told at the door
        targets = targets.transpose(0, 1) if stepwise else targets
    return inputs, targets, batch.lengths


def _sequences(part: object, network: Network) -> Sequences:
    if not isinstance(part, tuple | list) or len(part) not in (2, 3):
        expected = "Sequences, (inputs, targets) or (inputs, targets, lengths)"
        raise ArgumentError(str(Problem("data", type(part).__name__, expected)))
    inputs, targets, *rest = part
    lengths = rest[0] if rest else None
    return Sequences(
        _tensor("inputs", inputs, network),
        _tensor("targets", targets, network),
        None if lengths is None else _tensor("lengths", lengths, network),
    )


def _tensor(name: str, value: Tensor | ArrayLike, network: Network) -> Tensor:
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        remedy = "Encode labels as integers from 0" if name == "targets" else ""
        raise ArgumentError(str(Problem(name, f"values of type {array.dtype}", "numbers", remedy)))
    like = next(network.parameters())
    dtype = like.dtype if array.dtype.kind == "f" else torch.int64
    return torch.as_tensor(array, dtype=dtype, device=like.device)


def fingerprint(sequences: Sequences) -> str:
    """A sha256 over shapes and values: tells whether a run goes on with the data it began with."""
    digest = hashlib.sha256()
    for tensor in (sequences.inputs, sequences.targets, sequences.lengths):
        if tensor is not None:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
