"""Files that are either wholly there or not there at all, and one writer at a time."""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from timelocal.errors import BusyError, RunError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM, *_NO_LOCKS}


def run_error(path: Path, error: OSError, deed: str = "write") -> RunError:
    """A `RunError` that says why `path` cannot be written (or read) and what to do."""
    if error.errno in _FULL:
        remedy = "Free some space, then give the same command again: it goes on where it stopped"
    else:
        remedy = "Choose another folder, or change the permissions of this one"
    return RunError(f"cannot {deed} {path}: {error.strerror or error}. {remedy}.")


def make_folder(path: Path) -> Path:
    """Make `path` and its parents; a `RunError` if that is impossible or it cannot be written.

    >>> import tempfile
    >>> make_folder(Path(tempfile.mkdtemp()) / "runs" / "one").name
    'one'
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise run_error(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise run_error(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return path


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one indivisible step that survives a power cut.

    The data go to a hidden file beside `path`, reach the disk, and only then take its name. After
    a failure `path` is what it was before.
    """
    hidden = path.with_name(f".{path.name}.tmp")
    try:
        with hidden.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(hidden, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise run_error(path, error) from error


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can open and sync a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, in UTF-8."""
    write_bytes(path, text.encode())


def strict(value: Any) -> Any:
    """A JSON value without what JSON has no word for.

    Numbers that are not finite become None; numbers and arrays of NumPy and torch become Python's.

    >>> strict({"loss": [0.5, float("nan")], "seed": np.int64(1)})
    {'loss': [0.5, None], 'seed': 1}
    """
    if isinstance(value, np.generic | np.ndarray | Tensor):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value


def to_json(value: object, **layout: Any) -> str:
    """Strict JSON, numbers exact (`repr` round trip), in the order given; `layout` as for `json.dumps`."""
    return json.dumps(strict(value), allow_nan=False, **layout)


def write_json(path: Path, value: object) -> None:
    """Write `to_json`."""
    write_text(path, to_json(value, indent=1) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as one safetensors file."""
    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def read_json(path: Path) -> Any:
    """The JSON value in `path`; a `RunError` if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise run_error(path, error, "read") from error
    except ValueError as error:
        raise RunError(
            f"{path} is damaged ({error}). Delete it and start this run again."
        ) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in the safetensors file `path`, in memory of their own.

    The copies are aligned as fresh tensors are. Vector code may round differently on unaligned
    memory, and a resumed run has to repeat the very same bits.
    """
    try:
        return {name: tensor.clone() for name, tensor in load(path.read_bytes()).items()}
    except FileNotFoundError:
        raise _unusable(path, "is missing") from None
    except OSError as error:
        raise run_error(path, error, "read") from error
    except SafetensorError as error:
        raise _unusable(path, f"is damaged ({error})") from None


def _unusable(path: Path, how: str) -> RunError:
    """A tensor file is no use to the index that names it, nor that to anyone: both have to go."""
    return RunError(f"{path} {how}. Delete the folder {path.parent} and start this run again.")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A copy of `folder` to change, which takes its name when the block has ended without an error.

    Who looks sees the old folder or the new one, never half of one: where the system can (Linux), the two
    change places in one step. Elsewhere there is a moment between two renamings without either; what stops
    just then is put right by the next call. Raises `BusyError` if another process is at it, and `RunError`.
    """
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    with exclusive(make_folder(folder.parent) / f".{folder.name}.lock"):
        try:
            if old.exists() and not folder.exists():
                old.rename(folder)
            for rest in (new, old):
                shutil.rmtree(rest, ignore_errors=True)
            if folder.exists():
                shutil.copytree(folder, new)
            else:
                new.mkdir()
            yield new
            if not folder.exists():
                new.rename(folder)
            elif not _exchange(new, folder):
                folder.rename(old)
                new.rename(folder)
            _sync_folder(folder.parent)
        except OSError as error:
            raise run_error(folder, error) from error
        finally:
            for rest in (new, old) if folder.exists() else (new,):
                shutil.rmtree(rest, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where the system cannot do that."""
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the file `lock`, which stands for its folder; a `BusyError` if it is held already.

    The system lets go of the lock when the process ends, however it ends. On a file system without `flock`
    (some NFS, Lustre and FUSE mounts) a marker file with the number of the process takes its place. The next
    process on the same machine removes the marker if its owner is gone.
    """
    held = _acquired(lock)
    try:
        yield
    finally:
        held.release()


def _acquired(lock: Path) -> BaseFileLock:
    busy = (
        f"{lock.parent} is being written by another process. Wait until it has finished, or choose "
        "another folder."
    )
    try:
        held = FileLock(lock, fallback_to_soft=False)
        try:
            held.acquire(blocking=False)
            return held
        except OSError as error:  # a Timeout, which is one, has no number
            if error.errno not in _NO_LOCKS:
                raise
        # A file of another name: an empty `lock` that came along with a copied folder is nobody's marker.
        marker = lock.with_name(f"{lock.name}.marker")
        busy += f" If that process is gone, delete {marker}."
        soft = SoftFileLock(marker)
        soft.acquire(blocking=False)
        return soft
    except Timeout:
        raise BusyError(busy) from None
    except OSError as error:
        raise run_error(lock, error) from error
