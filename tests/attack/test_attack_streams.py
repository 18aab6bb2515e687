"""A million steps of a stream: the memory of the process does not grow, whatever the path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from damage import SCALE

STEPS = round(1_000_000 * SCALE)
STREAM = """
import json, sys
import torch, timelocal as tl

kind, steps = json.loads(sys.argv[1])
torch.set_num_threads(1)
make, optimizer = {
    "NP on a tanh layer, SGD": (lambda: tl.NP(tl.RNN(1, 8, 1), loss="mse"), torch.optim.SGD),
    "e-prop on a GRU, Adam": (lambda: tl.EProp(tl.GRU(1, 8, 1), loss="mse"), torch.optim.Adam),
    "RTRL on an LRU, Adam": (lambda: tl.RTRL(tl.LRU(1, 8, 1), loss="mse"), torch.optim.Adam),
    "RTRL on a minGRU, Adam": (lambda: tl.RTRL(tl.MinGRU(1, 8, 1), loss="mse"), torch.optim.Adam),
    "RTRL on a GRU, Adam": (lambda: tl.RTRL(tl.GRU(1, 4, 1), loss="mse"), torch.optim.Adam),
}[kind.removesuffix(", step by step").removesuffix(", chunks")]
rule = make()
stream = tl.Stream(rule, optimizer(rule.parameters(), lr=1e-3))


def resident():
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1])


def go(steps, chunk=1000):
    loss = torch.zeros(())
    for start in range(0, steps, chunk):
        wave = torch.linspace(start, start + chunk, chunk + 1).mul(0.1).sin().view(1, -1, 1)
        x, y = wave[:, :-1], wave[:, 1:]
        if kind.endswith("step by step"):
            loss = sum(stream.step(x[:, t], y[:, t]).loss for t in range(chunk)) / chunk
        else:
            loss = stream.run(x, y).loss.mean()
    return float(loss)


go(2000)
before, first, steps = resident(), go(1000), max(1000, steps - 3000)
last = go(steps)
print(json.dumps([stream.steps, before, resident(), first, last]))
"""
KINDS = {
    "NP on a tanh layer, SGD, chunks": STEPS,
    "e-prop on a GRU, Adam, chunks": STEPS,
    "e-prop on a GRU, Adam, step by step": STEPS,
    "RTRL on an LRU, Adam, chunks": STEPS,
    "RTRL on an LRU, Adam, step by step": STEPS,
    "RTRL on a minGRU, Adam, chunks": STEPS,
    "RTRL on a GRU, Adam, chunks": STEPS // 10,
}
"""RTRL on a GRU has no native stream: a step takes a millisecond."""


@pytest.mark.attack
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_a_million_steps_take_the_memory_of_a_few(kind: str, tell: Callable[..., None]) -> None:
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", STREAM, json.dumps([kind, KINDS[kind]])],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    steps, before, after, first, last = json.loads(done.stdout)
    memory = {"KiB after 2,000 steps": before, "KiB at the end": after}
    tell("streams", kind, {"steps": steps, **memory})
    assert after - before < 1024  # KiB; a leak of four bytes a step would be more
    assert last < first
