"""delayed-match: two stimuli with a pause between them; are they the same?"""

from __future__ import annotations

import torch

from timelocal.arguments import memory_problem, seed_problem, whole_problem
from timelocal.data.dataset import Arrays, BuiltIn, Card
from timelocal.data.families import Family
from timelocal.data.sequences import Sequences
from timelocal.errors import raise_problems
from timelocal.seeding import generator

PARTS = (2000, 500, 500)
NOISE = 0.1
_STIMULI = 2


def delayed_match_sequences(count: int, delay: int = 10, seed: int = 0) -> Sequences:
    """A stimulus, `delay` steps of noise alone, and a second stimulus that is the same or the other one.

    inputs:  x_t = s_t + 0.1 n_t, s one-hot at the first and at the last step, else 0; n ~ N(0, 1)
    targets: 1 if the first stimulus is the last, else 0

    Only the last step decides the answer, and half of all guesses are right by chance.

    Args:
        count: N, 1 or more; sequence n depends on the seed and on n alone; it matches if n is odd.
        delay: steps between the stimuli, 0 or more.
        seed: 0 or more.

    Returns:
        Sequences with inputs (N, delay + 2, 2) float32 and targets (N,) int64.

    Raises:
        ArgumentError: a count or delay that is too small, or a bad seed.

    Source: T. Miconi, Biologically plausible learning in recurrent neural networks reproduces neural dynamics
    observed during cognitive tasks, eLife 2017, where the stimuli last longer and the answer is requested
    later.

    >>> part = delayed_match_sequences(4, delay=3)
    >>> same = part.inputs[:, 0].argmax(-1) == part.inputs[:, -1].argmax(-1)
    >>> part.targets.tolist(), same.tolist()
    ([0, 1, 0, 1], [False, True, False, True])
    """
    raise_problems(
        [
            whole_problem("count", count),
            whole_problem("delay", delay, 0),
            seed_problem(seed),
        ]
    )
    count, delay = int(count), int(delay)
    raise_problems([memory_problem("count, delay", 4 * count * (delay + 2) * _STIMULI)])
    inputs = torch.zeros(count, delay + 2, _STIMULI)
    targets = torch.arange(count) % 2
    for n in range(count):
        own = generator(seed, "delayed-match", n)
        first = int(torch.randint(_STIMULI, (), generator=own))
        inputs[n] = NOISE * torch.randn(delay + 2, _STIMULI, generator=own)
        inputs[n, 0, first] += 1
        inputs[n, -1, first if targets[n] else 1 - first] += 1
    return Sequences(inputs, targets)


def _entry(name: str, delay: int) -> BuiltIn:
    raise_problems([whole_problem(f"dataset {name}: delay", delay, 0)])

    def make() -> Arrays:
        sequences = delayed_match_sequences(sum(PARTS), delay)
        return sequences.inputs.numpy(), sequences.targets.numpy()

    return BuiltIn(
        card=Card(
            name=name,
            title=f"Are two stimuli the same, with {delay} steps between them?",
            shape=(sum(PARTS), delay + 2, _STIMULI),
            classes=("different", "same"),
            class_counts=(sum(PARTS) // 2, sum(PARTS) // 2),
            source=f"computed here: timelocal.data.delayed_match_sequences({sum(PARTS)}, {delay}, seed=0)",
            citation=(
                "T. Miconi. Biologically plausible learning in recurrent neural networks reproduces neural "
                "dynamics observed during cognitive tasks. eLife 6:e20899, 2017.",
            ),
            terms="none: a formula",
            notes=(f"Noise with a standard deviation of {NOISE:g} at every step.",),
            parts=PARTS,
        ),
        make=make,
    )


FAMILY = Family("delayed-match", {"delay": 10}, _entry)
