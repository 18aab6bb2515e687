"""Download data files with pooch, and keep them only after they were verified."""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from timelocal.errors import DataError
from timelocal.files import as_path
from timelocal.optional import require

T = TypeVar("T")

SLOWEST = 1000.0
"""Bytes per second below which a download is abandoned."""

LARGEST = 2**27
"""Bytes above which a download, or its unpacked content, is abandoned: no file of ours is half as large."""


@dataclass(frozen=True)
class Source:
    """One file and where to get it.

    Args:
        file: its name.
        urls: addresses, tried in this order, of the file itself or of a .zip that holds it.
        sha256: of the file itself (not of the .zip), or None if it could not be established: such a file is
            only verified by the values parsed from it.
    """

    file: str
    urls: tuple[str, ...]
    sha256: str | None = None


def cache_dir() -> Path:
    """Where downloads are kept: TIMELOCAL_CACHE, or the system's usual place.

    Raises:
        MissingExtraError: TIMELOCAL_CACHE is not set, and pooch, which knows the usual place, not installed.
    """
    if named := os.environ.get("TIMELOCAL_CACHE"):
        return as_path(named, "TIMELOCAL_CACHE")
    require("pooch", extra="data", for_="the cache of downloaded data")
    import pooch

    return Path(pooch.os_cache("timelocal"))


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    sources: Iterable[Source], folder: Path, verify: Callable[[Path], T], timeout: float = 30.0
) -> T:
    """Download the files into `folder`, if they are correct.

    They first go into a separate folder next to `folder`; each is checked against its sha256, if known, and
    `verify` checks the whole. Only then are they moved.

    Args:
        sources: the files.
        folder: their destination, created if necessary. Existing files are replaced.
        verify: called with the folder of the downloads; raises a DataError if they are wrong.
        timeout: seconds a server may stay silent, and seconds until its mean speed is judged.

    Returns:
        What `verify` returned.

    Raises:
        DataError: no address gave the right file, or `folder` cannot be written; nothing is kept.
        MissingExtraError: pooch is not installed.
    """
    require("pooch", "requests", extra="data", for_="a download")
    sources = tuple(sources)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder.parent) as name:
            scratch = Path(name)
            for source in sources:
                _fetch_one(source, scratch, timeout)
            try:
                result = verify(scratch)
            except DataError as error:
                text = str(error).replace(f"{scratch}{os.sep}", "")
                raise DataError(f"the download is wrong: {text}") from None
            folder.mkdir(exist_ok=True)
            for source in sources:
                os.replace(scratch / source.file, folder / source.file)
            return result
    except DataError as error:
        raise DataError(f"{error}\nNothing was kept. {by_hand(sources, folder)}") from None
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror or error}. Free disk space, or set TIMELOCAL_CACHE to a writable "
            f"folder. {by_hand(sources, folder)}"
        ) from error


def by_hand(sources: Iterable[Source], folder: Path) -> str:
    """Instructions to fetch the files by hand: what, from where, and where to put it."""
    lines = [f"  {source.file}  from  {'  or  '.join(source.urls)}" for source in sources]
    return f"To get the files yourself, put them into {folder}:\n" + "\n".join(lines)


def _fetch_one(source: Source, scratch: Path, timeout: float) -> None:
    """Put the file into `scratch`, from the first address that gives the right one."""
    reasons = []
    for url in source.urls:
        try:
            _take(source, url, scratch, timeout)
        except DataError as error:
            reasons.append(f"  {url}: {error}")
        else:
            return
    raise DataError(f"{source.file} could not be fetched:\n" + "\n".join(reasons))


def _take(source: Source, url: str, scratch: Path, timeout: float) -> None:
    target = scratch / source.file
    if url.endswith(".zip"):
        # Several files may come from one archive: it is downloaded once.
        archive = scratch / re.sub(r"\W", "_", url)
        if not archive.exists():
            _download(url, archive, timeout)
        _extract(archive, target)
    else:
        _download(url, target, timeout)
    if source.sha256 is not None and sha256_of(target) != source.sha256:
        raise DataError(f"wrong checksum: got sha256 {sha256_of(target)}, expected {source.sha256}")


class _Pace:
    """A progress bar for pooch that gives up on a server that sends very slowly or without end."""

    def __init__(self, timeout: float) -> None:
        self.total = 0
        self.timeout = timeout
        self.start = time.monotonic()
        self.received = 0

    def update(self, count: int) -> None:
        self.received += count
        seconds = time.monotonic() - self.start
        if seconds > self.timeout and self.received < SLOWEST * seconds:
            raise TimeoutError
        if self.received > LARGEST:
            raise too_large()

    def reset(self) -> None:
        self.start = time.monotonic()

    def close(self) -> None: ...


def _download(url: str, target: Path, timeout: float) -> None:
    import pooch
    import requests

    part = target.with_name(target.name + ".part")
    download = pooch.HTTPDownloader(
        progressbar=_Pace(timeout),
        timeout=timeout,
        chunk_size=256,  # the pace is looked at between two chunks
        headers={"Accept-Encoding": "identity"},  # the bytes that are checked, not packed again
    )
    try:
        download(url, str(part), None)
    except requests.HTTPError as error:
        raise DataError(f"refused: {str(error).split(' for url')[0]}") from None
    except (requests.RequestException, TimeoutError) as error:
        text = str(error)
        if isinstance(error, TimeoutError | requests.Timeout) or "timed out" in text:
            reason = f"too slow: silent for {timeout:g} s or below {SLOWEST:g} bytes/s"
        elif "IncompleteRead" in text:
            reason = "truncated: the connection was closed before the end of the file"
        else:
            known = re.search(r"\[Errno -?\d+\] [^'\")]+", text)
            reason = f"no connection: {known.group() if known else text}"
        raise DataError(reason) from None
    part.replace(target)


def too_large() -> DataError:
    """The message about a file that would fill the disk."""
    return DataError(
        f"too large: more than {LARGEST:,} bytes, and no file of ours is half as large"
    )


_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, LookupError, OSError
)  # fmt: skip
"""What zipfile raises for archives that are damaged, truncated, locked, or packed in a way it does not know.

OSError is bz2's word for damage: nothing is written where it is caught.
"""


def _extract(archive: Path, target: Path) -> None:
    """Take the file of the name of `target` out of an archive, wherever in it that lies."""
    try:
        with zipfile.ZipFile(archive) as content:
            member = next((one for one in content.infolist() if _is(one, target.name)), None)
            if member is None:
                raise DataError(f"the archive holds no {target.name}")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"{member.filename} in the archive is a link")
            with content.open(member) as stream:
                data = read_at_most(stream)
    except _DAMAGE as error:
        raise DataError(f"the archive is damaged, truncated or locked: {error}") from None
    target.write_bytes(data)


def _is(member: zipfile.ZipInfo, name: str) -> bool:
    """Whether a member is the file of this name, in a folder of the archive and not outside of it."""
    path = PurePosixPath(member.filename)
    return path.name == name and not path.is_absolute() and ".." not in path.parts


def read_at_most(stream: IO[bytes] | BufferedIOBase) -> bytes:
    """The unpacked content of a stream; a `DataError` if it exceeds `LARGEST`, without reading more."""
    data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise too_large()
    return data
