"""Rules over all tasks: scores between what learns nothing and BPTT."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up_reproductions import BPTT, DFA, SEEDS, record

from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import Experiment, Key, Line
from timelocal.report.overview import LEVELS, overview
from timelocal.studies.reproduction import LineResult, Reproduction


def task(panel: str, dfa: tuple[float, ...], bptt: tuple[float, ...]) -> Reproduction:
    """An experiment with the accuracies of two rules; the majority class has 0.1."""
    made = []
    for key, accuracies, rule in ((DFA, dfa, "dfa"), (BPTT, bptt, "bptt")):
        runs = tuple(
            (config, record(config, accuracy))
            for seed, accuracy in zip(SEEDS, accuracies, strict=True)
            for config in [TrainConfig(rule=rule, seed=seed)]
        )
        line = Line(Key(panel, key.label, key.column), runs[0][0], SEEDS)
        made.append(LineResult(line, runs[0][0], (), (), runs))
    experiment = Experiment(
        f"dfa/{panel}", panel, "", "curves", ("accuracy",), lambda _: tuple(x.line for x in made)
    )
    return Reproduction(experiment, "laptop", tuple(made))


def test_scores_go_from_what_learns_nothing_to_no_error() -> None:
    easy = task("easy", (0.55, 0.55, 0.55), (1.0, 1.0, 1.0))  # half the way, on every seed
    hard = task("hard", (0.1, 0.1, 0.01), (0.55, 0.55, 0.55))
    found = overview([easy, hard])
    assert found.tasks == ("easy", "hard")
    bptt, dfa = found.rows
    assert (bptt.label, dfa.label) == ("BPTT", "DFA")
    assert (dfa.tasks, dfa.runs) == (2, 6)
    # DFA's scores: -0.1, 0, 0, 0.5, 0.5, 0.5; the middle half is half of one 0, one 0, 0.5 and half of one
    assert dfa.interquartile_mean == pytest.approx((0.5 + 0.25) / 3)
    assert dict(zip(LEVELS, dfa.profile, strict=True)) == pytest.approx(
        {0: 5 / 6, 0.25: 1 / 2, 0.5: 1 / 2, 0.75: 0, 0.9: 0}
    )
    assert dfa.interval[0] <= dfa.interquartile_mean <= dfa.interval[1]


def test_a_task_of_two_experiments_counts_once() -> None:
    one = task("easy", (0.5, 0.5, 0.5), (0.9, 0.9, 0.9))
    again = replace(one, experiment=replace(one.experiment, measures=("last_accuracy",)))
    assert overview([one, again]).rows[1].runs == 3


def test_rows_of_a_page_are_not_resampled_again_for_the_next() -> None:
    one = task("easy", (0.5, 0.5, 0.5), (0.9, 0.9, 0.9))
    (dfa,) = [row for row in overview([one]).rows if row.label == "DFA"]
    assert any(row is dfa for row in overview([one]).rows)
