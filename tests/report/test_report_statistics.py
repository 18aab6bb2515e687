import json
from pathlib import Path

import pytest
from made_up_runs import make_run, make_runs

from timelocal.analysis.statistics import paired_difference, summarize
from timelocal.report import tables, words
from timelocal.report.runs import load


def sections(*folders: Path) -> list[tables.Section]:
    return tables.sections(load(folders)[0])


def result(folder: Path) -> dict[str, dict[str, float]]:
    return dict(json.loads((folder / "result.json").read_text()))


def test_a_row_holds_the_statistics_of_its_seeds(tmp_path: Path) -> None:
    folders = make_runs(tmp_path)
    [section] = sections(tmp_path)
    row = next(row for row in section.rows if row.group.label == "GRU · DFA")
    mine = [folder for folder in folders if "-gru-dfa-" in folder.name]
    best = [result(folder)["best_validation"]["test_accuracy"] for folder in mine]
    last = [result(folder)["last"]["test_accuracy"] for folder in mine]
    assert row.best == summarize(best)
    assert row.last == summarize(last)
    assert row.maximum == summarize([result(folder)["max_test_accuracy"] for folder in mine])
    theirs = [result(folder) for folder in folders if "-gru-bptt-" in folder.name]
    bptt = {seed: one["best_validation"]["test_accuracy"] for seed, one in enumerate(theirs)}
    assert row.comparison is not None
    assert row.comparison.ours == row.best
    assert row.comparison.theirs == summarize(list(bptt.values()))
    assert row.comparison.difference == paired_difference(dict(enumerate(best)), bptt)
    assert row.step_milliseconds == pytest.approx(1.1 * 2.2)


def test_rows_are_in_order_and_the_reference_comes_first(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=1)
    [section] = sections(tmp_path)
    labels = [group.label for group in section.groups]
    assert labels == ["RNN · BPTT", "RNN · DFA", "GRU · BPTT", "GRU · DFA"]
    assert [len(rows) for rows in section.cells] == [2, 2]


def test_only_finished_runs_count_and_the_others_are_counted(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1)
    make_run(tmp_path, seed=2, epochs=4, status="diverged")
    make_run(tmp_path, seed=3, epochs=2, status="running")
    [section] = sections(tmp_path)
    [row] = section.rows
    assert row.best is not None
    assert row.best.n == 2
    assert row.unfinished == {"diverged": 1, "running": 1}


def test_runs_with_other_settings_are_never_pooled(tmp_path: Path) -> None:
    for lr in (0.001, 0.01):
        for seed in (0, 1):
            make_run(tmp_path, rule="dfa", seed=seed, lr=lr)
            make_run(tmp_path, rule="bptt", seed=seed, lr=lr)
    [section] = sections(tmp_path)
    labels = [group.label for group in section.groups]
    assert labels == [f"RNN · {rule} (lr {lr})" for rule in ("BPTT", "DFA") for lr in (0.001, 0.01)]
    # Each is compared with the reference in its own settings.
    bptt = {row.group.settings["lr"]: row for row in section.rows if row.group.rule == "bptt"}
    for row in section.rows[2:]:
        reference = bptt[row.group.settings["lr"]]
        assert row.comparison is not None
        assert row.comparison.reference is reference.group
        assert row.comparison.theirs == reference.best


def test_a_finding_names_the_reference_it_compares_with(tmp_path: Path) -> None:
    for lr in (0.001, 0.01):
        make_run(tmp_path, rule="dfa", lr=lr)
        make_run(tmp_path, rule="bptt", lr=lr)
    [section] = sections(tmp_path)
    by_label = {row.group.label: row.best for row in section.rows}
    for sentence, lr in zip(words.findings(section)[:2], (0.001, 0.01), strict=True):
        best = by_label[f"RNN · BPTT (lr {lr})"]
        assert best is not None
        assert f"and BPTT (lr {lr}) {100 * best.mean:.1f}\u202f%:" in sentence


def test_options_that_a_rule_lacks_do_not_make_a_difference() -> None:
    settings = [{"lr": "1", "feedback": "gaussian"}, {"lr": "1"}, {"lr": "1", "clip": "null"}]
    assert tables.differing(settings) == []
    assert tables.differing([*settings, {"clip": "1.0"}]) == ["clip"]


