"""A run that was stopped ends in the same bits as one that was not, wherever it was stopped."""

from __future__ import annotations

import json
import math
import os
from functools import partial
from pathlib import Path

import pytest
import torch

import timelocal as tl
from timelocal import files
from timelocal.training import checkpoint, load_weights, saver

OPTIMIZERS = {
    "Adam": torch.optim.Adam,
    "AMSGrad": partial(torch.optim.Adam, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "ASGD": torch.optim.ASGD,
    "RMSprop": partial(torch.optim.RMSprop, momentum=0.9, centered=True),
    "Rprop": torch.optim.Rprop,
    "SGD": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


@pytest.fixture
def every_epoch(monkeypatch):
    """Save after every epoch, however short."""
    monkeypatch.setattr(saver, "_SHARE", float("inf"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resuming_repeats_the_bits(train, contents, tmp_path, name):
    optimizer = OPTIMIZERS[name]
    whole = train(3, tmp_path / "whole", optimizer=optimizer)
    for epochs in (1, 3, 3):
        parts = train(epochs, tmp_path / "parts", optimizer=optimizer)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert parts.history.epochs == whole.history.epochs
    torch.testing.assert_close(
        parts.network.state_dict(), whole.network.state_dict(), rtol=0, atol=0
    )


def test_the_folder_changes_nothing(train, tmp_path):
    assert train(3, tmp_path).history.epochs == train(3).history.epochs


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


CALLS = ("open", "fsync", "replace", "unlink")


def _kill_at(monkeypatch, moment: int) -> None:
    """Die just before the `moment`-th of the system calls that change files."""
    count = 0

    def guarded(call):
        def wrapper(*args, **options):
            nonlocal count
            count += 1
            if count == moment:
                raise Killed
            return call(*args, **options)

        return wrapper

    monkeypatch.setattr(os, "fsync", guarded(os.fsync))
    monkeypatch.setattr(os, "replace", guarded(os.replace))
    monkeypatch.setattr(Path, "unlink", guarded(Path.unlink))
    monkeypatch.setattr(Path, "open", guarded(Path.open))


@pytest.mark.slow
def test_death_between_any_two_writes(train, contents, tmp_path, every_epoch, monkeypatch):
    """At every single moment: what is left can be resumed, and ends in the same bits."""

    def start(folder):
        return train(2, folder, network=tl.RNN(3, 4, 2, seed=10))

    assert start(tmp_path / "whole").history.best["epoch"] > 1  # a best one is replaced on the way
    expected = contents(tmp_path / "whole")
    for moment in range(1, 200):
        folder = tmp_path / str(moment)
        with monkeypatch.context() as patch:
            _kill_at(patch, moment)
            try:
                start(folder)
            except Killed:
                pass
            else:
                break
        start(folder)
        assert contents(folder) == expected, moment
    assert 40 < moment < 199  # all of them, and there were many


def test_a_full_disk_leaves_the_last_good_checkpoint(
    train, contents, tmp_path, every_epoch, monkeypatch
):
    train(2, tmp_path)
    before = contents(tmp_path)

    def full(path, data):
        raise files.run_error(path, OSError(28, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", full)
        with pytest.raises(tl.RunError, match="No space left on device"):
            train(4, tmp_path)
    assert contents(tmp_path) == before
    train(4, tmp_path)
    train(4, tmp_path / "whole")
    assert contents(tmp_path / "whole").items() <= contents(tmp_path).items()


def test_divergence_keeps_the_last_good_checkpoint(problem, tmp_path):
    class Explodes(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            super().step(closure)
            self.steps += 1
            if self.steps == 5:  # in the third epoch of two steps each
                self.param_groups[0]["params"][0].data.fill_(float("nan"))

    network = tl.RNN(3, 4, 2)
    history = tl.fit(
        tl.DFA(network),
        Explodes(network.parameters(), lr=0.1),
        problem.train,
        problem.validation,
        epochs=9,
        batch_size=20,
        folder=tmp_path,
    )
    assert history.status == "diverged"
    assert len(history.epochs) == 2
    kept = load_weights(tmp_path, "last")
    torch.testing.assert_close(kept, network.state_dict(), rtol=0, atol=0)
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())


def test_best_and_last_weights_can_be_had_again(train, tmp_path):
    trained = train(6, tmp_path)
    torch.testing.assert_close(load_weights(tmp_path), trained.history.best_weights, rtol=0, atol=0)
    torch.testing.assert_close(
        load_weights(tmp_path, "last"), trained.network.state_dict(), rtol=0, atol=0
    )
    with pytest.raises(tl.ArgumentError, match="'best', 'last'"):
        load_weights(tmp_path, "first")
    with pytest.raises(tl.RunError, match="no best weights"):
        load_weights(tmp_path / "nowhere")


def test_another_run_is_not_continued(train, problem, tmp_path):
    train(1, tmp_path)
    for options, word in (
        ({"seed": 3}, "seed"),
        ({"clip": 1.0}, "clip"),
        ({"optimizer": torch.optim.SGD}, "optimizer"),
        ({"optimizer": partial(torch.optim.Adam, weight_decay=0.5)}, "optimizer_groups"),
    ):
        with pytest.raises(tl.RunError, match=word):
            train(2, tmp_path, **options)
    network = tl.GRU(3, 8, 2, dropout=0.2, num_layers=2)
    with pytest.raises(tl.RunError, match="data"):
        tl.fit(
            tl.DFA(network),
            torch.optim.Adam(network.parameters(), lr=0.01),
            problem.test,
            epochs=1,
            batch_size=16,
            folder=tmp_path,
        )


def test_a_damaged_checkpoint_is_told(train, tmp_path):
    train(1, tmp_path)
    (last,) = (tmp_path / "checkpoint").glob("last-*")
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(tl.RunError, match="damaged"):
        train(2, tmp_path)
    (tmp_path / "checkpoint" / "checkpoint.json").write_text('{"format": 4}')
    with pytest.raises(tl.RunError, match="not a checkpoint"):
        train(2, tmp_path)


def test_nothing_is_pickled(train, tmp_path):
    train(2, tmp_path)
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".lock"}
    names = {path.name for path in (tmp_path / "checkpoint").iterdir()}
    assert names == {"checkpoint.json", "last-000002.safetensors", *_best(tmp_path)}


def _best(folder: Path) -> set[str]:
    return {json.loads((folder / "checkpoint" / "checkpoint.json").read_text())["best"]}


def test_an_optimizer_whose_state_cannot_be_held_is_refused(train):
    class Odd(torch.optim.SGD):
        def step(self, closure=None):
            self.state[self.param_groups[0]["params"][0]]["memory"] = [1, 2]

    with pytest.raises(tl.UnsupportedError, match="'memory' of type list"):
        train(1, optimizer=Odd)


def test_saving_takes_a_small_share_of_the_time(train, tmp_path, monkeypatch):
    """Epochs far shorter than a saving are not all saved, and the last one always is."""
    saved = []
    real = checkpoint.save

    def counted(folder, state, history, settings):
        saved.append(len(history.epochs))
        real(folder, state, history, settings)

    monkeypatch.setattr(checkpoint, "save", counted)
    monkeypatch.setattr(saver, "_SHARE", 1e-9)
    train(6, tmp_path)
    assert saved == [1, 6]


def test_what_is_not_finite_is_null_in_the_files_and_comes_back_as_not_a_number(train, tmp_path):
    for epochs in (1, 2):
        trained = train(epochs, tmp_path, watch=lambda: {"cosine": math.nan, "ratio": math.inf})
    assert [math.isnan(record["cosine"]) for record in trained.history.epochs] == [True, True]
    for name in ("history.json", "checkpoint/checkpoint.json"):
        text = (tmp_path / name).read_text()
        found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
        epochs = found.get("history", found)["epochs"]
        assert [(one["cosine"], one["ratio"]) for one in epochs] == [(None, None)] * 2
