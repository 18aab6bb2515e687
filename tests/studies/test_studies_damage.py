"""What is read back of a run or a packed study is what was written, or it is told."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from damage import FLIPS, flipped, outcomes, refuse_at, truncated
from timelocal.cli.app import app
from timelocal.errors import ArgumentError, RunError
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.folder import set_status
from timelocal.experiments.run import run
from timelocal.files import parse_index
from timelocal.report import write_report
from timelocal.studies.engines import InProcess
from timelocal.studies.packed import Packed, PackedRun, write_packed
from timelocal.studies.packing import pack
from timelocal.studies.store import DAMAGED, Records, RunRecord, index, read, runs
from timelocal.studies.study import run_study
from timelocal.studies.table import table
from timelocal.training import load_weights

PARTS = ("config", "environment", "history", "result", "status", "timing")


def small(seed: int = 0) -> TrainConfig:
    return TrainConfig(cell="rnn", hidden=4, batch=512, epochs=2, seed=seed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs."""
    store = tmp_path_factory.mktemp("made") / "runs"
    for seed in range(2):
        run(small(seed), store)
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


def bad(found: object) -> bool:
    assert isinstance(found, RunRecord)
    return found.status == DAMAGED and bool(found.problems)


def attack(store: Path, part: str, damages: Callable[[bytes], Iterator[bytes]]) -> dict[str, int]:
    folder = store / small().folder_name()
    path = folder / f"{part}.json"
    return dict(outcomes(path, damages(path.read_bytes()), lambda: read(folder), bad_or_unknown))


def bad_or_unknown(found: object) -> bool:
    """A damaged status says "damaged", or no longer that the run has come to an end."""
    return bad(found) or (isinstance(found, RunRecord) and found.status == "unknown")


@pytest.mark.parametrize("part", PARTS)
def test_a_wrong_bit_is_told(store: Path, part: str) -> None:
    counts = attack(store, part, lambda data: flipped(data, 100))
    assert counts.keys() <= {"reported", "harmless"}
    assert counts["reported"] >= 95


