"""The perturbation paper's profile is the size that its table of hours says, and tells what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.experiment import Line
from timelocal.experiments.papers.perturbation.sizes import (
    AT_100,
    LABELS,
    RATES,
    SIZES,
    decorrelates,
)
from timelocal.experiments.trial import Trial
from timelocal.studies.reproduce import collect
from timelocal.studies.search import candidates, choices, with_seed

RESULTS = Path(__file__).parents[2] / "results"
TABLE = (RESULTS / "paper" / "README.md").read_text()

Row = tuple[str, str, str, str, str, str]


def rows_of_table() -> list[Row]:
    """The rows of the table of hours, without the hours."""
    rows = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line[:8] == "| figure"]
    return [tuple(row[:6]) for row in rows if len(row) == 7 and row[0] != "figure"]  # type: ignore[misc]


def rows_of_lines(name: str) -> list[Row]:
    """The same rows, from the lines of an experiment."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in EXPERIMENTS[f"perturbation/{name}"].lines("paper"):
        groups.setdefault((line.key.panel, told(line)), []).append(line)
    return [
        (
            name,
            panel,
            what,
            str(len(lines)),
            counted([trial for line in lines for trial in tried(line)]),
            counted([with_seed(line.config, seed) for line in lines for seed in line.seeds]),
        )
        for (panel, what), lines in groups.items()
    ]


def told(line: Line) -> str:
    column, label = line.key.column, line.key.label
    if column != "as corrected":
        return column
    if label == "RFLO":
        return f"{column}, RFLO"
    return f"{column}, {'with' if decorrelates(label) else 'without'} D"


def tried(line: Line) -> list[Trial]:
    return candidates(line, choices(line.search)) if line.search else []


def counted(trials: Sequence[Trial]) -> str:
    if not trials:
        return "–"
    (epochs,) = {trial.epochs for trial in trials}
    return f"{len(trials)} × {epochs}"


def test_the_profile_is_what_the_table_of_hours_says() -> None:
    rows = rows_of_table()
    names = dict.fromkeys(row[0] for row in rows)
    assert len(names) == 5
    shared = ("figure9", "copying", "true BPTT")  # stands in figure 5
    assert rows == [row for name in names for row in rows_of_lines(name) if row[:3] != shared]


def test_searches_lie_around_the_choices_with_100_units() -> None:
    for name in ("figure4", "figure5", "figure6", "figure7", "figure9", "figure13", "figure14"):
        for line in EXPERIMENTS[f"perturbation/{name}"].lines("paper"):
            if line.key.column not in ("as corrected", "true BPTT"):
                continue
            assert line.search is not None
            rate, d_rate = AT_100[line.config.dataset][line.key.label]
            lower = [one for one in (1e-6, 3e-6, 1e-5, 3e-5, *RATES) if one <= rate][::-1]
            skipped = int(line.config.hidden > 1000)  # figure 7
            assert list(line.search.grid["lr"]) == lower[skipped : skipped + 3]
            if d_rate is not None and name != "figure7":
                assert line.search.grid["decorrelate"] == (d_rate, float(f"{d_rate / 10:.0e}"))


def test_those_choices_are_the_records() -> None:
    """Of one task here: the pages of all are made anew by slower tests."""
    (found,) = collect(
        [EXPERIMENTS["perturbation/figure13"]], "laptop", RESULTS / "reproduction" / "runs"
    )
    chosen = {
        one.line.key.label: (one.chosen.lr, one.chosen.decorrelate)
        for one in found.lines
        if one.chosen is not None and one.line.key.label in (*LABELS, "BPTT")
    }
    assert chosen == AT_100["weather-1h"]


def test_what_is_cut_is_told() -> None:
    size = SIZES["paper"]
    told = " ".join(EXPERIMENTS["perturbation/figure4"].deviations("paper"))
    assert "mackey-glass 500, copying 10, weather 100 (the paper: mackey-glass 500" in told
    assert "with 100 hidden units only" in told
    assert "mackey-glass 8, copying 5, weather 8; with D mackey-glass 5" in told
    assert f"RFLO {len(size.rflo_seeds)}" in told
    sizes = " ".join(EXPERIMENTS["perturbation/figure7"].deviations("paper"))
    assert "3000 units 20 epochs (500)" in sizes
    assert "BPTT: up to 1000 units." in sizes
