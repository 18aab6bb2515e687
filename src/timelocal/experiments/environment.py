"""Where a run was made: versions and hardware, for the reader of its result."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from timelocal import __version__, kernels

_PACKAGES = ("torch", "numpy", "scikit-learn", "safetensors", "pydantic")


def environment(
    derived: str | None = None, plugins: Mapping[str, Any] | None = None
) -> dict[str, object]:
    """Versions, system, processor, threads, kernel path, command and now, for `environment.json`.

    derived: the command that anyone can give to make the same run again. It is the `command` then, and what
    was typed stands beside it as `recorded_command`. plugins: where what is not of this package comes from.
    """
    commands = {"command": command()}
    if derived is not None:
        commands = {"command": derived, "recorded_command": command()}
    return {
        "timelocal": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "kernels": kernels.describe(),
        **({"plugins": dict(plugins)} if plugins else {}),
        **commands,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command() -> str:
    """The command line that is running."""
    program, *arguments = sys.argv
    name = Path(program).name
    return shlex.join(["timelocal" if name == "__main__.py" else name, *arguments])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name; Linux keeps it where `platform` does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
