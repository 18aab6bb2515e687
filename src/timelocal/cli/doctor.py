"""`timelocal doctor`: what is installed, which kernels run, which data are at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from timelocal.cli.options import DataDir
from timelocal.cli.terminal import show, table
from timelocal.errors import MissingExtraError


def doctor(data_dir: DataDir = None) -> None:
    """Show versions, threads, the torch build, the active kernels, the cache and the available data."""
    made = table("", "", show_header=False, box=None)
    for name, value in facts(data_dir):
        made.add_row(name, str(value))
    show(made)


def facts(data_dir: Path | None = None) -> list[tuple[str, object]]:
    """The facts, by name."""
    import torch

    from timelocal import data, plugins
    from timelocal.experiments.environment import environment
    from timelocal.experiments.origins import BUILT_IN
    from timelocal.kernels.threads import about_threads, gain_of_threads

    found = environment()
    lines: list[tuple[str, object]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += [(f"{name}: {key}", item) for key, item in value.items()]
        else:
            lines.append((name.replace("_", " "), value))
    lines += [
        ("threads at work", about_threads(gain_of_threads(), torch.get_num_threads())),
        ("torch: CUDA", torch.version.cuda or "not in this build"),
        ("cache folder", _or_why_not(data.cache_dir)),
    ]
    for name in data.names():
        place = _or_why_not(partial(data.locate, name, data_dir))
        lines.append((f"data: {name}", place or "fetched at first use"))
    for what, built_in in BUILT_IN.items():
        lines += [
            (f"{what}: {one.name}", one.refused or f"{one.value}, of {one.package}")
            for one in plugins.installed(what, built_in)
        ]
    return lines


def _or_why_not(look: Callable[[], object]) -> object:
    """What is installed, or the error that names the missing extra."""
    try:
        return look()
    except MissingExtraError as error:
        return error
