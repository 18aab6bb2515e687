"""A driver of a study, as a process that a test can kill: `python driver.py STORE ENGINE [ADDRESS]`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from timelocal.experiments.config import TrainConfig
from timelocal.studies.engines import Engine, InProcess, Processes, RayEngine
from timelocal.studies.study import run_study

COUNT = 32


def trials() -> list[TrainConfig]:
    """Small, but with enough epochs to be caught in the middle."""
    return [
        TrainConfig(
            cell="rnn", rule=rule, hidden=4, batch=512, epochs=60, seed=seed, rule_options=options
        )
        for rule, options in (("dfa", {}), ("anp", {"sigma": 0.1}))
        for seed in range(COUNT // 2)
    ]


def engine(name: str, address: str | None) -> Engine:
    """The engine by its name."""
    if name == "ray":
        return RayEngine(address, every=0.3)
    return Processes(2) if name == "processes" else InProcess()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if it was started so
    store, name, *rest = sys.argv[1:]
    made = engine(name, rest[0] if rest else None)
    run_study(trials(), Path(store), engine=made, tell=lambda line: print(line, flush=True))
