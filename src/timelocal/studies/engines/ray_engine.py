"""Trials on many machines that share no disk, with Ray: only the driver writes to the store."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from timelocal.errors import BusyError, TimelocalError
from timelocal.experiments.trial import Trial, from_json
from timelocal.files import exclusive, make_folder
from timelocal.optional import require
from timelocal.plugins import search_also, search_path
from timelocal.studies.engines.bundle import Bundle, packed, unpack
from timelocal.studies.engines.engine import Kind, Outcome
from timelocal.studies.limits import Limits

_EVERY = 30.0
"""Seconds between two checks for a new checkpoint to send to the driver."""


class RayEngine:
    """One task per trial, which sends its run folder to the driver regularly and at the end.

    If the machine of a trial goes away, the trial resumes from the last checkpoint that the driver received.
    """

    def __init__(self, address: str | None = None, every: float = _EVERY) -> None:
        """address: of the cluster, such as "auto"; None means a new cluster on this machine."""
        self.address, self.every = address, every

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Run the trials, in any order."""
        ray = _ray()
        if not ray.is_initialized():
            ray.init(
                # without an address, Ray would join any cluster that it finds on this machine
                self.address or "local",
                log_to_driver=False,
                include_dashboard=False,
                logging_level="error",
            )
        task = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(_work)
        waiting = deque(trials)
        running: dict[Any, tuple[Trial, Path, ExitStack]] = {}
        with ExitStack() as locks:
            try:
                while waiting or running:
                    room = 2 * int(ray.cluster_resources().get("CPU", 1)) - len(running)
                    for _ in range(min(max(room, 0), len(waiting))):
                        trial = waiting.popleft()
                        folder = make_folder(store / trial.folder_name())
                        lock = ExitStack()
                        try:
                            lock.enter_context(exclusive(folder / ".lock"))
                        except BusyError as error:
                            yield Outcome(trial, "busy", str(error))
                            continue
                        locks.push(lock)
                        told = task.remote(
                            trial.canonical(),
                            packed(folder),
                            data_dir,
                            limits,
                            self.every,
                            search_path(),
                        )
                        running[told] = (trial, folder, lock)
                    ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                    for told in ready:
                        trial, folder, lock = running[told]
                        outcome = _heard(ray, told, trial, folder)
                        if outcome is not None:
                            del running[told]
                            lock.close()
                            yield outcome
            finally:
                for told in running:
                    ray.cancel(told, force=True)


def _heard(ray: Any, told: Any, trial: Trial, folder: Path) -> Outcome | None:
    """Write the files that a task has sent; return its outcome if this was the last message."""
    try:
        bundle, ended = ray.get(next(told))
    except StopIteration:
        return Outcome(trial, "lost", "its task ended without a message")
    except ray.exceptions.RayTaskError as error:
        return Outcome(trial, "failed", str(error.cause))
    except ray.exceptions.RayError as error:
        return Outcome(trial, "lost", f"{type(error).__name__}: its worker or machine was lost")
    unpack(bundle, folder)
    return None if ended is None else Outcome(trial, *ended)


def _work(
    trial: str,
    files: Bundle,
    data_dir: Path | None,
    limits: Limits,
    every: float,
    paths: Sequence[str],
) -> Iterator[tuple[Bundle, tuple[Kind, str] | None]]:
    """Runs on a worker: run the trial in a scratch folder and yield the folder's contents.

    paths: the driver's import paths. A plug-in in a folder is found on machines that have the same folder; on
    others it must be installed.
    """
    from timelocal.studies.engines.child import supervise

    search_also(paths)
    try:
        made = from_json(json.loads(trial))
    except TimelocalError as error:
        yield {}, ("mistake", f"on {platform.node()}: {error}")
        return
    os.environ["OMP_NUM_THREADS"] = str(made.threads)
    with tempfile.TemporaryDirectory() as scratch:
        store, ended = Path(scratch), []
        folder = make_folder(store / made.folder_name())
        unpack(files, folder)
        stop = threading.Event()

        def attend() -> None:
            ended.append(supervise(made, store, data_dir, limits, stop))

        thread = threading.Thread(target=attend, daemon=True)
        thread.start()
        sent = None
        try:
            while True:
                thread.join(every)
                if not thread.is_alive():
                    break
                index = folder / "checkpoint" / "checkpoint.json"
                now = index.stat().st_mtime_ns if index.exists() else None
                if now is not None and now != sent:
                    sent = now
                    yield packed(folder), None
        finally:
            stop.set()
            thread.join()
        yield packed(folder), ended[0] if ended else ("failed", "its worker could not start it")


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    require("ray", extra="ray", for_="the engine ray")
    import ray

    return ray
