"""Packed runs: nothing is lost, the same runs are the same bytes, and whatever reads folders reads them."""

from __future__ import annotations

import builtins
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from timelocal import optional
from timelocal.errors import MissingExtraError, RunError
from timelocal.experiments import config as config_module
from timelocal.experiments.config import CostConfig, TrainConfig
from timelocal.experiments.run import run
from timelocal.experiments.trial import Trial
from timelocal.studies import packed as packed_module
from timelocal.studies.engines import InProcess
from timelocal.studies.packed import Packed, PackedRun, read_packed, write_packed
from timelocal.studies.packing import pack, rename, unpack
from timelocal.studies.store import Records, exists, index, read, runs
from timelocal.studies.study import run_study
from timelocal.studies.table import table

AWKWARD = (0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 1e22, 2**-1074 * 3)
"""Numbers that a text or a shorter format could round."""


def small(**values: object) -> TrainConfig:
    return TrainConfig(**{"cell": "rnn", "hidden": 4, "batch": 512, "epochs": 1, **values})


def folder_of(store: Path, trial: Trial, parts: dict[str, Any], name: str | None = None) -> Path:
    """A run folder written by hand."""
    folder = store / (name or trial.folder_name())
    folder.mkdir(parents=True)
    for part, value in {"config": trial.model_dump(mode="json"), **parts}.items():
        (folder / f"{part}.json").write_text(json.dumps(value))
    return folder


def finished(seed: int, **others: Any) -> dict[str, Any]:
    """What a finished run leaves, with numbers that are hard to keep and different keys in its epochs."""
    epochs = [
        {"epoch": n, "train_loss": value, "test_accuracy": n / 7, "stuck": n}
        for n, value in enumerate(AWKWARD, 1)
    ]
    epochs[1]["train_loss"] = None
    epochs[2]["late"] = seed
    return {
        "environment": {"command": "drive.py", "packages": {"torch": "2"}, "instruction set": None},
        "status": {"status": "finished", "message": ""},
        "history": {"epochs": epochs},
        "timing": {"seconds": [*AWKWARD, None], "steps_per_epoch": 3, "step_seconds_median": 1e-9},
        "result": {
            "seed": seed,
            "last": {"test_accuracy": None},
            "trivial": {"a.b, τ": AWKWARD[0]},
        },
        **others,
    }


def a_store(store: Path) -> Path:
    """Runs of all kinds."""
    folder_of(store, small(), finished(0))
    curves = {"target": [[AWKWARD[0]]], "before": [[1]], "after": [[-0.0]]}
    folder_of(store, small(seed=1), finished(1, predictions=curves))
    diverged = {"status": {"status": "diverged", "message": "the loss is nan <&>"}}
    folder_of(store, small(seed=2), {**finished(2), **diverged, "history": {"epochs": []}})
    failed = {"status": {"status": "failed", "message": "no memory"}}
    folder_of(store, small(seed=3), failed)
    folder_of(store, CostConfig(cell="rnn"), finished(0, history={"epochs": []}), "named-otherwise")
    return store


def same(ours: Any, theirs: Any) -> bool:
    """To the last bit, in whatever order keys come; NaN is NaN."""
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


def parts_in(folder: Path) -> dict[str, Any]:
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    found["status"].pop("sha256", None)
    return found


