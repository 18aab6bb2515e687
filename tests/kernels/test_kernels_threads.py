"""Whether threads gain anything is measured: on a machine whose threads share a core, they do not."""

from __future__ import annotations

import pytest
import torch

from timelocal.cli.doctor import facts
from timelocal.kernels import native, threads


class Machine:
    """A clock, and jobs that take time on it: on `cores` of them at once, or one after the other."""

    def __init__(self, cores: int) -> None:
        self.cores, self.now = cores, 0.0

    def multiply_adds(self, dtype: torch.dtype, wanted: int, rounds: int) -> float:
        self.now += rounds * 1e-9 * wanted / min(wanted, self.cores)
        return 0.0


@pytest.mark.parametrize(("cores", "gain"), [(1, 1.0), (2, 2.0), (4, 4.0)])
def test_the_gain_is_that_of_the_machine(monkeypatch, cores: int, gain: float) -> None:
    machine = Machine(cores)
    monkeypatch.setattr(native, "serves", lambda *_: True)
    monkeypatch.setattr(native, "multiply_adds", machine.multiply_adds)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: machine.now)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert threads.gain_of_threads() == pytest.approx(gain)
    told = dict(facts())["threads at work"]
    assert told.startswith(f"4 threads do {gain:.1f} times the work of one")
    assert ("OMP_NUM_THREADS=1 is as fast" in told) == (cores == 1)


def test_one_thread_and_no_kernel_have_no_gain(monkeypatch) -> None:
    assert threads.about_threads(1.0, 1) == "one"
    monkeypatch.setattr(native, "serves", lambda *_: False)
    assert threads.gain_of_threads() is None
    assert "not measured" in threads.about_threads(None, 2)


@pytest.mark.skipif(native.describe()["path"] != "native", reason="no native kernel is active")
def test_the_loop_that_is_measured_does_what_it_says() -> None:
    once = native.multiply_adds(torch.float32, 1, 100)
    assert once > 0
    assert native.multiply_adds(torch.float32, 3, 200) == 6 * once
    assert native.multiply_adds(torch.float64, 1, 100) == once / 2
    gain = threads.gain_of_threads(3)
    assert gain is not None
    assert gain > 0
