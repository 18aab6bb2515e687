"""Rules by which numbers decide what a paper says: means over seeds, compared pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean

from timelocal.experiments.papers.experiment import Claim, Key, Numbers, Verdict, Word

SEEDS = 3
"""With fewer seeds than these nothing is decided."""


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


def reaches(text: str, goals: Iterable[tuple[Key, float]]) -> Claim:
    """Every mean is at least its number."""
    goals = tuple(goals)

    def decide(numbers: Numbers) -> Verdict:
        missing = [key for key, _ in goals if not _enough(numbers, key)]
        if missing:
            return _untested(missing)
        means = [(key, fmean(numbers[key].values()), goal) for key, goal in goals]
        found = [f"{_name(key)} {_short(ours)} of {_short(goal)}" for key, ours, goal in means]
        reached = all(ours >= goal - 1e-12 for _, ours, goal in means)  # but for rounding
        return Verdict(_word(reached), "; ".join(found))

    return Claim(text, "each mean is at least the number beside it", decide)


def _claim(
    text: str, pairs: Iterable[tuple[Key, Key]], rule: str, ok: Callable[[float, float], bool]
) -> Claim:
    pairs = tuple(pairs)

    def decide(numbers: Numbers) -> Verdict:
        missing = [key for pair in pairs for key in pair if not _enough(numbers, key)]
        if missing:
            return _untested(missing)
        found, held = [], []
        for first, second in pairs:
            ours, theirs = fmean(numbers[first].values()), fmean(numbers[second].values())
            held.append(ok(ours, theirs))
            found.append(
                f"{_name(first)} {_short(ours)}, {_name(second)} {_short(theirs)}"
                + ("" if held[-1] else " (not so)")
            )
        return Verdict(_word(all(held)), "; ".join(found))

    return Claim(text, rule, decide)


def _enough(numbers: Numbers, key: Key) -> bool:
    return len(numbers.get(key, ())) >= SEEDS


def _untested(missing: Iterable[Key]) -> Verdict:
    names = ", ".join(dict.fromkeys(map(_name, missing)))
    return Verdict("untested at this size", f"fewer than {SEEDS} finished seeds of {names}")


def _word(held: bool) -> Word:
    return "holds" if held else "does not hold"


def _name(key: Key) -> str:
    return f"{key.label} on {key.panel}"


def _short(value: float) -> str:
    return f"{value:.4g}"
