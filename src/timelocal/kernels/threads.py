"""The speed-up of torch's threads over a single thread, measured on this machine now.

In a virtual machine, a second thread may wake up on the core of the first, and while other programs run it
may get no core at all: then it gains nothing, and waiting for it costs time. The kernels notice this by their
waiting times and continue alone for a while. This module reports it to the user.
"""

from __future__ import annotations

import time
from statistics import median

import torch

from timelocal.kernels import native

_ROUNDS = 60_000
"""Rounds of a loop of multiply-adds: a tenth of a millisecond, like a short job of the kernels."""
_WORTH = 1.2
"""The speed-up below which threads are not worth waiting for."""


def gain_of_threads(repeats: int = 15) -> float | None:
    """The work of all threads in a given time, relative to one thread's; None without native kernels."""
    threads = torch.get_num_threads()
    if not native.serves(torch.float32, torch.device("cpu")):
        return None
    ratios = [threads * _seconds(1) / _seconds(threads) for _ in range(repeats)]
    return float(median(ratios))


def about_threads(gain: float | None, threads: int) -> str:
    """A speed-up in words.

    >>> about_threads(1.9, 2)
    '2 threads do 1.9 times the work of one'
    """
    if threads == 1:
        return "one"
    if gain is None:
        return f"{threads}, torch only: not measured"
    if gain < _WORTH:
        return (
            f"{threads} threads do {gain:.1f} times the work of one: the kernels rarely wait for the others, "
            "and OMP_NUM_THREADS=1 is as fast"
        )
    return f"{threads} threads do {gain:.1f} times the work of one"


def _seconds(threads: int) -> float:
    start = time.perf_counter()
    native.multiply_adds(torch.float32, threads, _ROUNDS)
    return time.perf_counter() - start
