"""The parts of a table or figure of a paper: lines of runs, the paper's numbers, its claims."""

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
    """A number as printed in the paper (accuracies in %); `sd` is None if it prints none."""

    mean: float
    sd: float | None = None


class Key(NamedTuple):
    """The place of a line: panel (a data set, a size), label (a rule) and column."""

    panel: str
    label: str
    column: Column


@dataclass(frozen=True)
class Search:
    """The fields chosen on the validation part before a line's runs, and their values.

    The candidates are all combinations, each run for `epochs` epochs with every one of `seeds`; the candidate
    with the best mean `measure` over those seeds is taken. A candidate with a diverged run is excluded, also
    if it diverges in its full runs. If `finalists` is more than one, this many of the best are run in full
    with the same seeds, and the best of these is taken: what looks good after a few epochs need not stay so.
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
    """The position on the horizontal axis of a figure over sizes."""


Numbers = Mapping[Key, Mapping[int, float]]
"""Every line's value by seed, in one measure; lines without finished runs are absent."""


@dataclass(frozen=True)
class Comparison:
    """One line against another, or a number: right if the mean excess over seeds is above zero."""

    first: Key
    second: Key | float
    excess: Callable[[float, float], float]
    """From the two values of a seed."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The lines that are compared."""
        return (self.first, self.second) if isinstance(self.second, Key) else (self.first,)


WORDS = ("holds", "does not hold", "cannot be decided", "nothing learned", "untested at this size")
"""The possible verdicts."""


@dataclass(frozen=True)
class Tested:
    """The result of the exact test of a comparison."""

    told: str
    n: int
    """The number of seeds that both lines share."""
    excess: float
    interval: tuple[float, float]
    """95 %, Student's t."""
    p: float
    """One-sided, before any correction."""
    p_contrary: float
    """The p-value of the excess with the opposite sign."""
    sees: float | None
    """The smallest excess that four of five such studies would detect; None if so few seeds never could."""

    @property
    def spread(self) -> str:
        """The mean excess and its 95 % interval."""
        low, high = self.interval
        return f"{self.excess:.2g} [{low:.2g}, {high:.2g}]".replace("-", "−")

    @property
    def chance(self) -> str:
        """The p-value of the direction with the smaller one."""
        if self.p <= self.p_contrary:
            return f"{self.p:.2g}"
        return f"{self.p_contrary:.2g} (opposite direction)"

    @property
    def power(self) -> str:
        """The smallest detectable excess."""
        return "never" if self.sees is None else f"{self.sees:.2g}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, its numbers, its tests, and the corrected p-value that decided.

    The words are "holds", "does not hold", "cannot be decided with n seeds", "nothing learned" (no line is
    better than a predictor that learns nothing: nothing is compared) and "untested at this size".
    """

    word: str
    because: str
    tests: tuple[Tested, ...] = ()
    p: float | None = None
    lacking: tuple[str, ...] = ()
    """The reason why the comparisons cannot be made."""

    @property
    def summary(self) -> str:
        """The word without the number of seeds: one of `WORDS`."""
        return self.word.split(" with ")[0]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, in our words, and the comparisons that must be right for it to hold."""

    text: str
    rule: str
    comparisons: tuple[Comparison, ...]
    measure: str | None = None
    """What is compared; None for the experiment's first measure."""
    enough: int | None = None
    """How many of the comparisons have to be right; None for all of them."""


@dataclass(frozen=True)
class Experiment:
    """A table or figure of a paper.

    `measures` name entries of `timelocal.studies.measures`; the first decides claims that name none.
    `view` is how the page draws it: learning `curves` with bars of the final values, values over `sizes`,
    `costs` in time and memory, a `grid` search, or `settings` alone. `beside` names the experiment that
    measures the cost of an update for these lines: a page with both opens with the distance to BPTT against
    cost.
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
