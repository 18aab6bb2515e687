"""Rules by which numbers decide what a paper says: means over seeds, compared pair by pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from timelocal.analysis.statistics import paired_difference
from timelocal.experiments.experiment import Claim, Key, Numbers, Verdict, Word

SEEDS = 3
"""A mean of fewer seeds than these decides nothing."""


def at_most(text: str, pairs: Iterable[tuple[Key, Key]], factor: float) -> Claim:
    """Every first mean is at most `factor` times the second: "as good as", for losses and costs."""
    return _claim(
        text,
        pairs,
        f"each first mean is at most {factor:g} times the second",
        lambda ours, theirs: ours <= factor * theirs,
    )


def above(text: str, pairs: Iterable[tuple[Key, Key]], factor: float = 1.0) -> Claim:
    """Every first mean is more than `factor` times the second."""
    return _claim(
        text,
        pairs,
        f"each first mean is more than {factor:g} times the second"
        if factor != 1
        else "each first mean is larger than the second",
        lambda ours, theirs: ours > factor * theirs,
    )


def within(text: str, pairs: Iterable[tuple[Key, Key]], factor: float) -> Claim:
    """Every pair of means differs by at most `factor`, whichever is larger."""
    return _claim(
        text,
        pairs,
        f"the larger mean of each pair is at most {factor:g} times the smaller",
        lambda ours, theirs: max(ours, theirs) <= factor * min(ours, theirs),
    )


def no_worse(text: str, pairs: Iterable[tuple[Key, Key]], margin: float) -> Claim:
    """Every first line is at most `margin` below the second, by the 95 % interval of the difference.

    The difference is paired by seed, which also decides how the data are split: a lower end of the t-interval
    at or above −margin.
    """

    def judge(first: Key, second: Key, numbers: Numbers) -> tuple[str, bool]:
        interval = paired_difference(numbers[first], numbers[second]).summary.interval
        low, high = interval or (-math.inf, math.inf)
        told = f"{_name(first)} − {_name(second)}: {_short(low)} to {_short(high)}"
        return told, low >= -margin

    rule = f"the 95 % interval of each paired difference begins at −{margin:g} or above"
    return _paired(text, pairs, rule, judge)


def reaches(
    text: str, goals: Iterable[tuple[Key, float]], measure: str | None = None, told: str = "mean"
) -> Claim:
    """Every mean is at least its number; of another measure than the experiment's first, if one is named."""
    goals = tuple(goals)

    def decide(numbers: Numbers) -> Verdict:
        means = {key: fmean(numbers[key].values()) for key, _ in goals if _enough(numbers, key)}
        found = [  # reached, but for rounding
            (f"{_name(key)} {_short(means[key])} of {_short(goal)}", means[key] >= goal - 1e-12)
            for key, goal in goals
            if key in means
        ]
        return _verdict(found, [key for key, _ in goals if key not in means])

    return Claim(text, f"each {told} is at least the number beside it", decide, measure)


def _claim(
    text: str, pairs: Iterable[tuple[Key, Key]], rule: str, ok: Callable[[float, float], bool]
) -> Claim:
    def judge(first: Key, second: Key, numbers: Numbers) -> tuple[str, bool]:
        ours, theirs = fmean(numbers[first].values()), fmean(numbers[second].values())
        told = f"{_name(first)} {_short(ours)}, {_name(second)} {_short(theirs)}"
        return told, ok(ours, theirs)

    return _paired(text, pairs, rule, judge)


def _paired(
    text: str,
    pairs: Iterable[tuple[Key, Key]],
    rule: str,
    judge: Callable[[Key, Key, Numbers], tuple[str, bool]],
) -> Claim:
    """A claim about each pair of lines that have seeds enough; `judge` tells of one, and whether it holds."""
    pairs = tuple(pairs)

    def decide(numbers: Numbers) -> Verdict:
        missing = [key for pair in pairs for key in pair if not _enough(numbers, key)]
        known = [pair for pair in pairs if not set(pair) & set(missing)]
        return _verdict([judge(*pair, numbers) for pair in known], missing)

    return Claim(text, rule, decide)


def _enough(numbers: Numbers, key: Key) -> bool:
    return len(numbers.get(key, ())) >= SEEDS


def _verdict(found: Sequence[tuple[str, bool]], missing: Sequence[Key]) -> Verdict:
    """All must hold: one that does not decides already, whatever is missing."""
    told = [text + ("" if held else " (not so)") for text, held in found]
    if missing:
        names = ", ".join(dict.fromkeys(map(_name, missing)))
        told.append(f"fewer than {SEEDS} finished seeds of {names}")
    word: Word = "untested at this size" if missing else "holds"
    return Verdict(word if all(held for _, held in found) else "does not hold", "; ".join(told))


def _name(key: Key) -> str:
    return f"{key.label} on {key.panel}"


def _short(value: float) -> str:
    return f"{value:.4g}"
