"""copying: symbols to be remembered, and repeated in order after all are read."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn.functional import binary_cross_entropy, one_hot

from timelocal.arguments import memory_problem, seed_problem, whole_problem
from timelocal.data.dataset import Arrays, BuiltIn, Card
from timelocal.data.families import Family
from timelocal.data.metrics import mse
from timelocal.data.sequences import Sequences, Split
from timelocal.data.trivial import blank_then_uniform
from timelocal.errors import Problem, raise_problems
from timelocal.seeding import generator

_SYMBOLS = 8  # classes 1..8; the blank is class 0 and the marker the last
MARKER = _SYMBOLS + 1
CLASSES = _SYMBOLS + 2


def copying_sequences(
    count: int, length: int = 100, delay: int | tuple[int, int] = 10, seed: int = 0
) -> Sequences:
    """Sequences of `length` symbols, then blanks, then markers during which the symbols are due.

    inputs:  s₁ … s_L, `delay` blanks, L markers
    targets: L + `delay` blanks, s₁ … s_L

    If each sequence draws its own delay, uniformly from a range, it is followed by as many blanks as are
    needed for all sequences to end together.

    Classes are 0 for the blank, 1..8 for the symbols and 9 for the marker, one-hot in inputs and
    targets alike. The symbols are drawn uniformly and independently.

    Args:
        count: N, 1 or more; sequence n depends only on the seed and on n.
        length: L, 1 or more.
        delay: 0 or more steps; or the least and the most of them.
        seed: 0 or more.

    Returns:
        Sequences with inputs and targets (N, 2L + the most delay, 10) float32.

    Raises:
        ArgumentError: a count, length or delay that is too small, or a bad seed.

    Source: M. Arjovsky, A. Shah, Y. Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016,
    where the marker appears once, not throughout the answer.

    >>> part = copying_sequences(1, length=2, delay=1)
    >>> part.inputs.argmax(-1).tolist(), part.targets.argmax(-1).tolist()
    ([[8, 2, 0, 9, 9]], [[0, 0, 0, 8, 2]])
    """
    raise_problems(
        [
            whole_problem("count", count),
            whole_problem("length", length),
            *_delay_problems("delay", delay),
            seed_problem(seed),
        ]
    )
    count, length = int(count), int(length)
    least, most = delay if isinstance(delay, tuple) else (delay, delay)
    needed = 8 * count * (2 * length + int(most)) * CLASSES
    raise_problems([memory_problem("count, length, delay", needed)])
    symbols = torch.stack(
        [
            torch.randint(1, MARKER, (length,), generator=generator(seed, "copying", n))
            for n in range(count)
        ]
    )
    inputs = torch.zeros(count, 2 * length + int(most), dtype=torch.int64)
    targets = torch.zeros_like(inputs)
    inputs[:, :length] = symbols
    for n in range(count):
        start = length + int(least)
        if least < most:
            own = generator(seed, "copying-delay", n)
            start += int(torch.randint(int(most - least) + 1, (), generator=own))
        inputs[n, start : start + length] = MARKER
        targets[n, start : start + length] = symbols[n]
    return Sequences(one_hot(inputs, CLASSES).float(), one_hot(targets, CLASSES).float())


def _delay_problems(what: str, delay: object) -> list[Problem | None]:
    if not isinstance(delay, tuple):
        return [whole_problem(what, delay, 0)]
    problems = [whole_problem(what, one, 0) for one in delay]
    if len(delay) != 2 or (not any(problems) and delay[0] > delay[1]):
        problems.append(Problem(what, repr(delay), "two numbers, the least and the most"))
    return problems


def floors(split: Split) -> dict[str, float]:
    predicted, targets = blank_then_uniform(split.test), split.test.targets
    return {
        "blank, then uniform over 8, MSE": mse(predicted, targets),
        "blank, then uniform over 8, BCE": float(binary_cross_entropy(predicted, targets)),
        "blank, then uniform over 8, bit errors": 1 - 1 / _SYMBOLS,
    }


def _entry(
    name: str, title: str, count: int, parts: tuple[int, int, int] | None, note: str
) -> BuiltIn:
    def make() -> Arrays:
        sequences = copying_sequences(count)
        return sequences.inputs.numpy(), sequences.targets.numpy()

    return BuiltIn(
        card=Card(
            name=name,
            title=title,
            shape=(count, 210, CLASSES),
            classes=None,
            class_counts=None,
            source=f"computed here: timelocal.data.copying_sequences({count}, seed=0)",
            citation=(
                "S. Hochreiter, J. Schmidhuber. Long Short-Term Memory. Neural Computation "
                "9(8):1735-1780, 1997.",
                "M. Arjovsky, A. Shah, Y. Bengio. Unitary Evolution Recurrent Neural Networks. "
                "ICML 2016.",
            ),
            terms="none: a formula",
            notes=(
                note,
                "100 symbols out of 8, 10 blanks, 100 markers; one-hot over blank, symbols, marker.",
                "The targets are blank until the markers come, and then the symbols in order.",
            ),
            parts=parts,
            one_hot=True,
        ),
        make=make,
        floors=floors,
    )


ENTRIES = (
    _entry(
        "copying",
        "100 symbols, to be repeated after a delay of 10 steps",
        1000,
        None,
        "Fresh sequences in every part: nothing in the test part can be memorised.",
    ),
    _entry(
        "copying-fixed",
        "One sequence of 100 symbols, to be memorised",
        3,
        (1, 1, 1),
        "One sequence to train, one to validate, one to test; only the first can be learned.",
    ),
)


_PARTS = (10_000, 1000, 1000)


def _memory(name: str, length: int, delay: int | tuple[int, int]) -> BuiltIn:
    raise_problems(
        [
            whole_problem(f"dataset {name}: length", length),
            *_delay_problems(f"dataset {name}: delay", delay),
        ]
    )
    least, most = delay if isinstance(delay, tuple) else (delay, delay)
    told = f"{least}" if least == most else f"{least} to {most}"

    def make() -> Arrays:
        sequences = copying_sequences(sum(_PARTS), length, delay)
        return sequences.inputs.numpy(), sequences.targets.numpy()

    card = ENTRIES[0].card
    return BuiltIn(
        card=replace(
            card,
            name=name,
            title=f"{length} symbols, to be repeated after a delay of {told} steps",
            shape=(sum(_PARTS), 2 * length + most, CLASSES),
            source="computed here: timelocal.data.copying_sequences"
            f"({sum(_PARTS)}, {length}, {delay}, seed=0)",
            notes=(
                "Fresh sequences in every part: nothing in the test part can be memorised.",
                f"{length} symbols out of 8, {told} blanks, {length} markers; one-hot over blank, "
                "symbols, marker.",
                "The targets are blank until the markers come, and then the symbols in order.",
            ),
            parts=_PARTS,
        ),
        make=make,
        floors=floors,
    )


FAMILY = Family("copying-memory", {"length": 10, "delay": 50}, _memory, frozenset({"delay"}))
