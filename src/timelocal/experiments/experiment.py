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


@dataclass(frozen=True)
class Comparison:
    """One line beside another, or a number: right if the excess, in the mean over seeds, is above zero."""

    first: Key
    second: Key | float
    excess: Callable[[float, float], float]
    """From the two values of a seed."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The lines that are compared."""
        return (self.first, self.second) if isinstance(self.second, Key) else (self.first,)


WORDS = ("holds", "does not hold", "cannot be decided", "nothing learned", "untested at this size")
"""What a verdict can say."""


@dataclass(frozen=True)
class Tested:
    """What the exact test says of a comparison."""

    told: str
    n: int
    """Seeds that both lines have."""
    excess: float
    interval: tuple[float, float]
    """95 %, Student's t."""
    p: float
    """One-sided, before any correction."""
    p_contrary: float
    """That of the excess with the other sign."""
    sees: float | None
    """The smallest excess that four of five such studies would find; None where so few seeds never could."""

    @property
    def spread(self) -> str:
        """The mean excess and its 95 % interval."""
        low, high = self.interval
        return f"{self.excess:.2g} [{low:.2g}, {high:.2g}]".replace("-", "−")

    @property
    def chance(self) -> str:
        """The p-value, of whichever of the two directions is the likelier."""
        if self.p <= self.p_contrary:
            return f"{self.p:.2g}"
        return f"{self.p_contrary:.2g} (the other way round)"

    @property
    def power(self) -> str:
        """What it can see."""
        return "never" if self.sees is None else f"{self.sees:.2g}"


@dataclass(frozen=True)
class Verdict:
    """What the numbers say of a claim, the numbers, the tests, and the corrected p-value that decided.

    The words are "holds", "does not hold", "cannot be decided with n seeds", "nothing learned" (no line is
    better than a predictor that learns nothing: nothing is compared) and "untested at this size".
    """

    word: str
    because: str
    tests: tuple[Tested, ...] = ()
    p: float | None = None
    lacking: tuple[str, ...] = ()
    """What keeps comparisons from being made."""

    @property
    def summary(self) -> str:
        """The word without the number of seeds: one of `WORDS`."""
        return self.word.split(" with ")[0]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, in our words, and the comparisons that all have to be right for it to hold."""

    text: str
    rule: str
    comparisons: tuple[Comparison, ...]
    measure: str | None = None
    """What the numbers are; None for the experiment's first measure."""


@dataclass(frozen=True)
class Experiment:
    """A table or figure of a paper.

    `measures` name entries of `timelocal.studies.measures`; the first decides claims that name none.
    `view` is how the page draws it: learning `curves` with bars of the final values, values over `sizes`,
    `costs` in time and memory, a `grid` search, or `settings` alone. `beside` names the experiment that
    measures what updates of these lines cost: a page with both opens with accuracies against costs.
    """

    name: str
    title: str
    question: str
    view: Literal["curves", "sizes", "costs", "grid", "settings"]
    measures: tuple[str, ...]
    lines: Callable[[ProfileName], tuple[Line, ...]]
    claims: tuple[Claim, ...] = ()
    deviations: Callable[[ProfileName], tuple[str, ...]] = field(default=lambda _: ())
    beside: str | None = None


def listed(counts: Mapping[str, int]) -> str:
    """Counts by name, for a sentence.

    >>> listed({"copying": 2, "weather": 10})
    'copying 2, weather 10'
    """
    return ", ".join(f"{name} {count}" for name, count in counts.items())
