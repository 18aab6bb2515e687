"""Backtests: what comes later changes nothing before, and the floors are those of plain NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from timelocal.errors import ArgumentError
from timelocal.experiments.backtest import backtest
from timelocal.experiments.config import TrainConfig

WINDOW, HORIZON, COUNT = 12, 3, 200
READING = {"target": "load", "time": "at", "window": WINDOW, "horizon": HORIZON}


def write(path: Path, load: np.ndarray) -> None:
    pd.DataFrame({"at": np.arange(len(load)), "load": load}).to_csv(path, index=False)


def series() -> np.ndarray:
    steps = np.arange(COUNT)
    return 500 + 40 * np.sin(steps * np.pi / 3) + np.random.default_rng(0).normal(size=COUNT)


def config(path: Path, **fields: object) -> TrainConfig:
    small = {"loss": "mse", "hidden": 8, "lr": 0.02, "epochs": 5, "batch": 16, "standardize": True}
    return TrainConfig(dataset=str(path), reading=READING, at="last", **{**small, **fields})


def test_what_comes_later_changes_no_block_before(tmp_path):
    load = series()
    write(tmp_path / "a.csv", load)
    changed = load.copy()
    changed[150:] = (
        np.random.default_rng(1).normal(size=50) * 1e3
    )  # from the third of four blocks on
    write(tmp_path / "b.csv", changed)
    one, other = (backtest(config(tmp_path / name), blocks=4)[0] for name in ("a.csv", "b.csv"))
    assert one[:2] == other[:2]
    assert one[2].scores["model"] != other[2].scores["model"]
    assert [block.tested for block in one] == [25 - HORIZON + 1] * 4
    # a window is trained on if its last target lies before the block: targets from step 12 on
    whole = [100 - WINDOW - HORIZON + 1 + 25 * n for n in range(4)]
    assert [block.trained for block in one] == [n - -(-n // 5) for n in whole]


def test_floors_are_those_of_plain_numpy(tmp_path):
    load = series()
    write(tmp_path / "a.csv", load)
    _, whole = backtest(config(tmp_path / "a.csv"), blocks=2, season=6)
    first = np.concatenate([np.arange(low, low + 50 - HORIZON + 1) for low in (100, 150)])
    targets = np.stack([load[first + n] for n in range(HORIZON)], 1)
    held = np.abs(targets - load[first - 1, None]).mean()
    seasonal = np.abs(targets - np.stack([load[first + n - 6] for n in range(HORIZON)], 1)).mean()
    assert whole["persistence"]["mae"] == pytest.approx(held, rel=1e-4)
    assert whole["seasonal naive"]["mae"] == pytest.approx(seasonal, rel=1e-4)
    assert whole["model"]["mae"] < whole["mean of training"]["mae"]
    assert whole["ridge on the window"]["mae"] < seasonal


@pytest.mark.parametrize("loss", ["quantile", "gaussian"])
def test_the_share_of_targets_between_the_outer_quantiles(tmp_path, loss):
    write(tmp_path / "a.csv", series())
    made = config(tmp_path / "a.csv", loss=loss, epochs=20)
    blocks, whole = backtest(made, blocks=2)
    shares = [block.scores["model"]["coverage"] for block in blocks]
    assert whole["model"]["coverage"] == pytest.approx(
        np.average(shares, weights=[block.tested for block in blocks])
    )
    assert 0.5 < whole["model"]["coverage"] < 1
    assert whole["model"]["expected_coverage"] == pytest.approx(0.8)
    assert 0 < whole["model"]["mean_width"] < 80  # values go from 460 to 540
    assert "coverage" not in whole["persistence"]


def test_exponential_smoothing_is_fitted_to_what_came_before(tmp_path):
    models = pytest.importorskip("statsforecast.models")
    load = series()
    write(tmp_path / "a.csv", load)
    made = config(tmp_path / "a.csv", epochs=1)
    blocks, _ = backtest(made, blocks=2, season=6)
    # once more, by statsforecast alone: kind and parameters before the block, states up to each window's end
    first = np.arange(100, 150 - HORIZON + 1)
    fitted = models.AutoETS(season_length=6).fit(load[:100])
    told = np.stack([fitted.forward(load[:begin], HORIZON)["mean"] for begin in first])
    wanted = np.stack([load[first + n] for n in range(HORIZON)], 1)
    found = blocks[0].scores["exponential smoothing"]
    assert found["mae"] == pytest.approx(np.abs(told - wanted).mean(), rel=1e-4)
    assert found["mae"] < 0.2 * blocks[0].scores["persistence"]["mae"]


def test_mistakes_are_told(tmp_path, monkeypatch):
    write(tmp_path / "a.csv", series())
    with pytest.raises(ArgumentError, match="season: got 13"):
        backtest(config(tmp_path / "a.csv"), season=13)
    with pytest.raises(ArgumentError, match="blocks: got a block with"):
        backtest(config(tmp_path / "a.csv"), blocks=60)
    with pytest.raises(ArgumentError, match="leak the values to be forecast"):
        TrainConfig(dataset=str(tmp_path / "a.csv"), reading={**READING, "missing": "interpolate"})


def test_the_verb(tmp_path):
    from typer.testing import CliRunner

    from timelocal.cli.app import app

    write(tmp_path / "a.csv", series())
    told = [
        "backtest",
        str(tmp_path / "a.csv"),
        "--target",
        "load",
        "--time",
        "at",
        "--window",
        "12",
    ]
    told += ["--horizon", "3", "--blocks", "2", "--epochs", "2", "--hidden", "4", "--season", "6"]
    done = CliRunner().invoke(app, [*told, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["blocks"]) == 2
    assert next(iter(found["whole"])) == "model"
    assert "seasonal naive" in CliRunner().invoke(app, told).stdout
