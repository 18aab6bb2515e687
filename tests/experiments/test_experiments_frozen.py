"""Options of a cell, and a recurrence left as it was drawn: parts of a run's identity, and of what is run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import timelocal as tl
from timelocal import data
from timelocal.cli.app import app
from timelocal.experiments.command import command_of
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import Search
from timelocal.experiments.run import build_network, build_optimizer
from timelocal.rules import RULES
from timelocal.studies.search import with_choice
from timelocal.testing import Case

SMALL = {"dataset": "digits-rows", "cell": "lru", "rule": "rtrl", "hidden": 4, "epochs": 1}


def test_options_of_a_cell_are_part_of_a_run_s_name_where_they_are_not_the_defaults() -> None:
    plain = TrainConfig(**SMALL)
    assert TrainConfig(**SMALL, cell_options={"r_min": 0, "r_max": 1.0}).sha256() == plain.sha256()
    other = TrainConfig(**SMALL, cell_options={"r_min": 0.9})
    assert other.sha256() != plain.sha256()
    assert other.chosen()["cell_options"] == {"r_min": 0.9}
    assert "cell_options" not in plain.chosen()


def test_a_frozen_recurrence_is_told_by_the_folder_s_name() -> None:
    plain, frozen = TrainConfig(**SMALL), TrainConfig(**SMALL, frozen=True)
    assert frozen.folder_name().startswith("digits-rows-lru-rtrl-frozen-s0-")
    assert "frozen" not in plain.folder_name()
    assert frozen.sha256() != plain.sha256()


def test_the_command_says_both() -> None:
    config = TrainConfig(
        **SMALL, cell_options={"r_min": 0.9, "max_phase": 1.0}, readout_hidden=7, frozen=True
    )
    words = shlex.split(command_of(config))
    assert words[words.index("--cell-option") + 1] == "r_min=0.9"
    assert "--frozen" in words
    assert words[words.index("--readout-hidden") + 1] == "7"


def test_a_grid_may_search_options_of_a_cell() -> None:
    search = Search({"cell_options.r_min": (0.5, 0.9), "lr": (0.1,)}, epochs=1)
    found = with_choice(TrainConfig(**SMALL), search, (0.9, 0.1))
    assert (found.cell_options, found.lr) == ({"r_min": 0.9}, 0.1)


def test_a_recurrence_may_have_a_learning_rate_of_its_own() -> None:
    config = TrainConfig(**SMALL, lr=0.1, recurrent_lr=0.01)
    assert config.sha256() != TrainConfig(**SMALL, lr=0.1).sha256()
    words = shlex.split(command_of(config))
    assert words[words.index("--recurrent-lr") + 1] == "0.01"
    network = build_network(config, data.load("digits-rows"))
    groups = build_optimizer(config, network).param_groups
    rates = {id(one): group["lr"] for group in groups for one in group["params"]}
    assert rates == {
        id(one): 0.01 if name.startswith("recurrent.") else 0.1
        for name, one in network.named_parameters()
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"r_mn": 0.9}, "option of cell 'lru': got 'r_mn'.*Did you mean 'r_min'"),
        ({"r_min": 2.0}, "r_min and r_max: got 2"),
        ({"r_min": [1, 2]}, "cell_options: r_min: got a value of the wrong type"),
    ],
)
def test_bad_options_of_a_cell_are_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(tl.ArgumentError, match=told):
        TrainConfig(**SMALL, cell_options=options)


def test_the_time_constant_of_the_rnn_keeps_its_own_field() -> None:
    with pytest.raises(tl.ArgumentError, match="option of cell 'rnn': got 'tau'"):
        TrainConfig(cell="rnn", cell_options={"tau": 2.0})


@pytest.mark.parametrize("name", ["bptt", "rtrl", "dfa", "snap1", "np"])
def test_only_the_readout_learns_on_a_frozen_recurrence(name: str) -> None:
    """Its gradient is that of the same rule on a recurrence that learns."""
    case = Case("mingru", at="every")
    inputs, targets, _, _ = case.batch()
    learning, frozen = case.network(), case.network()
    frozen.recurrent.requires_grad_(False)
    for network in (learning, frozen):
        RULES[name](network, at="every", seed=1)(inputs, targets).backward()
    assert all(own.grad is None for own in frozen.recurrent.parameters())
    torch.testing.assert_close(frozen.readout.weight.grad, learning.readout.weight.grad)
    found = RULES[name](frozen, at="every", seed=1).estimate(inputs, targets).gradients
    assert found.keys() == {own for own, _ in frozen.named_parameters()}


def test_a_frozen_rtrl_carries_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("lru", at="every")
    network = case.network()
    network.recurrent.requires_grad_(False)
    monkeypatch.delattr(tl.RTRL, "carried")
    monkeypatch.setattr(tl.RTRL, "__abstractmethods__", frozenset())
    inputs, targets, _, _ = case.batch()
    tl.RTRL(network, at="every")(inputs, targets).backward()
    assert network.readout.weight.grad.any()


@pytest.mark.slow
def test_the_command_line_trains_it(tmp_path: Path) -> None:
    words = [
        "train", "--dataset", "digits-rows", "--cell", "mingru", "--cell-option", "update=0.1",
        "--rule", "snap1", "--hidden", "4", "--epochs", "1", "--frozen", "--out", str(tmp_path),
    ]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.glob("digits-rows-mingru-snap1-frozen-s0-*")
    model = tl.load(folder / "model.safetensors")
    drawn = tl.MinGRU(8, 4, 10, update=0.1)
    recurrent = model.rule.network.recurrent
    torch.testing.assert_close(recurrent.weight_ih_l0, drawn.recurrent.weight_ih_l0)
    torch.testing.assert_close(recurrent.bias_l0, drawn.recurrent.bias_l0)
