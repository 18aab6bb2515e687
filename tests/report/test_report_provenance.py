from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_up_runs import make_run

from timelocal.report.provenance import hours
from timelocal.report.runs import load


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ((1800, 5400), "2.0 hours"),
        ((90, None), "0.025 hours (1 did not record it)"),
        ((None, None), ""),
    ],
)
def test_the_hours_of_runs_add_up(
    tmp_path: Path, seconds: tuple[float | None, ...], told: str
) -> None:
    for seed in range(len(seconds)):
        make_run(tmp_path, seed=seed)
    found, _ = load([tmp_path])
    assert len(found) == len(seconds)
    said = [
        replace(run, result={"seconds": own} if own is not None else {})
        for run, own in zip(found, seconds, strict=True)
    ]
    assert hours(said) == told
