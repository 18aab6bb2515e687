"""Files damaged on purpose, and what their readers make of it: told, harmless, or used without a word."""

from __future__ import annotations

import os
import random
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from timelocal.errors import TimelocalError

SCALE = float(os.environ.get("TIMELOCAL_ATTACK", "1"))
"""How many times the usual number of attacks are made."""

FLIPS = round(10_000 * SCALE)


def flipped(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`data` with one wrong bit, `count` times."""
    draw = random.Random(seed)
    for _ in range(count):
        at, bit = divmod(draw.randrange(8 * len(data)), 8)
        yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def truncated(data: bytes, step: int = 1) -> Iterator[bytes]:
    """`data` cut off at every `step`-th byte; a text that lost no more than its last newline is whole."""
    return (data[:end] for end in range(0, len(data.rstrip(b"\n")), step))


def outcomes(
    path: Path, damages: Iterable[bytes], read: Callable[[], object], told: Callable[[object], bool]
) -> Counter[str]:
    """How often a damage of `path` is told, harmless (the same is read as from the whole file) or silent.

    told: whether what `read` returned says that something is wrong; an error of this package does so anyway.
    """
    whole, right = path.read_bytes(), repr(read())
    counts: Counter[str] = Counter()
    for data in damages:
        path.write_bytes(data)
        try:
            found = read()
        except TimelocalError as error:
            counts[
                "reported" if str(path.parent) in str(error) else f"told without a path: {error}"
            ] += 1
        else:
            kind = "reported" if told(found) else "harmless" if repr(found) == right else "silent"
            counts[kind] += 1
    path.write_bytes(whole)
    assert repr(read()) == right
    return counts


def refuse_at(patch: pytest.MonkeyPatch, moment: int, number: int) -> list[str]:
    """Let the `moment`-th of the calls that write fail with this error number; then its name is listed."""
    count, refused = 0, []

    def guarded(
        name: str, call: Callable[..., Any], writes: Callable[..., bool]
    ) -> Callable[..., Any]:
        def wrapper(*args: Any, **options: Any) -> Any:
            nonlocal count
            if writes(*args, **options):
                count += 1
                if count == moment:
                    refused.append(name)
                    raise OSError(number, os.strerror(number))
            return call(*args, **options)

        return wrapper

    def always(*_: Any, **__: Any) -> bool:
        return True

    def to_write(_: Path, mode: str = "r", *__: Any, **___: Any) -> bool:
        return "w" in mode

    def into_folder(
        descriptor: int,
    ) -> bool:  # a folder that cannot be synced is written all the same
        return not stat.S_ISDIR(os.fstat(descriptor).st_mode)

    patch.setattr(os, "fsync", guarded("fsync", os.fsync, into_folder))
    patch.setattr(os, "replace", guarded("replace", os.replace, always))
    patch.setattr(Path, "open", guarded("open", Path.open, to_write))
    patch.setattr(Path, "mkdir", guarded("mkdir", Path.mkdir, always))
    return refused
