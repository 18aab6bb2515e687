"""Files that are either wholly there or not there at all, and one writer at a time."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import re
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

from timelocal.errors import ArgumentError, BusyError, Problem, RunError, described

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM, *_NO_LOCKS}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
_DEEPEST = 100
"""Levels of a JSON file: one of ours has fewer than ten, and Python's own limit is a crash."""

_SHA256 = "sha256"
"""The field of a JSON file that holds the sha256 of files by name, its own among them."""


def run_error(path: Path, error: OSError, deed: str = "write") -> RunError:
    """A `RunError` that says why `path` cannot be written (or read) and what to do."""
    if error.errno in _FULL:
        remedy = "Free some space, then give the same command again: it continues where it stopped"
    elif error.errno in _GONE:
        remedy = "Choose another folder, or create this one again and leave it in place"
    else:
        remedy = "Choose another folder, or change the permissions of this one"
    return RunError(f"cannot {deed} {path}: {error.strerror or error}. {remedy}.")


def as_path(path: str | os.PathLike[str], what: str = "folder") -> Path:
    """`path` with a `~` in front that no shell has expanded; an `ArgumentError` for what is no path.

    >>> as_path("~/runs") == Path.home() / "runs"
    True
    """
    try:
        found = Path(path).expanduser()
        os.fsencode(found)
    except (TypeError, ValueError, RuntimeError) as error:  # no path, no such letters, no home
        problem = Problem(what, described(path), f"a path that this system can write ({error})")
        raise ArgumentError(str(problem)) from None
    if "\0" in str(found):
        raise ArgumentError(str(Problem(what, described(path), "a path without a null character")))
    return found


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; a `RunError` where the system does not let us look."""
    try:
        path.stat()
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise run_error(path, error, "read") from error
    return True


def make_folder(path: Path, parents: bool = True) -> Path:
    """Make `path` and its `parents`; a `RunError` if that is impossible or it cannot be written.

    >>> import tempfile
    >>> make_folder(Path(tempfile.mkdtemp()) / "runs" / "one").name
    'one'
    """
    try:
        path.mkdir(parents=parents, exist_ok=True)
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
    try:
        if not path.name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        hidden = path.with_name(f".{path.name}.tmp")
    except OSError as error:
        raise run_error(path, error) from error
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
    """`write_bytes` for text, in UTF-8; what of a file's name is no UTF-8 is written as `\\udcff`."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def strict(value: Any) -> Any:
    """A JSON value without what JSON has no word for.

    Numbers and arrays of NumPy and torch become Python's.

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


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write named tensors as one safetensors file; return the sha256 of it."""
    data = _tensor_bytes(tensors)
    write_bytes(path, data)
    return sha256(data)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of the file that `write_tensors` would write."""
    return sha256(_tensor_bytes(tensors))


def _tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def sha256(data: bytes) -> str:
    """The sha256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_index(path: Path, value: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Write a JSON object that tells whether it, or a file that belongs to it, has changed since.

    Its field `sha256` holds those of `files` by name, and its own: of the object without that entry, as
    `to_json` without spaces and with sorted keys.
    """
    value = strict({**value, _SHA256: dict(files)})
    write_json(path, {**value, _SHA256: {**value[_SHA256], path.name: _own_sha256(value)}})


def read_index(path: Path) -> tuple[dict[str, Any], dict[str, str] | None]:
    """`parse_index` of the file `path`; a `RunError` if it cannot be read, or is not what was written."""
    try:
        return parse_index(read_bytes(path), path.name)
    except ValueError as error:
        raise damaged(path, str(error)) from None


def parse_index(data: bytes, name: str) -> tuple[dict[str, Any], dict[str, str] | None]:
    """The JSON object in `data` without its field `sha256`, and the sha256 of files that it held.

    None for one that has no such field, as those of earlier versions. `name` is that of its own file. Raises
    `ValueError` for what is not as it was written.
    """
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    if _SHA256 not in value:
        return value, None
    digests = value.pop(_SHA256)
    if not isinstance(digests, dict) or not all(isinstance(one, str) for one in digests.values()):
        raise ValueError("its sha256 are not texts by name")
    own = digests.pop(name, None)
    if own != _own_sha256({**value, _SHA256: digests}):
        raise ValueError("its sha256 does not match its content")
    return value, digests


def _own_sha256(value: Mapping[str, Any]) -> str:
    return sha256(to_json(value, sort_keys=True, separators=(",", ":")).encode())


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; a `RunError` if there is none."""
    return read_index(path)[0]


def read_bytes(path: Path) -> bytes:
    """What is in `path`; a `RunError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise run_error(path, error, "read") from error


def read_json(path: Path) -> Any:
    """The JSON value in `path`; a `RunError` if it cannot be read."""
    try:
        return parse_json(read_bytes(path))
    except ValueError as error:
        raise damaged(path, str(error)) from None


def parse_json(data: bytes) -> Any:
    """The JSON value in `data`; a `ValueError` for what is none, or is nested too deep to be one of ours."""
    level = 0
    for bracket in re.findall(rb"[][{}]", data):  # those in strings too: there are few
        level += 1 if bracket in b"[{" else -1
        if level > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels")
    return json.loads(data.decode())


def read_tensors(path: Path, expected: str | None = None) -> dict[str, Tensor]:
    """The tensors in the safetensors file `path`, in memory of their own.

    The copies are aligned as fresh tensors are. Vector code may round differently on unaligned
    memory, and a resumed run has to repeat the very same bits.

    Raises `RunError` if the file is missing, damaged, or has not the sha256 that is expected, if one is.
    """
    if not is_there(path):
        raise _unusable(path, "is missing")
    data = read_bytes(path)
    if expected is not None and sha256(data) != expected:
        raise _unusable(
            path, "is damaged, or another file (its sha256 differs from the recorded one)"
        )
    try:
        return {name: tensor.clone() for name, tensor in load(data).items()}
    except (SafetensorError, LookupError, ValueError, TypeError, RuntimeError) as error:
        raise _unusable(path, f"is damaged ({error})") from None


def damaged(path: Path, how: str) -> RunError:
    """A `RunError` for a file that is not what was written."""
    return RunError(f"{path} is damaged ({how}). Delete it and start this run again.")


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
