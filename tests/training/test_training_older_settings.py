"""What checkpoints of before format 3 told of a run is compared as they told it."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from formats_runs import EPOCHS, RUNS, STOPPED, fit, part

import timelocal as tl
from timelocal.training import identity, saver


@pytest.fixture(params=[1, 2])
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kept = Path(__file__).parent / f"format{request.param}" / "np-rnn-momentum"
    return Path(shutil.copytree(kept, tmp_path / "begun"))


def index(folder: Path) -> dict[str, object]:
    return json.loads((folder / "checkpoint" / "checkpoint.json").read_text())


def test_going_on_adds_what_it_did_not_hold(begun: Path) -> None:
    fit("np-rnn-momentum", STOPPED, begun)
    (group,) = index(begun)["state"]["groups"]
    assert (group["lr"], group["momentum"]) == (0.05, 0.9)


def halved(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.StepLR:
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)


@pytest.mark.parametrize("option", ["drop_last", "scheduler", "metrics", "test"])
def test_an_option_that_it_was_begun_without_is_told(begun: Path, option: str) -> None:
    run = RUNS["np-rnn-momentum"]
    rule = run.rule()
    optimizer = run.optimizer(rule.network.parameters())
    options = {
        "drop_last": {"drop_last": True},
        "scheduler": {"scheduler": halved(optimizer)},
        "metrics": {"metrics": {"size": lambda outputs, targets: len(outputs)}},
        "test": {"test": part(8, 3)},
    }[option]
    with pytest.raises(tl.RunError, match=option):
        tl.fit(
            rule,
            optimizer,
            part(12, 1),
            part(8, 2),
            epochs=EPOCHS,
            batch_size=5,
            seed=1,
            folder=begun,
            **options,
        )


def smooth(outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(
        outputs, targets, reduction="none", label_smoothing=smoothing
    )


def test_an_object_that_it_told_by_its_type_alone_goes_on(tmp_path: Path) -> None:
    def start(epochs: int) -> tl.History:
        rule = tl.BPTT(tl.RNN(3, 4, 2), loss=functools.partial(smooth, smoothing=0.1))
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        return tl.fit(rule, optimizer, part(12, 1), epochs=epochs, batch_size=5, folder=tmp_path)

    start(1)
    told = index(tmp_path)
    assert told["settings"]["loss"]["function"]["keywords"] == {"smoothing": 0.1}
    told = {"format": 2} | {
        name: value for name, value in told.items() if name not in {"format", "state", "sha256"}
    }
    del told["settings"]["cell"]
    told["settings"]["loss"]["function"] = "partial"
    (tmp_path / "checkpoint" / "checkpoint.json").write_text(json.dumps(told))
    assert len(start(2).epochs) == 2


def test_a_running_mean_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(epochs: int, **options: object) -> tl.History:
        rule = tl.NP(tl.RNN(3, 4, 2), **options)
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        return tl.fit(rule, optimizer, part(12, 1), epochs=epochs, batch_size=5, folder=tmp_path)

    def without(made: object) -> dict[str, object]:
        return {name: value for name, value in told(made).items() if name != "baseline_decay"}

    told = saver.options
    with monkeypatch.context() as then:
        then.setattr(saver, "options", without)
        start(1)
    assert "baseline_decay" not in index(tmp_path)["settings"]["rule_options"]
    assert len(start(2).epochs) == 2
    with pytest.raises(tl.RunError, match=r"rule_options: .*'baseline_decay': 0.9"):
        start(3, baseline_decay=0.9)


def test_an_option_that_came_later_counts_where_it_is_made_use_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(epochs: int, **options: object) -> tl.History:
        cell = {"update_max": 0.9} if options.pop("spread", False) else {}
        rule = tl.DFA(tl.MinGRU(3, 4, 2, **cell), **options)
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        return tl.fit(rule, optimizer, part(12, 1), epochs=epochs, batch_size=5, folder=tmp_path)

    def without(made: object) -> dict[str, object]:
        later = ("slope", "_slope", "update_max")
        return {name: value for name, value in told(made).items() if name not in later}

    told = saver.options
    with monkeypatch.context() as then:
        then.setattr(saver, "options", without)
        then.setattr(identity, "options", without)
        start(1)
    settings = index(tmp_path)["settings"]
    assert not {"slope", "update_max"} & {*settings["rule_options"], *settings["cell"]}
    assert len(start(2).epochs) == 2
    with pytest.raises(tl.RunError, match=r"rule_options: .*'slope': 'constant'"):
        start(3, slope="constant")
    with pytest.raises(tl.RunError, match=r"cell: .*'update_max': 0.9"):
        start(3, spread=True)
