"""Find and read run folders, however unfinished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timelocal.experiments.explosion import explosion
from timelocal.training.history import epochs_from

STATUSES = ("running", "finished", "diverged", "failed", "stopped")


@dataclass(frozen=True)
class RunRecord:
    """One run folder, read.

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


def runs(path: str | Path) -> list[RunRecord]:
    """The runs in `path`: a run folder itself, or a folder of them at any depth, sorted by path.

    A folder is a run folder if it has a `config.json`; others are passed over. Nothing is fatal:
    what cannot be read is told in `RunRecord.problems`. A `path` that does not exist holds no runs.

    >>> runs("no/such/folder")
    []
    """
    return [read(config.parent) for config in sorted(Path(path).rglob("config.json"))]


def index(store: str | Path) -> list[dict[str, Any]]:
    """Name, status and configuration of every run folder right under `store`, sorted by name.

    Two small files a run are read, so that thousands of runs are listed in a second.

    >>> index("no/such/folder")
    []
    """
    found = []
    for folder in sorted(Path(store).iterdir()) if Path(store).is_dir() else ():
        config = _json_object(folder / "config.json")
        if config is not None:
            status = (_json_object(folder / "status.json") or {}).get("status")
            known = status if status in STATUSES else "unknown"
            found.append({"name": folder.name, "status": known, **config})
    return found


def _json_object(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read(folder: Path) -> RunRecord:
    """Read one run folder."""
    problems: list[str] = []

    def part(name: str, needed: bool = True) -> dict[str, Any]:
        path = folder / name
        if not needed and not path.exists():
            return {}
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            problems.append(f"{name} is missing")
        except (OSError, ValueError) as error:
            problems.append(f"{name} cannot be read: {error}")
        else:
            if isinstance(value, dict):
                return value
            problems.append(f"{name} holds no JSON object")
        return {}

    config = part("config.json")
    status = part("status.json")
    name = status.get("status")
    if name not in STATUSES:
        problems.append(f"status is {name!r}, not one of {', '.join(STATUSES)}")
    done = name == "finished"
    result = part("result.json", done)
    message = str(status.get("message", ""))
    try:
        epochs = epochs_from({"epochs": [], **part("history.json", done)})
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
        environment=part("environment.json", done),
        epochs=tuple(epochs),
        timing=part("timing.json", done),
        result=result or None,
        predictions=part("predictions.json", False) or None,
        problems=tuple(problems),
    )
