"""The page of all claims: the comparison that decided, counts, and links that lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_reproductions import reproduction

from timelocal.experiments import experiment
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.experiment import Claim, Verdict
from timelocal.report.claims import NOT_RUN, PLACES, Decided, Place, decided, why, write_claims

ROOT = Path(__file__).parents[2]


def comparison(told: str, p: float) -> experiment.Tested:
    return experiment.Tested(told, 8, 0.1, (0.0, 0.2), p, 1 - p, None)


WEAK, STRONG = comparison("A 1, B 2", 0.25), comparison("C 3, D 4", 0.01)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (
            Verdict("holds", "", (WEAK, STRONG), 0.02),
            "A 1, B 2; n = 8; the least clear of 2 comparisons; p = 0.02",
        ),
        (
            Verdict("does not hold", "", (STRONG, WEAK), 0.03),
            "A 1, B 2; n = 8; the clearest against it of 2 comparisons; p = 0.03",
        ),
        (
            Verdict("cannot be decided with 8 seeds", "", (STRONG,), 0.5, ("9 seeds are needed",)),
            "C 3, D 4; n = 8; p = 0.5; 9 seeds are needed",
        ),
        (Verdict("nothing learned", "", lacking=("nothing on x",)), "nothing on x"),
        (Verdict(NOT_RUN, "", lacking=("no run",)), "–"),
    ],
)
def test_one_line_says_why(verdict: Verdict, expected: str) -> None:
    assert why(verdict) == expected


def test_the_page_has_every_claim_with_both_sizes_and_its_page(tmp_path: Path) -> None:
    claim = Claim("One is two.", "", ())
    here, there = Verdict("holds", "", (STRONG,), 0.02), Verdict(NOT_RUN, "")
    one = Decided(reproduction(), Place("page", "study"), ((claim, here, there),))
    text = write_claims([one], tmp_path / "claims.md").read_text(encoding="utf-8")
    assert "| One is two. | **holds** | not run | C 3, D 4; n = 8; p = 0.02 |" in text.splitlines()
    assert "(page.md#dfa-made-up-curves)" in text
    assert "A. Cossu, A. Ceni, V. Lomonaco, D. Bacciu, C. Gallicchio" in text
    counts = "| Direct Feedback Alignment for Recurrent Neural Networks | 1 | 0 | 0 | 0 | 0 | 0 |"
    assert counts in text.splitlines()


def test_without_records_nothing_is_run(tmp_path: Path) -> None:
    (found,) = decided([EXPERIMENTS["beyond/adding"]], tmp_path)
    assert [(here.word, there.word) for _, here, there in found.claims] == [(NOT_RUN, NOT_RUN)] * 2


def test_every_place_is_there_and_tells_of_its_experiment() -> None:
    for name in EXPERIMENTS:
        place = PLACES.get(name) or PLACES.get(name.split("/")[0])
        if place is not None:
            assert (ROOT / "results" / place.records / "runs.parquet").is_file()
            assert name in (ROOT / "docs" / f"{place.page}.md").read_text(encoding="utf-8")
