"""The memory of a stream does not grow: the peak after many steps is the peak after few, measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from timelocal.rules import RULES
from timelocal.testing.cases import ELEMENTWISE

STREAM = """
import json, resource, sys
import torch, timelocal as tl

cell, name, many, options, optimizer = json.loads(sys.argv[1])
torch.set_num_threads(1)
like = {"tau": 2.0, "decorrelate": 1e-6} if cell == "RNN" else {}
network = getattr(tl, cell)(1, 8, output_size=1, **like)
rule = tl.RULES[name](network, loss="mse", at="every", **options)
stream = tl.Stream(rule, getattr(torch.optim, optimizer)(rule.parameters(), lr=1e-4), batch_size=2)

def peak(steps):
    chunk = 500
    for _ in range(steps // chunk):
        stream.run(torch.rand(2, chunk, 1), torch.rand(2, chunk, 1))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

print(json.dumps([peak(1000), peak(many - 1000)]))
"""

NATIVE = ("tbptt", "rflo", "np", "anp", "wp")
"""Run in one native call a chunk with plain SGD: 10⁵ steps are quick."""

CASES = [
    *((name, 100_000, {}, "SGD") for name in NATIVE),
    *((name, 3_000, {}, "Adam") for name in RULES if RULES[name].spec.online),
    ("tbptt", 3_000, {"k": 4}, "SGD"),
    ("np", 3_000, {"credit": "trace(0.9)"}, "SGD"),
    ("dfa", 3_000, {"feedback": "kolen_pollack", "trace": "leak"}, "SGD"),
]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case[0]}-{case[1]}-{case[2]}-{case[3]}",
            marks=pytest.mark.slow if case[1] == 100_000 else pytest.mark.thorough,
        )
        for case in CASES
    ],
)
def test_peak_memory_of_a_stream_is_flat(case: tuple[str, int, dict[str, object], str]) -> None:
    name, many, options, optimizer = case
    steps = int(os.environ.get("TIMELOCAL_STREAM_STEPS", many))
    few, all_of_them = peaks("RNN", name, steps, options, optimizer)
    assert all_of_them <= 1.02 * few


CELLS = ("IndRNN", "LRU", "RTU", "MinGRU", "MinLSTM")


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_exact_learning_of_an_elementwise_cell_takes_the_same_memory_for_a_million_steps(
    cell: str,
) -> None:
    few, all_of_them = peaks(cell, "rtrl", 1_000_000, {}, "Adam")
    assert all_of_them <= 1.02 * few


def peaks(cell: str, *case: object) -> tuple[int, int]:
    """The peak memory of a process of its own after 1,000 steps, and after all of them."""
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", STREAM, json.dumps([cell, *case])],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    few, all_of_them = json.loads(done.stdout)
    return few, all_of_them


def test_every_elementwise_cell_is_measured() -> None:
    assert {cell.lower() for cell in CELLS} == set(ELEMENTWISE)


def test_every_online_rule_is_measured() -> None:
    online = {name for name, rule in RULES.items() if rule.spec.online}
    assert online == {name for name, _, _, optimizer in CASES if optimizer == "Adam"}
    assert set(NATIVE) <= online
