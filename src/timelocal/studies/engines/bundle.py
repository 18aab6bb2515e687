"""A run folder as bytes, to travel between machines that share no disk."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from timelocal.files import make_folder, write_bytes

Bundle = dict[str, bytes]
"""File names, relative to the run folder, and file contents."""

_CHECKPOINT = Path("checkpoint/checkpoint.json")


def packed(folder: Path) -> Bundle:
    """Every file of a run folder except locks; a checkpoint only if it is complete.

    A checkpoint's index names its files. If the index changes while they are read, they are read again.
    """
    while True:
        before = _bytes(folder / _CHECKPOINT)
        found: Bundle = {}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                content = _bytes(path)
                if content is not None:
                    found[name.as_posix()] = content
        if _bytes(folder / _CHECKPOINT) == before == found.get(_CHECKPOINT.as_posix()):
            return found


def unpack(bundle: Bundle, folder: Path) -> None:
    """Write a bundle: tensors before the index that names them, and the status last."""
    for name in sorted(
        bundle, key=lambda name: (name == "status.json", name.endswith(".json"), name)
    ):
        make_folder((folder / name).parent)
        write_bytes(folder / name, bundle[name])
    kept = {Path(name).name for name in bundle if name.startswith("checkpoint/")}
    for path in (folder / "checkpoint").glob("*") if kept else ():
        if path.name not in kept:
            with suppress(OSError):
                path.unlink()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
