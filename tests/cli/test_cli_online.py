"""Training with an update at every step, from the command line."""

from __future__ import annotations

import json

import pytest

ONLINE = (
    *("train", "--dataset", "copying", "--cell", "rnn", "--hidden", "4", "--epochs", "2"),
    *("--batch", "10", "--optimizer", "sgd", "--lr", "0.01", "--online"),
)


def test_a_gradient_may_be_clipped_at_every_step(call, tmp_path):
    losses = []
    for clip in ("1e-9", "1e9"):
        done = call(*ONLINE, "--rule", "tbptt", "--clip", clip, "--out", tmp_path / clip)
        assert done.exit_code == 0, done.output
        (folder,) = (tmp_path / clip).iterdir()
        epochs = json.loads((folder / "history.json").read_text())["epochs"]
        losses.append([epoch["train_loss"] for epoch in epochs])
    assert losses[0] != losses[1]


def test_a_decorrelating_rule_goes_by_its_name_and_leaves_predictions(call, tmp_path):
    done = call(*ONLINE, "--rule", "dnp", "--option", "sigma=0.1", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    config = json.loads((folder / "config.json").read_text())
    assert (config["rule"], config["online"], config["decorrelate"]) == ("np", True, 1e-4)
    assert config["rule_options"]["sigma"] == 0.1
    result = json.loads((folder / "result.json").read_text())
    assert result["metrics"].keys() == {"mse", "nrmse", "bit_errors"}
    shown = json.loads((folder / "predictions.json").read_text())
    assert shown.keys() == {"target", "before", "after"}
    assert shown["before"] != shown["after"]
    epochs = json.loads((folder / "history.json").read_text())["epochs"]
    assert all(epoch["decorrelation_loss"] >= 0 for epoch in epochs)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--rule", "bptt"], "one that learns online"),
        (["--rule", "np", "--option", "sigma"], "NAME=VALUE"),
        (["--rule", "np", "--option", "credit=globl"], "credit"),
        (["--rule", "np", "--option", "credit=global"], "Use credit='to_go'"),
        (["--rule", "np", "--cell", "gru", "--tau", "2"], "Only the RNN is leaky"),
    ],
)
def test_what_cannot_be_is_said_at_the_door(arguments, problem, call, tmp_path):
    done = call(*ONLINE, *arguments, "--out", tmp_path)
    assert done.exit_code == 2
    assert problem in done.stderr
    assert not list(tmp_path.iterdir())