def test_trivial_predictors_are_pooled_unless_the_cell_matters(tmp_path: Path) -> None:
    make_runs(tmp_path)
    [section] = sections(tmp_path)
    labels = [row.label for row in section.trivial]
    assert labels == ["majority class", "readout only · RNN", "readout only · GRU"]
    assert section.trivial[0].summary == summarize([0.1 + 0.004 * seed for seed in range(3)])


def test_datasets_have_sections_and_regression_has_losses(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=2)
    make_runs(tmp_path, "mackey-glass", seeds=2, regression=True)
    digits, series = sections(tmp_path)
    assert (digits.metric, series.metric) == (tables.ACCURACY, tables.LOSS)
    assert all(row.maximum is None and row.best is not None for row in series.rows)
    assert series.trivial == ()


def test_a_run_without_epochs_is_placed_by_its_loss(tmp_path: Path) -> None:
    make_run(tmp_path, "a", status="failed", epochs=1)
    make_run(tmp_path, "b", status="failed", epochs=1, regression=True)
    for history in tmp_path.rglob("history.json"):
        history.unlink()
    assert [section.metric for section in sections(tmp_path)] == [tables.ACCURACY, tables.LOSS]


def test_the_same_run_twice_counts_once_and_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one")
    make_run(tmp_path / "two")
    runs, problems = load([tmp_path / "one", folder, tmp_path / "two"])
    assert len(runs) == 1
    [problem] = problems
    assert "the same run as" in problem


def test_findings_say_the_numbers_in_plain_words(tmp_path: Path) -> None:
    make_runs(tmp_path)
    [section] = sections(tmp_path)
    first, _, third = words.findings(section)
    row = section.rows[1]
    assert row.best is not None
    assert row.comparison is not None
    interval = row.comparison.difference.summary.interval
    assert interval is not None
    low, high = (words.number(100 * end, 1, signed=True) for end in interval)
    assert first.startswith(
        f"With the RNN, DFA reaches {100 * row.best.mean:.1f}\u202f% test accuracy"
    )
    assert f"95\u202f% interval [{low}, {high}], 3 paired seeds." in first
    assert third.startswith("Without any learning over time: majority class 10.4\u202f%,")


def test_findings_admit_what_the_runs_cannot_tell(tmp_path: Path) -> None:
    make_run(tmp_path / "a", rule="dfa")
    make_run(tmp_path / "a", rule="bptt")
    [section] = sections(tmp_path / "a")
    assert "a single seed, which tells nothing about the spread" in words.findings(section)[0]
    for seed in range(2):
        make_run(tmp_path / "b", cell="lstm", rule="dfa", seed=seed)
        make_run(tmp_path / "b", cell="lstm", rule="bptt", seed=seed)
    [section] = sections(tmp_path / "b")
    assert "these runs cannot tell the two apart" in words.findings(section)[0]


def test_findings_name_a_rule_that_a_trivial_predictor_beats(tmp_path: Path) -> None:
    make_run(tmp_path)
    path = next(tmp_path.rglob("result.json"))
    content = json.loads(path.read_text())
    content["trivial"]["readout_only"] = 0.99
    path.write_text(json.dumps(content))
    [section] = sections(tmp_path)
    assert words.findings(section)[-1] == "Not better than every trivial predictor: RNN · DFA."


def test_findings_of_a_section_without_results(tmp_path: Path) -> None:
    make_run(tmp_path, status="running")
    [section] = sections(tmp_path)
    assert words.findings(section) == ["No run has finished, so there is nothing to compare yet."]


def test_numbers_have_a_true_minus_sign() -> None:
    assert words.number(-1.25, 1, signed=True) == "−1.2"
    assert words.number(0.5, 2, signed=True) == "+0.50"
    assert words.number(1.5e31, 4) == "1.5e+31"
    assert words.spread(None, tables.ACCURACY) == "–"
    assert words.spread(summarize([0.5]), tables.ACCURACY) == "50.0"
