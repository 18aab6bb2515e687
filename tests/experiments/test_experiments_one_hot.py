"""Values that are classes, one-hot, learned by binary cross-entropy."""

import json
import math
from pathlib import Path

import pytest

import timelocal as tl
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.run import run

TASK = {"dataset": "copying-memory:length=1,delay=1", "at": "every"}


def test_outputs_are_told_as_probabilities_and_the_floor_in_the_same_loss(tmp_path: Path) -> None:
    config = TrainConfig(
        **TASK, loss="bce", cell="mingru", rule="rtrl", hidden=4, epochs=1, batch=500
    )
    result = json.loads((run(config, tmp_path) / "result.json").read_text())
    # after a few updates all are near one half; the raw outputs, near 0, would have 0.1
    assert result["metrics"]["mse"] == pytest.approx(0.25, abs=0.05)
    # one step of three asks for a symbol: one of eight outputs is 1, the blank and the marker are known
    uniform = (math.log(8) + 7 * math.log(8 / 7)) / 30
    assert result["trivial"] == {"blank, then uniform over 8": pytest.approx(uniform, rel=1e-5)}


def test_other_values_are_not() -> None:
    assert TrainConfig(**TASK, loss="mse").loss == "mse"
    with pytest.raises(tl.ArgumentError, match="loss: got 'bce', expected 'mse' for the data set"):
        TrainConfig(dataset="adding", loss="bce", at="every")
