"""Data accepted by `fit`, converted to `Sequences`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from timelocal.data import Sequences
from timelocal.data.sources import Source, sequences_from
from timelocal.errors import ArgumentError, Problem, raise_problems
from timelocal.network import Network
from timelocal.rules import Rule, arrange_entries, weight_problem
from timelocal.rules.batch import STEPWISE, is_asked_again
from timelocal.typing import Place

_AT_ONCE = 4096
"""The number of sequences that are copied at a time."""


def as_sequences(parts: Mapping[str, Source | None], network: Network) -> dict[str, Sequences]:
    """The given parts (those that are not None) as `Sequences`, with arrays in the network's dtype.

    Raises `ArgumentError`.
    """
    made: dict[str, Sequences] = {}
    for name, part in parts.items():
        if part is None and name != "train":
            continue
        try:
            made[name] = sequences_from(part, network.recurrent.like)
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
            given = entering(rule, part)
            rule.check(*given)
            counted = arrange_entries(rule.network, rule.loss, rule.at, *given)
            raise_problems([weight_problem(counted)])
        except ArgumentError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ArgumentError("\n".join(problems))


def entering(rule: Rule, batch: Sequences) -> tuple[Tensor, Tensor, Tensor | None]:
    """A batch (b, t, ...) in the network's layout: some are time first."""
    inputs, targets = batch.inputs, batch.targets
    if not rule.network.batch_first:
        inputs = inputs.transpose(0, 1)
        stepwise = (
            rule.at in STEPWISE and targets.dim() > 1
        )  # other targets are refused by the argument checks
        if stepwise and not asks_again(rule, batch):
            targets = targets.transpose(0, 1)
    return inputs, targets, batch.lengths


def asks_again(rule: Rule, part: Sequences) -> bool:
    """Whether the part has one target per sequence and the rule uses it at every step."""
    return is_asked_again(rule.network, rule.loss, rule.at, len(part), part.targets)


def judged_at(rule: Rule, part: Sequences) -> Place:
    """The position at which validation and test are measured: for one target per sequence, the last step."""
    return "last" if asks_again(rule, part) else rule.at


def fingerprint(sequences: Sequences) -> str:
    """A sha256 over shapes and values, to check that a run resumes with the same data."""
    digest = hashlib.sha256()
    for tensor in (sequences.inputs, sequences.targets, sequences.lengths):
        if tensor is not None:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
            # windows of the same rows are large together
            for rows in tensor.detach().split(_AT_ONCE):
                values = rows.cpu().contiguous()
                if values.dtype == torch.bfloat16:  # NumPy has none; its bits are digested
                    values = values.view(torch.int16)
                digest.update(values.numpy().data)
    return digest.hexdigest()
