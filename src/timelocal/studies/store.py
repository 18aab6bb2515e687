"""Find and read runs, however unfinished: those in folders, and those that are packed in one file.

A store is a folder of run folders, or a packed file, or both: the packed runs of the folder `runs` are in
`runs.parquet` beside it. A run that has a folder is read from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timelocal.experiments.explosion import explosion
from timelocal.studies.packed import SUFFIX, PackedRun, read_packed
from timelocal.training.history import epochs_from

PARTS = ("config", "environment", "history", "result", "status", "timing", "predictions")
"""What a run folder holds: these files, with the ending .json."""

STATUSES = ("running", "finished", "diverged", "failed", "stopped")


@dataclass(frozen=True)
class RunRecord:
    """One run, read.

    `folder` is where a packed run would be as a folder.
    `problems` says what is missing or unreadable in it; a run that is still going, or was killed,
    has status `"running"` and no `result`; one whose loss exploded without leaving the numbers is "diverged".
    """

    folder: Path
    status: str
    message: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    epochs: tuple[Mapping[str, float], ...] = ()
    timing: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    predictions: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()


def packed_beside(store: Path) -> Path:
    """The file that holds the packed runs of a store.

    >>> packed_beside(Path("results/runs")).name, packed_beside(Path("results/runs.parquet")).name
    ('runs.parquet', 'runs.parquet')
    """
    if store.suffix == SUFFIX or store.is_file():
        return store
    store = store.resolve() if store.name in ("", "..") else store
    return store.with_name(store.name + SUFFIX)


def exists(store: Path) -> bool:
    """Whether there is such a store at all."""
    return store.is_dir() or packed_beside(store).is_file()


def _located(store: Path) -> tuple[Path, Mapping[str, PackedRun]]:
    """The folder of a store, if only in name, and its packed runs."""
    file = packed_beside(store)
    packed = read_packed(file) if file.is_file() else {}
    return file.with_suffix("") if file == store else store, packed


class Records(Mapping[str, RunRecord]):
    """The runs of a store by name, each read when it is first asked for."""

    def __init__(self, store: Path) -> None:
        self._folder, self._packed = _located(store)
        self._in_folders = packed_beside(store) != store
        self._read: dict[str, RunRecord] = {}

    def __getitem__(self, name: str) -> RunRecord:
        if name not in self._read:
            self._read[name] = self._record(name)
        return self._read[name]

    def _record(self, name: str) -> RunRecord:
        if self._in_folders and (self._folder / name / "config.json").exists():
            return _read(self._folder / name)
        return _record(self._folder / name, self._packed[name].parts)

    def __iter__(self) -> Iterator[str]:
        found = set(self._packed)
        if self._in_folders:
            found |= {path.parent.name for path in self._folder.glob("*/config.json")}
        return iter(sorted(found))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def runs(path: str | Path) -> list[RunRecord]:
    """The runs in `path`, sorted by path: a run, a store, or a folder of stores at any depth.

    A folder is a run folder if it has a `config.json`; others are passed over. In folders of stores packed
    runs are found in files of the name `runs.parquet`. What cannot be read of a run folder is told in
    `RunRecord.problems`. A `path` that does not exist holds no runs.

    Raises:
        RunError: a packed file is damaged.

    >>> runs("no/such/folder")
    []
    """
    path = Path(path)
    found = {config.parent: _read(config.parent) for config in path.rglob("config.json")}
    for store in (path, *path.rglob("runs" + SUFFIX)):
        folder, packed = _located(store)
        for name in packed:
            if folder / name not in found:
                found[folder / name] = _record(folder / name, packed[name].parts)
    if not found and is_packed(path):
        found = {path: read(path)}
    return [found[folder] for folder in sorted(found)]


def index(store: str | Path) -> list[dict[str, Any]]:
    """Name, status and configuration of every run right under `store`, sorted by name.

    Two small files are read of a run folder, so that thousands of runs are listed in a second.

    >>> index("no/such/folder")
    []
    """
    store = Path(store)
    found: dict[str, dict[str, Any]] = {}
    for name, run in _located(store)[1].items():
        found[name] = _entry(name, run.parts.get("config"), run.parts.get("status"))
    for folder in store.iterdir() if store.is_dir() else ():
        config = _json_object(folder / "config.json")
        if config is not None:
            found[folder.name] = _entry(folder.name, config, _json_object(folder / "status.json"))
    return [found[name] for name in sorted(found)]


def _entry(
    name: str, config: Mapping[str, Any] | None, status: Mapping[str, Any] | None
) -> dict[str, Any]:
    told = (status or {}).get("status")
    return {"name": name, "status": told if told in STATUSES else "unknown", **(config or {})}


def _json_object(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read(folder: Path) -> RunRecord:
    """Read one run: its folder or, where there is none, its row in the packed file of its store."""
    return _read(folder) if not is_packed(folder) else Records(folder.parent)[folder.name]


def is_packed(folder: Path) -> bool:
    """Whether a run is in the packed file of its store and has no folder."""
    return not (folder / "config.json").exists() and folder.name in _located(folder.parent)[1]


def is_settled_packed(folder: Path) -> bool:
    """Whether a run is packed, has no folder, and came to an end that doing it again would not change."""
    return is_packed(folder) and read(folder).status in ("finished", "diverged")


def read_parts(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What the files of a run folder hold, by their names without ".json", and what cannot be read."""
    parts: dict[str, Any] = {}
    problems: list[str] = []
    for name in PARTS:
        try:
            value = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problems.append(f"{name}.json cannot be read: {error}")
            continue
        if isinstance(value, dict):
            parts[name] = value
        else:
            problems.append(f"{name}.json holds no JSON object")
    return parts, problems


def _read(folder: Path) -> RunRecord:
    return _record(folder, *read_parts(folder))


def _record(folder: Path, parts: Mapping[str, Any], unreadable: Sequence[str] = ()) -> RunRecord:
    """A run from what its files hold."""
    status = parts.get("status", {})
    name = status.get("status")
    done = name == "finished"
    needed = PARTS[:-1] if done else ("config", "status")
    problems = [
        f"{part}.json is missing"
        for part in needed
        if part not in parts and not any(text.startswith(f"{part}.json ") for text in unreadable)
    ]
    problems += unreadable
    if name not in STATUSES:
        problems.append(f"status is {name!r}, not one of {', '.join(STATUSES)}")
    config, result = parts.get("config", {}), parts.get("result", {})
    message = str(status.get("message", ""))
    try:
        epochs = epochs_from({"epochs": [], **parts.get("history", {})})
        # of a run that ended before runs looked at this themselves
        exploded = done and explosion(epochs, config.get("loss", ""), result.get("trivial") or {})
    except (AttributeError, TypeError) as error:
        problems.append(f"history.json cannot be read: {error}")
        epochs, exploded = [], None
    if exploded:
        name, message = "diverged", exploded
    return RunRecord(
        folder=folder,
        status=str(name) if name in STATUSES else "unknown",
        message=message,
        config=config,
        environment=parts.get("environment", {}),
        epochs=tuple(epochs),
        timing=parts.get("timing", {}),
        result=result or None,
        predictions=parts.get("predictions") or None,
        problems=tuple(problems),
    )
