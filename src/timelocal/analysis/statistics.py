"""Statistics for few seeds: Student-t intervals, differences paired by seed, an exact test.

With five seeds, a 95 % bootstrap interval covers the mean far less often than 95 % of the time; Student's t
is correct for normal errors with any number of seeds, and the sign-flip test needs no normality at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from timelocal.arguments import as_tensor
from timelocal.errors import ArgumentError, Problem, described, raise_problems, unknown_name
from timelocal.optional import require

MAX_SIGN_FLIPS = 40
"""The largest number of differences for the exact test, which stores 2^(n/2) sums."""


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation and 95 % interval of n values; with n = 1 only the mean."""

    n: int
    mean: float
    sd: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """The mean difference of values paired by seed, and the p-value of the sign-flip test."""

    summary: Summary
    p: float | None


def summarize(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and Student-t 95 % interval of the mean.

    The interval is ``mean ± t_{0.975, n−1} · sd / √n``.

    Args:
        values: n ≥ 1 finite numbers, one per seed.

    Returns:
        A `Summary`; with one value its `sd` and `interval` are None, since one run says nothing about the
        spread.

    Raises:
        ArgumentError: no values, or one that is not finite.

    >>> summary = summarize([0.90, 0.92, 0.94])
    >>> f"{summary.mean:.2f} ± {summary.sd:.2f}"
    '0.92 ± 0.02'
    >>> [round(end, 4) for end in summary.interval]
    [0.8703, 0.9697]

    Source: Student (1908), The probable error of a mean, Biometrika 6:1-25.
    """
    values = _numbers("values", values)
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Summary(n, mean, None, None)
    require("scipy", extra="report", for_="an interval (timelocal.analysis.statistics)")
    from scipy.special import stdtrit  # a tenth of the import time of scipy.stats

    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, (mean - half, mean + half))


def sign_flip_p(
    differences: Sequence[float], alternative: Literal["two-sided", "greater"] = "two-sided"
) -> float:
    """p-value of the exact sign-flip test that paired differences centre on zero.

    If neither of two methods is better, each difference is equally likely with either sign; p is the
    fraction of the 2ⁿ sign patterns s with ``|Σ s_k d_k| ≥ |Σ d_k|``, at least ``2^(1−n)``. Against the
    alternative that the differences are greater than zero, it is the fraction with ``Σ s_k d_k ≥ Σ d_k``, at
    least ``2^(−n)``.

    ``scipy.stats.permutation_test`` computes the same, but it lists all 2ⁿ patterns (6 s for n = 20, where
    this takes 0.3 ms), refuses n = 1, and occasionally misses a tie that is hidden by rounding.

    Args:
        differences: 1 ≤ n ≤ 40 finite numbers.
        alternative: to a centre of zero: "two-sided", any other centre; "greater", one above zero.

    Returns:
        The p-value, in (0, 1].

    Raises:
        ArgumentError: no differences, more than 40, one that is not finite, or an unknown alternative.

    >>> sign_flip_p([1.0, 2.0, 3.0]), sign_flip_p([1.0, 2.0, 3.0], "greater")
    (0.25, 0.125)

    Source: Fisher (1935), The Design of Experiments, section 21.
    """
    raise_problems([unknown_name("alternative", alternative, ("two-sided", "greater"))])
    differences = _numbers("differences", differences)
    if len(differences) > MAX_SIGN_FLIPS:
        raise ArgumentError(
            f"differences: got {len(differences)} of them, expected at most {MAX_SIGN_FLIPS}. "
            "With more, use the interval of `summarize`"
        )
    values = np.asarray(differences)
    # Every sum is one sum of the left half plus one of the right: 2^(n/2) of each, not 2^n.
    left, right = (_signed_sums(half) for half in np.array_split(values, 2))
    right.sort()
    # A sum equal to the observed one but for rounding counts as equal.
    rounding = 1e-12 * (abs(values.sum()) + float(np.abs(values).max()))
    if alternative == "greater":
        observed = values.sum() - rounding
        above = right.size - np.searchsorted(right, observed - left, side="left")
        return float(above.sum() / (left.size * right.size))
    observed = abs(values.sum()) - rounding
    if observed <= 0:
        return 1.0
    above = right.size - np.searchsorted(right, observed - left, side="left")
    below = np.searchsorted(right, -observed - left, side="right")
    return float((above.sum() + below.sum()) / (left.size * right.size))


def paired_difference(ours: Mapping[int, float], reference: Mapping[int, float]) -> Difference:
    """The difference `ours − reference` over the seeds that both share.

    Args:
        ours: seed to value.
        reference: seed to value.

    Returns:
        A `Difference`; its `p` is None beyond 40 seeds, where the exact test is infeasible.

    Raises:
        ArgumentError: the two have no seed in common, or a value is not finite.

    >>> paired_difference({0: 0.90, 1: 0.93, 2: 0.5}, {0: 0.95, 1: 0.96}).summary.n
    2
    """
    given = {"ours": ours, "reference": reference}
    raise_problems(
        Problem(what, described(one), "values by seed, a dict")
        for what, one in given.items()
        if not isinstance(one, Mapping)
    )
    seeds = sorted(ours.keys() & reference.keys())
    if not seeds:
        raise ArgumentError(
            f"seeds: got {sorted(ours)} and {sorted(reference)}, expected some in common. "
            "Run both with the same seeds"
        )
    pairs = (_numbers(what, [values[seed] for seed in seeds]) for what, values in given.items())
    differences = [one - other for one, other in zip(*pairs, strict=True)]
    p = sign_flip_p(differences) if len(seeds) <= MAX_SIGN_FLIPS else None
    return Difference(summarize(differences), p)


def student_p(values: Sequence[float]) -> float:
    """One-sided p-value of Student's t-test that the mean is zero, against a mean above zero.

    Unlike the sign-flip test it is informative with three values, but it assumes normal errors.

    Args:
        values: 2 or more finite numbers.

    >>> round(student_p([1.0, 2.0, 3.0]), 3)
    0.037
    """
    summary = summarize(values)
    if summary.sd is None:
        raise_problems([Problem("values", "one", "two or more")])
    if not summary.sd:
        return 0.0 if summary.mean > 0 else 1.0
    from scipy.special import stdtr

    return float(stdtr(summary.n - 1, -summary.mean / (summary.sd / math.sqrt(summary.n))))


def fewest_for_sign_flips(level: float) -> int:
    """The fewest seeds with which the one-sided sign-flip test can give a p-value of `level` or less.

    >>> fewest_for_sign_flips(0.05), fewest_for_sign_flips(0.05 / 8)
    (5, 8)
    """
    return math.ceil(-math.log2(level) - 1e-12)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number by Holm's step-down procedure.

    The k-th smallest of m is multiplied by m − k + 1, and none becomes smaller than the previous one. With
    probability at least 1 − α no true null hypothesis gets a corrected value of α or less, however the tests
    depend on each other.

    Args:
        p_values: None for a test that was not made, which is not counted.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[index] = largest
    return corrected


def detectable(sd: float, n: int, level: float, power: float = 0.8) -> float | None:
    """The smallest mean that n values with this spread would show as above zero, one-sided, at this power.

    ``(t_{1−level, n−1} + t_{power, n−1}) · sd / √n``, the usual approximation for Student's t; None if the
    sign-flip test with so few values can never reach the level.

    >>> round(detectable(1.0, 25, 0.05), 3)
    0.514
    >>> detectable(1.0, 4, 0.05) is None
    True
    """
    if n < fewest_for_sign_flips(level):
        return None
    require("scipy", extra="report", for_="a power (timelocal.analysis.statistics)")
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 1 - level) + stdtrit(n - 1, power)) * sd / math.sqrt(n)


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half: values below the first quartile and above the third are left out.

    If a quarter of n is not a whole number, the boundary values are weighted.

    >>> interquartile_mean([0.0, 1.0, 2.0, 100.0]), round(interquartile_mean([0.0, 1.0, 5.0]), 6)
    (1.5, 1.5)

    Source: Agarwal et al. (2021), Deep Reinforcement Learning at the Edge of the Statistical Precipice.
    """
    ordered = np.sort(np.asarray(_numbers("values", values)))
    n = len(ordered)
    edges = np.arange(n + 1) / n
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return float((weights * ordered).sum() / weights.sum())


def _signed_sums(values: np.ndarray) -> np.ndarray:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _numbers(what: str, values: object) -> list[float]:
    """One or more finite numbers (n,); an `ArgumentError` for anything else."""
    tensor = as_tensor(what, values, like=torch.empty(0, dtype=torch.float64), floating=True)
    if tensor.dim() != 1:
        raise_problems([Problem(what, described(tensor), "numbers, one per seed")])
    found: list[float] = tensor.double().tolist()
    if not found:
        raise_problems([Problem(what, "none", "at least one number")])
    raise_problems(
        Problem(f"{what}[{index}]", value, "a finite number", "Leave out runs that diverged")
        for index, value in enumerate(found)
        if not math.isfinite(value)
    )
    return found
