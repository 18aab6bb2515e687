"""One benchmark: every contestant on every shape and cell, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from timelocal.bench.contestants import contestants
from timelocal.bench.measure import Call, Timing, conditions, gemm, interleaved
from timelocal.bench.shapes import Shape
from timelocal.training.memory import peak_memory

PASSES = {"scan": 1, "dfa": 2, "bptt": 3, "torch": 3, "jax": 3}
"""The arithmetic that each contestant must do, in forward passes: DFA adds one product for the update, BPTT
another to carry the error back."""


@dataclass(frozen=True)
class Comparison:
    """Seconds per call of each contestant on one shape and cell, with the hardware's limit.

    peak: floating-point operations per second of a large matrix product in the same minute, with the
    same threads. one_thread: "scan" and "dfa" on a single thread, in the same rounds. memory: bytes at
    the peak of one call.
    """

    shape: Shape
    cell: str
    threads: int
    peak: float
    timings: dict[str, Timing]
    one_thread: dict[str, Timing]
    memory: dict[str, float | None]

    def ratio(self, slow: str, fast: str) -> float | None:
        """The time of `slow` divided by that of `fast`."""
        if slow not in self.timings or fast not in self.timings:
            return None
        return self.timings[slow].median / self.timings[fast].median

    def roofline(self, name: str) -> float:
        """The rate of a contestant's necessary arithmetic, as a share of the measured peak."""
        flops = PASSES[name] * self.shape.forward_flops(self.cell)
        return flops / self.timings[name].median / self.peak

    def scaling(self, name: str) -> float | None:
        """The time of one thread divided by that of all threads."""
        if name not in self.one_thread:
            return None
        return self.one_thread[name].median / self.timings[name].median


def benchmark(
    shapes: Iterable[Shape],
    cells: Iterable[str],
    *,
    threads: int = 2,
    repeats: int = 15,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Comparison]:
    """Measure every shape with every cell; subnormals are flushed for all."""
    cells = list(cells)
    found = []
    with conditions(threads):
        for shape in shapes:
            for cell in cells:
                tell(f"{shape.name}, {cell}")
                found.append(_compare(shape, cell, threads, repeats))
    return found


def _compare(shape: Shape, cell: str, threads: int, repeats: int) -> Comparison:
    product, flops = gemm()
    calls = contestants(shape, cell)
    single = {name: _on_one_thread(calls[name], threads) for name in ("scan", "dfa")}
    timed = interleaved(
        {"gemm": product, **calls, **{f"{name}, 1 thread": call for name, call in single.items()}},
        repeats=repeats,
    )
    return Comparison(
        shape,
        cell,
        threads,
        flops / timed["gemm"].median,
        {name: timed[name] for name in calls},
        {name: timed[f"{name}, 1 thread"] for name in single} if threads > 1 else {},
        {name: peak_memory(call) for name, call in calls.items()},
    )


def _on_one_thread(call: Call, threads: int) -> Call:
    def single() -> None:
        torch.set_num_threads(1)
        call()
        torch.set_num_threads(threads)

    return single


def summary(comparison: Comparison) -> dict[str, Any]:
    """Everything measured and derived, as plain numbers for JSON, tables and pages."""
    return {
        "shape": asdict(comparison.shape),
        "cell": comparison.cell,
        "threads": comparison.threads,
        "peak_gflops": comparison.peak / 1e9,
        "milliseconds": {
            name: {key: 1e3 * value for key, value in asdict(timing).items()}
            for name, timing in comparison.timings.items()
        },
        "one_thread_milliseconds": {
            name: 1e3 * timing.median for name, timing in comparison.one_thread.items()
        },
        "ratios": {
            "dfa_vs_torch": comparison.ratio("torch", "dfa"),
            "dfa_vs_jax": comparison.ratio("jax", "dfa"),
            "bptt_vs_torch": comparison.ratio("torch", "bptt"),
            "bptt_vs_jax": comparison.ratio("jax", "bptt"),
        },
        "share_of_peak": {name: comparison.roofline(name) for name in comparison.timings},
        "thread_scaling": {name: comparison.scaling(name) for name in comparison.one_thread},
        "peak_memory_mb": {
            name: None if value is None else value / 2**20
            for name, value in comparison.memory.items()
        },
    }