@pytest.mark.slow
def test_nothing_is_lost(tmp_path: Path) -> None:
    store = a_store(tmp_path / "runs")
    packing = pack(store)
    assert (packing.path, packing.count) == (tmp_path / "runs.parquet", 5)
    assert packing.left_out == ()
    cost = CostConfig(cell="rnn").folder_name()
    packed = read_packed(packing.path)
    for folder in store.iterdir():
        name = cost if folder.name == "named-otherwise" else folder.name
        expected = parts_in(folder)
        if "environment" in expected:
            was = expected["environment"].pop("command")
            assert packed[name].parts["environment"]["command"] != was or name == cost
            expected["environment"]["recorded_command"] = was
        found = dict(packed[name].parts)
        if name == cost:
            assert packed[name].formerly == "named-otherwise"
            expected["environment"]["command"] = expected["environment"].pop("recorded_command")
        else:
            assert packed[name].formerly is None
            found.get("environment", {}).pop("command", None)
        assert same(found, expected), name
        ours, theirs = Records(packing.path)[name], read(folder)
        for part in ("status", "message", "problems", "result", "timing", "predictions"):
            assert same(getattr(ours, part), getattr(theirs, part)), (name, part)
        assert same(ours.epochs, theirs.epochs)
    # and back
    assert unpack(packing.path, tmp_path / "back") == (5, 0)
    assert unpack(packing.path, tmp_path / "back") == (0, 5)
    assert not list((tmp_path / "back").glob(".*"))
    for name, run_ in packed.items():
        assert same(parts_in(tmp_path / "back" / name), dict(run_.parts))


def test_whole_numbers_stay_whole_and_negative_zero_negative(tmp_path: Path) -> None:
    pack(a_store(tmp_path / "runs"))
    epochs = Records(tmp_path / "runs.parquet")[small().folder_name()].epochs
    assert all(type(epoch["epoch"]) is int and type(epoch["stuck"]) is int for epoch in epochs)
    assert math.copysign(1.0, epochs[3]["train_loss"]) == -1.0
    assert math.isnan(epochs[1]["train_loss"])
    assert ["late" in epoch for epoch in epochs] == [n == 2 for n in range(len(AWKWARD))]


def test_the_same_runs_are_the_same_bytes(tmp_path: Path) -> None:
    store = a_store(tmp_path / "runs")
    first = pack(store).path.read_bytes()
    other = tmp_path / "other" / "deep"
    for folder in sorted(store.iterdir(), reverse=True):
        shutil.copytree(folder, other / folder.name)
    assert pack(tmp_path / "other", tmp_path / "a.parquet").path.read_bytes() == first
    assert pack(tmp_path / "a.parquet", tmp_path / "b.parquet").path.read_bytes() == first
    assert pack(tmp_path / "a.parquet").path.read_bytes() == first
    unpack(tmp_path / "a.parquet", tmp_path / "back")  # folders do not know what they were called
    assert pack(tmp_path / "back", tmp_path / "a.parquet").path.read_bytes() == first
    write_packed(reversed(list(Packed(tmp_path / "a.parquet").values())), tmp_path / "c.parquet")
    assert (tmp_path / "c.parquet").read_bytes() == first
    shutil.rmtree(store / "named-otherwise")
    assert pack(store).path.read_bytes() == first  # the file had it
    status = store / small(seed=3).folder_name() / "status.json"
    status.write_text('{"status": "failed", "message": "another"}')
    assert pack(store).path.read_bytes() != first


def test_anything_that_reads_parquet_can_group_the_runs(tmp_path: Path) -> None:
    found = pyarrow.parquet.read_table(pack(a_store(tmp_path / "runs")).path).to_pydict()
    assert sorted(found["config.seed"]) == [0, 0, 1, 2, 3]
    assert set(found["config.rule_options.feedback"]) == {"gaussian"}
    assert found["result.trivial.a.b, τ"].count(AWKWARD[0]) == 4
    assert found["config.lr"] == [json.loads(text)["lr"] for text in found["config"]]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, place: float) -> None:
    path = pack(a_store(tmp_path / "runs")).path
    whole = path.read_bytes()
    spot = int(place * len(whole))
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(whole[:spot])
    with pytest.raises(RunError, match=r"bad\.parquet is damaged"):
        runs(bad)
    bad.write_bytes(b"")
    with pytest.raises(RunError, match=r"bad\.parquet is damaged"):
        Records(bad)


