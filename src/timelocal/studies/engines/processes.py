"""As many trials at a time as there are cores, each in a process of its own with one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from timelocal.errors import Problem, raise_problems
from timelocal.experiments.trial import Trial
from timelocal.studies.engines.engine import Outcome
from timelocal.studies.limits import Limits


def processors() -> int:
    """How many processors this process may use, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Processes:
    """A pool of threads, each of which looks after one child process at a time.

    A `ProcessPoolExecutor` would break three promises: it cannot stop one task at a limit of time or memory;
    a worker that is killed takes all trials of the pool along; workers outlive a driver that is killed. Here
    each trial has a process of its own (`child`).
    """

    def __init__(self, workers: int | None = None) -> None:
        """workers: trials at a time; None: one a core."""
        if workers is not None and workers < 1:
            raise_problems([Problem("workers", workers, "1 or more")])
        self.workers = workers or processors()

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Do the trials, in any order."""
        from timelocal.studies.engines.child import supervise

        stop = threading.Event()

        def one(trial: Trial) -> Outcome:
            if stop.is_set():
                return Outcome(trial, "lost", "the study was stopped")
            return Outcome(trial, *supervise(trial, store, data_dir, limits, stop))

        with ThreadPoolExecutor(self.workers) as pool:  # its end waits until the children are gone
            try:
                for future in as_completed([pool.submit(one, trial) for trial in trials]):
                    yield future.result()
            except BaseException:
                stop.set()
                raise
