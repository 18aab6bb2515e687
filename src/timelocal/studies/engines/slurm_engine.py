"""Trials as jobs of a Slurm cluster, whose machines share the disk of the store."""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from timelocal.errors import BusyError, Problem, TimelocalError, described, raise_problems
from timelocal.experiments.trial import Trial, from_json
from timelocal.files import exclusive, make_folder
from timelocal.optional import require
from timelocal.plugins import search_also, search_path
from timelocal.studies.engines.engine import Kind, Outcome
from timelocal.studies.limits import Limits

_AT_ONCE = 500
"""The number of jobs in the queue at a time; many clusters refuse arrays of more than 1000."""

_LOOK = {"slurm": 5.0, "local": 0.2}
"""Seconds between two checks of the jobs."""


class SlurmEngine:
    """One job per trial, in job arrays submitted by submitit. The jobs write to the store themselves.

    A job that is preempted or runs out of time is submitted again and resumes from its checkpoint. Jobs end
    with the study; if the driver is killed, its jobs continue, and the next driver waits for them.
    """

    def __init__(
        self,
        *,
        partition: str | None = None,
        time: int = 60,
        memory: float = 4.0,
        workers: int | None = None,
        cluster: str = "slurm",
        **options: object,
    ) -> None:
        """partition: of the cluster; None means its default.

        time: of a job, in minutes. memory: of a job, in GB. workers: jobs at a time; None means 500.
        cluster: "local" runs processes on this machine instead of jobs, for trying things out.
        options: other options of sbatch by name, such as account="a" and qos="long".
        """
        raise_problems(
            [
                None
                if cluster in _LOOK
                else Problem("cluster", described(cluster), f"one of {', '.join(_LOOK)}"),
                None
                if isinstance(time, int) and time > 0
                else Problem("time", described(time), "whole minutes, 1 or more"),
                None
                if isinstance(memory, int | float) and memory > 0
                else Problem("memory", described(memory), "GB, above 0"),
                None
                if workers is None or workers > 0
                else Problem("workers", workers, "1 or more"),
            ]
        )
        self.partition, self.time, self.memory = partition, time, memory
        self.workers, self.cluster, self.options = workers, cluster, dict(options)

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Run the trials, in any order."""
        executor = self._executor(make_folder(store.resolve() / ".slurm"), trials)
        waiting = deque(trials)
        running: dict[Any, Trial] = {}
        try:
            while waiting or running:
                chosen: list[Trial] = []
                while waiting and len(running) + len(chosen) < (self.workers or _AT_ONCE):
                    trial = waiting.popleft()
                    told = _held(store / trial.folder_name())
                    if told:
                        yield Outcome(trial, "busy", told)
                    else:
                        chosen.append(trial)
                if chosen:
                    running |= zip(
                        self._submitted(executor, chosen, store, data_dir, limits), chosen,
                        strict=True,
                    )  # fmt: skip
                for job in [job for job in running if job.done()]:
                    yield Outcome(running.pop(job), *_end(job))
                if running:
                    time.sleep(_LOOK[self.cluster])
        finally:
            for job in running:
                # a job that has just ended, a scheduler that does not answer
                with suppress(Exception):
                    job.cancel()

    def _executor(self, folder: Path, trials: Sequence[Trial]) -> Any:
        require("submitit", extra="slurm", for_="the engine slurm")
        import submitit

        if self.cluster == "slurm" and shutil.which("srun") is None:
            got = "no srun on this machine"
            remedy = "Start the study on a machine of the cluster."
            raise_problems([Problem("engine slurm", got, "a Slurm cluster", remedy)])
        executor = submitit.AutoExecutor(folder, cluster=self.cluster)
        executor.update_parameters(
            name="timelocal",
            timeout_min=self.time,
            mem_gb=self.memory,
            cpus_per_task=max((trial.threads for trial in trials), default=1),
            slurm_partition=self.partition,
            slurm_array_parallelism=self.workers or _AT_ONCE,
            slurm_additional_parameters=self.options or None,
        )
        return executor

    def _submitted(
        self,
        executor: Any,
        trials: Sequence[Trial],
        store: Path,
        data_dir: Path | None,
        limits: Limits,
    ) -> list[Any]:
        """The jobs of the trials, one array of them."""
        common = (
            str(store.resolve()),
            None if data_dir is None else str(Path(data_dir).resolve()),
            (limits.seconds, limits.megabytes),
            search_path(),
        )
        with executor.batch():
            return [executor.submit(_work, trial.canonical(), *common) for trial in trials]


def _held(folder: Path) -> str:
    """Who else is running this trial, in words; empty if nobody."""
    try:
        with exclusive(make_folder(folder) / ".lock"):
            return ""
    except BusyError as error:
        return str(error)


def _end(job: Any) -> tuple[Kind, str]:
    """How a finished job ended."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        kind, message = job.result()
    except FailedJobError as error:
        lines = str(error).strip().splitlines()
        return "failed", f"job {job.job_id}: {lines[-1] if lines else 'no word'}"
    except UncompletedJobError:
        return "lost", f"job {job.job_id} ended without a result: {job.state.lower()}"
    return kind, message


def _work(
    trial: str,
    store: str,
    data_dir: str | None,
    limits: tuple[float | None, float | None],
    paths: Sequence[str],
) -> tuple[Kind, str]:
    """Runs in a job: run the trial in its folder of the store, in a process that can be stopped.

    paths: the driver's import paths.
    """
    import os
    import threading

    from submitit.core.utils import UncompletedJobError

    from timelocal.studies.engines.child import supervise

    search_also(paths)
    try:
        made = from_json(json.loads(trial))
    except TimelocalError as error:
        return "mistake", f"in a job: {error}"
    os.environ["OMP_NUM_THREADS"] = str(made.threads)
    folder = None if data_dir is None else Path(data_dir)
    try:
        return supervise(made, Path(store), folder, Limits(*limits), threading.Event())
    except (
        UncompletedJobError
    ) as error:  # raised by the signal that comes before the end of its time
        return "lost", str(error)