def test_a_single_wrong_bit_is_noticed(tmp_path: Path) -> None:
    path = pack(a_store(tmp_path / "runs")).path
    whole = path.read_bytes()
    group = pyarrow.parquet.ParquetFile(path).metadata.row_group(0)
    bad = tmp_path / "bad.parquet"
    for number in range(group.num_columns):
        column = group.column(number)
        start = column.data_page_offset
        if column.has_dictionary_page:
            start = column.dictionary_page_offset
        for spot in (1, 2, 4):  # from the end: what is before may be the page's header
            at = start + column.total_compressed_size - spot
            bad.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(RunError, match=r"bad\.parquet is damaged"):
                Packed(bad)


def test_other_files_and_versions_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "other.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"name": ["a"]}), path)
    with pytest.raises(RunError, match=r"holds no packed runs.*timelocal pack"):
        runs(path)
    with pytest.raises(RunError, match="cannot read"):
        read_packed(tmp_path / "missing.parquet")
    monkeypatch.setattr(packed_module, "VERSION", "2")
    write_packed([PackedRun("a", {"config": {}})], path)
    monkeypatch.setattr(packed_module, "VERSION", "1")
    with pytest.raises(RunError, match=r"version 2 of packed runs.*reads version 1"):
        runs(path)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    store = a_store(tmp_path / "runs")
    expected = index(store)
    real = builtins.__import__

    def without(name: str, *arguments: Any, **others: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    found = optional.find_spec
    monkeypatch.setattr(
        optional, "find_spec", lambda name: None if name == "pyarrow" else found(name)
    )
    assert index(store) == expected  # folders need it not
    assert len(runs(store)) == 5
    with pytest.raises(MissingExtraError, match=r'pip install "timelocal\[report\]"'):
        pack(store)
    assert not (tmp_path / "runs.parquet").exists()


def test_a_store_is_read_the_same_packed_or_not(tmp_path: Path) -> None:
    store = a_store(tmp_path / "study" / "runs")
    rename(store)
    expected, listed, told = runs(store), index(store), table(runs(store))
    pack(store)
    assert runs(store) == runs(tmp_path / "study") == expected  # each once
    shutil.rmtree(store)
    packed = tmp_path / "study" / "runs.parquet"
    for place in (store, packed):
        assert exists(place)
        assert index(place) == listed
        assert table(runs(place)) == told
        assert list(Records(place)) == [entry["name"] for entry in listed]
        assert len(Records(place)) == 5
        assert "nothing" not in Records(place)
    assert [one.folder for one in runs(tmp_path / "study")] == [one.folder for one in expected]
    one = store / small().folder_name()
    (known,) = (run_ for run_ in expected if run_.folder == one)
    assert read(one).epochs[0] == known.epochs[0]
    assert runs(one) == [read(one)]
    assert not exists(tmp_path / "study" / "run")


def test_a_folder_wins_over_what_is_packed(tmp_path: Path) -> None:
    store = a_store(tmp_path / "runs")
    pack(store)
    folder = store / small(seed=3).folder_name()
    (folder / "status.json").write_text('{"status": "stopped", "message": "by hand"}')
    assert Records(store)[folder.name].message == "by hand"
    assert read(folder).status == "stopped"
    assert {run_.folder: run_ for run_ in runs(store)}[folder].status == "stopped"
    entries = {entry["name"]: entry["status"] for entry in index(store)}
    assert entries[folder.name] == "stopped"
    assert Records(tmp_path / "runs.parquet")[folder.name].status == "failed"


def test_a_study_goes_on_from_what_is_packed(tmp_path: Path) -> None:
    store = a_store(tmp_path / "runs")
    pack(store)
    shutil.rmtree(store)
    told: list[str] = []
    trials = [small(seed=seed) for seed in (0, 2, 3, 4)]
    records = run_study(trials, store, engine=InProcess(), tell=told.append)
    assert (
        told[0] == "4 trials, 2 of them done"
    )  # of the packed ones that which failed is tried again
    assert {path.name for path in store.iterdir()} == {trials[n].folder_name() for n in (2, 3)}
    assert [record.status for record in records] == ["finished", "diverged", "finished", "finished"]
    assert pack(store).count == 6
    again = run_study(trials, store, engine=InProcess(), tell=told.append)
    assert again == records


def test_what_goes_on_is_left_out_and_what_is_damaged_refused(tmp_path: Path) -> None:
    store = a_store(tmp_path / "runs")
    going = folder_of(store, small(seed=7), {"status": {"status": "running", "message": ""}})
    packing = pack(store)
    assert packing.left_out == (f"{going.name}: it has not ended (running)",)
    assert going.name not in read_packed(packing.path)
    before = packing.path.read_bytes()
    (store / small().folder_name() / "result.json").write_text('{"seed": 0')
    (store / small(seed=1).folder_name() / "history.json").unlink()
    with pytest.raises(RunError, match="2 damaged runs") as caught:
        pack(store)
    for word in ("result.json cannot be read", "history.json is missing", "delete them"):
        assert word in str(caught.value)
    assert packing.path.read_bytes() == before
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RunError, match="no run that could be packed"):
        pack(empty)
    folder_of(empty, small(), finished(0, history={"epochs": [{"epoch": "first"}]}))
    with pytest.raises(RunError, match=r"cannot be packed(.|\n)*history\.json cannot be read"):
        pack(empty)


