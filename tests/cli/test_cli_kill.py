"""`kill -9` at random moments, then the same command again: the same bytes as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}
TRAIN = ["train", "--cell", "gru", "--hidden", "24", "--epochs", "20", "--batch", "128"]


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

    def run(self, arguments: list[str], seconds: float | None = None) -> bool:
        """Run to the end, or kill after `seconds`. Whether it got to the end."""
        self.server.stdin.write(json.dumps(arguments) + "\n")
        child = int(self.server.stdout.readline())
        ended, _, _ = select.select([self.server.stdout], [], [], seconds)
        if not ended:
            os.kill(child, signal.SIGKILL)
        status = int(self.server.stdout.readline())
        assert status in (0, signal.SIGKILL)
        return status == 0

    def close(self) -> None:
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()


class Processes:
    """Runs every command in a process of its own, as a user does."""

    def run(self, arguments: list[str], seconds: float | None = None) -> bool:
        command = [sys.executable, "-m", "timelocal", *arguments]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, env=ENVIRONMENT, stdout=quiet, stderr=quiet) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.returncode in (0, -signal.SIGKILL)
        return process.returncode == 0

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
    timed = {"checkpoint.json", "timing.json", "environment.json", "result.json"}
    found = {
        path.name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in timed
    }
    result = json.loads((folder / "result.json").read_text())
    del result["seconds"]
    return {**found, "result": json.dumps(result).encode()}


def epoch(out: Path) -> int:
    """The epoch of the checkpoint, 0 without one."""
    for index in out.glob("*/checkpoint/checkpoint.json"):
        return json.loads(index.read_text())["epoch"]
    return 0


def test_kill_at_random_moments(launcher, tmp_path):
    start = time.monotonic()
    assert launcher.run([*TRAIN, "--out", str(tmp_path / "whole")])
    duration = time.monotonic() - start
    expected = deterministic(tmp_path / "whole")
    assert {"history.json", "config.json", "status.json"} <= expected.keys()
    assert any(name.startswith("last-") for name in expected)

    chance = random.Random(0)
    kills = goings_on = 0
    for attempt in range(20):
        out = tmp_path / str(attempt)
        while not launcher.run([*TRAIN, "--out", str(out)], chance.uniform(0.3, 1) * duration):
            kills += 1
            goings_on += 0 < epoch(out) < 20
        assert deterministic(out) == expected
        if kills >= 5 and goings_on >= 3:
            break
    assert kills >= 5
    assert goings_on >= 3
