"""As many trials at a time as there are cores, each in a process of its own with one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from timelocal.errors import Problem, raise_problems
from timelocal.experiments.trial import Trial
from timelocal.studies.engines.engine import Outcome
from timelocal.studies.limits import Limits


class JoblibEngine:
    """Joblib's threads, each of which looks after one child process."""

    def __init__(self, workers: int | None = None) -> None:
        """workers: trials at a time; None: one a core."""
        if workers is not None and workers < 1:
            raise_problems([Problem("workers", workers, "1 or more")])
        self.workers = workers or len(os.sched_getaffinity(0))

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Do the trials, in any order."""
        from joblib import Parallel, delayed

        from timelocal.studies.engines.child import supervise

        stop = threading.Event()

        def one(trial: Trial) -> Outcome:
            if stop.is_set():
                return Outcome(trial, "lost", "the study was stopped")
            return Outcome(trial, *supervise(trial, store, data_dir, limits, stop))

        pool = Parallel(
            self.workers, backend="threading", return_as="generator_unordered", batch_size=1
        )
        outcomes = pool(delayed(one)(trial) for trial in trials)
        try:
            yield from outcomes
        except BaseException:
            stop.set()
            for _ in outcomes:  # until the children are gone
                pass
            raise
