"""How much more the threads of torch do than one of them does, measured here and now.

In a virtual machine a second thread may be woken on the core of the first, and under other programs' load it
gets no core at all: then it gains nothing, and waiting for it costs time. The kernels see that in their own
waits and go on alone for a while; this is to tell the user.
"""

from __future__ import annotations

import time
from statistics import median

import torch

from timelocal.kernels import native

_ROUNDS = 60_000
"""Of a loop of multiply-adds: a tenth of a millisecond, a short job of the kernels'."""
_WORTH = 1.2
"""The gain below which threads are not worth their waiting."""


def gain_of_threads(repeats: int = 15) -> float | None:
    """How many times as much work all threads do in the same time as one; None without native kernels."""
    threads = torch.get_num_threads()
    if not native.serves(torch.float32, torch.device("cpu")):
        return None
    ratios = [threads * _seconds(1) / _seconds(threads) for _ in range(repeats)]
    return float(median(ratios))


def about_threads(gain: float | None, threads: int) -> str:
    """What a gain means, in words.

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
