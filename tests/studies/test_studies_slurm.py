"""Trials as jobs: submitit runs them as processes of this machine, or writes what Slurm would be given."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from plugin_files import RULE, module
from timelocal.errors import ArgumentError
from timelocal.experiments.config import TrainConfig
from timelocal.studies.engines import InProcess, Outcome, SlurmEngine
from timelocal.studies.limits import Limits
from timelocal.studies.store import runs
from timelocal.studies.study import run_study
from timelocal.studies.table import table

pytest.importorskip("submitit")


def trial(**options: object) -> TrainConfig:
    return TrainConfig(**{"cell": "rnn", "hidden": 4, "batch": 512, "epochs": 2, **options})


@pytest.mark.slow
def test_jobs_do_what_this_process_does_with_a_rule_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, "slurmed", RULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    trials = [trial(rule="slurmed:Rule"), trial(rule="dfa"), trial(rule="dfa", seed=1)]
    engine = SlurmEngine(cluster="local", workers=2)
    found = run_study(trials, Path("jobs"), engine=engine)  # a path that is not absolute
    assert table(found) == table(run_study(trials, Path("here"), engine=InProcess()))
    assert [one.status for one in found] == ["finished"] * 3
    assert len(runs("jobs")) == 3  # the jobs' own files are no runs


@pytest.mark.slow
def descendants(process: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = status.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found = [*parents.get(process, ())]
    for child in found:
        found += parents.get(child, ())
    return found


@pytest.mark.slow
def test_how_jobs_end(tmp_path: Path) -> None:
    engine = SlurmEngine(cluster="local")
    long = trial(epochs=100_000)
    (stopped,) = engine.run([long], tmp_path, None, Limits(seconds=1))
    assert (stopped.kind, stopped.message) == ("stopped", "stopped after 1 seconds, the limit")
    other = trial(epochs=100_000, seed=1)
    found: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: found.extend(engine.run([other], tmp_path / "killed", None, Limits()))
    )
    thread.start()
    jobs = tmp_path / "killed" / ".slurm"
    while not (names := list(jobs.glob("*_log.out"))):
        time.sleep(0.05)
    job = int(names[0].name.split("_")[0])  # local jobs are called as their processes
    for process in (job, *descendants(job)):  # as a cluster does; else the run itself would go on
        os.kill(process, signal.SIGKILL)
    thread.join()
    (lost,) = found
    assert lost.kind == "lost"
    assert "ended without a result" in lost.message


def test_a_trial_that_another_does_is_no_job(tmp_path: Path) -> None:
    from timelocal.files import exclusive, make_folder

    one = trial()
    with exclusive(make_folder(tmp_path / one.folder_name()) / ".lock"):
        (outcome,) = SlurmEngine(cluster="local").run([one], tmp_path, None, Limits())
    assert outcome.kind == "busy"
    assert not list((tmp_path / ".slurm").glob("*"))


def test_what_slurm_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    engine = SlurmEngine(partition="gpu", time=90, memory=6, workers=20, account="lab", qos="long")
    executor = engine._executor(tmp_path, [trial(threads=3)])._executor
    text = executor._make_submission_file_text("run", "1")
    asked = {line.removeprefix("#SBATCH --") for line in text.splitlines()}
    assert asked >= {
        "partition=gpu",
        "time=90",
        "mem=6GB",
        "cpus-per-task=3",
        "account=lab",
        "qos=long",
    }
    assert executor.parameters["array_parallelism"] == 20


def test_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ArgumentError, match=r"(?s)cluster: got 'pbs'.*time: got 1.5.*memory: got 0"
    ):
        SlurmEngine(cluster="pbs", time=1.5, memory=0)  # type: ignore[arg-type]
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ArgumentError, match="no srun on this machine"):
        next(SlurmEngine().run([trial()], tmp_path, None, Limits()))
