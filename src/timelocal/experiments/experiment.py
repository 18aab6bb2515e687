"""What a table or a figure of a paper is made of: lines of runs, the paper's numbers, its claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from timelocal.experiments.config import TrainConfig

ProfileName = Literal["quick", "laptop", "paper"]
PROFILES: tuple[ProfileName, ...] = ("quick", "laptop", "paper")

Column = Literal[
    "as corrected", "as in the authors' code", "true BPTT", "best without BPTT", "recurrence frozen"
]

Word = Literal["holds", "does not hold", "untested at this size"]


class PaperValue(NamedTuple):
    """A number as the paper prints it (accuracies in %); `sd` None where it prints none."""

    mean: float
    sd: float | None = None


class Key(NamedTuple):
    """Where a line stands: panel (a data set, a size), label (a rule) and column."""

    panel: str
    label: str
    column: Column


@dataclass(frozen=True)
class Search:
    """What is chosen on the validation part before a line's runs: each field over its values.

    The candidates are all combinations, run with `epochs` epochs on every one of `seeds`; the one whose
    mean `measure` over those seeds is best is taken. A candidate with a run that diverged is out, in its full
    runs too. With more `finalists` than one, so many of the best run in full with the same seeds, and the
    best of these is taken: what looks good after a few epochs need not stay so.
    """

    grid: Mapping[str, tuple[object, ...]]
    epochs: int
    seeds: tuple[int, ...] = (0,)
    measure: str = "validation_loss"
    finalists: int = 1


@dataclass(frozen=True)
class Line:
    """One curve of a figure, one number of a table: a configuration, over its seeds."""

    key: Key
    config: TrainConfig
    seeds: tuple[int, ...]
    search: Search | None = None
    paper: PaperValue | None = None
    x: float | None = None
    """The place on the horizontal axis of a figure over sizes."""


Numbers = Mapping[Key, Mapping[int, float]]
"""Every line's value by seed, in one measure; lines without finished runs are absent."""


class Verdict(NamedTuple):
    """What the numbers say of a claim, and the numbers."""

    word: Word
    because: str


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, in our words, and the rule by which the numbers decide."""

    text: str
    rule: str
    decide: Callable[[Numbers], Verdict]
    measure: str | None = None
    """What the numbers are; None for the experiment's first measure."""


@dataclass(frozen=True)
class Experiment:
    """A table or figure of a paper.

    `measures` name entries of `timelocal.studies.measures`; the first decides claims that name none.
    `view` is how the page draws it: learning `curves` with bars of the final values, values over `sizes`,
    `costs` in time and memory, a `grid` search, or `settings` alone.
    """

    name: str
    title: str
    question: str
    view: Literal["curves", "sizes", "costs", "grid", "settings"]
    measures: tuple[str, ...]
    lines: Callable[[ProfileName], tuple[Line, ...]]
    claims: tuple[Claim, ...] = ()
    deviations: Callable[[ProfileName], tuple[str, ...]] = field(default=lambda _: ())


def listed(counts: Mapping[str, int]) -> str:
    """Counts by name, for a sentence.

    >>> listed({"copying": 2, "weather": 10})
    'copying 2, weather 10'
    """
    return ", ".join(f"{name} {count}" for name, count in counts.items())
