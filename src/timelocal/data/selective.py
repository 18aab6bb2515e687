"""selective-copying: symbols scattered among blanks, to be repeated in order after all are read."""

from __future__ import annotations

import torch
from torch.nn.functional import one_hot

from timelocal.arguments import memory_problem, seed_problem, whole_problem
from timelocal.data.copying import CLASSES, MARKER, floors
from timelocal.data.dataset import Arrays, BuiltIn, Card
from timelocal.data.families import Family
from timelocal.data.sequences import Sequences
from timelocal.errors import raise_problems
from timelocal.seeding import generator

PARTS = (10_000, 1000, 1000)


def selective_copying_sequences(
    count: int, length: int = 16, steps: int = 128, seed: int = 0
) -> Sequences:
    """Symbols at random steps among blanks, then markers during which they are due in order.

    inputs:  `length` symbols at random places among `steps`, blanks elsewhere; then `length` markers
    targets: `steps` blanks, s₁ … s_L

    Classes and one-hot encoding as in `copying_sequences`. The times of the symbols are drawn for each
    sequence, so no fixed delay helps: symbols must be told apart from blanks.

    Args:
        count: N, 1 or more; sequence n depends only on the seed and on n.
        length: L, 1 or more.
        steps: L or more.
        seed: 0 or more.

    Returns:
        Sequences with inputs and targets (N, steps + L, 10) float32.

    Raises:
        ArgumentError: numbers that are too small, or a bad seed.

    Source: L. Jing et al., Gated Orthogonal Recurrent Units, Neural Computation 2019 (the denoising task),
    and A. Gu, T. Dao, arXiv:2312.00752, 2023, who named it.

    >>> part = selective_copying_sequences(1, length=2, steps=4)
    >>> part.inputs.argmax(-1).tolist(), part.targets.argmax(-1).tolist()
    ([[0, 0, 4, 1, 9, 9]], [[0, 0, 0, 0, 4, 1]])
    """
    raise_problems(
        [whole_problem("count", count), whole_problem("length", length), seed_problem(seed)]
    )
    raise_problems([whole_problem("steps", steps, int(length))])
    count, length, steps = int(count), int(length), int(steps)
    needed = 8 * count * (steps + length) * CLASSES
    raise_problems([memory_problem("count, length, steps", needed)])
    inputs = torch.zeros(count, steps + length, dtype=torch.int64)
    targets = torch.zeros_like(inputs)
    inputs[:, steps:] = MARKER
    for n in range(count):
        own = generator(seed, "selective-copying", n)
        symbols = torch.randint(1, MARKER, (length,), generator=own)
        places = torch.randperm(steps, generator=own)[:length].sort().values
        inputs[n, places] = targets[n, steps:] = symbols
    return Sequences(one_hot(inputs, CLASSES).float(), one_hot(targets, CLASSES).float())


def _entry(name: str, length: int, steps: int) -> BuiltIn:
    raise_problems([whole_problem(f"dataset {name}: length", length)])
    raise_problems([whole_problem(f"dataset {name}: steps", steps, length)])

    def make() -> Arrays:
        sequences = selective_copying_sequences(sum(PARTS), length, steps)
        return sequences.inputs.numpy(), sequences.targets.numpy()

    return BuiltIn(
        card=Card(
            name=name,
            title=f"{length} symbols scattered over {steps} steps, to be repeated in order",
            shape=(sum(PARTS), steps + length, CLASSES),
            classes=None,
            class_counts=None,
            source="computed here: timelocal.data.selective_copying_sequences"
            f"({sum(PARTS)}, {length}, {steps}, seed=0)",
            citation=(
                "L. Jing, C. Gulcehre, J. Peurifoy, Y. Shen, M. Tegmark, M. Soljačić, Y. Bengio. Gated "
                "Orthogonal Recurrent Units: On Learning to Forget. Neural Computation 31(4):765-783, 2019.",
                "A. Gu, T. Dao. Mamba: Linear-Time Sequence Modeling with Selective State Spaces. "
                "arXiv:2312.00752, 2023.",
            ),
            terms="none: a formula",
            notes=("8 symbols; one-hot over blank, symbols, marker.",),
            parts=PARTS,
            one_hot=True,
        ),
        make=make,
        floors=floors,
    )


FAMILY = Family("selective-copying", {"length": 16, "steps": 128}, _entry)
