"""What is read from the curves of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from timelocal.studies.measures import value
from timelocal.studies.store import RunRecord


def record(status: str = "finished", **curves: list[float]) -> RunRecord:
    """A run with these curves, by the names of their entries."""
    rows = zip(*curves.values(), strict=True)
    epochs = tuple(dict(zip(curves, row, strict=True)) for row in rows)
    return RunRecord(Path(), status, "", {}, {}, epochs, result={})


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        ([10.0, 6.0, 1.9, 2.1, 1.0], 3),  # to 1.9 of the way from 10 to 1
        ([10.0, 1.9001, 1.0], 3),
        ([10.0, *[0.5] * 17, 2.0, 0.0], 2),  # the end is the mean of the last tenth, 1
        ([1.0, 2.0, 1.5], None),
        ([1.0], None),
    ],
)
def test_convergence_is_nine_tenths_of_the_way(losses: list[float], epochs: int | None) -> None:
    assert value(record(train_loss=losses), "convergence") == epochs


def test_a_run_that_did_not_finish_has_converged_nowhere() -> None:
    assert value(record("diverged", train_loss=[3.0, 2.0, 1.0]), "convergence") is None


def test_the_gap_is_of_final_losses() -> None:
    run = record(train_loss=[9.0, *[1.0] * 19], test_loss=[0.0, *[1.5] * 18, 2.5])
    assert value(run, "generalization_gap") == pytest.approx(2.0 - 1.0)
    assert value(record(train_loss=[1.0]), "generalization_gap") is None


def test_alignment_is_the_mean_over_the_epochs() -> None:
    run = record(**{"alignment.recurrent.cosine": [0.1, 0.2, 0.6]})
    assert value(run, "alignment") == pytest.approx(0.3)
    assert value(record(train_loss=[1.0]), "alignment") is None


def test_a_slope_is_that_of_the_line_through_the_first_epochs() -> None:
    rising = [0.3 + 0.002 * n for n in range(150)]
    run = record(test_accuracy=[*rising, *[0.0] * 20])
    assert value(run, "slope_150") == pytest.approx(0.2)  # of accuracy a hundred epochs
    assert value(run, "slope_50") == pytest.approx(0.2)
    assert value(record(test_accuracy=rising[:149]), "slope_150") is None
    assert value(record(test_accuracy=[*[0.5] * 50, *rising]), "slope_50") == 0
