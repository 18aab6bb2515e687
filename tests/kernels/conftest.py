"""Each extension that was built and that this processor can run, one after the other."""

from __future__ import annotations

import importlib

import pytest
import torch

from timelocal.kernels import native

CAPABILITY = torch.backends.cpu.get_cpu_capability()


def runnable(instruction_set: str) -> bool:
    sets = {"AVX512": ("generic", "avx2", "avx512"), "AVX2": ("generic", "avx2")}
    return instruction_set in sets.get(CAPABILITY, ("generic",))


@pytest.fixture(params=["generic", "avx2", "avx512"])
def module(request, monkeypatch):
    """`timelocal.kernels.native` on one instruction set."""
    if not runnable(request.param):
        pytest.skip(f"this processor cannot run {request.param}")
    try:
        built = importlib.import_module(f"timelocal.kernels._native_{request.param}")
    except ImportError:
        pytest.skip(f"the {request.param} kernels were not built")
    monkeypatch.setattr(native, "_module", built)
    return native


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
