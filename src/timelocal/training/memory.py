"""The memory a call needs at its peak."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def peak_memory(call: Callable[[], object]) -> float | None:
    """Bytes of resident memory that a call needs above the level before it; None except on Linux."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not status.exists():
        return None
    call()
    gc.collect()
    with suppress(
        OSError, AttributeError
    ):  # freed memory that the allocator keeps would hide a need
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        reset.write_text("5", encoding="ascii")  # the high-water mark starts again from here
        before = _status_bytes(status, "VmRSS")
        call()
        return max(0.0, _status_bytes(status, "VmHWM") - before)
    return None


def _status_bytes(status: Path, key: str) -> float:
    lines = status.read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return 1024.0 * float(line.split()[1])
