"""Sweeps: combinations of any fields, rules of others, over processes."""

from __future__ import annotations

import pytest

from plugin_files import RULE, in_folder, module
from timelocal.errors import ArgumentError
from timelocal.experiments.run import run
from timelocal.studies.engines import InProcess, Processes
from timelocal.studies.store import read
from timelocal.studies.sweep import configs_of, parsed, sweep

SMALL = {"hidden": [4], "epochs": [2], "batch": [400]}


def test_rules_of_others_over_two_processes(tmp_path, monkeypatch):
    module(tmp_path, "mine", RULE)
    with in_folder(tmp_path, monkeypatch):
        grid = {"rule": ["mine:Rule", "bptt"], "lr": [0.03, 0.001], **SMALL}
        rows = sweep(grid, [0, 1], tmp_path / "runs", engine=Processes(2))
    assert [row.runs for row in rows] == [2, 2, 2, 2]
    means = [sum(row.validation) / 2 for row in rows]
    assert means == sorted(means, reverse=True)
    assert {row.choice[:2] for row in rows} == {
        (rule, lr) for rule in ("mine:Rule", "bptt") for lr in (0.03, 0.001)
    }
    assert rows[0].floors.keys() == {"majority_class", "readout_only"}
    assert rows[0].told.count("±") == 1
    # one of them anew, on its own: the same numbers
    (config,) = configs_of(grid, ("bptt", 0.03, 4, 2, 400), [1])
    alone = read(run(config, tmp_path / "alone"))
    row = next(row for row in rows if row.choice[:2] == ("bptt", 0.03))
    assert alone.result["best_validation"]["validation_accuracy"] == row.validation[1]


def test_optuna_goes_the_same_way_again(tmp_path):
    pytest.importorskip("optuna")
    grid = {"lr": [0.03, 0.01, 0.001], "cell": ["rnn", "gru"], **SMALL}
    told: list[str] = []
    first = sweep(grid, [0], tmp_path, engine=InProcess(), proposals=3)
    again = sweep(grid, [0], tmp_path, engine=InProcess(), proposals=3, tell=told.append)
    assert first == again
    assert 1 <= len(first) <= 3
    assert all(text == "1 trials, 1 of them done" for text in told)


def test_a_grid_that_does_not_fit_is_told_before_anything_runs(tmp_path):
    with pytest.raises(ArgumentError, match=r"field: got 'rlue'.*Did you mean 'rule'"):
        sweep({"rlue": ["dfa"]}, [0], tmp_path / "runs", engine=InProcess())
    grid = {"rule": ["dfa", "bptt"], "rule_options.feedback": ["sign"]}
    with pytest.raises(ArgumentError, match="feedback"):
        sweep(grid, [0], tmp_path / "runs", engine=InProcess())
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ArgumentError, match=r"(?s)2 problems.*NAME=VALUE.*twice"):
        parsed(["lr", "hidden=3", "hidden=4"], str)
