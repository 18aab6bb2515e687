"""Forecasts of several networks: which networks, what they have seen, how their forecasts are averaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from timelocal import data
from timelocal.errors import ArgumentError
from timelocal.experiments import run
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.command import known_command
from timelocal.experiments.config import ForecastConfig, TrainConfig
from timelocal.experiments.preparing import prepared
from timelocal.experiments.run import trained
from timelocal.experiments.trial import do
from timelocal.studies.measures import value
from timelocal.studies.store import RunRecord, read
from timelocal.training import History, fit

SMALL = {
    "dataset": "temperature-block:horizon=24,block=1",
    "loss": "mse",
    "at": "every",
    "cell": "lru",
    "rule": "rtrl",
    "hidden": 3,
    "batch": 10,
    "online": True,
    "epochs": 1,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forecasts")


def made(store: Path, **fields: Any) -> RunRecord:
    record = read(do(ForecastConfig(**SMALL | fields), store))
    assert record.status == "finished"
    assert not record.problems
    return record


@pytest.mark.slow
@pytest.mark.data
def test_the_mean_forecast_is_that_of_networks_with_seeds_of_their_own(store: Path) -> None:
    """Networks 2 and 3 are those of seed 1; a mean errs less than its members do on average."""
    pair = made(store, members=2, seed=1)
    errors = []
    for seed in (2, 3):
        alone = made(store, members=1, seed=seed)
        assert alone.result["alone"]["mse"] == pytest.approx(alone.result["metrics"]["mse"])
        errors.append(alone.result["metrics"]["mse"])
    assert pair.result["alone"]["mse"] == pytest.approx(sum(errors) / 2)
    assert pair.result["metrics"]["mse"] < pair.result["alone"]["mse"]
    assert [epoch["epoch"] for epoch in pair.epochs] == [1]
    ridge = pair.result["trivial"]["ridge on the past"]
    assert value(pair, "of_ridge") == pair.result["metrics"]["mse"] / ridge
    assert value(pair, "of_ridge_alone") == pair.result["alone"]["mse"] / ridge


@pytest.mark.slow
@pytest.mark.data
def test_a_network_has_seen_what_came_before(store: Path) -> None:
    """The state is carried by hand: out of what came before, into the test part."""
    config = ForecastConfig(**SMALL, members=1, seed=2)
    ready = prepared(config, None)
    network = trained(config, ready.dataset, ready.split)[0].network
    before = torch.cat((ready.split.train.inputs[-1:], ready.split.validation.inputs), 1)
    with torch.no_grad():
        last = network.scan(before).final_states()
        carried = network.scan(ready.split.test.inputs, initial=last)
        cold = network(ready.split.test.inputs)
        warm = network.readout(carried.outputs.transpose(0, 1))
    error, from_zero = (float((o - ready.split.test.targets).square().mean()) for o in (warm, cold))
    found = made(store, members=1, seed=2).result["metrics"]["mse"]
    assert found == pytest.approx(error, rel=1e-5)
    assert abs(found - from_zero) > 5e-5 * from_zero


@pytest.mark.slow
@pytest.mark.data
def test_what_is_learned_beside_the_forecast_is_not_judged(store: Path) -> None:
    beside = {"dataset": SMALL["dataset"] + ",shorter=1", "members": 1, "seed": 2}
    found = made(store, **beside, judged=1).result
    config = ForecastConfig(**SMALL | beside)
    ready = prepared(config, None)
    rule = trained(config, ready.dataset, ready.split)[0]
    before = torch.cat((ready.split.train.inputs[-1:], ready.split.validation.inputs), 1)
    told = rule.outputs(torch.cat((before, ready.split.test.inputs), 1))[:, before.shape[1] :]
    errors = (told - ready.split.test.targets).square().mean((0, 1))
    assert len(errors) == 6
    assert found["metrics"]["mse"] == pytest.approx(float(errors[0]), rel=1e-5)
    assert found["alone"]["mse"] == pytest.approx(float(errors[0]), rel=1e-5)
    alone = made(store, members=1, seed=2).result
    assert found["trivial"] == pytest.approx(alone["trivial"])
    assert found["metrics"]["mse"] != alone["metrics"]["mse"]


def test_no_more_is_judged_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ForecastConfig(**SMALL, judged=2)
    card = data.card(config.dataset)
    empty = torch.zeros(card.shape), torch.zeros(*card.shape[:2], 1)
    made = data.Dataset(card.name, *empty, card, torch.tensor(card.lengths))
    monkeypatch.setattr(data, "load", lambda *given, **options: made)
    with pytest.raises(ArgumentError, match="judged: got 2, expected at most 1"):
        do(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_parts_have_to_follow_each_other(tmp_path: Path) -> None:
    config = ForecastConfig(**SMALL | {"dataset": "adding:steps=5", "at": "last", "online": False})
    with pytest.raises(ArgumentError, match=r"dataset: got 'adding:steps=5', expected data whose"):
        do(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_is_that_of_its_table() -> None:
    line = EXPERIMENTS["beyond/weather-blocks"].lines("laptop")[0]
    again = known_command(line.config.model_copy(update={"seed": 3}))
    assert again == "timelocal reproduce beyond/weather-blocks --profile laptop"
    assert known_command(ForecastConfig(**SMALL)) is None
    assert json.loads(line.config.canonical())["measures"] == "forecast"


def test_training_without_a_folder_follows_the_weights_of_classes_and_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def spied(*parts: Any, **options: Any) -> History:
        asked.append(options["device"])
        return fit(*parts, **options)

    monkeypatch.setattr(run, "fit", spied)
    made = {"dataset": "delayed-match", "cell": "rnn", "rule": "dfa", "hidden": 2, "epochs": 1}
    plain = TrainConfig(**made)
    ready = prepared(plain, None)
    rule, _ = trained(plain, ready.dataset, ready.split)
    weighted = TrainConfig(**made, class_weight="balanced", device="cpu:0")
    own, _ = trained(weighted, ready.dataset, ready.split)
    assert asked == [None, "cpu:0"]
    assert rule.loss.class_weights is None
    counts = torch.bincount(ready.split.train.targets.flatten(), minlength=2)
    expected = len(ready.split.train) / (2 * counts)
    torch.testing.assert_close(own.loss.class_weights, expected)
