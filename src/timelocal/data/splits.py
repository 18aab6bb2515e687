"""Split a data set into training, validation and test parts, seeded; and standardize it."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timelocal.arguments import as_real, as_tensor, flag_problem, is_flag, seed_problem
from timelocal.data.dataset import Dataset
from timelocal.data.overlapping import rows_under, times_seen, windows_over
from timelocal.data.sequences import PARTS, Sequences, Split, sequences_problem
from timelocal.errors import Problem, described, raise_problems
from timelocal.precision import at_least_float32
from timelocal.seeding import generator

FRACTIONS = (0.6, 0.2, 0.2)


def split(
    dataset: Dataset | Sequences,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
    stratified: bool = False,
) -> Split:
    """Split at random, reproducibly by seed, into training, validation and test parts.

    The sizes follow from N and the fractions alone: the cuts are at N·f₁ and N·(f₁ + f₂), each
    rounded to the nearest whole number, halves up. So 200 sequences give 120, 40, 40 and 983 give
    590, 196, 197. A data set that comes already split (`card.parts`) stays so, in its order, whatever the
    seed; each part is cropped to its longest sequence.

    Args:
        dataset: the data set to split.
        seed: 0 or more.
        fractions: of the three parts; they sum to 1.
        stratified: keep the class proportions: every part gets its share of each class to within two
            sequences. The sizes of the parts stay the same.

    Returns:
        Split: every sequence is in exactly one part.

    Raises:
        ArgumentError: invalid fractions or seed, too few sequences, no class to stratify by, or other
            fractions for a data set that comes already split.

    >>> parts = split(Sequences(torch.zeros(10, 3, 2), torch.arange(10)), seed=0)
    >>> len(parts.train), len(parts.validation), len(parts.test)
    (6, 2, 2)
    """
    if not isinstance(dataset, Dataset):
        raise_problems([sequences_problem("dataset", dataset)])
    listed = isinstance(fractions, list | tuple)
    shares = tuple(map(as_real, fractions)) if listed else ()
    whole = Sequences(dataset.inputs, dataset.targets, dataset.lengths)
    count, labels = len(whole), whole.targets
    card = dataset.card if isinstance(dataset, Dataset) else None
    given = None if card is None else card.parts
    raise_problems(
        [
            seed_problem(seed),
            flag_problem("stratified", stratified),
            None
            if len(shares) == 3
            and min(shares) >= 0
            and shares[0] > 0
            and math.isclose(sum(shares), 1)
            else Problem(
                "fractions", _told(fractions), "three numbers that sum to 1, the first above 0"
            ),
            None
            if not is_flag(stratified)
            or not stratified
            or (labels.ndim == 1 and not labels.is_floating_point())
            else Problem(
                "stratified",
                f"targets {tuple(labels.shape)} {labels.dtype}",
                "one class label per sequence",
                "Use stratified=False",
            ),
            None
            if given is None or shares == FRACTIONS
            else Problem(
                "fractions",
                _told(fractions),
                f"none: the data set is already split into {given}",
                "Omit them",
            ),
        ]
    )
    if card is not None and given is not None:
        begin, parts = 0, []
        for size in given:
            parts.append(_trimmed(whole.between(begin, begin + size)))
            begin += size + card.between
        return Split(*parts)
    sizes = _sizes(count, shares)
    raise_problems(
        None
        if size > 0 or fraction == 0
        else Problem(
            "dataset",
            f"{count} sequence{'s' if count > 1 else ''}",
            f"enough for a {name} part of {fraction:.0%}",
            "Cut a long sequence into several" if count == 1 else "",
        )
        for name, size, fraction in zip(PARTS, sizes, shares, strict=True)
    )
    order = torch.randperm(count, generator=generator(seed, "split"))
    if stratified:
        order = _dealt_by_class(order, labels, sizes)
    first, second = sizes[0], sizes[0] + sizes[1]
    return Split(whole[order[:first]], whole[order[first:second]], whole[order[second:]])


def _told(fractions: object) -> object:
    return (
        tuple(map(described, fractions))
        if isinstance(fractions, list | tuple)
        else described(fractions)
    )


def _trimmed(sequences: Sequences) -> Sequences:
    """Without the padding that no sequence needs; `lengths` is dropped if all are then alike."""
    lengths = sequences.lengths
    if lengths is None:
        return sequences
    steps = int(lengths.max())
    targets = sequences.targets
    if targets.ndim > 1:
        targets = targets[:, :steps]
    alike = bool((lengths == steps).all())
    return Sequences(sequences.inputs[:, :steps], targets, None if alike else lengths)


def _sizes(count: int, fractions: tuple[float, ...]) -> list[int]:
    # The small number undoes that 0.7 + 0.1 falls just short of 0.8, when it decides a half.
    first, second = (
        math.floor(count * f + 0.5 + 1e-9) for f in (fractions[0], fractions[0] + fractions[1])
    )
    return [first, second - first, count - second]


def _dealt_by_class(order: Tensor, labels: Tensor, sizes: list[int]) -> Tensor:
    """Reorder a permutation such that cutting it into `sizes` keeps the shares of the classes.

    Sort by class, keeping the random order within; then deal out evenly spaced places: first the
    training part's, then, from what is left, the validation part's.
    """
    by_class = order[labels[order].argsort(stable=True)]
    train = _evenly(by_class, sizes[0])
    rest = by_class[~train]
    validation = _evenly(rest, sizes[1])
    parts = (by_class[train], rest[validation], rest[~validation])
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return torch.cat([part[place[part].argsort()] for part in parts])  # back in random order


def _evenly(items: Tensor, size: int) -> Tensor:
    """A mask that takes `size` of the items, evenly spaced."""
    steps = torch.arange(len(items) + 1) * size // max(len(items), 1)
    return steps.diff() > 0


def moments(sequences: Sequences, weights: object = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (I,) of each feature over all valid steps.

    weights: (N,) non-negative weights of the sequences; None if each counts once.

    A feature that is constant up to rounding has its value as the mean and a deviation of 1. Rounding is
    bounded as in scikit-learn: var ≤ n ε var + (n ε mean)².

    >>> mean, deviation = moments(Sequences(torch.tensor([[[1.0], [3.0]]]), torch.zeros(1)))
    >>> mean.item(), deviation.item()
    (2.0, 1.0)
    """
    raise_problems([sequences_problem("sequences", sequences)])
    inputs, lengths = sequences.inputs, sequences.lengths
    if not inputs.numel():
        raise_problems([Problem("sequences", "no values", "at least one")])
    under = rows_under(inputs) if lengths is None and weights is None else None
    if under is not None:  # windows of the same rows, which need not be written out
        rows, seen = under, times_seen(inputs).double().numpy()
        shares = seen / seen.sum()
    else:
        rows = inputs.flatten(0, 1) if lengths is None else inputs[_valid(inputs, lengths)]
        shares = None if weights is None else _shares(sequences, weights)
    values: NDArray[np.floating] = at_least_float32(rows.detach()).cpu().numpy()
    # numpy, because its sums do not depend on the number of threads; twice, against cancellation.
    mean = _mean(values, shares)
    variance = _mean(np.square(values - mean.astype(values.dtype)), shares)
    rounding = len(values) * np.finfo(np.float64).eps
    constant = variance <= rounding * variance + np.square(rounding * mean)
    one = 0 if shares is None else int(shares.argmax())  # a row that counts
    mean[constant] = values[one, constant]
    deviation = np.where(constant, 1, np.sqrt(variance))
    return torch.from_numpy(mean).to(inputs), torch.from_numpy(deviation).to(inputs)


