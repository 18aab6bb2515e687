"""Find and read runs, finished or not, in folders or packed in one file.

A store is a folder of run folders, or a packed file, or both: the packed runs of the folder `runs` are in
`runs.parquet` next to it. A run that has a folder is read from the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from timelocal.experiments.explosion import explosion
from timelocal.experiments.trial import recorded_name
from timelocal.files import as_path, is_there, parse_index, run_error, sha256
from timelocal.studies.packed import SUFFIX, PackedRun, read_packed
from timelocal.studies.schema import PARTS, problem
from timelocal.training.history import epochs_from

STATUSES = ("running", "finished", "diverged", "failed", "stopped")

DAMAGED = "damaged"
"""The status of a run that has ended, but whose files are incomplete or have changed since."""

NEEDED = tuple(name for name in PARTS if name != "predictions")
"""The parts that every finished run has; only runs that predict values also have predictions."""

_HASHED = re.compile(r"-s\d+-[0-9a-f]{8}")


@dataclass(frozen=True)
class RunRecord:
    """One run, read.

    `folder` is the run's folder; for a packed run, the folder that unpacking would create.
    `problems` says what is missing or unreadable in it. A run that is still running, or was killed,
    has status `"running"` and no `result`; one whose loss exploded while still finite is "diverged";
    one that has ended and has problems is "damaged", and is excluded from every result.
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
    """The file with the packed runs of a store.

    >>> packed_beside(Path("results/runs")).name, packed_beside(Path("results/runs.parquet")).name
    ('runs.parquet', 'runs.parquet')
    """
    if store.suffix == SUFFIX or store.is_file():
        return store
    store = store.resolve() if store.name in ("", "..") else store
    return store.with_name(store.name + SUFFIX)


def exists(store: Path) -> bool:
    """Whether the store exists."""
    return is_there(store) or is_there(packed_beside(store))


def _located(store: Path) -> tuple[Path, Mapping[str, PackedRun]]:
    """The folder of a store, which need not exist, and its packed runs."""
    file = packed_beside(store)
    packed = read_packed(file) if is_there(file) and file.is_file() else {}
    return file.with_suffix("") if file == store else store, packed


class Records(Mapping[str, RunRecord]):
    """The runs of a store by name, each read when it is first needed."""

    def __init__(self, store: Path) -> None:
        self._folder, self._packed = _located(store)
        self._in_folders = packed_beside(store) != store
        self._read: dict[str, RunRecord] = {}

    def __getitem__(self, name: str) -> RunRecord:
        if name not in self._read:
            self._read[name] = self._record(name)
        return self._read[name]

    def _record(self, name: str) -> RunRecord:
        if self._in_folders and is_there(self._folder / name / "config.json"):
            return _by_name(_read(self._folder / name))
        return _record(self._folder / name, *checked(self._packed[name].parts))

    def __iter__(self) -> Iterator[str]:
        found = set(self._packed)
        if self._in_folders:
            found |= {folder.name for folder in _folders(self._folder)}
        return iter(sorted(found))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def runs(path: str | Path) -> list[RunRecord]:
    """The runs in `path`, sorted by path: a run, a store, or a folder of stores at any depth.

    A folder is a run folder if it has a `config.json`; other folders are skipped. In folders of stores,
    packed runs are read from files named `runs.parquet`. `RunRecord.problems` lists the unreadable parts of
    a run folder. A `path` that does not exist has no runs.

    Raises:
        RunError: a packed file is damaged.

    >>> runs("no/such/folder")
    []
    """
    path = as_path(path)
    found, stores = _walk(path)
    for store in (path, *stores):
        folder, packed = _located(store)
        for name in packed:
            if folder / name not in found:
                found[folder / name] = _record(folder / name, *checked(packed[name].parts))
    if not found and is_packed(path):
        found = {path: read(path)}
    return [found[folder] for folder in sorted(found)]


def _walk(path: Path) -> tuple[dict[Path, RunRecord], list[Path]]:
    """The runs in folders under `path`, and the packed files there.

    A folder without read permission is listed among the runs, with its problem, since it may be a run.
    """
    _look(path)
    found: dict[Path, RunRecord] = {}
    stores = []

    def closed(error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):  # not a folder, or removed
            return
        folder = Path(error.filename)
        problem = f"the folder cannot be read: {error.strerror}"
        found[folder] = RunRecord(folder, "unknown", "", {}, problems=(problem,))

    for name, _, files in os.walk(path, onerror=closed):
        if "config.json" in files:
            found[Path(name)] = _read(Path(name))
        if "runs" + SUFFIX in files:
            stores.append(Path(name) / ("runs" + SUFFIX))
    return found, stores


def index(store: str | Path) -> list[dict[str, Any]]:
    """Name, status and configuration of every run directly under `store`, sorted by name.

    Only two small files of each run folder are read, so that listing thousands of runs takes a second.

    >>> index("no/such/folder")
    []
    """
    store = as_path(store)
    found: dict[str, dict[str, Any]] = {}
    for name, run in _located(store)[1].items():
        found[name] = _entry(name, *checked(run.parts))
    for folder in _folders(store):
        found[folder.name] = _entry(folder.name, *read_parts(folder, ("config",)))
    return [found[name] for name in sorted(found)]


