"""What a study does and does not do again, on every engine that needs no cluster."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from timelocal.errors import ArgumentError
from timelocal.experiments.config import CostConfig, TrainConfig
from timelocal.experiments.trial import Trial
from timelocal.files import exclusive, make_folder, write_json
from timelocal.studies.engines import InProcess, Outcome, Processes, child
from timelocal.studies.limits import Limits
from timelocal.studies.store import index, runs
from timelocal.studies.study import run_study
from timelocal.studies.table import table


def small(**values: object) -> TrainConfig:
    return TrainConfig(**{"cell": "rnn", "hidden": 4, "batch": 512, "epochs": 1, **values})


def made_at(store: Path) -> dict[str, int]:
    """When each run's result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in store.glob("*/result.json")}


class Scripted:
    """An engine that ends trials as it is told, without doing anything."""

    def __init__(self, *endings: str) -> None:
        self.endings, self.seen = list(endings), []

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        for trial in trials:
            self.seen.append(trial.seed)
            kind = self.endings.pop(0)
            folder = make_folder(store / trial.folder_name())
            write_json(folder / "config.json", trial.model_dump(mode="json"))
            for part in ("environment", "history", "result", "timing"):
                write_json(folder / f"{part}.json", {})
            status = {"done": "finished", "lost": "running", "busy": "finished"}.get(kind, kind)
            write_json(folder / "status.json", {"status": status, "message": ""})
            yield Outcome(trial, kind, "as told")


def test_engines_give_the_same_table_and_do_nothing_twice(tmp_path: Path) -> None:
    trials = [small(seed=seed) for seed in range(3)]
    trials += [small(rule="bptt", optimizer="sgd", lr=3e38, seed=0, epochs=30)]  # diverges
    tables = []
    for name, engine in (("here", InProcess()), ("processes", Processes(2))):
        store = tmp_path / name
        records = run_study([*trials, *trials], store, engine=engine)
        assert [record.config["seed"] for record in records] == [0, 1, 2, 0]
        assert [record.status for record in records] == ["finished"] * 3 + ["diverged"]
        tables.append(table(records))
        before = made_at(store)
        again = Scripted()
        run_study(trials, store, engine=again)
        assert again.seen == []
        assert made_at(store) == before
    assert tables[0] == tables[1]


def test_what_fails_is_tried_again_and_then_left(tmp_path: Path) -> None:
    trials = [small(seed=seed) for seed in range(3)]
    engine = Scripted("failed", "done", "lost", "failed", "lost", "done")
    heard: list[str] = []
    records = run_study(trials, tmp_path, engine=engine, retries=1, tell=heard.append)
    assert engine.seen == [0, 1, 2, 0, 2, 2]
    assert [record.status for record in records] == ["failed", "finished", "finished"]
    assert heard[0] == "3 trials, 0 of them done"
    assert len(heard) == 4
    assert "failed: as told" in "".join(heard)
    # a later call tries the failed one anew, and only that one
    later = Scripted("done")
    run_study(trials, tmp_path, engine=later)
    assert later.seen == [0]


def test_a_mistake_ends_the_study_at_once(tmp_path: Path) -> None:
    trials = [small(dataset="ecg200", seed=seed) for seed in range(3)]
    empty = make_folder(tmp_path / "data")
    for engine in (InProcess(), Processes(1)):
        with pytest.raises(ArgumentError, match="ECG200"):
            run_study(trials, tmp_path / "store", engine=engine, data_dir=empty)
    assert not list((tmp_path / "store").glob("*/config.json"))


def test_costs_are_measured_alone_and_last(tmp_path: Path) -> None:
    given = {"dataset": "copying", "loss": "mse", "at": "every", "cell": "rnn", "hidden": 4}
    cost = [CostConfig(**given, rule="bptt", batch=1, seed=seed) for seed in (7, 8)]
    sizes: list[int] = []

    class Watched(Scripted):
        def run(self, trials: Sequence[Trial], *others: object) -> Generator[Outcome, None, None]:
            sizes.append(len(trials))
            yield from super().run(trials, *others)  # type: ignore[arg-type]

    engine = Watched("done", "done", "done", "done")
    run_study([cost[0], small(seed=0), cost[1], small(seed=1)], tmp_path, engine=engine)
    assert engine.seen == [0, 1, 7, 8]
    assert [size for size in sizes if size] == [2, 1, 1]


LONG = {"epochs": 100_000}


