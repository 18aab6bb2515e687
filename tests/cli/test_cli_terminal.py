"""What is printed: names in full, as they are, on any terminal, pipe and encoding."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest

from timelocal.cli.terminal import show, table
from timelocal.errors import printable

STORE = "s\x1b]0;title\x07[/x]:smile:"
NAMES = ("\x1b[31mred", "[bold]", "[", ":smile:", "\u202eflipped", "\x9b31mred")


@pytest.fixture
def store(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs in folders of strange names; the working folder holds the store."""
    monkeypatch.chdir(tmp_path)
    folder = Path(STORE)
    assert train("--epochs", 1, "--out", folder).exit_code == 0
    (run,) = folder.iterdir()
    for name in NAMES:
        shutil.copytree(run, folder / name)
    return folder


@pytest.mark.parametrize("arguments", [("runs",), ("list", "--out"), ("report",)])
def test_what_a_name_holds_is_text(call, store: Path, arguments: tuple[str, ...]) -> None:
    result = call(*arguments, store)
    assert result.exit_code == 0, result.output
    assert not set(result.output) & {"\x1b", "\x07", "\x9b", "\u202e"}
    if arguments != ("list", "--out"):
        assert printable(STORE) in result.output
    if arguments != ("report",):
        for name in NAMES:
            assert f"│ {printable(name)} " in result.output


@pytest.mark.parametrize("verb", ["runs", "report", "pack", "train"])
def test_an_error_obeys_no_name(call, tmp_path: Path, monkeypatch, verb: str) -> None:
    monkeypatch.chdir(tmp_path)
    name = "\x1b[31m[/x]\udcff"
    result = call(verb, *(["--out", "/dev/null", "--cell"] if verb == "train" else []), name)
    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert "[/x]" in result.stderr


@pytest.mark.parametrize("columns", ["40", "80"])
def test_a_pipe_gets_names_in_full(train, call, tmp_path: Path, monkeypatch, columns: str) -> None:
    train("--cell", "gru-reset-before", "--epochs", 1, "--out", tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in (("runs",), ("list", "--out")):
        assert folder.name in call(*arguments, tmp_path / "runs").stdout
    again = train("--cell", "gru-reset-before", "--epochs", 1, "--out", tmp_path / "runs")
    assert "gru-reset-before" in again.stdout
    assert "…" not in again.stdout


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_what_the_encoding_lacks_is_replaced(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from timelocal.cli.app import app

    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding=encoding))
    with pytest.raises(SystemExit) as ended:
        app(["list"])
    assert ended.value.code == 0
    sys.stdout.flush()
    for text in ("1,797 × 8 × 8", "the change of the loss"):
        assert text.encode(encoding, errors="replace") in written.getvalue()


@pytest.mark.parametrize("name", ["[/x]", "[bold]", ":smile:", "\x1b[31m", "half \udcff"])
def test_a_table_is_wide_enough_for_what_it_shows(name: str, capsys) -> None:
    made = table("a", "b", title=name)
    made.add_row(name * 40, "x")
    show(made, name)
    title, *lines, last = capsys.readouterr().out.splitlines()
    assert title.strip() == last == printable(name)
    assert {len(line) for line in lines} == {len(printable(name)) * 40 + 8}
