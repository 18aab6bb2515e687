"""Checkpoints of older formats are still read.

Format 1 kept the network beside the rule; format 2 knew nothing of schedules, callbacks and generators.
"""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from format_runs import EPOCHS, RUNS, STOPPED, fit, part
from torch.testing import assert_close

import timelocal as tl
from timelocal.files import read_tensors
from timelocal.training import load_weights

FORMATS = (1, 2)
NETWORK = {1: "network.", 2: "rule.network."}
"""What names of the network's tensors begin with."""


@pytest.fixture(params=FORMATS, ids=lambda format: f"format{format}")
def format(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def begun(request: pytest.FixtureRequest, tmp_path: Path, format: int) -> Path:
    """A copy of a run folder as the last version with this format left it."""
    kept = Path(__file__).parent / f"format{format}" / request.getfixturevalue("name")
    return Path(shutil.copytree(kept, tmp_path / "begun"))


def index(folder: Path) -> dict[str, object]:
    return json.loads((folder / "checkpoint" / "checkpoint.json").read_text())


@pytest.mark.parametrize("name", RUNS)
def test_it_goes_on_and_ends_as_if_never_stopped(
    name: str, begun: Path, tmp_path: Path, format: int
) -> None:
    before = index(begun)
    assert (before["format"], before["epoch"]) == (format, STOPPED)
    rule, history = fit(name, EPOCHS, begun)
    whole, other = fit(name, EPOCHS, tmp_path / "whole")
    # In the same bits; but on a processor that rounds otherwise the first epochs are not in the same ones.
    same = other.epochs[:STOPPED] == before["history"]["epochs"]
    close = {"rtol": 0, "atol": 0} if same else {"rtol": 1e-3, "atol": 1e-4}
    assert_close(rule.state_dict(), whole.state_dict(), **close)
    assert_close(history.epochs, other.epochs, **close)
    assert_close(history.best_weights, other.best_weights, **close)
    after, wanted = index(begun), index(tmp_path / "whole")
    assert after["format"] == wanted["format"] == 3
    assert after["settings"] == wanted["settings"]
    for which in ("last", "best"):
        found, whole_run = (
            read_tensors(folder / "checkpoint" / index(folder)[which])
            for folder in (begun, tmp_path / "whole")
        )
        assert_close(found, whole_run, **close)


@pytest.mark.parametrize("name", RUNS)
def test_what_it_holds_is_read_without_loss(name: str, begun: Path, format: int) -> None:
    """Going on for no epoch at all writes the same tensors again, under the names of today."""
    before = read_tensors(begun / "checkpoint" / str(index(begun)["last"]))
    rule, _ = fit(name, STOPPED, begun)
    after = read_tensors(begun / "checkpoint" / str(index(begun)["last"]))
    assert index(begun)["format"] == 3
    assert index(begun)["state"]["groups"][0]["lr"] == RUNS[name].optimizer.keywords["lr"]
    for key, tensor in before.items():
        if key == "rule.dfa._extra_state":  # that of a rule inside a rule, which is no more
            continue
        if format == 1:
            key = f"rule.{key}" if key.startswith("network.") else key.replace(".dfa.", ".")
        assert torch.equal(after.pop(key), tensor), key
    assert not after
    for key, tensor in rule.network.state_dict().items():
        assert torch.equal(tensor, before[NETWORK[format] + key])


@pytest.mark.parametrize("name", RUNS)
def test_its_weights_can_be_had(name: str, begun: Path, format: int) -> None:
    network = RUNS[name].rule().network
    last = read_tensors(begun / "checkpoint" / str(index(begun)["last"]))
    for which in ("best", "last"):
        network.load_state_dict(load_weights(begun, which))
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, last[NETWORK[format] + key])


@pytest.mark.parametrize("name", ["np-rnn-momentum"])
def test_another_run_is_not_continued(name: str, begun: Path) -> None:
    settings = index(begun)["settings"]
    for changes, word in (({"sigma": 0.02}, "rule_options"), ({"seed": 1}, "rule_options")):
        options = {"loss": "cross_entropy", "at": "last", "sigma": 0.01, **changes}
        rule = tl.NP(tl.RNN(3, 4, 2), **options)
        optimizer = RUNS[name].optimizer(rule.parameters())
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


def smooth(outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(
        outputs, targets, reduction="none", label_smoothing=smoothing
    )


def test_what_format_2_told_by_its_type_alone_goes_on(tmp_path: Path) -> None:
    def start(epochs: int) -> tl.History:
        rule = tl.BPTT(tl.RNN(3, 4, 2), loss=functools.partial(smooth, smoothing=0.1))
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        return tl.fit(rule, optimizer, part(12, 1), epochs=epochs, batch_size=5, folder=tmp_path)

    start(1)
    told = index(tmp_path)
    assert told["settings"]["loss"]["function"]["keywords"] == {"smoothing": 0.1}
    told["format"] = 2
    del told["state"], told["settings"]["cell"]
    told["settings"]["loss"]["function"] = "partial"
    (tmp_path / "checkpoint" / "checkpoint.json").write_text(json.dumps(told))
    assert len(start(2).epochs) == 2
