"""Sequences with their targets, the three parts of a dataset, minibatches and padding."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from timelocal.arguments import (
    as_positions,
    as_series,
    as_tensor,
    lengths_problem,
    whole_problem,
)
from timelocal.errors import Problem, described, raise_problems
from timelocal.precision import at_least_float32

PARTS = ("train", "validation", "test")

Values: TypeAlias = Tensor | ArrayLike | SequenceOf[Tensor] | SequenceOf[ArrayLike]
"""A tensor, or something convertible: an array, a list, a data frame, a list of series."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """N sequences with their targets and lengths.

    Tensors are kept as they are. Arrays of any strides, byte order and precision, lists and data frames
    become tensors: floating-point values and all inputs in torch's default dtype, other integers in 64 bits.
    Series of unequal length, as a list, are padded with zeros on the right, and their lengths kept.

    Args:
        inputs: (N, T, I), floating point; or N series (T_n, I).
        targets: N rows: (N,) labels, (N, T) labels at every step, (N, T, O) values.
        lengths: (N,) integers in 1..T, the number of valid steps, counted from the first; what
            follows is padding. None if every sequence has T steps.

    Raises:
        ArgumentError: shapes that do not match, and data that are not numbers.

    >>> part = Sequences(torch.zeros(5, 3, 2), torch.tensor([0, 1, 0, 1, 1]))
    >>> len(part), len(part[[0, 4]])
    (5, 2)
    >>> Sequences([torch.ones(2, 1), torch.ones(3, 1)], [0, 1]).lengths
    tensor([2, 3])
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        made = _tensors(self.inputs, self.targets, self.lengths)
        for name, tensor in zip(("inputs", "targets", "lengths"), made, strict=True):
            object.__setattr__(self, name, tensor)
        inputs, targets, lengths = made
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
                else Problem(
                    "targets",
                    f"{tuple(targets.shape)}",
                    f"one row for each sequence, {len(inputs) if inputs.ndim else 0}",
                    "If the inputs are (steps, sequences, features), use inputs.transpose(0, 1)."
                    if inputs.ndim > 1 and targets.shape[:1] == inputs.shape[1:2]
                    else "",
                ),
                None
                if lengths is None
                else lengths_problem(
                    lengths,
                    inputs.shape[0] if inputs.ndim else 0,
                    inputs.shape[1] if inputs.ndim > 1 else 0,
                ),
            ]
        )

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def __getitem__(self, index: Any) -> Sequences:
        """The sequences at `index`: positions, a mask, a slice or one position, as NumPy takes them.

        Raises:
            ArgumentError: for what is no index, and positions that are not there.

        >>> part = Sequences(torch.zeros(5, 3, 2), torch.arange(5))
        >>> part[1:].targets.tolist(), part[-1].targets.tolist(), part[part.targets > 2].targets.tolist()
        ([1, 2, 3, 4], [4], [3, 4])
        """
        return self._at(as_positions("index", index, len(self)))

    def _at(self, positions: Tensor) -> Sequences:
        """The sequences at positions (n,) that are there: rows of what was checked need no more checks."""
        cut = object.__new__(Sequences)
        for name in ("inputs", "targets", "lengths"):
            own = getattr(self, name)
            rows = None if own is None else own.index_select(0, positions.to(own.device))
            object.__setattr__(cut, name, rows)
        return cut

    def between(self, begin: int, end: int) -> Sequences:
        """The sequences from `begin` to before `end`, as views of these.

        >>> Sequences(torch.zeros(5, 3, 2), torch.arange(5)).between(1, 3).targets.tolist()
        [1, 2]
        """
        inputs, targets, lengths = self.inputs, self.targets, self.lengths
        return Sequences(
            inputs[begin:end], targets[begin:end], None if lengths is None else lengths[begin:end]
        )

    def __iter__(self) -> Iterator[Sequences]:
        """One sequence after the other."""
        return (self[n] for n in range(len(self)))


def valid(targets: Tensor, lengths: Tensor | None) -> Tensor:
    """Targets without those after the end of a sequence, if lengths are unequal.

    Classes (n, t), which are whole numbers, become (m,) and values (n, t, o) become (m, o). All others are of
    whole sequences and stay as they are.

    >>> valid(torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1])).tolist()
    [1, 2, 3]
    """
    steps = targets.dim() == (3 if targets.is_floating_point() else 2)
    if lengths is None or not steps:
        return targets
    places = torch.arange(targets.shape[1], device=targets.device)
    return targets[places < lengths.to(targets.device)[:, None]]


