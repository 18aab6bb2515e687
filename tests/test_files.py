"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import resource
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch

from timelocal import files
from timelocal.errors import ArgumentError, BusyError, RunError


def test_written_values_come_back(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": 0.1 + 0.2, "y": [1, None, True]})
    assert files.read_json(tmp_path / "a.json") == {"x": 0.1 + 0.2, "y": [1, None, True]}
    tensors = {"a": torch.randn(3, 2).t(), "b": torch.tensor(7), "c": torch.tensor([1, 255]).byte()}
    files.write_tensors(tmp_path / "b.safetensors", tensors)
    torch.testing.assert_close(
        files.read_tensors(tmp_path / "b.safetensors"), tensors, rtol=0, atol=0
    )
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.safetensors"]


def test_json_has_no_words_for_infinity(tmp_path):
    given = {"a": math.inf, "b": [-math.inf, {"c": math.nan}, 1.5], "d": (np.float64("nan"), 2)}
    files.write_json(tmp_path / "a.json", given)
    text = (tmp_path / "a.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == {"a": None, "b": [None, {"c": None}, 1.5], "d": [None, 2]}


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "a.json"
    files.write_json(path, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(RunError, match=r"a\.json: No space left on device\. Free some space"):
        files.write_json(path, "new")
    monkeypatch.undo()
    assert files.read_json(path) == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.fixture
def small_disk():
    """No file of this process may grow beyond 10 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path, small_disk):
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(RunError, match="Free some space"):
        files.write_text(path, "new" * 10_000)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(RunError, match="Choose another folder"):
            files.make_folder(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="Permission denied"):
        files.make_folder(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe"])
def test_damaged_files_are_told(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    for read in (files.read_json, files.read_tensors):
        with pytest.raises(RunError, match="damaged"):
            read(path)
    with pytest.raises(RunError, match="cannot read"):
        files.read_json(tmp_path / "absent")


def test_one_writer_at_a_time(tmp_path):
    with (
        files.exclusive(tmp_path / "lock"),
        pytest.raises(RunError, match="another process"),
        files.exclusive(tmp_path / "lock"),
    ):
        pass
    with files.exclusive(tmp_path / "lock"):
        pass


@pytest.fixture(params=["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def no_flock(request, monkeypatch):
    """A file system that has no locks, as some NFS, Lustre and FUSE mounts."""
    number = getattr(errno, request.param)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)


def test_one_writer_at_a_time_without_flock(tmp_path, no_flock):
    lock = tmp_path / "lock"
    lock.touch()  # left by an earlier run, or copied along with its folder
    for _ in range(2):
        with (
            files.exclusive(lock),
            pytest.raises(BusyError, match=r"another process.*delete .*lock\.marker"),
            files.exclusive(lock),
        ):
            pass


KILLED = """
import errno, fcntl, os, signal, sys
from pathlib import Path
from timelocal import files

def flock(*_):
    raise OSError(errno.ENOSYS, "")

fcntl.flock = flock
with files.exclusive(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_marker_whose_owner_was_killed_is_removed(tmp_path, no_flock):
    """Without flock the system cannot let go of a lock; the next process on this machine does."""
    lock = tmp_path / "lock"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(lock)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "lock.marker").exists()
    with files.exclusive(lock):
        pass


def test_a_lock_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match="Choose another folder"),
        files.exclusive(tmp_path / "file" / "lock"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_folder_that_cannot_be_synced_is_written_all_the_same(tmp_path, monkeypatch, number):
    real, refused = os.fsync, []

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refused.append(descriptor)
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_json(tmp_path / "a.json", 1)
    assert refused
    assert files.read_json(tmp_path / "a.json") == 1


def test_an_index_tells_what_has_changed(tmp_path):
    path = tmp_path / "index.json"
    value = {"loss": [0.1, math.nan, np.float32(0.5)], "seed": np.int64(3), "é": "\udcff"}
    files.write_index(path, value, {"a": "1" * 64})
    read = {"loss": [0.1, None, 0.5], "seed": 3, "é": "\udcff"}
    assert files.read_index(path) == (read, {"a": "1" * 64})
    text = path.read_text()
    for old, new in (("0.1", "0.2"), ("1" * 64, "2" * 64), ("index.json", "other.json")):
        path.write_text(text.replace(old, new))
        with pytest.raises(RunError, match=r"index\.json is damaged .*sha256.*Delete it"):
            files.read_index(path)
    path.write_text(
        json.dumps(json.loads(text), separators=(",", ":"))
    )  # the same in another layout
    assert files.read_index(path)[0] == read
    path.write_text('{"seed": 3}')  # of an earlier version
    assert files.read_index(path) == ({"seed": 3}, None)


@pytest.mark.parametrize("text", ["[" * 101, '{"a":' * 5000, "1" * 5000, "\ufeff1", '"\\'])
def test_json_that_is_none_of_ours_is_one_clear_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"a\.json is damaged"):
        files.read_json(tmp_path / "a.json")
    assert files.parse_json(b"[" * 100 + b"]" * 100)


def test_what_is_no_utf8_is_written_as_an_escape(tmp_path):
    files.write_text(tmp_path / "a.html", os.fsdecode(b"run-\xff"))
    assert (tmp_path / "a.html").read_bytes() == b"run-\\udcff"


def test_paths_that_are_none_are_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.as_path("~/runs") == tmp_path / "runs"
    for path in (None, 3, "a\0b", "\ud800", b"bytes"):
        with pytest.raises(ArgumentError, match=r"folder: got .*, expected a path"):
            files.as_path(path)


def test_where_nobody_may_look_is_one_clear_error(tmp_path, monkeypatch):
    assert not files.is_there(tmp_path / "absent")
    assert files.is_there(tmp_path)
    (tmp_path / "file").touch()
    assert not files.is_there(tmp_path / "file" / "below")
    with pytest.raises(RunError, match=r"cannot read .*name too long"):
        files.is_there(tmp_path / ("a" * 300))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.complex64])
def test_tensors_of_any_type_come_back(tmp_path, dtype):
    tensors = {"a": torch.ones(3, dtype=dtype), "empty": torch.empty(0, 2, dtype=dtype)}
    digest = files.write_tensors(tmp_path / "a", tensors)
    assert digest == files.tensors_sha256(tensors)
    found = files.read_tensors(tmp_path / "a", digest)
    torch.testing.assert_close(found, tensors, rtol=0, atol=0)
    with pytest.raises(RunError, match="another file"):
        files.read_tensors(tmp_path / "a", "0" * 64)
