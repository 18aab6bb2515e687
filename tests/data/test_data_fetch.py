"""Downloads: what is right is kept, what is wrong leaves nothing but one clear message."""

from __future__ import annotations

import hashlib
import io
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from timelocal.data.fetch import Source, fetch
from timelocal.errors import DataError

CONTENT = b"0123456789" * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Under = Callable[[Path], list[str]]


def size_of_a(folder: Path) -> int:
    return len((folder / "a.bin").read_bytes())


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
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

    with pytest.raises(
        DataError, match=r"what was downloaded is wrong: a\.bin: not the known values"
    ):
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


def test_a_cache_that_cannot_be_written(server, tmp_path: Path) -> None:
    server.files["a.bin"] = CONTENT
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="TIMELOCAL_CACHE"):
        fetch([Source("a.bin", (server.url("a.bin"),))], tmp_path / "file" / "x" / "y", size_of_a)
