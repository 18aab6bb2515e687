"""What is read back of a checkpoint is what was written, or it is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import timelocal as tl
from damage import FLIPS, flipped, outcomes, truncated
from timelocal.files import read_tensors, write_tensors
from timelocal.training import checkpoint, load_weights
from timelocal.training.history import epochs_from

FILES = ("checkpoint.json", "last", "best")


@pytest.fixture(scope="module")
def kept(problem: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run after three epochs."""
    return run(problem, 3, tmp_path_factory.mktemp("kept"))


@pytest.fixture
def begun(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "begun"))


def run(problem: Any, epochs: int, folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    rule = tl.NP(tl.RNN(3, 4, 2), loss="cross_entropy", at="last", sigma=0.1)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
    parts = {"train": problem.train, "validation": problem.validation}
    tl.fit(rule, optimizer, **parts, epochs=epochs, batch_size=16, seed=seed, folder=folder)
    return folder


def file_of(folder: Path, name: str) -> Path:
    (found,) = (folder / "checkpoint").glob(name + "*")
    return found


def reader(folder: Path) -> Callable[[], object]:
    """Everything that a run which goes on, or `load_weights`, takes from the folder, to the last bit."""
    settings = json.loads(file_of(folder, "checkpoint").read_text())["settings"]

    def bits(tensors: dict[str, torch.Tensor]) -> object:
        return [
            (k, v.dtype, tuple(v.shape), v.numpy().tobytes()) for k, v in sorted(tensors.items())
        ]

    def read() -> object:
        found = checkpoint.load(folder / "checkpoint", settings)
        assert found is not None
        snapshot, history = found
        tensors = [snapshot.rule, snapshot.optimizer, history.best_weights, load_weights(folder)]
        return [*map(bits, tensors), snapshot.numbers, history.epochs, history.timing()]

    return read


def attack(folder: Path, name: str, damages: Callable[[bytes], Any]) -> dict[str, int]:
    path = file_of(folder, name)
    return dict(outcomes(path, damages(path.read_bytes()), reader(folder), lambda _: False))


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_bit_is_told(begun: Path, name: str) -> None:
    counts = attack(begun, name, lambda data: flipped(data, 300))
    assert counts.get("reported", 0) >= 299
    assert "silent" not in counts


@pytest.mark.parametrize("name", FILES)
def test_a_cut_is_told(begun: Path, name: str) -> None:
    step = 1 + file_of(begun, name).stat().st_size // 200
    assert attack(begun, name, lambda data: truncated(data, step)).keys() == {"reported"}


@pytest.mark.attack
@pytest.mark.parametrize("name", FILES)
def test_ten_thousand_wrong_bits(begun: Path, name: str, tell: Callable[..., None]) -> None:
    counts = attack(begun, name, lambda data: flipped(data, FLIPS))
    tell("flipped bits", file_of(begun, name).name, counts)
    assert counts.keys() <= {"reported", "harmless"}


@pytest.mark.attack
@pytest.mark.parametrize("name", FILES)
def test_a_cut_at_every_byte(begun: Path, name: str, tell: Callable[..., None]) -> None:
    counts = attack(begun, name, truncated)
    tell("truncations", file_of(begun, name).name, counts)
    assert counts.keys() <= {"reported", "harmless"}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("last", {"epochs": 2}),
        ("last", {"epochs": 3, "seed": 1}),
        ("best", {"epochs": 3, "seed": 1}),
    ],
)
def test_the_file_of_another_epoch_or_run_is_told(
    begun: Path, problem: Any, name: str, others: dict[str, int]
) -> None:
    """Names, types and shapes are the same: the sha256 alone tells them apart."""
    path = file_of(begun, name)
    mine = read_tensors(path)
    other = run(problem, folder=begun.with_name("other"), **others)
    tensors = read_tensors(file_of(other, name))
    assert {k: t.shape for k, t in tensors.items()} == {k: t.shape for k, t in mine.items()}
    assert any(not torch.equal(t, mine[k]) for k, t in tensors.items())
    shutil.copy(file_of(other, name), path)
    with pytest.raises(tl.RunError, match=rf"{path.name} is damaged, or another file"):
        run(problem, 4, begun)
    with pytest.raises(tl.RunError, match="another file"):
        load_weights(begun, name)


def changed(folder: Path, **fields: Any) -> None:
    """Change the index by hand, as one without sha256: as any program may have written it."""
    path = file_of(folder, "checkpoint")
    index = json.loads(path.read_text())
    del index["sha256"]
    path.write_text(json.dumps({**index, "format": 2, **fields}))


