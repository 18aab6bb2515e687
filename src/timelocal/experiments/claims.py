"""Rules by which numbers decide a paper's claims: exact tests of differences paired by seed.

A claim is one or more one-sided comparisons. Each has an excess whose mean is above zero if the comparison is
right, and the sign-flip test says how likely an excess at least as large would be if its mean were zero. A
claim holds if all its comparisons do: its p-value is the largest of theirs, corrected by Holm's procedure
over all claims of the page. It is refuted if one of its comparisons holds in the opposite direction,
corrected likewise over all comparisons of the page.

Source: Fisher (1935), The Design of Experiments (the test); Holm (1979), Scandinavian Journal of Statistics
6:65-70; Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15:657-680 (equivalence by two
one-sided tests); Berger (1982), Technometrics 24:295-300 (all comparisons of a claim at once).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from timelocal.analysis.statistics import (
    detectable,
    fewest_for_sign_flips,
    holm,
    sign_flip_p,
    student_p,
    summarize,
)
from timelocal.experiments.experiment import (
    Claim,
    Comparison,
    Key,
    Numbers,
    Tested,
    Verdict,
)

SEEDS = 3
"""Comparisons with fewer seeds are not made."""
LEVEL = 0.05
"""The probability that at least one claim of a page is wrongly called true."""
POINTS = 0.02
"""Accuracies that differ by less are on par."""


def above(
    text: str, pairs: Iterable[tuple[Key, Key]], factor: float = 1.0, measure: str | None = None
) -> Claim:
    """Every first mean is more than `factor` times the second.

    measure: what is compared, if it is another than the experiment's first.
    """
    rule = (
        f"each first mean is more than {factor:g} times the second"
        if factor != 1
        else "each first mean is larger than the second"
    )
    return _of_pairs(
        text, rule, pairs, lambda ours, theirs: ours - factor * theirs, measure=measure
    )


def at_most(
    text: str, pairs: Iterable[tuple[Key, Key]], factor: float, measure: str | None = None
) -> Claim:
    """Every first mean is less than `factor` times the second: "as good as", for losses, times and costs."""
    rule = f"each first mean is less than {factor:g} times the second"
    return _of_pairs(
        text, rule, pairs, lambda ours, theirs: factor * theirs - ours, measure=measure
    )


def within(
    text: str, pairs: Iterable[tuple[Key, Key]], factor: float, measure: str | None = None
) -> Claim:
    """The two means are on par: neither is `factor` times the other. For losses; two tests per pair."""
    rule = f"the larger mean of each pair is less than {factor:g} times the smaller"
    return _of_pairs(
        text,
        rule,
        pairs,
        lambda ours, theirs: factor * theirs - ours,
        lambda ours, theirs: factor * ours - theirs,
        measure=measure,
    )


def no_worse(text: str, pairs: Iterable[tuple[Key, Key]], margin: float) -> Claim:
    """Every first mean is less than `margin` below the second. For accuracies."""
    rule = f"each first mean is less than {margin:g} below the second"
    return _of_pairs(text, rule, pairs, lambda ours, theirs: ours - theirs + margin)


def on_par(text: str, pairs: Iterable[tuple[Key, Key]], margin: float = POINTS) -> Claim:
    """The means of each pair differ by less than `margin`. For accuracies; two tests per pair."""
    rule = f"the means of each pair differ by less than {margin:g}"
    return _of_pairs(
        text,
        rule,
        pairs,
        lambda ours, theirs: ours - theirs + margin,
        lambda ours, theirs: theirs - ours + margin,
    )


def reaches(
    text: str,
    goals: Iterable[tuple[Key, float]],
    measure: str | None = None,
    told: str = "mean",
    margin: float = POINTS,
) -> Claim:
    """Every mean is less than `margin` below its number.

    measure: what is compared, if it is another than the experiment's first.
    """
    rule = f"each {told} is less than {margin:g} below the number given"
    comparisons = tuple(
        Comparison(key, goal, lambda ours, number: ours - number + margin) for key, goal in goals
    )
    return Claim(text, rule, comparisons, measure)


def stays_below(text: str, bounds: Iterable[tuple[Key, float]], enough: int | None = None) -> Claim:
    """Every mean is below its number, or at least `enough` of them. For losses."""
    comparisons = tuple(
        Comparison(key, bound, lambda ours, number: number - ours) for key, bound in bounds
    )
    count = len(comparisons)
    which = "each mean is" if enough is None else f"at least {enough} of {count} means are"
    return Claim(text, f"{which} below the number given", comparisons, enough=enough)


def fewer_errors(text: str, pairs: Iterable[tuple[Key, Key]], factor: float) -> Claim:
    """Every first error rate is less than `factor` times the second. For accuracies."""
    rule = f"one minus each first mean is less than {factor:g} times one minus the second"
    return _of_pairs(text, rule, pairs, lambda ours, theirs: factor * (1 - theirs) - (1 - ours))


def _of_pairs(
    text: str,
    rule: str,
    pairs: Iterable[tuple[Key, Key]],
    *excesses: Callable[[float, float], float],
    measure: str | None = None,
) -> Claim:
    comparisons = tuple(Comparison(*pair, excess) for pair in pairs for excess in excesses)
    return Claim(text, rule, comparisons, measure)


# --- how they are decided ------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """The values of one measure for every line, and by panel for the best predictor that learns nothing."""

    numbers: Numbers
    floors: Mapping[str, Mapping[int, float]]
    higher_is_better: bool


@dataclass(frozen=True)
class _Findings:
    """The results of the tests of one claim, before Holm's correction."""

    tests: tuple[Tested, ...]
    missing: tuple[Key, ...]
    nothing_learned: tuple[str, ...]
    spare: int
    """How many comparisons may be wrong."""

    @property
    def holds(self) -> float | None:
        """The p-value of the whole claim; None where one of its comparisons is not made.

        That of u right comparisons among n is (n − u + 1) times the u-th smallest p-value (Benjamini and
        Heller, 2008, with Bonferroni's inequality); for u = n it is the largest.
        """
        if self.missing or self.nothing_learned or not self.tests:
            return None
        chances = sorted(one.p for one in self.tests)
        return min(1.0, (1 + self.spare) * chances[-1 - self.spare])

    def fails(self, contraries: Iterable[float]) -> float:
        """The p-value of too many wrong comparisons, from that of each test, corrected for all tests."""
        chances = sorted(contraries)
        return chances[self.spare] if self.spare < len(chances) else 1.0


