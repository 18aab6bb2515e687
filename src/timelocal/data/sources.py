"""Conversion of data sources to `Sequences`."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data import Dataset as TorchDataset

from timelocal.data.dataset import Dataset
from timelocal.data.sequences import Sequences, Values, sequences_like
from timelocal.errors import ArgumentError, Problem, described, raise_problems

Source: TypeAlias = (
    Sequences
    | Dataset
    | TorchDataset[Any]
    | DataLoader[Any]
    | tuple[Values, Values]
    | tuple[Values, Values, Values | None]
)
"""`Sequences`, `(inputs, targets[, lengths])`, a `Dataset` of this package or of torch, or a `DataLoader`."""

_EXPECTED = (
    "Sequences, (inputs, targets) or (inputs, targets, lengths), a torch Dataset or a DataLoader"
)


def sequences_from(source: object, like: Tensor) -> Sequences:
    """All sequences of a source, in memory.

    `Sequences` and tensors are used as they are. Everything else becomes tensors on the device of `like`,
    with floating-point values in its dtype. The items of a torch `Dataset` are (inputs, targets) or (inputs,
    targets, length) of one sequence; those of a `DataLoader` are batches of these. Batches with different
    numbers of steps are padded with zeros; without lengths, all steps of a batch are valid. A shuffling
    loader is read in the order of its data set: training shuffles the sequences itself.

    Raises:
        ArgumentError: for anything else, and for sequences that do not match.
    """
    if isinstance(source, Sequences):
        return source
    if isinstance(source, Dataset):
        return Sequences(source.inputs, source.targets, source.lengths)
    if isinstance(source, DataLoader):
        batches = _batches(source)
        _fields(batches, "a batch of the loader")
        return _joined([sequences_like(like, *batch) for batch in batches])
    if isinstance(source, TorchDataset):
        items = _fields(_items(source), "an item of the data set")
        return sequences_like(like, *items)
    if isinstance(source, tuple | list) and len(source) in (2, 3):
        return sequences_like(like, *source)
    raise ArgumentError(str(Problem("data", f"a {type(source).__name__}", _EXPECTED)))


def _items(source: TorchDataset[Any]) -> list[Any]:
    """The items of a data set that can be counted."""
    if isinstance(source, IterableDataset) or not hasattr(source, "__len__"):
        remedy = "Collect a finite one first: inputs, targets = zip(*dataset)."
        got = f"a {type(source).__name__} without a length"
        raise_problems([Problem("data", got, "a data set of known length", remedy)])
    return [source[n] for n in range(len(source))]  # type: ignore[arg-type]


def _fields(items: list[Any], what: str) -> list[list[Any]]:
    """Inputs, targets and, where they are given, lengths: each a list with an entry for every item."""
    for item in items:
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            expected = "(inputs, targets) or (inputs, targets, lengths)"
            raise_problems([Problem(what, described(item), expected)])
    counts = sorted({len(item) for item in items})
    if len(counts) > 1:
        got = f"some of {counts[0]} and some of {counts[1]} parts"
        raise_problems(
            [Problem("data", got, f"the same number of parts in {what} as in all others")]
        )
    if not items:
        raise_problems([Problem("data", "no sequence", "at least one")])
    return [list(field) for field in zip(*items, strict=True)]


def _batches(loader: DataLoader[Any]) -> list[Any]:
    """The batches of a loader, in the order of its data set if it would only shuffle them."""
    if isinstance(loader.dataset, IterableDataset):
        _items(loader.dataset)  # refuses it
    sampler = loader.sampler
    shuffles = type(sampler) is RandomSampler and not sampler.replacement
    if loader.batch_size is not None and (shuffles or type(sampler) is SequentialSampler):
        loader = DataLoader(
            loader.dataset,
            loader.batch_size,
            collate_fn=loader.collate_fn,
            generator=torch.Generator(),  # it draws a number for workers that are not there
        )
    try:
        return list(loader)
    except RuntimeError as error:
        remedy = (
            "For series of unequal length give the data set itself, or a collate_fn that pads them."
        )
        problem = Problem("data", f"a loader that fails ({error})", "batches", remedy)
        raise ArgumentError(str(problem)) from error


def _joined(parts: list[Sequences]) -> Sequences:
    """The sequences of all parts in one, padded to the longest."""
    steps = [part.inputs.shape[1] for part in parts]
    stepwise = len(set(steps)) > 1 and all(
        part.targets.shape[1:2] == part.inputs.shape[1:2] for part in parts
    )
    told = [part.lengths is not None for part in parts]
    lengths = [
        torch.full((len(part),), own) if part.lengths is None else part.lengths
        for part, own in zip(parts, steps, strict=True)
    ]
    return Sequences(
        _cat("inputs", [_padded(part.inputs, max(steps)) for part in parts]),
        _cat("targets", [_padded(p.targets, max(steps)) if stepwise else p.targets for p in parts]),
        _cat("lengths", lengths) if any(told) or len(set(steps)) > 1 else None,
    )


def _padded(values: Tensor, steps: int) -> Tensor:
    """(b, t, …) with zeros behind, to (b, steps, …)."""
    missing = steps - values.shape[1]
    return values if not missing else pad(values, (0, 0) * (values.dim() - 2) + (0, missing))


def _cat(what: str, tensors: list[Tensor]) -> Tensor:
    kinds = [(tuple(own.shape[1:]), own.dtype, own.device) for own in tensors]
    raise_problems(
        Problem(f"{what} of batch {n}", kind, f"those of the first: {kinds[0]}")
        for n, kind in enumerate(kinds)
        if kind != kinds[0]
    )
    return torch.cat(tensors)