def sequences_problem(what: str, value: object) -> Problem | None:
    """A problem unless `value` is `Sequences`."""
    if isinstance(value, Sequences):
        return None
    remedy = "Use tl.data.Sequences(inputs, targets)."
    return Problem(what, described(value), "Sequences", remedy)


def sequences_like(
    like: Tensor, inputs: object, targets: object, lengths: object = None
) -> Sequences:
    """`Sequences` whose arrays become tensors of the type and on the device of `like`; tensors stay."""
    return Sequences(*_tensors(inputs, targets, lengths, like))


def _tensors(
    inputs: object, targets: object, lengths: object, like: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    padded, steps = as_series("inputs", inputs, like=like, floating=True)
    rows, target_steps = as_series("targets", targets, like=like)
    told = steps if lengths is None else as_tensor("lengths", lengths)
    raise_problems(
        [
            None
            if target_steps is None or (steps is not None and torch.equal(target_steps, steps))
            else Problem(
                "targets",
                f"rows of {_list(target_steps)} steps",
                "one row for each sequence, or one for each step of it",
            ),
            None
            if steps is None or told is steps or (told is not None and torch.equal(told, steps))
            else Problem(
                "lengths",
                described(told),
                f"those of the series, {_list(steps)}",
                "Leave them out.",
            ),
        ]
    )
    return padded, rows, told


def _list(lengths: Tensor) -> str:
    shown = ", ".join(map(str, lengths[:5].tolist()))
    return shown if len(lengths) <= 5 else f"{shown}, …"


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts of one dataset."""

    train: Sequences
    validation: Sequences
    test: Sequences

    def __post_init__(self) -> None:
        raise_problems(sequences_problem(part, getattr(self, part)) for part in PARTS)

    @cached_property
    def duplicates(self) -> dict[str, int]:
        """How many pairs of equal inputs lie in two different parts, by pair of parts.

        Such a pair lets a network memorise an answer that it should have to work out.

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
    # -0.0 becomes 0.0: equal, but of other bits. NumPy has no bfloat16, and float32 holds all of it.
    inputs = (at_least_float32(sequences.inputs.detach()) + 0.0).cpu().numpy()
    steps = inputs.shape[1]
    lengths = [steps] * len(inputs) if sequences.lengths is None else sequences.lengths.tolist()
    return [
        hashlib.blake2b(row[:length].tobytes(), digest_size=16).digest()
        for row, length in zip(inputs, lengths, strict=True)
    ]


def collate(sequences: SequenceOf[Values], targets: Values) -> Sequences:
    """Pad sequences of unequal length with zeros, on the right, to the longest.

    Args:
        sequences: N tensors, arrays, data frames or lists (T_n, I).
        targets: (N, ...), one row per sequence; or a list of N of them (T_n, ...), one row per step,
            which are padded alike.

    Returns:
        Sequences with inputs (N, max T_n, I) and `lengths`, None if all are equal.

    Raises:
        ArgumentError: no sequence, an empty one, or unequal numbers of features.

    >>> batch = collate([torch.ones(2, 1), torch.ones(3, 1)], torch.tensor([0, 1]))
    >>> batch.inputs[0, :, 0].tolist(), batch.lengths.tolist()
    ([1.0, 1.0, 0.0], [2, 3])
    """
    if not isinstance(sequences, list | tuple) or not sequences:
        raise_problems([Problem("sequences", described(sequences), "a list of at least one")])
    rows = [as_tensor(f"sequences[{n}]", row, floating=True) for n, row in enumerate(sequences)]
    features = rows[0].shape[1:]
    raise_problems(
        None
        if row.ndim == 2 and row.shape[0] > 0 and row.shape[1:] == features
        else Problem(
            f"sequences[{n}]", tuple(row.shape), "(steps, features), one step or more, alike in all"
        )
        for n, row in enumerate(rows)
    )
    part = Sequences(*_tensors(rows, targets, None))
    if isinstance(targets, list | tuple) and part.targets.shape[1:2] not in (
        (),
        part.inputs.shape[1:2],
    ):
        got = f"a list of rows of {part.targets.shape[1]}"
        steps = [len(row) for row in rows]
        raise_problems(
            [
                Problem(
                    "targets",
                    got,
                    f"one row per step: {steps}",
                    "For one row per sequence use a tensor (N, ...).",
                )
            ]
        )
    return part


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
            sequences_problem("sequences", sequences),
            whole_problem("batch_size", batch_size),
            None
            if generator is None or isinstance(generator, torch.Generator)
            else Problem("generator", described(generator), "a torch.Generator or None"),
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
    for start in range(0, count, int(batch_size)):
        yield sequences._at(order[start : start + batch_size])
