"""What Ctrl-C stopped goes on, and what is damaged is told with a remedy that works."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from test_cli_kill import deterministic

from timelocal.studies.store import runs
from timelocal.training.saver import Saver


@pytest.fixture
def ctrl_c(monkeypatch):
    """Ctrl-C after the second epoch, which is saved."""

    def stop(saver, state, history):
        saver.save(state, history)
        if len(history.epochs) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "offer", stop)
        yield patch


def test_what_ctrl_c_cut_off_ends_in_the_same_bits(call, train, tmp_path, ctrl_c):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert train("--epochs", 4, "--out", parts).exit_code == 130
    (record,) = runs(parts)
    assert (record.status, len(record.epochs)) == ("running", 2)
    assert "1 running (or interrupted: the same command resumes it)" in call("runs", parts).stdout
    ctrl_c.undo()
    for out in (parts, whole):
        assert train("--epochs", 4, "--out", out).exit_code == 0
    assert deterministic(parts) == deterministic(whole)


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-1]),
                                    Path.unlink])  # fmt: skip
@pytest.mark.parametrize("part", ["last", "best"])
def test_tensors_that_are_damaged_or_gone(train, tmp_path, ctrl_c, part, damage):
    assert train("--epochs", 4, "--out", tmp_path).exit_code == 130
    ctrl_c.undo()
    (path,) = tmp_path.glob(f"*/checkpoint/{part}-*.safetensors")
    damage(path)
    result = train("--epochs", 4, "--out", tmp_path)
    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert path.parent.name == "checkpoint"
    assert _told(r"Delete the folder (\S+) and start this run again", result) == path.parent
    shutil.rmtree(path.parent)
    assert train("--epochs", 4, "--out", tmp_path).exit_code == 0
    assert runs(tmp_path)[0].status == "finished"


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), Path.unlink])
def test_a_damaged_result_is_named_and_not_counted(train, tmp_path, damage):
    whole = train("--seeds", 2, "--out", tmp_path)
    path = runs(tmp_path)[0].folder / "result.json"
    before = path.read_bytes()
    damage(path)
    one = train("--seeds", "1,", "--out", tmp_path).stdout
    result = train("--seeds", 2, "--out", tmp_path)
    assert "result.json" in result.stderr.splitlines()[0]
    assert _row(result.stdout).replace("1 + 1 damaged", "1") == _row(one)
    status = _told(r"Delete (\S+) and give the same command again", result)
    assert status == path.with_name("status.json")
    status.unlink()
    assert train("--seeds", 2, "--out", tmp_path).stdout == whole.stdout
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"),
                                    lambda path: path.write_text('{"seed": 0}'), Path.unlink])  # fmt: skip
def test_a_damaged_configuration_is_named_and_mended(train, tmp_path, damage):
    whole = train("--out", tmp_path)
    path = runs(tmp_path)[0].folder / "config.json"
    before = path.read_bytes()
    damage(path)
    result = train("--out", tmp_path)
    assert "config.json" in result.stderr.splitlines()[0]
    assert "0 + 1 damaged" in _row(result.stdout)
    _told(r"Delete (\S+) and give the same command again", result).unlink()
    assert train("--out", tmp_path).stdout == whole.stdout
    assert path.read_bytes() == before


def test_another_runs_configuration_is_told(train, tmp_path):
    """Of the same kind, sound in itself, and in a folder whose name says that it is another's."""
    train("--seeds", 2, "--out", tmp_path)
    one, other = sorted(tmp_path.iterdir())
    shutil.copy(other / "config.json", one / "config.json")
    for workers in (1, 2):
        result = train("--seeds", 2, "--out", tmp_path, "--workers", workers)
        assert "config.json is not as written" in result.stderr
        assert result.exit_code == (0 if workers == 1 else 2)
    for name in ("status.json", "result.json", "history.json", "timing.json", "environment.json"):
        shutil.copy(other / name, one / name)  # the whole run: the name alone tells
    result = train("--seeds", 2, "--out", tmp_path)
    assert f"config.json belongs to {other.name}" in result.stderr
    assert "1 + 1 damaged" in _row(result.stdout)


def _row(table):
    """The only row of a table, whatever the widths of its columns."""
    (row,) = (line for line in table.splitlines() if "digits-rows" in line)
    return " ".join(row.split())


def _told(pattern, result):
    found = re.search(pattern, result.stderr)
    assert found is not None, result.stderr
    return Path(found[1])
