"""The folder of a run: the status of the run, and whether its files have changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from timelocal.errors import RunError
from timelocal.experiments.config import TrainConfig
from timelocal.files import is_there, read_bytes, read_index, read_object, sha256, write_index


def set_status(
    folder: Path, status: str, message: str = "", files: Iterable[str] | None = None
) -> None:
    """Say how it stands with the run in `folder`, and keep the sha256 of `files`.

    files: names of those that will not be written any more; None: all that are there, of a run at its end.
    """
    found = sorted(path.name for path in folder.glob("*.json")) if files is None else files
    digests = {name: sha256(read_bytes(folder / name)) for name in found if name != "status.json"}
    write_index(folder / "status.json", {"status": status, "message": message}, digests)


def already_done(config: TrainConfig, folder: Path) -> bool:
    """Whether the run `config` in `folder` has come to an end that doing it again would not change.

    Raises `RunError` if it has, but its files are not those of then, or are another run's.
    """
    path = folder / "status.json"
    if not is_there(path):
        return False
    status, digests = read_index(path)
    if status.get("status") not in ("finished", "diverged"):
        return False
    changed = [name for name, digest in (digests or {}).items() if _differs(folder / name, digest)]
    if not changed and not _is_of(config, folder / "config.json"):
        changed = ["config.json"]
    if changed:
        raise RunError(
            f"{folder}: {', '.join(changed)} not as written by this run. Delete {path} and run it again."
        )
    return True


def _differs(path: Path, digest: str) -> bool:
    return not is_there(path) or sha256(read_bytes(path)) != digest


def _is_of(config: TrainConfig, path: Path) -> bool:
    """Whether `path` holds this configuration; what came later is missing in one of an earlier version."""
    return is_there(path) and _within(read_object(path), config.model_dump(mode="json"))


def _within(part: object, whole: object) -> bool:
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(name in whole and _within(value, whole[name]) for name, value in part.items())
    return part == whole
