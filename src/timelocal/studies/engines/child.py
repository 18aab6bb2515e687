"""A trial in its own process, which can be stopped and whose death affects nothing else.

Processes are forked from a server that has imported everything once, so each starts in milliseconds. If the
driver dies, the pipe to it closes and the child ends at once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from timelocal.errors import ReadingWarning, TimelocalError
from timelocal.experiments.folder import set_status
from timelocal.experiments.trial import Trial, from_json
from timelocal.files import is_there, make_folder, write_json
from timelocal.studies.engines.attempt import attempt
from timelocal.studies.engines.engine import Kind
from timelocal.studies.limits import Limits

_LOOK = 0.2
"""Seconds between two checks of a child's time and memory."""


def _start_method() -> Any:
    """A server that has imported everything, if the system can fork (not on Windows)."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        # the last three are what torch's optimizers and the trivial predictors import when first used
        [__name__, "torch._dynamo", "sklearn.datasets", "sklearn.linear_model"]
    )
    return context


_context = _start_method()


def supervise(
    trial: Trial, store: Path, data_dir: Path | None, limits: Limits, stop: threading.Event
) -> tuple[Kind, str]:
    """Run the trial in a child process; kill it at a limit or when `stop` is set; return how it ended."""
    ours, theirs = _context.Pipe()
    child = _context.Process(
        target=_work, args=(theirs, trial.canonical(), str(store), data_dir), daemon=True
    )
    try:
        child.start()
    except (OSError, EOFError) as error:  # no more processes, no memory, a server that died
        ours.close()
        return "failed", f"its process could not be started: {error or type(error).__name__}"
    finally:
        theirs.close()
    start, reason = time.monotonic(), ""
    try:
        while not ours.poll(_LOOK):
            if stop.is_set():
                return "lost", "the study was stopped"
            reason = _over(limits, time.monotonic() - start, child.pid)
            if reason:
                break
        else:
            try:
                kind, message = ours.recv()
            except EOFError:
                child.join()
                message = _death(child.exitcode)
                if is_there(store / trial.folder_name() / "config.json"):
                    set_status(store / trial.folder_name(), "failed", message)
                return "failed", message
            return kind, message
    finally:
        if child.is_alive():
            child.kill()
        child.join()
        ours.close()
    folder = make_folder(store / trial.folder_name())
    write_json(folder / "config.json", trial.model_dump(mode="json"))
    write_json(folder / "limits.json", {"seconds": limits.seconds, "megabytes": limits.megabytes})
    set_status(folder, "stopped", reason)
    return "stopped", reason


def _work(driver: Connection, trial: str, store: str, data_dir: Path | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles Ctrl-C
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    warnings.simplefilter("ignore", ReadingWarning)  # the driver has read the file as well
    try:
        made = from_json(json.loads(trial))
    except TimelocalError as error:  # a plug-in that the driver can import but this process cannot
        driver.send(("mistake", f"in a separate process: {error}"))
        return
    driver.send(attempt(made, Path(store), data_dir))


def _end_with(driver: Connection) -> None:
    try:
        driver.recv()  # the driver sends nothing: this returns when it ends
    except (EOFError, OSError):
        os._exit(1)


def _over(limits: Limits, seconds: float, pid: int | None) -> str:
    """The limit that a child has exceeded, in words; empty if none."""
    if limits.seconds is not None and seconds > limits.seconds:
        return f"stopped after {limits.seconds:g} seconds, the limit"
    if limits.megabytes is not None:
        used = _resident_megabytes(pid)
        if used is not None and used > limits.megabytes:
            return f"stopped at {used:.0f} MB of memory, the limit is {limits.megabytes:g} MB"
    return ""


def _resident_megabytes(pid: int | None) -> float | None:
    """Resident memory of a process; None if the system does not report it."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"its process was killed by signal {-exit_code}"
    return f"its process ended with exit code {exit_code}"
