"""copying: symbols to be kept in mind, and said again in order once all are read."""

from __future__ import annotations

import torch
from torch.nn.functional import one_hot

from timelocal.arguments import memory_problem, seed_problem, whole_problem
from timelocal.data.dataset import Arrays, BuiltIn, Card
from timelocal.data.metrics import mse
from timelocal.data.sequences import Sequences, Split
from timelocal.data.trivial import blank_then_uniform
from timelocal.errors import raise_problems
from timelocal.seeding import generator

_SYMBOLS = 8  # classes 1..8; the blank is class 0 and the marker the last
_MARKER = _SYMBOLS + 1
_CLASSES = _SYMBOLS + 2


def copying_sequences(count: int, length: int = 100, delay: int = 10, seed: int = 0) -> Sequences:
    """Sequences of `length` symbols, then blanks, then markers during which the symbols are due.

    inputs:  s₁ … s_L, `delay` blanks, L markers
    targets: L + `delay` blanks, s₁ … s_L

    Classes are 0 for the blank, 1..8 for the symbols and 9 for the marker, one-hot in inputs and
    targets alike. The symbols are drawn uniformly and independently.

    Args:
        count: N, 1 or more; sequence n depends on the seed and on n alone.
        length: L, 1 or more.
        delay: 0 or more steps.
        seed: 0 or more.

    Returns:
        Sequences with inputs and targets (N, 2L + delay, 10) float32.

    Raises:
        ArgumentError: a count, length or delay that is too small, or a bad seed.

    Source: M. Arjovsky, A. Shah, Y. Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016,
    whose marker shows once, not for as long as the answer lasts.

    >>> part = copying_sequences(1, length=2, delay=1)
    >>> part.inputs.argmax(-1).tolist(), part.targets.argmax(-1).tolist()
    ([[8, 2, 0, 9, 9]], [[0, 0, 0, 8, 2]])
    """
    raise_problems(
        [
            whole_problem("count", count),
            whole_problem("length", length),
            whole_problem("delay", delay, 0),
            seed_problem(seed),
        ]
    )
    count, length, delay = int(count), int(length), int(delay)
    needed = 8 * count * (2 * length + delay) * _CLASSES
    raise_problems([memory_problem("count, length, delay", needed)])
    symbols = torch.stack(
        [
            torch.randint(1, _MARKER, (length,), generator=generator(seed, "copying", n))
            for n in range(count)
        ]
    )
    blanks = torch.zeros(count, length + delay, dtype=torch.int64)
    markers = torch.full((count, length), _MARKER)
    inputs = torch.cat([symbols, blanks[:, :delay], markers], dim=1)
    targets = torch.cat([blanks, symbols], dim=1)
    return Sequences(one_hot(inputs, _CLASSES).float(), one_hot(targets, _CLASSES).float())


def _floors(split: Split) -> dict[str, float]:
    predicted, targets = blank_then_uniform(split.test), split.test.targets
    return {
        "blank, then uniform over 8, MSE": mse(predicted, targets),
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
            shape=(count, 210, _CLASSES),
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
        ),
        make=make,
        floors=_floors,
    )


ENTRIES = (
    _entry(
        "copying",
        "100 symbols, to be repeated after a delay of 10 steps",
        1000,
        None,
        "Fresh sequences in every part: nothing of the test can be learned by heart.",
    ),
    _entry(
        "copying-fixed",
        "One sequence of 100 symbols, to be learned by heart",
        3,
        (1, 1, 1),
        "One sequence to train, one to validate, one to test; only the first can be learned.",
    ),
)
