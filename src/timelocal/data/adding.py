"""adding: the sum of two marked numbers out of many, reported at the end."""

from __future__ import annotations

import torch

from timelocal.arguments import memory_problem, seed_problem, whole_problem
from timelocal.data.dataset import Arrays, BuiltIn, Card
from timelocal.data.families import Family
from timelocal.data.metrics import mse
from timelocal.data.sequences import Sequences, Split
from timelocal.errors import raise_problems
from timelocal.seeding import generator

PARTS = (10_000, 1000, 1000)


def adding_sequences(count: int, steps: int = 200, seed: int = 0) -> Sequences:
    """Sequences of numbers, two of them marked, one in each half; the target is the sum of the marked two.

    inputs:  (u_t, m_t), u uniform in [0, 1), m 1 at two steps and 0 elsewhere
    targets: Σ_t m_t u_t

    Args:
        count: N, 1 or more; sequence n depends only on the seed and on n.
        steps: T, 2 or more.
        seed: 0 or more.

    Returns:
        Sequences with inputs (N, T, 2) and targets (N, 1), float32.

    Raises:
        ArgumentError: a count or number of steps that is too small, or an invalid seed.

    Source: S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, Neural Computation 1997, in the form of
    Q. V. Le, N. Jaitly, G. E. Hinton, arXiv:1504.00941, 2015: all sequences have one length. Always
    answering 1 has a mean squared error of 1/6.

    >>> part = adding_sequences(1, steps=4)
    >>> values, marks = part.inputs[0].unbind(1)
    >>> marks.tolist(), bool(part.targets[0] == values @ marks)
    ([1.0, 0.0, 1.0, 0.0], True)
    """
    raise_problems(
        [whole_problem("count", count), whole_problem("steps", steps, 2), seed_problem(seed)]
    )
    count, steps = int(count), int(steps)
    raise_problems([memory_problem("count, steps", 8 * count * steps)])
    inputs = torch.zeros(count, steps, 2)
    half = steps // 2
    for n in range(count):
        own = generator(seed, "adding", n)
        inputs[n, :, 0] = torch.rand(steps, generator=own)
        for low, high in ((0, half), (half, steps)):
            inputs[n, int(torch.randint(low, high, (), generator=own)), 1] = 1
    return Sequences(inputs, inputs.prod(-1).sum(1, keepdim=True))


def _floors(split: Split) -> dict[str, float]:
    constant = split.train.targets.mean(0).expand_as(split.test.targets)
    return {"mean of the training part, MSE": mse(constant, split.test.targets)}


def _entry(name: str, steps: int) -> BuiltIn:
    raise_problems([whole_problem(f"dataset {name}: steps", steps, 2)])

    def make() -> Arrays:
        sequences = adding_sequences(sum(PARTS), steps)
        return sequences.inputs.numpy(), sequences.targets.numpy()

    return BuiltIn(
        card=Card(
            name=name,
            title=f"The sum of two marked numbers out of {steps:,}",
            shape=(sum(PARTS), steps, 2),
            classes=None,
            class_counts=None,
            source=f"computed here: timelocal.data.adding_sequences({sum(PARTS)}, {steps}, seed=0)",
            citation=(
                "S. Hochreiter, J. Schmidhuber. Long Short-Term Memory. Neural Computation "
                "9(8):1735-1780, 1997.",
                "Q. V. Le, N. Jaitly, G. E. Hinton. A Simple Way to Initialize Recurrent Networks of "
                "Rectified Linear Units. arXiv:1504.00941, 2015.",
            ),
            terms="none: a formula",
            notes=(
                "One number is marked in each half; the target is one value of the whole sequence.",
            ),
            parts=PARTS,
            stepwise=False,
        ),
        make=make,
        floors=_floors,
    )


FAMILY = Family("adding", {"steps": 200}, _entry)
