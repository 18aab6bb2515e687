"""As many trials at a time as there are cores, each in its own process with one thread."""

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
    """The number of processors that this process may use, as far as the system reports it."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Processes:
    """A pool of threads, each of which supervises one child process at a time.

    A `ProcessPoolExecutor` would not do: it cannot stop a single task at a limit of time or memory; if one
    worker is killed, all trials of the pool are lost; and workers outlive a killed driver. Here each trial
    has its own process (`child`).
    """

    def __init__(self, workers: int | None = None) -> None:
        """workers: trials at a time; None means one per core."""
        if workers is not None and workers < 1:
            raise_problems([Problem("workers", workers, "1 or more")])
        self.workers = workers or processors()

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Run the trials, in any order."""
        from timelocal.studies.engines.child import supervise

        stop = threading.Event()

        def one(trial: Trial) -> Outcome:
            if stop.is_set():
                return Outcome(trial, "lost", "the study was stopped")
            return Outcome(trial, *supervise(trial, store, data_dir, limits, stop))

        # leaving the block waits for the children to end
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for future in as_completed([pool.submit(one, trial) for trial in trials]):
                    yield future.result()
            except BaseException:
                stop.set()
                raise
