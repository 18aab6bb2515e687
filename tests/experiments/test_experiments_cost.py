"""What an update costs: measured, recorded, named apart from training runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from timelocal.errors import ArgumentError
from timelocal.experiments import cost
from timelocal.experiments.config import CostConfig, TrainConfig
from timelocal.experiments.trial import do, from_json
from timelocal.losses import CrossEntropy
from timelocal.studies.measures import value
from timelocal.studies.store import read

GIVEN = {"dataset": "copying", "loss": "mse", "at": "every", "cell": "rnn", "hidden": 8, "batch": 1}


@pytest.mark.slow
def test_costs_are_measured_and_recorded(tmp_path: Path) -> None:
    config = CostConfig(**GIVEN, rule="np", optimizer="sgd", lr=1e-6, online=True, repeats=2)
    record = read(do(config, tmp_path))
    assert record.status == "finished"
    assert not record.problems
    milliseconds = value(record, "milliseconds")
    assert milliseconds is not None
    assert milliseconds > 0
    assert value(record, "test_loss") is None
    before = (record.folder / "result.json").read_bytes()
    assert do(config, tmp_path) == record.folder
    assert (record.folder / "result.json").read_bytes() == before


def test_the_record_leads_back_to_the_trial(tmp_path: Path) -> None:
    cost = CostConfig(**GIVEN, rule="bptt", optimizer="sgd", lr=1e-6)
    train = TrainConfig(**GIVEN, rule="bptt", optimizer="sgd", lr=1e-6)
    assert cost.sha256() != train.sha256()
    for trial in (cost, train):
        again = from_json(json.loads(trial.canonical()))
        assert type(again) is type(trial)
        assert again == trial


def test_it_is_the_cost_of_the_run_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = cost.build_rule
    monkeypatch.setattr(cost, "build_rule", lambda *given: seen.append(real(*given)) or seen[-1])
    config = CostConfig(
        dataset="digits-rows", rule="dfa", cell="rnn", hidden=4, class_weight="balanced", repeats=1
    )
    do(config, tmp_path)
    assert isinstance(seen[0].loss, CrossEntropy)
    assert seen[0].loss.class_weights is not None


def test_the_memory_of_another_device_is_not_claimed() -> None:
    with pytest.raises(ArgumentError, match="'cpu'"):
        CostConfig(**GIVEN, rule="bptt", device="cuda")