WRONG: dict[str, dict[str, Any]] = {
    "no epochs, and weights of three": {"history": {"epochs": []}},
    "no epochs, and the file of three": {"history": {"epochs": []}, "epoch": 0},
    "an epoch less": {"epoch": 2},
    "an epoch that is no number": {"epoch": "3"},
    "a truth value": {"epoch": True},
    "a file elsewhere": {"last": "../../last-000003.safetensors"},
    "a best file elsewhere": {"best": "/etc/passwd"},
    "no best file": {"best": None},
    "a number for a file": {"last": 3},
    "a list of epochs": {"history": [1, 2, 3]},
    "epochs by name": {"history": {"epochs": {"1": {}}}},
    "an epoch of words": {"history": {"epochs": [{"epoch": n, "a": "b"} for n in (1, 2, 3)]}},
    "epochs in disorder": {"history": {"epochs": [{"epoch": n} for n in (1, 3, 2)]}},
    "a number without end": {
        "history": {"epochs": [{"epoch": n, "a": 10**400} for n in (1, 2, 3)]}
    },
    "no times": {"timing": {}},
    "times of another run": {"timing": {"seconds": [1.0], "step_seconds": [1.0]}},
    "times in words": {"timing": {"seconds": ["a"] * 3, "step_seconds": [1.0] * 3}},
    "settings that are none": {"settings": []},
    "settings of nothing": {"settings": {}},
    "numbers that are none": {"optimizer_numbers": {"0.step": "many"}},
    "a list of numbers": {"optimizer_numbers": [1]},
    "a format of tomorrow": {"format": 99},
    "a format that is none": {"format": [3]},
    "format 3 without sha256": {"format": 3},
    "sha256 in format 2": {"sha256": {}},
}


@pytest.mark.parametrize("what", WRONG)
def test_an_index_that_is_none_is_one_clear_error(begun: Path, problem: Any, what: str) -> None:
    changed(begun)
    load_weights(begun)  # a format before is read
    changed_back = file_of(begun, "checkpoint").read_text()
    index = {**json.loads(changed_back), **WRONG[what]}
    file_of(begun, "checkpoint").write_text(json.dumps(index))
    for read in (lambda: run(problem, 4, begun), lambda: load_weights(begun)):
        with pytest.raises(tl.RunError, match=r"checkpoint\.json is .*(Delete|Choose another)"):
            read()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{}", "null", '{"format": 2}', "\ufeff{}", "1" * 5000]
)
def test_any_other_file_is_one_clear_error(begun: Path, problem: Any, text: str) -> None:
    file_of(begun, "checkpoint").write_text(text)
    with pytest.raises(tl.RunError, match=r"checkpoint\.json is "):
        run(problem, 4, begun)


@pytest.mark.parametrize(
    "epochs",
    [
        None,
        {"1": {}},
        [3],
        [{"epoch": 2}],
        [{"epoch": 1}, {"epoch": 1}],
        [{"epoch": True}],
        [{"train_loss": 0.1}],
        [{"epoch": 1, "train_loss": "0.1"}],
        [{"epoch": 1, "train_loss": [0.1]}],
        [{"epoch": 1, "train_loss": 10**400}],
        [{"epoch": 1, "train_loss": False}],
    ],
)
def test_epochs_are_records_of_numbers_in_their_order(epochs: Any) -> None:
    with pytest.raises(ValueError, match="epoch"):
        epochs_from({"epochs": epochs})


def test_tensors_that_do_not_fit_change_nothing(begun: Path, problem: Any) -> None:
    """Before format 3 no sha256 tells: names and shapes do."""
    changed(begun)
    path = file_of(begun, "last")
    tensors = read_tensors(path)
    tensors["rule.network.readout.bias"] = torch.zeros(3)
    write_tensors(path, tensors)
    with pytest.raises(tl.RunError, match=r"does not hold network\.readout\.bias of this run"):
        run(problem, 4, begun)
    tensors["rule.network.readout.bias"] = torch.zeros(2)
    tensors["optimizer.many.exp_avg"] = torch.zeros(2)
    write_tensors(path, tensors)
    rule = tl.NP(tl.RNN(3, 4, 2), loss="cross_entropy", at="last", sigma=0.1)
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
    before = {name: tensor.clone() for name, tensor in rule.state_dict().items()}
    parts = {"train": problem.train, "validation": problem.validation}
    with pytest.raises(tl.RunError, match="does not fit this rule and optimizer"):
        tl.fit(rule, optimizer, **parts, epochs=4, batch_size=16, folder=begun)
    torch.testing.assert_close(rule.state_dict(), before, rtol=0, atol=0)
    assert not optimizer.state


def test_without_an_index_what_lies_there_is_nobodys(
    begun: Path, problem: Any, tmp_path: Path
) -> None:
    """A best file of another run has the name that this one's will have."""
    run(problem, 3, tmp_path / "other", seed=1)
    file_of(begun, "checkpoint").unlink()
    shutil.copy(file_of(tmp_path / "other", "best"), file_of(begun, "best"))
    run(problem, 3, begun)
    run(problem, 3, tmp_path / "alone")
    expected = load_weights(tmp_path / "alone")
    torch.testing.assert_close(load_weights(begun), expected, rtol=0, atol=0)


def test_a_folder_taken_away_is_told_and_not_made_again(problem: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    rule = tl.DFA(tl.RNN(3, 4, 2))
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)

    def take_away() -> dict[str, float]:
        shutil.rmtree(folder)
        return {}

    with pytest.raises(tl.RunError, match=r"run/checkpoint: No such file.*create this one again"):
        tl.fit(
            rule, optimizer, problem.train, epochs=3, batch_size=16, folder=folder, watch=take_away
        )
    assert not folder.exists()


def test_a_tilde_is_the_home_folder(
    problem: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run(problem, 1, "~/run")  # type: ignore[arg-type]
    assert not (tmp_path / "~").exists()
    load_weights("~/run", "last")
    with pytest.raises(tl.ArgumentError, match="folder: got 3, expected a path"):
        run(problem, 1, 3)  # type: ignore[arg-type]
