"""Downloads: what is right is kept, what is wrong leaves nothing but one clear message."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import socket
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from timelocal.data import load
from timelocal.data.fetch import Source, cache_dir, fetch
from timelocal.data.parsers import read_idx
from timelocal.errors import DataError

CONTENT = b"0123456789" * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Under = Callable[[Path], list[str]]


def size_of_a(folder: Path) -> int:
    return len((folder / "a.bin").read_bytes())


def zipped(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_good_file_is_kept(server, tmp_path: Path, everything_under: Under) -> None:
    server.files["a.bin"] = CONTENT
    folder = tmp_path / "cache" / "set"
    size = fetch([Source("a.bin", (server.url("a.bin"),), SHA256)], folder, size_of_a)
    assert size == len(CONTENT)
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert everything_under(tmp_path / "cache") == ["set", "set/a.bin"]


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("truncated", "truncated"),
        ("silent", "too slow"),
        ("trickle", "too slow"),
        ("refused", "refused: 403"),
    ],
)
def test_bad_server_leaves_nothing_and_says_what_to_do(
    server, tmp_path: Path, everything_under: Under, manner: str, reason: str
) -> None:
    server.files["a.bin"] = CONTENT
    url = server.url("a.bin", manner)
    folder = tmp_path / "cache" / "set"
    with pytest.raises(DataError) as caught:
        fetch([Source("a.bin", (url,), SHA256)], folder, size_of_a, timeout=0.3)
    message = str(caught.value)
    assert reason in message
    assert url in message
    assert f"put them into {folder}" in message
    assert everything_under(tmp_path / "cache") == []


def test_wrong_bytes(server, tmp_path: Path, everything_under: Under) -> None:
    server.files["a.bin"] = CONTENT[:-1] + b"!"
    got = hashlib.sha256(server.files["a.bin"]).hexdigest()
    source = Source("a.bin", (server.url("a.bin"),), SHA256)
    with pytest.raises(DataError, match=f"wrong checksum: got sha256 {got}, expected {SHA256}"):
        fetch([source], tmp_path / "set", size_of_a)
    assert everything_under(tmp_path) == []


def test_nobody_listens(tmp_path: Path, everything_under: Under) -> None:
    source = Source("a.bin", (f"http://127.0.0.1:{closed_port()}/a.bin",), SHA256)
    with pytest.raises(DataError, match=r"no connection: .*refused"):
        fetch([source], tmp_path / "set", size_of_a)
    assert everything_under(tmp_path) == []


def test_wrong_values_are_not_kept(server, tmp_path: Path, everything_under: Under) -> None:
    """A file without a known sha256 is judged by what `verify` reads from it."""
    server.files["a.bin"] = CONTENT

    def verify(folder: Path) -> None:
        raise DataError(f"{folder / 'a.bin'}: not the known values")

    with pytest.raises(DataError, match=r"the download is wrong: a\.bin: not the known values"):
        fetch([Source("a.bin", (server.url("a.bin"),))], tmp_path / "set", verify)
    assert everything_under(tmp_path) == []


def test_the_next_address_is_tried(server, tmp_path: Path) -> None:
    server.files |= {"a.bin": CONTENT, "b.bin": b"wrong"}
    urls = (server.url("a.bin", "refused"), server.url("b.bin"), server.url("a.bin"))
    fetch([Source("a.bin", urls, SHA256)], tmp_path / "set", size_of_a)
    assert (tmp_path / "set" / "a.bin").read_bytes() == CONTENT


def test_a_second_bad_file_undoes_the_first(
    server, tmp_path: Path, everything_under: Under
) -> None:
    server.files |= {"a.bin": CONTENT, "b.bin": CONTENT}
    sources = [
        Source("a.bin", (server.url("a.bin"),), SHA256),
        Source("b.bin", (server.url("b.bin", "truncated"),), SHA256),
    ]
    with pytest.raises(DataError, match=r"b\.bin could not be fetched"):
        fetch(sources, tmp_path / "set", size_of_a)
    assert everything_under(tmp_path) == []


def test_files_of_one_zip_cost_one_download(
    server, tmp_path: Path, everything_under: Under
) -> None:
    server.files["x.zip"] = zipped(a_bin=CONTENT, folder__b_bin=b"b")
    sources = [
        Source("a.bin", (server.url("x.zip"),), SHA256),
        Source("b.bin", (server.url("x.zip"),)),
    ]
    fetch(sources, tmp_path / "set", size_of_a)
    assert len(server.asked) == 1
    assert everything_under(tmp_path / "set") == ["a.bin", "b.bin"]


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (zipped(b_bin=CONTENT), r"holds no a\.bin"),
        (zipped(a_bin=CONTENT)[:-40], "damaged, truncated"),
        (zipped(a_bin=CONTENT)[:40].ljust(60, b"!") + zipped(a_bin=CONTENT)[60:], "damaged"),
        (zipped(a_bin=CONTENT[1:]), "wrong checksum"),
        (b"<html>moved</html>", "damaged, truncated"),
    ],
    ids=["other member", "truncated", "damaged inside", "wrong member", "no zip"],
)
def test_bad_zip(
    server, tmp_path: Path, everything_under: Under, archive: bytes, reason: str
) -> None:
    server.files["x.zip"] = archive
    with pytest.raises(DataError, match=reason):
        fetch([Source("a.bin", (server.url("x.zip"),), SHA256)], tmp_path / "set", size_of_a)
    assert everything_under(tmp_path) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_damaged_archive_is_told_whatever_it_is_packed_with(
    server, tmp_path: Path, method: int
) -> None:
    whole = zipped(method, a_bin=random.Random(0).randbytes(5000))
    for at in (60, 200, 1000, 3000):
        server.files["x.zip"] = (
            whole[:at] + bytes(b ^ 255 for b in whole[at : at + 20]) + whole[at + 20 :]
        )
        with pytest.raises(DataError, match=r"archive is damaged|wrong checksum") as caught:
            fetch([Source("a.bin", (server.url("x.zip"),), SHA256)], tmp_path / "set", size_of_a)
        assert "Free disk space" not in str(caught.value)


def test_an_archive_packed_in_an_unknown_way_is_told(server, tmp_path: Path) -> None:
    whole = bytearray(zipped(a_bin=CONTENT))
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        whole[whole.index(mark) + place] = 77
    server.files["x.zip"] = bytes(whole)
    with pytest.raises(DataError, match=r"archive is damaged, truncated or locked: .*compression"):
        fetch([Source("a.bin", (server.url("x.zip"),), SHA256)], tmp_path / "set", size_of_a)


@pytest.mark.parametrize("url", ["a.bin", "x.zip", "x.gz"])
def test_what_would_fill_the_disk_is_given_up(
    server, tmp_path: Path, everything_under: Under, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """A few kilobytes on the way, much more when unpacked."""
    monkeypatch.setattr("timelocal.data.fetch.LARGEST", 100_000)
    zeros = bytes(1_000_000)
    server.files |= {"a.bin": zeros, "x.zip": zipped(a_bin=zeros), "x.gz": gzip.compress(zeros)}
    source, verify = Source("a.bin", (server.url(url),)), size_of_a
    if url == "x.gz":
        source = Source("x.gz", (server.url(url),))
        verify = lambda folder: read_idx(folder / "x.gz")  # noqa: E731
    with pytest.raises(DataError, match="too large: more than 100,000 bytes"):
        fetch([source], tmp_path / "set", verify)
    assert everything_under(tmp_path) == []


def test_members_outside_of_the_archive_and_links_are_refused(
    server, tmp_path: Path, everything_under: Under
) -> None:
    link = zipfile.ZipInfo("a.bin")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for member, reason in (
        ("../../a.bin", r"holds no a\.bin"),
        ("/etc/a.bin", r"holds no a\.bin"),
        (link, "is a link"),
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(member, b"/etc/passwd")
        server.files["x.zip"] = buffer.getvalue()
        with pytest.raises(DataError, match=reason):
            fetch([Source("a.bin", (server.url("x.zip"),))], tmp_path / "set", size_of_a)
        assert everything_under(tmp_path) == []


def test_a_tilde_in_the_environment_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TIMELOCAL_CACHE", "~/some-cache")
    assert cache_dir() == tmp_path / "some-cache"


def test_a_folder_that_may_not_be_looked_into_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(DataError, match="Permission denied: make its folder readable"):
        load("ecg200", tmp_path)


def test_a_cache_that_cannot_be_written(server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="TIMELOCAL_CACHE"):
        fetch([Source("a.bin", (server.url("a.bin"),))], tmp_path / "file" / "x" / "y", size_of_a)
