"""Sequences with their targets, the three parts of a dataset, minibatches and padding."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from timelocal.errors import Problem, raise_problems

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Sequences:
    """N sequences, what should come out of each, and how long each is.

    Args:
        inputs: (N, T, I), floating point.
        targets: N rows of anything: (N,) labels, (N, T) labels at every step, (N, T, O) values.
        lengths: (N,) integers in 1..T, the number of valid steps, counted from the first; what
            follows is padding. None if every sequence has T steps.

    Raises:
        ArgumentError: shapes that do not agree.

    >>> part = Sequences(torch.zeros(5, 3, 2), torch.tensor([0, 1, 0, 1, 1]))
    >>> len(part), len(part[torch.tensor([0, 4])])
    (5, 2)
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        inputs, targets, lengths = self.inputs, self.targets, self.lengths
        raise_problems(
            [
                None
                if inputs.ndim == 3 and inputs.is_floating_point()
                else Problem(
                    "inputs",
                    f"{tuple(inputs.shape)} {inputs.dtype}",
                    "(sequences, steps, features) of floating point",
                    "For one feature per step use inputs.unsqueeze(-1)" if inputs.ndim == 2 else "",
                ),
                None
                if targets.ndim >= 1 and targets.shape[:1] == inputs.shape[:1]
                else Problem("targets", f"{tuple(targets.shape)}", "one row for each sequence"),
                None if lengths is None else _lengths_problem(lengths, inputs),
            ]
        )

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def __getitem__(self, index: Tensor) -> Sequences:
        """The sequences at `index`, a tensor of positions."""
        lengths = None if self.lengths is None else self.lengths.index_select(0, index)
        inputs, targets = self.inputs.index_select(0, index), self.targets.index_select(0, index)
        return Sequences(inputs, targets, lengths)


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts of one dataset."""

    train: Sequences
    validation: Sequences
    test: Sequences

    @cached_property
    def duplicates(self) -> dict[str, int]:
        """How many pairs of equal inputs lie in two different parts, by pair of parts.

        Such a pair lets a network recall an answer that it should have had to work out.

        >>> one = Sequences(torch.ones(1, 2, 1), torch.tensor([0]))
        >>> Split(one, one, Sequences(torch.zeros(1, 2, 1), torch.tensor([0]))).duplicates
        {'train/validation': 1, 'train/test': 0, 'validation/test': 0}
        """
        seen = {part: Counter(_keys(getattr(self, part))) for part in PARTS}
        return {
            f"{a}/{b}": sum(count * seen[b][key] for key, count in seen[a].items())
            for a, b in (PARTS[:2], PARTS[::2], PARTS[1:])
        }


def _keys(sequences: Sequences) -> list[bytes]:
    """A digest of each input that is equal where the valid steps are."""
    inputs = (sequences.inputs + 0.0).cpu().numpy()  # -0.0 becomes 0.0: equal, but of other bits
    steps = inputs.shape[1]
    lengths = [steps] * len(inputs) if sequences.lengths is None else sequences.lengths.tolist()
    return [
        hashlib.blake2b(row[:length].tobytes(), digest_size=16).digest()
        for row, length in zip(inputs, lengths, strict=True)
    ]


def _lengths_problem(lengths: Tensor, inputs: Tensor) -> Problem | None:
    if lengths.shape != inputs.shape[:1] or lengths.is_floating_point():
        got = f"{tuple(lengths.shape)} {lengths.dtype}"
        return Problem("lengths", got, f"{tuple(inputs.shape[:1])} integers, one per sequence")
    steps = inputs.shape[1] if inputs.ndim > 1 else 0
    if lengths.numel() and not (lengths.min() >= 1 and lengths.max() <= steps):
        got = f"{int(lengths.min())} to {int(lengths.max())}"
        return Problem("lengths", got, f"values from 1 to {steps}, the number of steps")
    return None


def collate(sequences: SequenceOf[Tensor], targets: Tensor | SequenceOf[Tensor]) -> Sequences:
    """Pad sequences of unequal length with zeros, on the right, to the longest.

    Args:
        sequences: N tensors (T_n, I).
        targets: (N, ...), one row per sequence; or N tensors (T_n, ...), one row per step, which
            are padded alike.

    Returns:
        Sequences with inputs (N, max T_n, I) and `lengths`, None if all are equal.

    Raises:
        ArgumentError: no sequence, an empty one, or unequal numbers of features.

    >>> batch = collate([torch.ones(2, 1), torch.ones(3, 1)], torch.tensor([0, 1]))
    >>> batch.inputs[0, :, 0].tolist(), batch.lengths.tolist()
    ([1.0, 1.0, 0.0], [2, 3])
    """
    raise_problems([None if len(sequences) else Problem("sequences", "none", "at least one")])
    features = sequences[0].shape[1:]
    raise_problems(
        None
        if s.ndim == 2 and s.shape[0] > 0 and s.shape[1:] == features
        else Problem(
            f"sequences[{n}]", tuple(s.shape), "(steps, features), one step or more, alike in all"
        )
        for n, s in enumerate(sequences)
    )
    steps = [len(s) for s in sequences]
    if not isinstance(targets, Tensor):
        raise_problems(
            [
                None
                if [len(t) for t in targets] == steps
                else Problem("targets", [len(t) for t in targets], f"one row per step: {steps}")
            ]
        )
        targets = pad_sequence(list(targets), batch_first=True)
    lengths = None if len(set(steps)) == 1 else torch.tensor(steps)
    return Sequences(pad_sequence(list(sequences), batch_first=True), targets, lengths)


def minibatches(
    sequences: Sequences, batch_size: int, generator: torch.Generator | None = None
) -> Iterator[Sequences]:
    """Go once through the sequences, `batch_size` at a time; the last batch may be smaller.

    Args:
        sequences: what to go through.
        batch_size: sequences per batch, 1 or more.
        generator: draws the order; without it the order is that of `sequences`.

    Raises:
        ArgumentError: a batch size below 1.

    >>> part = Sequences(torch.zeros(5, 3, 2), torch.arange(5))
    >>> [batch.targets.tolist() for batch in minibatches(part, 2)]
    [[0, 1], [2, 3], [4]]
    """
    raise_problems(
        [
            None
            if isinstance(batch_size, int) and batch_size >= 1
            else Problem("batch_size", batch_size, "a whole number of sequences, 1 or more")
        ]
    )
    return _batches(sequences, batch_size, generator)


def _batches(
    sequences: Sequences, batch_size: int, generator: torch.Generator | None
) -> Iterator[Sequences]:
    count = len(sequences)
    order = (
        torch.arange(count)
        if generator is None
        else torch.randperm(count, generator=generator, device=generator.device)
    ).to(sequences.inputs.device)
    for start in range(0, count, batch_size):
        yield sequences[order[start : start + batch_size]]