def test_a_trial_that_takes_too_long_or_too_much_is_stopped(tmp_path: Path) -> None:
    trials = [small(**LONG), small(seed=1)]
    engine = Processes(2)
    # the short one is done before anything is limited
    run_study(trials[1:], tmp_path, engine=engine)
    for limits, word in ((Limits(seconds=0.5), "seconds"), (Limits(megabytes=10), "memory")):
        store = tmp_path / word
        records = run_study(trials[:1], store, engine=engine, limits=limits)
        assert records[0].status == "stopped"
        assert word in records[0].message
        # not done again under the same limits, but under larger ones
        again = Scripted("done")
        run_study(trials[:1], store, engine=again, limits=limits)
        assert again.seen == []
        run_study(trials[:1], store, engine=again)
        assert again.seen == [0]


def test_limits_need_an_engine_that_can_stop(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="processes"):
        run_study([small()], tmp_path, engine=InProcess(), limits=Limits(seconds=1))
    with pytest.raises(ArgumentError, match=r"seconds.*\n.*megabytes"):
        Limits(seconds=-1, megabytes=0)


def test_a_child_that_is_killed_fails_alone(tmp_path: Path) -> None:
    import threading

    from timelocal.studies.engines import child

    trial, ended = small(**LONG), []

    def attend() -> None:
        stop = threading.Event()
        ended.append(child.supervise(trial, tmp_path, None, Limits(), stop))

    thread = threading.Thread(target=attend)
    thread.start()
    lock = tmp_path / trial.folder_name() / ".lock"
    told = tmp_path / trial.folder_name() / "status.json"
    while not (told.exists() and lock.exists() and _holders(lock)):
        time.sleep(0.05)
    (pid,) = _holders(lock)
    os.kill(pid, signal.SIGKILL)
    thread.join()
    assert ended == [("failed", "its process was killed by signal 9")]
    assert runs(tmp_path)[0].status == "failed"


def _holders(path: Path) -> list[int]:
    """Processes that have a file open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.resolve() == path.resolve() and int(link.parts[2]) != os.getpid():
                found.append(int(link.parts[2]))
        except OSError:
            continue
    return found


def test_what_another_driver_does_is_waited_for(tmp_path: Path) -> None:
    import threading

    trial = small()
    folder = make_folder(tmp_path / trial.folder_name())

    def other() -> None:
        with exclusive(folder / ".lock"):
            held.set()
            time.sleep(1.5)
            write_json(folder / "config.json", trial.model_dump(mode="json"))
            write_json(folder / "status.json", {"status": "diverged", "message": "by another"})

    held = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    (record,) = run_study([trial], tmp_path, engine=InProcess())
    thread.join()
    assert (record.status, record.message) == ("diverged", "by another")


@pytest.mark.slow
def test_ten_thousand_runs_are_listed_from_two_small_files_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small().model_dump(mode="json")
    store, empty = tmp_path / "store", tmp_path / "empty"
    empty.write_text("{}")
    for number in range(10_000):
        folder = store / f"run-{number:05d}"
        folder.mkdir(parents=True)
        made = config | {"seed": number, "rule": ("dfa", "bptt")[number % 2]}
        status = ("finished", "failed")[number % 4 == 0]
        (folder / "config.json").write_text(json.dumps(made))
        (folder / "status.json").write_text(json.dumps({"status": status}))
        for name in ("environment", "history", "timing", "result"):
            os.link(empty, folder / f"{name}.json")
    opened: list[str] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        opened.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    found = index(store)
    assert len(found) == 10_000
    assert len(opened) == 20_000
    assert sum(one["status"] == "failed" for one in found) == 2_500
    assert sum(one["rule"] == "bptt" for one in found) == 5_000
    monkeypatch.undo()
    text = table(runs(tmp_path))
    assert text.count("\n") == 10_001


def test_where_no_worker_can_start_every_trial_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(child._context.Process, "start", refused)
    trials = [small(seed=seed) for seed in range(3)]
    heard: list[str] = []
    records = run_study(trials, tmp_path, engine=Processes(2), tell=heard.append)
    assert [record.status for record in records] == ["failed"] * 3
    assert all("could not be started" in record.message for record in records)
    assert sum("could not be started" in line for line in heard) == 3
    monkeypatch.undo()
    again = run_study(trials[:1], tmp_path, engine=Processes(1))
    assert again[0].status == "finished"


def test_processors_are_counted_where_the_system_knows_no_affinity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert Processes().workers == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert Processes().workers == 1
