"""Pack the runs of a store into one file, unpack them, and give older runs their present names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from timelocal.errors import RunError
from timelocal.experiments.command import known_command
from timelocal.experiments.folder import set_status
from timelocal.experiments.trial import of_record
from timelocal.files import exclusive, make_folder, run_error, to_json, write_json
from timelocal.studies.packed import PackedRun, read_packed, write_packed
from timelocal.studies.store import NEEDED, packed_beside, read_parts

_SHOWN = 10
"""The number of damaged runs that an error names."""


@dataclass(frozen=True)
class Packing:
    """A packed file, the number of runs in it, and one sentence for every run that was left out."""

    path: Path
    count: int
    left_out: tuple[str, ...]


def pack(store: Path, out: Path | None = None) -> Packing:
    """Pack the runs of `store` into one file; the folders stay.

    Every run gets the present name of its configuration, its whole configuration, and as its command the one
    that repeats it; its previous name and command are kept as well (`formerly`, `recorded_command`). A run
    whose configuration is unknown here keeps its name and command.

    Runs that are already packed, in the file of the store or in `out`, are packed again with the others. If
    two runs have the same name, the one in a folder counts, and of two folders the one with this name. A run
    that has not ended is left out.

    Args:
        store: a folder of run folders, at any depth, or a packed file.
        out: the file; by default that of the store, `runs.parquet` next to the folder `runs`.

    Raises:
        RunError: a run is damaged, or a file cannot be read or written.
        UnsupportedError: pyarrow is not installed.
    """
    out = out or packed_beside(store)
    files = dict.fromkeys(path for path in (out, packed_beside(store)) if path.is_file())
    found = {run.name: run for path in files for run in map(_today, read_packed(path).values())}
    left_out: list[str] = []
    in_folders: dict[str, PackedRun] = {}
    for run in _in_folders(store, left_out):
        first = in_folders.setdefault(run.name, run)
        if first is not run:
            if run.formerly is None:
                in_folders[run.name], run = run, first
            left_out.append(f"{run.formerly}: the same run as {run.name}")
    for name, run in in_folders.items():
        former = found[name].formerly if name in found else None
        found[name] = replace(run, formerly=run.formerly or former)
    if not found:
        remedy = "Expected a folder of run folders that have ended."
        raise RunError(f"{store} holds no run that could be packed. {remedy}")
    make_folder(out.absolute().parent)
    write_packed(found.values(), out)
    return Packing(out, len(found), tuple(left_out))


def unpack(file: Path, folder: Path) -> tuple[int, int]:
    """Write every run of a packed file as a run folder in `folder`; existing run folders are left alone.

    Returns:
        The number of runs written, and the number that already existed.

    Raises:
        RunError: the file cannot be read, or the folder cannot be written.
        UnsupportedError: pyarrow is not installed.
    """
    packed = read_packed(file)
    make_folder(folder)
    missing = [name for name in packed if not (folder / name).exists()]
    for name in missing:
        hidden = folder / f".{name}.tmp"
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir()
            for part, value in packed[name].parts.items():
                text = to_json(value, indent=1) + "\n"
                (hidden / f"{part}.json").write_text(text, encoding="utf-8")
            if "status" in packed[name].parts:
                set_status(hidden, **packed[name].parts["status"])
            os.replace(hidden, folder / name)
        except OSError as error:
            raise run_error(folder / name, error) from error
    return len(missing), len(packed) - len(missing)


def rename(store: Path) -> dict[str, str]:
    """Give the run folders directly under `store` the present names of their configurations.

    This is what `pack` does, but in place, so that interrupted runs can resume from their checkpoints. A
    folder keeps its name if it is damaged or if its new name is taken.

    Returns:
        A dict from old to new names.

    Raises:
        BusyError: a run is going on.
        RunError: a folder cannot be written.
    """
    renamed = {}
    for config in sorted(store.glob("*/config.json")):
        folder = config.parent
        parts, problems = read_parts(folder)
        if problems or "config" not in parts:
            continue
        run = _today(PackedRun(folder.name, parts))
        if run.name == folder.name or (store / run.name).exists():
            continue
        with exclusive(folder / ".lock"):
            for part in ("config", "environment"):
                if run.parts.get(part) != parts.get(part):
                    write_json(folder / f"{part}.json", run.parts[part])
            if parts.get("status", {}).get("status") in (
                "finished",
                "diverged",
                "failed",
                "stopped",
            ):
                set_status(folder, **parts["status"])
            os.replace(folder, store / run.name)
        renamed[folder.name] = run.name
    return renamed


def _in_folders(store: Path, left_out: list[str]) -> Iterable[PackedRun]:
    """The runs in a store's folders that have ended, in packed form."""
    damaged, found = [], []
    for config in sorted(store.rglob("config.json")):
        folder = config.parent
        parts, problems = read_parts(folder)
        status = parts.get("status", {}).get("status")
        needed = NEEDED if status == "finished" else ("config",)
        problems += [
            f"{part}.json is missing"
            for part in needed
            if part not in parts and not any(text.startswith(f"{part}.json ") for text in problems)
        ]
        if problems:
            damaged.append(f"{folder}: {'; '.join(problems)}")
        elif status not in ("finished", "diverged", "failed", "stopped"):
            left_out.append(f"{folder.name}: it has not ended ({status or 'no status'})")
        else:
            found.append(_today(PackedRun(folder.name, parts)))
    if damaged:
        more = [f"and {len(damaged) - _SHOWN} more"] if len(damaged) > _SHOWN else []
        told = "\n".join(f"  - {one}" for one in [*damaged[:_SHOWN], *more])
        raise RunError(
            f"{len(damaged)} damaged runs cannot be packed. Repeat or delete them.\n{told}"
        )
    return found


def _today(run: PackedRun) -> PackedRun:
    """A run with its present name, its whole configuration and a command that repeats it anywhere."""
    trial = of_record(run.parts["config"])
    if trial is None:
        return run
    name = trial.folder_name()
    former = run.formerly or (None if name == run.name else run.name)
    parts = {**run.parts, "config": trial.model_dump(mode="json")}
    if "environment" in parts:
        parts["environment"] = _derived(parts["environment"], known_command(trial))
    return PackedRun(name, parts, former)


def _derived(environment: Mapping[str, Any], command: str | None) -> dict[str, Any]:
    """An environment whose command is the one derived from the configuration, if there is one."""
    if command is None:
        return dict(environment)
    recorded = environment.get("recorded_command", environment.get("command"))
    typed = {} if recorded is None else {"recorded_command": recorded}
    return {**environment, "command": command, **typed}
