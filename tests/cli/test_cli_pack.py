"""pack, and the verbs that read what is packed."""

from __future__ import annotations

import json
import shutil

import pytest

from timelocal.studies.store import runs


@pytest.fixture
def store(train, tmp_path):
    """Two runs."""
    assert train("--cell", "rnn", "--seeds", 2, "--out", tmp_path / "runs").exit_code == 0
    return tmp_path / "runs"


def test_every_verb_reads_packed_runs_as_it_reads_folders(call, train, store, tmp_path):
    names = [record.folder.name for record in runs(store)]
    told = {verb: call("runs", store, verb).stdout for verb in ("--csv", "--json")}
    result = call("pack", store)
    assert result.exit_code == 0, result.output
    assert "2 runs packed into" in result.stdout
    shutil.rmtree(store)
    for place in (store, tmp_path / "runs.parquet"):
        for verb, text in told.items():
            assert call("runs", place, verb).stdout == text
        assert "2 finished" in call("runs", place).stdout
        assert all(name in call("list", "--out", place).stdout for name in names)
        (tmp_path / "report.html").unlink(missing_ok=True)
        result = call("report", place)
        assert result.exit_code == 0, result.output
        page = (tmp_path / "report.html").read_text()
        assert all(name in page for name in names)
        assert "timelocal train --dataset digits-rows --cell rnn --rule dfa" in page
        assert "--seeds 0,1 --threads 1" in page
    again = train("--cell", "rnn", "--seeds", 3, "--out", store)
    assert again.exit_code == 0, again.output
    assert len(list(store.iterdir())) == 1  # two of the three are there, packed
    assert "3" in again.stdout
    assert "3 finished" in call("runs", store).stdout
    assert "3 runs packed" in call("pack", store).stdout


def test_unpacked_runs_are_run_folders_again(call, store, tmp_path):
    found = call("pack", store, "--out", tmp_path / "study.parquet")
    assert found.exit_code == 0, found.output
    result = call("pack", "--unpack", tmp_path / "study.parquet")
    assert "2 runs unpacked into" in result.stdout
    assert ", 2 were already there" in call("pack", "--unpack", tmp_path / "study").stdout
    call("pack", "--unpack", tmp_path / "study.parquet", "--out", tmp_path / "elsewhere")
    for folder in store.iterdir():
        for place in ("study", "elsewhere"):
            copy = tmp_path / place / folder.name / "result.json"
            assert json.loads(copy.read_text()) == json.loads((folder / "result.json").read_text())


def test_folders_of_before_are_given_the_names_of_today(call, store):
    folder = runs(store)[0].folder
    folder.rename(folder.with_name("digits-rows-rnn-dfa-s0-00000000"))
    result = call("runs", store, "--rename")
    assert result.exit_code == 0, result.output
    assert f"digits-rows-rnn-dfa-s0-00000000 is now {folder.name}" in result.stderr
    assert folder.is_dir()


def test_what_cannot_be_packed_or_read_is_told(call, store, tmp_path):
    nowhere = tmp_path / "nowhere"
    for verb in (["pack"], ["pack", "--unpack"], ["runs"], ["report"]):
        result = call(*verb, nowhere)
        assert result.exit_code == 2
        assert "nowhere" in result.stderr
    first = runs(store)[0].folder / "status.json"
    first.write_text('{"status": "running", "message": ""}')
    result = call("pack", store)
    assert "left out:" in result.stderr
    assert "1 runs packed" in result.stdout
    (tmp_path / "runs.parquet").write_bytes(b"PAR1 and no more")
    for verb in (["runs"], ["report"], ["pack"]):
        result = call(*verb, store)
        assert result.exit_code == 2
        assert "runs.parquet is damaged" in result.stderr
    (tmp_path / "reproduction").mkdir()
    (tmp_path / "reproduction" / "runs.parquet").write_bytes(b"")
    result = call("reproduce", "dfa", "--report-only", "--out", tmp_path / "reproduction")
    assert result.exit_code == 2
    assert "runs.parquet is damaged" in result.stderr
