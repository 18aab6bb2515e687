"""`timelocal doctor`: what is installed, which kernels run, which data are at hand."""

from __future__ import annotations

from pathlib import Path

from timelocal.cli.options import DataDir


def doctor(data_dir: DataDir = None) -> None:
    """Show versions, threads, the torch build, the kernel path, the cache and the data found."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in facts(data_dir):
        table.add_row(name, str(value))
    Console().print(table)


def facts(data_dir: Path | None = None) -> list[tuple[str, object]]:
    """What there is to say, name by name."""
    import torch

    from timelocal import data
    from timelocal.experiments.environment import environment

    found = environment()
    lines: list[tuple[str, object]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += [(f"{name}: {key}", item) for key, item in value.items()]
        else:
            lines.append((name.replace("_", " "), value))
    lines += [
        ("torch: CUDA", torch.version.cuda or "not in this build"),
        ("cache folder", data.cache_dir()),
    ]
    missing = "fetched at first use"
    lines += [(f"data: {name}", data.locate(name, data_dir) or missing) for name in data.names()]
    return lines