@pytest.mark.parametrize("part", PARTS)
def test_a_cut_is_told(store: Path, part: str) -> None:
    counts = attack(store, part, lambda data: truncated(data, 1 + len(data) // 50))
    assert counts.keys() == {"reported"}


@pytest.mark.attack
@pytest.mark.parametrize("part", PARTS)
def test_ten_thousand_wrong_bits_and_a_cut_at_every_byte(
    store: Path, part: str, tell: Callable[..., None]
) -> None:
    for what, damages in (
        ("flipped bits", lambda data: flipped(data, FLIPS)),
        ("truncations", truncated),
    ):
        counts = attack(store, part, damages)
        tell(what, f"{part}.json", counts)
        assert counts.keys() <= {"reported", "harmless"}


@pytest.mark.parametrize("part", [part for part in PARTS if part != "status"])
def test_a_file_of_another_run_is_told(store: Path, part: str) -> None:
    one, other = (store / small(seed).folder_name() for seed in range(2))
    shutil.copy(other / f"{part}.json", one / f"{part}.json")
    found = read(one)
    assert found.status == DAMAGED
    assert found.problems == (f"{part}.json is not as written (its sha256 differs)",)
    assert f"Delete {one / 'status.json'}" in found.message
    assert {entry["name"]: entry["status"] for entry in index(store)}[one.name] == (
        DAMAGED if part == "config" else "finished"
    )
    with pytest.raises(RunError, match=rf"{part}\.json not as written.*Delete .*status\.json"):
        run(small(), store)
    with pytest.raises(RunError, match=rf"{part}\.json is not as written"):
        pack(store)
    before = table(runs(store))
    told: list[str] = []
    (record,) = run_study([small()], store, engine=InProcess(), tell=told.append)
    assert record.status == DAMAGED
    assert told[-1].startswith(f"warning: {one.name} does not count: {part}.json is not as written")
    (one / "status.json").unlink()
    run(small(), store)
    assert read(one).status == "finished"
    assert table(runs(store)) != before


def test_a_run_in_the_folder_of_another_is_told(store: Path) -> None:
    """Sound in itself, and yet not what its folder's name says; before there were sha256, too."""
    one, other = (store / small(seed).folder_name() for seed in range(2))
    for sealed in (True, False):
        for part in PARTS:
            shutil.copy(other / f"{part}.json", one / f"{part}.json")
        if not sealed:
            (one / "status.json").write_text('{"status": "finished", "message": ""}')
        for found in (read(one), Records(store)[one.name]):
            assert found.status == DAMAGED
            assert f"config.json belongs to {other.name}" in found.problems[0]
        with pytest.raises(RunError, match=r"config\.json not as written"):
            run(small(), store)


def packed_bits(path: Path) -> Callable[[], object]:
    def read_it() -> object:
        found = Packed(path)
        return [(name, found[name].parts) for name in found]

    return read_it


def test_a_packed_file_is_what_was_written(store: Path) -> None:
    path = pack(store).path
    data = path.read_bytes()
    for damages in (flipped(data, 200), truncated(data, 1 + len(data) // 100)):
        assert outcomes(path, damages, packed_bits(path), lambda _: False).keys() == {"reported"}
    path.write_bytes(b"")
    with pytest.raises(RunError, match="is damaged"):
        Packed(path)


@pytest.mark.attack
def test_ten_thousand_wrong_bits_and_a_cut_at_every_byte_of_a_packed_file(
    store: Path, tell: Callable[..., None]
) -> None:
    path = pack(store).path
    data = path.read_bytes()
    for what, damages in (
        ("flipped bits", flipped(data, FLIPS)),
        ("truncations", truncated(data)),
    ):
        counts = outcomes(path, damages, packed_bits(path), lambda _: False)
        tell(what, path.name, counts)
        assert counts.keys() == {"reported"}


def test_a_packed_file_of_before_is_still_read(store: Path, monkeypatch: Any) -> None:
    """Version 1 held no sha256."""
    path = pack(store).path
    whole = packed_bits(path)()
    path.unlink()
    monkeypatch.setattr("timelocal.studies.packed.VERSION", "1")
    monkeypatch.setattr("timelocal.studies.packed._sealed", lambda data: data)
    monkeypatch.setattr("timelocal.studies.packed._NO_SEAL", b"none")
    assert pack(store).path == path
    monkeypatch.undo()
    assert b"timelocal-sha256" not in path.read_bytes()
    assert packed_bits(path)() == whole


def test_values_that_no_column_holds_are_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    write_packed([PackedRun("a", {"config": {"seed": 10**30, "a": "b"}})], path)
    assert Packed(path)["a"].parts["config"]["seed"] == 10**30
    for parts in ({"status": {"status": "\udcff"}}, {"status": {"status": 3}}):
        with pytest.raises(RunError, match=r"cannot be packed into .*runs\.parquet"):
            write_packed([PackedRun("a", {"config": {}, **parts})], path)


DEEP: Any = "deep"
WRONG: list[tuple[str, Any]] = [
    ("config", []),
    ("config", {"dataset": 3}),
    ("config", {"dataset": "digits-rows", "cell": "rnn", "rule": "dfa", "seed": "0"}),
    ("config", {"dataset": "digits-rows", "cell": "rnn", "rule": "dfa", "seed": 10**30}),
    ("config", {"dataset": "digits-rows", "cell": ["rnn"], "rule": {}, "seed": 0}),
    ("config", DEEP),
    ("environment", {"command": 3}),
    ("environment", {"plugins": ["a"]}),
    ("environment", {"plugins": {"rule": "a"}}),
    ("environment", {"plugins": {"rule": {}}, "earlier_plugins": 3}),
    ("environment", {"plugins": {"rule": {}}, "earlier_plugins": [{"rule": "a"}]}),
    ("environment", DEEP),
    ("history", {"epochs": {"1": 2}}),
    ("history", {"epochs": [{"train_loss": 0.1}]}),
    ("history", {"epochs": [{"epoch": 1, "test_accuracy": "good"}]}),
    ("history", {"epochs": [{"epoch": 1, "test_accuracy": 10**400}]}),
    ("history", {"epochs": [{"epoch": 1, "test_accuracy": [0.1]}]}),
    ("history", DEEP),
    ("result", []),
    ("result", {"last": [1]}),
    ("result", {"last": {"test_accuracy": "0.9"}}),
    ("result", {"trivial": {"majority_class": "0.9"}}),
    ("result", {"trivial": 3}),
    ("result", {"metrics": {"nrmse": {}}}),
    ("result", {"best_validation": {"test_accuracy": 10**400}}),
    ("result", {"seconds": "many"}),
    ("status", []),
    ("status", {"status": ["finished"]}),
    ("status", {"status": {"finished": 1}, "message": 3}),
    ("status", {"status": "finished", "message": {"a": 1}}),
    ("status", {"status": "finished", "sha256": 3}),
    ("status", {"status": "finished", "sha256": {"status.json": "0"}}),
    ("timing", {"seconds": 3}),
    ("timing", {"step_seconds_median": "fast"}),
    ("predictions", {"target": [[1.0]], "before": [[1.0]]}),
    ("predictions", {"target": [], "before": [], "after": []}),
    ("predictions", {"target": [[1.0]], "before": [[1.0, 2.0]], "after": [[1.0]]}),
    ("predictions", {"target": [["a"]], "before": [[1.0]], "after": [[1.0]]}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("part", "value"), WRONG, ids=lambda one: str(one)[:60])
def test_one_bad_run_is_shown_as_bad_and_the_others_live_on(
    store: Path, part: str, value: Any
) -> None:
    """Written by another program, or by hand: there is no sha256 to tell."""
    one, other = (store / small(seed).folder_name() for seed in range(2))
    (one / "status.json").write_text('{"status": "finished", "message": ""}')
    text = "[" * 5000 if value is DEEP else json.dumps(value)
    (one / f"{part}.json").write_text(text)
    found = read(one)
    assert found.status in (DAMAGED, "unknown")
    assert any(problem.startswith(f"{part}.json cannot be read: ") for problem in found.problems)
    assert read(other).status == "finished"
    page = write_report([store], store / "report.html").read_text()
    assert f"{part}.json cannot be read: " in page
    assert table(runs(store)).count(",finished,") == 1
    if found.status == DAMAGED:
        with pytest.raises(RunError, match="1 damaged runs cannot be packed"):
            pack(store)
    for arguments in (
        ["runs", str(store)],
        ["runs", str(store), "--json"],
        ["list", "--out", str(store)],
    ):
        shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        assert shown.exit_code == 0, shown.output
    parts = {}
    for name in PARTS:
        file = f"{name}.json"
        parts[name] = parse_index((other / file).read_bytes(), file)[0]
    with suppress(RunError):  # some of them are not even packed
        packed = store.with_name("packed.parquet")
        write_packed([PackedRun(other.name, {**parts, part: value})], packed)
        (again,) = runs(packed)
        assert again.status in (DAMAGED, "unknown")


def test_a_folder_that_may_not_be_looked_into_is_one_line(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mode 000 does for everybody but root."""
    closed = store / small().folder_name()
    real, stat = os.scandir, Path.stat

    def refuse(path: object) -> None:
        if str(path).startswith(str(closed)):
            raise PermissionError(13, "Permission denied", str(path))

    def scandir(path: Any = ".") -> Any:
        refuse(path)
        return real(path)

    def looked(path: Path, **options: Any) -> Any:
        if path != closed:
            refuse(path)
        return stat(path, **options)

    def opened(path: Path, *_: Any, **__: Any) -> Any:
        refuse(path)
        return open(path, "rb")

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "stat", looked)
    monkeypatch.setattr(Path, "open", opened)
    assert [one.status for one in runs(store)] == ["unknown", "finished"]
    assert runs(store)[0].problems == ("the folder cannot be read: Permission denied",)
    assert {one["name"]: one["status"] for one in index(store)}[closed.name] == DAMAGED
    with pytest.raises(RunError, match=r"cannot read .*Permission denied.*change the permissions"):
        run(small(), store)
    with pytest.raises(RunError, match="Permission denied"):
        runs(closed)


def test_names_that_are_no_utf8_and_tildes(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = store / os.fsdecode(b"run-\xff")
    (store / small().folder_name()).rename(odd)
    page = write_report([store], tmp_path / "report.html").read_text()
    assert "run-\\udcff" in page
    assert read(odd).status == "finished"
    for name in ("run-\udcff", "[red]", "\x1b[31mred"):
        odd = odd.rename(store / name)
        for arguments in (
            ["runs", str(store)],
            ["runs", str(store), "--csv"],
            ["list", "--out", str(store)],
        ):
            shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
            assert shown.exit_code == 0, shown.output
            assert name.encode("unicode_escape").decode() in shown.stdout
    odd.rename(store / small().folder_name())
    with pytest.raises(ArgumentError, match="expected a path"):
        runs("a\ud800")
    with pytest.raises(ArgumentError, match="null character"):
        runs("a\0")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "runs")
    assert len(runs("~/runs")) == len(index("~/runs")) == 2
    for arguments in (["runs", "~/runs", "--csv"], ["list", "--out=~/runs"]):
        assert (
            CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).stdout.count("finished") >= 1
        )
    run(small(), "~/other")
    assert (tmp_path / "other" / small().folder_name() / "status.json").exists()
    assert not Path("~").exists()


def test_a_run_that_goes_on_makes_no_claims_it_does_not_keep(tmp_path: Path) -> None:
    """While a run is going its files change: their sha256 are those of the files that will not."""
    folder = tmp_path / "run"
    folder.mkdir()
    for part in PARTS:
        (folder / f"{part}.json").write_text("{}")
    set_status(folder, "running", files=("config.json", "environment.json"))
    held = json.loads((folder / "status.json").read_text())["sha256"]
    assert held.keys() == {"config.json", "environment.json", "status.json"}
    set_status(folder, "failed", "no memory")
    held = json.loads((folder / "status.json").read_text())["sha256"]
    assert held.keys() == {f"{part}.json" for part in PARTS}


def survives(store: Path, number: int, moment: int) -> str | None:
    """A run whose `moment`-th write fails goes on when asked again: whether the failure was reported.

    None past the last write.
    """
    outcome = "reported"
    with pytest.MonkeyPatch.context() as patch:
        refused = refuse_at(patch, moment, number)
        try:
            run(small(), store)
        except RunError as error:
            assert os.strerror(number) in str(error)  # noqa: PT017
        else:
            # what is written for later use alone may be missing
            assert not refused or read(store / small().folder_name()).status == "finished"
            outcome = "done without"
    found = read(store / small().folder_name())
    assert found.status in ("running", "failed", "unknown", "finished")
    folder = run(small(), store)
    assert read(folder).status == "finished"
    return outcome if refused else None


def results(folder: Path) -> tuple[object, ...]:
    found = read(folder)
    assert found.result is not None
    last = load_weights(folder, "last")
    timeless = {key: value for key, value in found.result.items() if key != "seconds"}
    return found.epochs, timeless, sorted((k, v.numpy().tobytes()) for k, v in last.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=[pytest.mark.attack]), 15], ids=["every write", "some writes"]
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ENOENT])
def test_a_write_that_fails_at_any_moment(
    made: Path, tmp_path: Path, number: int, step: int, tell: Callable[..., None]
) -> None:
    """A full disk, one that has become read-only, or is broken, a folder taken away: told, and made good."""
    expected = results(made / small().folder_name())
    counts = Counter({"reported": 0, "done without": 0})
    for moment in range(1, 1000, step):
        store = tmp_path / str(moment)
        outcome = survives(store, number, moment)
        assert results(store / small().folder_name()) == expected
        if outcome is None:
            break
        counts[outcome] += 1
    if step == 1:
        tell("writes that fail", os.strerror(number), counts)
    assert 30 < moment < 999