def verdicts(
    claims: Sequence[Claim], measured: Mapping[str, Measured], first: str
) -> list[Verdict]:
    """The verdicts on the claims of a page, decided together.

    Args:
        claims: all claims of the page.
        measured: by the name of a measure, its values.
        first: the measure of claims that name none; it also decides whether a line has learned anything if
            the claim's own measure has no floor.
    """
    strictest = LEVEL / max(1, len(claims))
    found = [
        _findings(claim, measured[claim.measure or first], measured[first], strictest)
        for claim in claims
    ]
    holds = holm([one.holds for one in found])
    contraries = iter(holm([test.p_contrary for one in found for test in one.tests]))
    fails = [one.fails([next(contraries) or 0.0 for _ in one.tests]) for one in found]
    return [
        _verdict(one, p, contrary, strictest)
        for one, p, contrary in zip(found, holds, fails, strict=True)
    ]


def _findings(claim: Claim, measured: Measured, first: Measured, strictest: float) -> _Findings:
    numbers, learned = measured.numbers, measured if measured.floors else first
    keys = list(dict.fromkeys(key for one in claim.comparisons for key in one.keys))
    missing = [key for key in keys if len(numbers.get(key, ())) < SEEDS]
    known = [one for one in claim.comparisons if not {*one.keys} & {*missing}]
    made = [one for one in known if not _learned_nothing(one, learned)]
    nothing = [_name(key) for one in known if one not in made for key in one.keys]
    tests = [_test(one, numbers, strictest) for one in made]
    few = [one.keys for one, test in zip(made, tests, strict=True) if test is None]
    missing += [key for pair in few for key in pair]
    return _Findings(
        tuple(test for test in tests if test is not None),
        tuple(missing),
        tuple(dict.fromkeys(nothing)),
        0 if claim.enough is None else len(claim.comparisons) - claim.enough,
    )


