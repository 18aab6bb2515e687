"""What the page beside the records of the gap says of them."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

RESULTS = Path(__file__).parents[2] / "results" / "beyond"


def accuracies(rule: str, cell: str) -> list[float]:
    """Test accuracies (%) of the runs on Strawberry, the searches left out, in ascending order."""
    columns = [f"config.{name}" for name in ("dataset", "rule", "cell", "epochs", "frozen")]
    measure = "result.best_validation.test_accuracy"
    table = pq.read_table(RESULTS / "runs.parquet", columns=[*columns, measure])
    wanted = ("strawberry", rule, cell, 100, False)
    for column, value in zip(columns, wanted, strict=True):
        table = table.filter(pc.equal(table[column], value))
    return sorted(100 * value for value in table[measure].to_pylist())


def test_the_page_names_the_runs_that_pull_the_mean_of_bptt_down() -> None:
    page = " ".join((RESULTS / "README.md").read_text().split())
    (told,) = re.findall(
        r"ended at ([\d.]+) and ([\d.]+) %.* ahead: ([\d.]+) against ([\d.]+) %", page
    )
    bptt, rtrl = accuracies("bptt", "gru"), accuracies("rtrl", "rtu")
    assert len(bptt) == len(rtrl) == 20
    assert [float(number) for number in told] == pytest.approx(
        [*bptt[:2], median(bptt), median(rtrl)], abs=0.05
    )
    assert bptt[2] > 80  # only two