def _mean(values: NDArray[np.floating], shares: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """The mean of rows (n, I), or their sum by shares (n,)."""
    found: NDArray[np.float64] = (
        values.mean(0, dtype=np.float64)
        if shares is None
        else (shares[:, None] * values).sum(0, dtype=np.float64)
    )
    return found


def _shares(sequences: Sequences, weights: object) -> NDArray[np.float64]:
    """The weight of each valid step in a mean: its sequence's weight divided by the sum of all."""
    inputs, lengths = sequences.inputs, sequences.lengths
    like = torch.empty(0, dtype=torch.float64)
    given = as_tensor("weights", weights, like=like, floating=True).detach().cpu().double()
    fits = given.shape == (len(sequences),) and bool((given.isfinite() & (given >= 0)).all())
    if not fits or not given.any():
        expected = f"({len(sequences)},) finite numbers, none negative, one above 0"
        raise_problems([Problem("weights", described(weights), expected)])
    each = given[:, None].expand(inputs.shape[:2])
    steps = (each.flatten() if lengths is None else each[_valid(inputs, lengths).cpu()]).numpy()
    return steps / steps.sum()


def standardize(split: Split) -> Split:
    """Shift and scale each feature to mean 0 and standard deviation 1 over the training part.

    Only the training part is used; all three parts are transformed alike. Padding stays 0. To transform
    other data in the same way, use `moments(split.train)`.

    Args:
        split: the parts; not modified.

    Returns:
        Split with new inputs.

    >>> digits = Sequences(torch.rand(50, 3, 2), torch.zeros(50))
    >>> scaled = standardize(split(digits, seed=0))
    >>> bool(scaled.train.inputs.mean().abs() < 1e-5)
    True
    """
    if not isinstance(split, Split):
        raise_problems([Problem("split", described(split), "a Split, as tl.data.split makes it")])
    mean, deviation = moments(split.train)
    train, validation, test = (scaled(getattr(split, part), mean, deviation) for part in PARTS)
    return Split(train, validation, test)


def scaled(sequences: Sequences, mean: Tensor, deviation: Tensor) -> Sequences:
    """The same with inputs (x − mean) / deviation; padding is 0."""
    under = None if sequences.lengths is not None else rows_under(sequences.inputs)
    if under is None:
        inputs = (sequences.inputs - mean) / deviation
    else:
        inputs = windows_over((under - mean) / deviation, sequences.inputs.shape[1])
    if sequences.lengths is not None:
        inputs[~_valid(inputs, sequences.lengths)] = 0
    return Sequences(inputs, sequences.targets, sequences.lengths)


def _valid(inputs: Tensor, lengths: Tensor) -> Tensor:
    """(N, T), true where a step is not padding."""
    steps = torch.arange(inputs.shape[1], device=inputs.device)
    return steps < lengths.to(inputs.device).unsqueeze(1)