def _learned_nothing(comparison: Comparison, measured: Measured) -> bool:
    """Whether no line of a comparison beats its floor, by Student's one-sided test."""
    sign = 1 if measured.higher_is_better else -1
    gains = []
    for key in comparison.keys:
        line, floor = measured.numbers.get(key, {}), measured.floors.get(key.panel, {})
        gains.append([sign * (line[seed] - floor[seed]) for seed in line if seed in floor])
    chances = [student_p(gain) for gain in gains if len(gain) >= SEEDS]
    return bool(chances) and min(chances) > LEVEL


def _test(comparison: Comparison, numbers: Numbers, strictest: float) -> Tested | None:
    """The test of one comparison; None where the two lines share too few seeds."""
    ours = numbers[comparison.first]
    second = comparison.second
    theirs = numbers[second] if isinstance(second, Key) else dict.fromkeys(ours, second)
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < SEEDS:
        return None
    excesses = [comparison.excess(ours[seed], theirs[seed]) for seed in seeds]
    summary = summarize(excesses)
    other = (
        f", {_name(second)} {_short(fmean(theirs.values()))}"
        if isinstance(second, Key)
        else f" of {_short(second)}"
    )
    return Tested(
        told=f"{_name(comparison.first)} {_short(fmean(ours.values()))}{other}",
        n=len(seeds),
        excess=summary.mean,
        interval=summary.interval or (-math.inf, math.inf),
        p=sign_flip_p(excesses, "greater"),
        p_contrary=sign_flip_p([-one for one in excesses], "greater"),
        sees=detectable(summary.sd or 0.0, len(seeds), strictest),
    )


def _verdict(found: _Findings, holds: float | None, fails: float, strictest: float) -> Verdict:
    tests = found.tests
    seeds = min((one.n for one in tests), default=0)
    told = list(dict.fromkeys(one.told + (" (not so)" if one.excess < 0 else "") for one in tests))
    lacking = []
    if found.nothing_learned:
        lines = ", ".join(found.nothing_learned)
        lacking.append(f"not shown to be better than a predictor that learns nothing: {lines}")
    if found.missing:
        names = ", ".join(dict.fromkeys(map(_name, found.missing)))
        lacking.append(f"fewer than {SEEDS} finished seeds of {names}")
    needed = fewest_for_sign_flips(strictest)
    undecided = holds is not None and not found.nothing_learned and min(holds, fails) > LEVEL
    few = [f"at least {needed} seeds are needed"] if undecided and seeds < needed else []
    made = partial(Verdict, tests=tests, lacking=(*lacking, *few))
    told += lacking
    if fails <= LEVEL:
        return made("does not hold", "; ".join([*told, f"p = {fails:.2g}"]), p=fails)
    if found.nothing_learned:
        return made("nothing learned", "; ".join(told))
    if holds is None:
        return made("untested at this size", "; ".join(told))
    because = "; ".join([*told, f"p = {holds:.2g}", *few])
    if holds <= LEVEL:
        return made("holds", because, p=holds)
    return made(f"cannot be decided with {seeds} seeds", because, p=holds)


def _name(key: Key) -> str:
    return f"{key.label} on {key.panel}"


def _short(value: float) -> str:
    return f"{value:.4g}"