def _look(folder: Path) -> list[Path]:
    """The contents of a folder, empty if there is no such folder; a `RunError` if it cannot be read."""
    try:
        return list(folder.iterdir()) if is_there(folder) and folder.is_dir() else []
    except OSError as error:
        raise run_error(folder, error, "read") from error


def _folders(store: Path) -> list[Path]:
    """The run folders directly under a store, and folders without read permission, which may be runs."""
    found = []
    for folder in _look(store):
        try:
            (folder / "config.json").stat()
        except PermissionError:
            pass
        except OSError:
            continue
        found.append(folder)
    return found


def _entry(name: str, parts: Mapping[str, Any], problems: Sequence[str]) -> dict[str, Any]:
    status = parts.get("status", {}).get("status")
    if problems:
        status = DAMAGED
    entry = {"name": name, "status": status if status in (*STATUSES, DAMAGED) else "unknown"}
    told = {"problems": list(problems)} if problems else {}
    return {**entry, **parts.get("config", {}), **entry, **told}


def read(folder: Path) -> RunRecord:
    """Read one run: its folder or, if there is none, its row in the packed file of its store."""
    return Records(folder.parent)[folder.name] if is_packed(folder) else _by_name(_read(folder))


def is_packed(folder: Path) -> bool:
    """Whether a run is in the packed file of its store and has no folder."""
    return not is_there(folder / "config.json") and folder.name in _located(folder.parent)[1]


def is_settled_packed(folder: Path) -> bool:
    """Whether a run is packed, has no folder, and ended in a way that another attempt would not change."""
    return is_packed(folder) and read(folder).status in ("finished", "diverged")


def read_parts(
    folder: Path, names: Sequence[str] = tuple(PARTS)
) -> tuple[dict[str, Any], list[str]]:
    """The contents of a run folder's files, by file name without ".json", and the problems with them.

    The status is read in addition to `names`, because it has the sha256 of the others. Files that have
    changed since they were written, or have fields of wrong types, are left out.
    """
    parts: dict[str, Any] = {}
    problems: list[str] = []
    digests: Mapping[str, str] = {}
    for name in dict.fromkeys(("status", *names)):
        file = f"{name}.json"
        try:
            data = (folder / file).read_bytes()
            parts[name], known = parse_index(data, file)
        except FileNotFoundError:
            problems += [f"{file} is missing"] if file in digests else []
            continue
        except (OSError, ValueError) as error:
            problems.append(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}")
            continue
        if name == "status":
            digests = known or {}
        elif digests.get(file, sha256(data)) != sha256(data):
            problems.append(f"{file} is not as written (its sha256 differs)")
            del parts[name]
    sound, unsound = checked(parts)
    return sound, problems + unsound


def checked(parts: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The parts of a run whose types are right, and the problems with the others."""
    problems = {name: text for name in parts if (text := problem(name, parts[name]))}
    sound = {name: value for name, value in parts.items() if name not in problems}
    return sound, [f"{name}.json cannot be read: {text}" for name, text in problems.items()]


def _read(folder: Path) -> RunRecord:
    return _record(folder, *read_parts(folder))


def _by_name(record: RunRecord) -> RunRecord:
    """A record looked up by the name of its run; a problem is added if name and configuration disagree."""
    if record.status not in ("finished", "diverged"):
        return record
    own, name = recorded_name(record.config), record.folder.name
    if own in (None, name) or not _HASHED.search(name):
        return record
    text = f"config.json belongs to {own}: another run, or an earlier version (runs --rename)"
    return replace(record, status=DAMAGED, problems=(*record.problems, text))


def _record(folder: Path, parts: Mapping[str, Any], problems: Sequence[str] = ()) -> RunRecord:
    """A run from the contents of its files and their problems."""
    status = parts.get("status", {})
    name, message = status.get("status"), status.get("message", "")
    needed = NEEDED if name == "finished" else ("config", "status")
    missing = [
        f"{part}.json is missing"
        for part in needed
        if part not in parts and not any(text.startswith(f"{part}.json ") for text in problems)
    ]
    problems = [*missing, *problems]
    if name not in STATUSES:
        problems.append(f"status is {name!r}, not one of {', '.join(STATUSES)}")
        name = "unknown"
    config, result = parts.get("config", {}), parts.get("result", {})
    epochs = epochs_from({"epochs": [], **parts.get("history", {})})
    if name in ("finished", "diverged") and problems:
        name = DAMAGED
        message = f"Delete {folder / 'status.json'} and give the same command again"
    elif name == "finished":
        trivial = {k: v for k, v in (result.get("trivial") or {}).items() if v is not None}
        # for runs from versions that did not yet check this themselves
        exploded = explosion(epochs, config.get("loss", ""), trivial)
        name, message = ("diverged", exploded) if exploded else (name, message)
    return RunRecord(
        folder=folder,
        status=name,
        message=message,
        config=config,
        environment=parts.get("environment", {}),
        epochs=tuple(epochs),
        timing=parts.get("timing", {}),
        result=result or None,
        predictions=parts.get("predictions") or None,
        problems=tuple(problems),
    )
