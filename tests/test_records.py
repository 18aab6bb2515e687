"""What the pages beside the records say is what the records say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pages import check_says
from timelocal.experiments.papers.dfa import APPENDIX_B

RESULTS = Path(__file__).parents[1] / "results"


def page(folder: str) -> str:
    return (RESULTS / folder / "README.md").read_text(encoding="utf-8")


def test_printed_and_chosen_hyperparameters_end_where_the_runs_do() -> None:
    pandas = pytest.importorskip("pandas")
    names = ("dataset", "cell", "rule", "hidden", "lr", "batch", "epochs", "seed")
    accuracy = "result.best_validation.test_accuracy"
    columns = [*(f"config.{name}" for name in names), accuracy]
    runs = pandas.read_parquet(RESULTS / "reproduction" / "runs.parquet", columns=columns)
    runs.columns = [*names, "accuracy"]
    runs = runs[runs.rule == "bptt"]

    def told(accuracies: object) -> str:
        return f"{100 * accuracies.mean():.1f} ± {100 * accuracies.std():.1f}"

    said = re.findall(
        r"^\| (\w+) · (\w+) \| (.*?) \| (.*?) \|$", page("reproduction"), re.MULTILINE
    )
    assert len(said) == 4
    unused = 0
    for dataset, cell, printed, chosen in said:
        of_cell = (runs.dataset == dataset) & runs.cell.str.startswith(cell.lower())
        hidden, lr, batch = APPENDIX_B[dataset, cell, "BPTT"]
        as_printed = (runs.hidden == hidden) & (runs.lr == lr) & (runs.batch == batch)
        whole = runs.epochs == runs[of_cell].epochs.max()
        of_printed, of_all = runs[of_cell & as_printed & whole], runs[of_cell & whole]
        tens = [own for _, own in of_all.groupby(["hidden", "lr", "batch"]) if len(own) == 10]
        assert [told(own.accuracy) for own in tens] == [chosen]
        if printed == "the same":
            assert len(of_printed) == 10
        else:
            assert told(of_printed.accuracy) == printed
            assert len(of_printed) == 5
            unused += 5
    check_says(page("reproduction"), [f"The {unused} runs with the printed hyperparameters"])
