import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from timelocal.analysis.statistics import (
    detectable,
    holm,
    interquartile_mean,
    paired_difference,
    sign_flip_p,
    student_p,
    summarize,
)
from timelocal.errors import ArgumentError

numbers = st.floats(-1e3, 1e3, allow_nan=False).map(lambda value: round(value, 6))


def test_two_values_have_the_cauchy_interval() -> None:
    # With one degree of freedom t_{0.975} = tan(0.475 π), and the half-width is t·|a − b|/2.
    summary = summarize([1.0, 3.0])
    half = math.tan(0.475 * math.pi)
    assert summary.mean == 2.0
    assert summary.sd == pytest.approx(math.sqrt(2))
    assert summary.interval == pytest.approx((2 - half, 2 + half))


def test_one_value_has_no_interval() -> None:
    summary = summarize([0.7])
    assert (summary.n, summary.mean, summary.sd, summary.interval) == (1, 0.7, None, None)


@settings(deadline=None)
@given(st.lists(numbers, min_size=2, max_size=12))
def test_summary_agrees_with_scipy(values: list[float]) -> None:
    summary = summarize(values)
    assert summary.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert summary.sd == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert summary.interval is not None
    assert summary.interval[1] - summary.mean == pytest.approx(half, rel=1e-9, abs=1e-9)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 5))
    intervals = [summarize(row.tolist()).interval for row in draws]
    covered = sum(low <= 0 <= high for low, high in intervals if low is not None)
    # Binomial(4000, 0.95) has a standard deviation of 13.8; five of them.
    assert abs(covered - 3800) < 69


@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=9))
def test_sign_flip_agrees_with_enumeration_in_whole_numbers(tenths: list[int]) -> None:
    patterns = itertools.product((1, -1), repeat=len(tenths))
    sums = [abs(sum(s * d for s, d in zip(signs, tenths, strict=True))) for signs in patterns]
    expected = sum(total >= abs(sum(tenths)) for total in sums) / len(sums)
    # In tenths the sums carry rounding errors: exact ties must still count as ties.
    assert sign_flip_p([0.1 * value for value in tenths]) == expected


def test_sign_flip_agrees_with_scipy() -> None:
    differences = np.random.default_rng(3).normal(0.4, 1.0, size=10)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p(differences.tolist()) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 31])
def test_all_of_one_sign_gives_the_smallest_p(n: int) -> None:
    assert sign_flip_p([1.0 + k for k in range(n)]) == 2.0 ** (1 - n)


def test_equal_differences_are_ties_in_spite_of_rounding() -> None:
    # 0.1 + 0.2 − 0.3 is not 0 in floating point; five patterns out of eight reach |0.1 + 0.2|.
    assert sign_flip_p([0.1, 0.2, 0.0]) == 0.5
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0


def test_differences_are_paired_by_seed() -> None:
    difference = paired_difference({0: 1.0, 1: 2.0, 2: 3.0, 9: 100.0}, {2: 2.5, 1: 1.0, 0: 0.5})
    assert difference.summary.n == 3
    assert difference.summary.mean == pytest.approx(2 / 3)
    assert difference.p == 0.25


def test_beyond_forty_seeds_there_is_no_exact_p() -> None:
    many = {seed: float(seed) for seed in range(41)}
    assert paired_difference(many, dict.fromkeys(many, 0.0)).p is None
    with pytest.raises(ArgumentError, match="at most 40"):
        sign_flip_p(list(many.values()))


def test_wrong_values_are_named_all_at_once() -> None:
    with pytest.raises(ArgumentError, match="at least one"):
        summarize([])
    with pytest.raises(ArgumentError) as caught:
        summarize([1.0, math.nan, math.inf])
    assert "values[1]" in str(caught.value)
    assert "values[2]" in str(caught.value)
    with pytest.raises(ArgumentError, match="in common"):
        paired_difference({0: 1.0}, {1: 1.0})


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_one_sided_sign_flip_test_is_that_of_scipy(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.5, 1.0, n)
    if n == 1:
        assert sign_flip_p(differences, "greater") == (0.5 if differences[0] > 0 else 1.0)
        return
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", alternative="greater"
    )
    assert sign_flip_p(differences, "greater") == pytest.approx(expected.pvalue)


def test_differences_of_zero_count_for_neither_side() -> None:
    assert sign_flip_p([0.0] * 5, "greater") == 1.0
    assert sign_flip_p([-1.0] * 4, "greater") == 1.0
    assert sign_flip_p([1.0] * 4, "greater") == 1 / 16


def test_an_unknown_alternative_is_told() -> None:
    with pytest.raises(ArgumentError, match="'less', expected"):
        sign_flip_p([1.0], "less")  # type: ignore[arg-type]


def test_holms_correction_worked_by_hand() -> None:
    # 5 × 0.001; 4 × 0.008; 3 × 0.039; then 2 × 0.041 would be below the one before
    assert holm([0.039, 0.001, 0.042, 0.008, 0.041]) == pytest.approx(
        [0.117, 0.005, 0.117, 0.032, 0.117]
    )
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None, 0.04]) == [None, 0.04]
    assert holm([]) == []


def test_what_can_be_seen_is_seen_in_four_of_five_studies() -> None:
    """Of 4,000 studies of 12 normal values whose mean is what `detectable` says, by Student's t."""
    n, level = 12, 0.05 / 6
    mean = detectable(1.0, n, level)
    assert mean is not None
    draws = np.random.default_rng(0).normal(mean, 1.0, (4000, n))
    found = stats.ttest_1samp(draws, 0.0, axis=1, alternative="greater").pvalue < level
    assert 0.74 < found.mean() < 0.84


def test_the_interquartile_mean_is_scipys_where_a_quarter_is_whole() -> None:
    values = np.random.default_rng(0).normal(size=12)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    assert interquartile_mean([3.0]) == 3.0


def test_students_one_sided_test_is_scipys() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 7)
    expected = stats.ttest_1samp(values, 0.0, alternative="greater").pvalue
    assert student_p(values) == pytest.approx(expected)
    assert student_p([0.1, 0.1]) == 0.0
    assert student_p([0.0, 0.0]) == 1.0
    with pytest.raises(ArgumentError, match="two or more"):
        student_p([1.0])
