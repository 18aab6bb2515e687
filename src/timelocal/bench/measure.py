"""Timing that is robust on a shared machine: interleaved, repeated, reported with its spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import Any, Literal

import torch

from timelocal.kernels import native

Call = Callable[[], object]
Sense = Literal["at least", "at most"]


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median over repeats and the quartiles around it."""

    median: float
    low: float
    high: float


@contextmanager
def conditions(threads: int) -> Iterator[None]:
    """The same conditions for all contestants: the number of threads, and subnormals flushed."""
    before = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleaved(
    calls: Mapping[str, Call], *, repeats: int, at_least: float = 0.005
) -> dict[str, Timing]:
    """Time the calls in turn, A B C A B C …, so that a slow phase of the machine affects all of them.

    Each sample is a row of calls that takes `at_least` seconds, after one round that is not counted.
    """
    rounds: dict[str, int] = {}
    for name, call in calls.items():
        call()
        rounds[name] = max(1, round(at_least / max(seconds_of(call, 1), 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            samples[name].append(seconds_of(call, rounds[name]))
    return {name: _timing(found) for name, found in samples.items()}


def seconds_of(call: Call, rounds: int) -> float:
    """Seconds per call, over `rounds` calls in a row."""
    start = time.perf_counter()
    for _ in range(rounds):
        call()
    return (time.perf_counter() - start) / rounds


def _timing(samples: list[float]) -> Timing:
    if len(samples) < 2:
        return Timing(samples[0], samples[0], samples[0])
    low, _, high = quantiles(samples, n=4, method="inclusive")
    return Timing(median(samples), low, high)


def gemm(size: int = 1024) -> tuple[Call, float]:
    """A square matrix product, as a measure of the processor's speed, and its number of operations."""
    a, b, out = (torch.randn(size, size) for _ in range(3))
    return lambda: torch.mm(a, b, out=out), 2.0 * size**3


def peak(threads: int) -> tuple[Call, float]:
    """A loop of float32 multiply-adds only, the processor's maximum rate, and its number of operations.

    Without native kernels, the matrix product is used instead.
    """
    if not native.serves(torch.float32, torch.device("cpu")):
        return gemm()
    loop = partial(native.multiply_adds, torch.float32, threads, 1_000_000)
    return loop, loop()


def judged(what: str, measured: float, sense: Sense, limit: float) -> dict[str, Any]:
    """A requirement, the measured value, and whether it is met."""
    met = measured >= limit if sense == "at least" else measured <= limit
    return {"what": what, "measured": measured, "bar": f"{sense} {limit:g}", "met": met}
