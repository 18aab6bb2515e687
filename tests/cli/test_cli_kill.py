"""`kill -9` at random moments, then the same command again: the same bytes as if nothing had been."""

from __future__ import annotations

import json
import math
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from damage import SCALE

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}
EPOCHS = 100
TRAIN = ["train", "--cell", "gru", "--hidden", "24", "--batch", "128", "--epochs", str(EPOCHS)]


class Forks:
    """Runs commands in children of one process that has imported everything."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forked.py"))],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        assert self.server.stdout.readline() == "ready\n"

    def start(self, arguments: list[str]) -> None:
        self.server.stdin.write(json.dumps(arguments) + "\n")
        self.child = int(self.server.stdout.readline())

    def ended(self, seconds: float) -> bool:
        return bool(select.select([self.server.stdout], [], [], seconds)[0])

    def kill(self) -> None:
        os.kill(self.child, signal.SIGKILL)

    def status(self) -> int:
        return os.waitstatus_to_exitcode(int(self.server.stdout.readline()))

    def close(self) -> None:
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()


class Processes:
    """Runs every command in a process of its own, as a user does."""

    def start(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "timelocal", *arguments]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=quiet, stderr=quiet)

    def ended(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()

    def status(self) -> int:
        return self.process.wait()

    def close(self) -> None:
        pass


@pytest.fixture(params=[Forks, pytest.param(Processes, marks=pytest.mark.slow)])
def launcher(request: pytest.FixtureRequest) -> Iterator[Forks | Processes]:
    made = request.param()
    yield made
    made.close()


def deterministic(out: Path) -> dict[str, bytes]:
    """Every file whose bytes must not depend on interruptions."""
    (folder,) = out.iterdir()
    timed = {"checkpoint.json", "timing.json", "environment.json", "result.json", "status.json"}
    found = {
        path.name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in timed
    }
    result = json.loads((folder / "result.json").read_text())
    del result["seconds"]
    status = json.loads((folder / "status.json").read_text())
    del status["sha256"]  # of the timed ones, too
    return {**found, "result": json.dumps(result).encode(), "status": json.dumps(status).encode()}


def epoch(out: Path) -> int:
    """The epoch of the checkpoint, 0 without one."""
    for index in out.glob("*/checkpoint/checkpoint.json"):
        return json.loads(index.read_text())["epoch"]
    return 0


def begun(out: Path) -> list[int]:
    """When the run was last begun or gone on with: this file is then written anew."""
    return [path.stat().st_mtime_ns for path in out.glob("*/environment.json")]


def run(launcher: Forks | Processes, out: Path, seconds: float | None = None) -> float:
    """Train into `out`; kill it `seconds` after it has begun to write.

    Returns the seconds from there to the end of the run; infinity if it was killed before.
    """
    before = begun(out)
    launcher.start([*TRAIN, "--out", str(out)])
    while begun(out) == before and not launcher.ended(0.01):
        pass
    start = time.monotonic()
    if not launcher.ended(1000 if seconds is None else seconds):
        launcher.kill()
    status = launcher.status()
    assert status in (0, -signal.SIGKILL)
    return math.inf if status else time.monotonic() - start


@pytest.mark.slow
def test_kill_at_random_moments(launcher, tmp_path):
    killed_at_random_moments(launcher, tmp_path, kills=5, goings_on=3)


@pytest.mark.attack
def test_a_hundred_kills(tmp_path: Path, tell: Callable[..., None]) -> None:
    launcher = Forks()
    kills, goings_on = killed_at_random_moments(
        launcher, tmp_path, round(100 * SCALE), round(30 * SCALE)
    )
    launcher.close()
    tell("kills", "timelocal train", {"kills": kills, "resumed": goings_on})


def killed_at_random_moments(
    launcher: Forks | Processes, tmp_path: Path, kills: int, goings_on: int
) -> tuple[int, int]:
    """Kill and go on until that many are met; how many there were, and of them with a run to go on with."""
    duration = run(launcher, tmp_path / "whole")
    expected = deterministic(tmp_path / "whole")
    assert {"history.json", "config.json", "status"} <= expected.keys()
    assert any(name.startswith("last-") for name in expected)

    chance = random.Random(0)
    killed = went_on = 0
    for attempt in range(8 * kills):
        out = tmp_path / str(attempt)
        while (took := run(launcher, out, chance.uniform(0, duration))) == math.inf:
            killed += 1
            went_on += 0 < epoch(out) < EPOCHS
        duration = max(took, duration / 2)  # the first run may have shared the machine
        assert deterministic(out) == expected
        if killed >= kills and went_on >= goings_on:
            break
    assert killed >= kills
    assert went_on >= goings_on
    return killed, went_on