def test_the_same_run_twice_is_packed_once(tmp_path: Path) -> None:
    store = a_store(tmp_path / "runs")
    other = finished(0)
    other["status"]["message"] = "of before"
    folder_of(store, small(), other, "a-name-of-before")
    packing = pack(store)
    assert packing.count == 5
    assert packing.left_out == (f"a-name-of-before: the same run as {small().folder_name()}",)
    assert Records(packing.path)[small().folder_name()].message == ""


def test_folders_of_before_get_their_names_and_their_runs_go_on(tmp_path: Path) -> None:
    config = small(epochs=2)
    made = run(config, tmp_path / "runs")
    before = (made / "result.json").read_bytes()
    former = made.with_name("digits-rows-rnn-dfa-s0-0123abcd")
    made.rename(former)
    old = json.loads((former / "config.json").read_text())
    for later in ("alignment", "tau", "online"):
        del old[later]
    (former / "config.json").write_text(json.dumps(old))
    (former / "status.json").write_text('{"status": "finished", "message": ""}')
    taken = folder_of(tmp_path / "runs", small(seed=5), finished(5), "also-of-before")
    folder_of(tmp_path / "runs", small(seed=5), finished(5))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.json").write_text("{")
    unknown = tmp_path / "runs" / "of-another"
    unknown.mkdir()
    (unknown / "config.json").write_text('{"rule": "its own"}')
    assert rename(tmp_path / "runs") == {former.name: config.folder_name()}
    assert taken.exists()
    assert unknown.exists()
    assert json.loads((made / "config.json").read_text()) == config.model_dump(mode="json")
    stamp = (made / "result.json").stat().st_mtime_ns
    assert run(config, tmp_path / "runs") == made
    assert (made / "result.json").stat().st_mtime_ns == stamp
    assert (made / "result.json").read_bytes() == before
    assert rename(tmp_path / "runs") == {}


def test_after_a_change_of_defaults_packed_runs_are_found_by_their_new_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = a_store(tmp_path / "runs")
    path = pack(store).path
    former = small(seed=1).folder_name()
    assert Packed(path)[former].formerly is None
    later = config_module.DEFAULTS_VERSION + 1
    monkeypatch.setattr(config_module, "DEFAULTS_VERSION", later)
    monkeypatch.setattr(packed_module, "DEFAULTS_VERSION", later)
    name = small(seed=1).folder_name()
    assert name != former
    assert Packed(path)[name].formerly == former
    assert former not in Packed(path)
    again = pack(path, tmp_path / "again.parquet").path
    assert Packed(again)[name].formerly == former
