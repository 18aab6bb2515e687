"""Checkpoints of the formats before are still read.

Format 1 kept the network beside the rule, format 2 no sha256 of its files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from formats_runs import EPOCHS, RUNS, STOPPED, fit, part
from torch.testing import assert_close

import timelocal as tl
from timelocal.files import read_tensors
from timelocal.training import load_weights

NOW = 3


class Kept(NamedTuple):
    format: int
    name: str
    folder: Path


KEPT = [(number, name) for number in (1, 2) for name in RUNS]


@pytest.fixture(params=KEPT, ids=lambda kept: f"format{kept[0]}-{kept[1]}")
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    """A copy of a run folder as the last version with a format left it."""
    number, name = request.param
    folder = Path(__file__).parent / f"format{number}" / name
    return Kept(number, name, Path(shutil.copytree(folder, tmp_path / "begun")))


def index(folder: Path) -> dict[str, object]:
    return json.loads((folder / "checkpoint" / "checkpoint.json").read_text())


def prefix(number: int) -> str:
    """Of the network's tensors in the file."""
    return "network." if number == 1 else "rule.network."


def test_it_goes_on_and_ends_as_if_never_stopped(kept: Kept, tmp_path: Path) -> None:
    number, name, begun = kept
    before = index(begun)
    assert (before["format"], before["epoch"]) == (number, STOPPED)
    rule, history = fit(name, EPOCHS, begun)
    whole, other = fit(name, EPOCHS, tmp_path / "whole")
    # In the same bits; but on a processor that rounds otherwise the first epochs are not in the same ones.
    same = other.epochs[:STOPPED] == before["history"]["epochs"]
    close = {"rtol": 0, "atol": 0} if same else {"rtol": 1e-3, "atol": 1e-4}
    assert_close(rule.state_dict(), whole.state_dict(), **close)
    assert_close(history.epochs, other.epochs, **close)
    assert_close(history.best_weights, other.best_weights, **close)
    after, wanted = index(begun), index(tmp_path / "whole")
    assert after["format"] == wanted["format"] == NOW
    assert after["settings"] == wanted["settings"]
    for which in ("last", "best"):
        found, whole_run = (
            read_tensors(folder / "checkpoint" / index(folder)[which])
            for folder in (begun, tmp_path / "whole")
        )
        assert_close(found, whole_run, **close)


def test_what_it_holds_is_read_without_loss(kept: Kept) -> None:
    """Going on for no epoch at all writes the same tensors again, under the names of today."""
    number, name, begun = kept
    before = read_tensors(begun / "checkpoint" / str(index(begun)["last"]))
    rule, _ = fit(name, STOPPED, begun)
    after = read_tensors(begun / "checkpoint" / str(index(begun)["last"]))
    assert index(begun)["format"] == NOW
    for key, tensor in before.items():
        today = key
        if number == 1:
            today = f"rule.{key}" if key.startswith("network.") else key
        assert torch.equal(after.pop(today), tensor), key
    assert not after
    for key, tensor in rule.network.state_dict().items():
        assert torch.equal(tensor, before[f"{prefix(number)}{key}"])


def test_its_weights_can_be_had(kept: Kept) -> None:
    number, name, begun = kept
    network = RUNS[name].rule().network
    last = read_tensors(begun / "checkpoint" / str(index(begun)["last"]))
    for which in ("best", "last"):
        network.load_state_dict(load_weights(begun, which))
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, last[f"{prefix(number)}{key}"])


@pytest.mark.parametrize("number", [1, 2])
def test_another_run_is_not_continued(number: int, tmp_path: Path) -> None:
    kept = Path(__file__).parent / f"format{number}" / "np-rnn-momentum"
    begun = Path(shutil.copytree(kept, tmp_path / "begun"))
    settings = index(begun)["settings"]
    for changes, word in (({"sigma": 0.02}, "rule_options"), ({"seed": 1}, "rule_options")):
        options = {"loss": "cross_entropy", "at": "last", "sigma": 0.01, **changes}
        rule = tl.NP(tl.RNN(3, 4, 2), **options)
        optimizer = RUNS["np-rnn-momentum"].optimizer(rule.parameters())
        with pytest.raises(tl.RunError, match=word):
            tl.fit(
                rule,
                optimizer,
                part(12, 1),
                part(8, 2),
                epochs=EPOCHS,
                batch_size=5,
                seed=1,
                folder=begun,
            )
    assert index(begun)["settings"] == settings
