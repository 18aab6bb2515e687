"""Every command that the documents show is one that the program takes; the README's run in their order."""

from __future__ import annotations

import re
import runpy
from argparse import ArgumentParser
from glob import glob
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from pages import commands, inline_commands, write_own_files
from plugin_files import CELL, RULE
from timelocal.cli.app import app
from timelocal.experiments.catalogue import EXPERIMENTS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("results/*/README.md")),
]
PROGRAM = typer.main.get_command(app)
LONG = {"reproduce", "claims", "bench"}
"""Verbs whose work is tested elsewhere, or takes hours."""
KNOWN = {part for name in EXPERIMENTS for part in (name, name.split("/")[-1])} | {
    "dfa",
    "perturbation",
}
"""What `reproduce` takes: experiments, with their folder or without it, and the two papers."""


def shown_anywhere(program: str) -> list[tuple[str, ...]]:
    """What is given to this program on any page, each once."""
    texts = [page.read_text() for page in PAGES]
    shown = [
        words
        for text in texts
        for words in (*commands(text, program), *inline_commands(text, program))
    ]
    return sorted({tuple(words) for _, *words in shown})


ANYTHING = "1"
"""A number, and a text: in place of what a page leaves to its reader, in capitals (RUN, N)."""

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}"
)


@each_page
def test_every_command_is_one_that_the_program_takes(page: Path) -> None:
    text = page.read_text()
    for _, verb, *arguments in commands(text):
        check_taken(verb, arguments)
    for _, verb, *arguments in inline_commands(text):
        check_taken(verb, [re.sub(r"^[A-Z]+$", ANYTHING, one) for one in arguments], mentions=True)


def check_taken(verb: str, arguments: list[str], mentions: bool = False) -> None:
    """That the program has the verb, and the verb takes the arguments.

    mentions: whether a verb alone, or with options alone, names them and is no whole command.
    """
    with PROGRAM.make_context("timelocal", [verb]) as context:
        found = PROGRAM.get_command(context, verb)
        assert found is not None, verb
        if verb == "data":
            kind, *arguments = arguments
            with found.make_context(verb, [kind], parent=context) as inner:
                found = found.get_command(inner, kind)
        if mentions and all(one.startswith("--") for one in arguments):
            assert {*arguments} <= {name for one in found.params for name in one.opts}, arguments
            return
        with found.make_context(verb, arguments, parent=context) as asked:
            names = asked.params.get("names") if verb == "reproduce" else None
    assert set(names or ()) <= KNOWN | {ANYTHING}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("    timelocal train --dataset ecg200 --no-such-option 3   # a comment\n", "no-such-opt"),
        ("Then\n`timelocal train\n--no-such-option 3` trains.", "no-such-opt"),
        ("`timelocal train --dataset ecg200 --no-such-flag`", "no-such-flag"),
        ("An option, `timelocal train --no-such-flag`", "no-such-flag"),
        ("`timelocal trian`", "trian"),
        ("`timelocal reproduce no-such-experiment`", "no-such-experiment"),
        ("`timelocal train --seeds N --workers many`", "valid integer"),
    ],
)
def test_a_command_that_the_program_does_not_take_is_found(
    text: str, wrong: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(Exception, match=wrong):
        test_every_command_is_one_that_the_program_takes(page)


@each_page
def test_every_target_of_make_is_one(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = [*commands(text, "make"), *inline_commands(text, "make")]
    assert {target for _, target, *_ in shown} <= {*targets}


@pytest.mark.parametrize("words", shown_anywhere("python"), ids=" ".join)
def test_every_script_takes_its_arguments(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is run as far as it has understood them."""
    script, *arguments = words
    path = ROOT / script
    assert path.is_file()
    if not arguments:
        return

    parse = ArgumentParser.parse_args

    def parse_only(parser: ArgumentParser) -> NoReturn:
        parse(parser)
        parser.exit()

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_only)
    monkeypatch.setattr("sys.argv", [str(path), *arguments])
    if "river" in script:
        pytest.importorskip("river")
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0


@pytest.mark.parametrize("words", shown_anywhere("pytest"), ids=" ".join)
def test_every_call_of_pytest_finds_tests(
    words: tuple[str, ...], pytestconfig: pytest.Config
) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("files", nargs="+")
    for flag in ("-s", "-q"):
        parser.add_argument(flag, action="store_true")
    for option in ("-m", "-k", "--record"):
        pytestconfig.getoption(option)  # raises an error for one that there is not
        parser.add_argument(option)
    asked = parser.parse_args(words)
    texts = [(ROOT / file).read_text() for file in asked.files]
    assert all(f"pytest.mark.{asked.m}\n" in text for text in texts)
    for part in set(re.findall(r"\w+", asked.k or "")) - {"not", "and", "or"}:
        assert any(re.search(rf"def test_\w*{part}", text) for text in texts)


@pytest.mark.slow
@pytest.mark.data
def test_the_commands_of_the_readme_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    """In a folder that holds the files they name; trained for one epoch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIMELOCAL_DATA", str(data_dir))
    write_own_files(tmp_path)
    Path("mine.py").write_text(
        RULE.replace("class Rule", "class MyRule") + CELL.replace("class Cell", "class MyCell")
    )
    text = (ROOT / "README.md").read_text()
    inline = [
        words
        for words in inline_commands(text)
        if not all(one.startswith("--") for one in words[2:])  # a mention
        and not any(one.isupper() for one in words)
    ]
    assert {"sweep", "backtest"} <= {verb for _, verb, *_ in inline}
    for _, verb, *arguments in (*commands(text), *inline):
        if verb in LONG and "--list" not in arguments:
            continue
        given = [
            path
            for one in arguments
            for path in (sorted(glob(one.replace("…", "*"))) if "…" in one else [one])
        ]
        if verb in ("train", "backtest"):
            given += ["--epochs", "1"]
        elif verb == "sweep":
            given += ["epochs=1"]
        done = CliRunner().invoke(app, [verb, *given])
        assert done.exit_code == 0, (verb, given, done.output)
    assert len(pd.read_csv("out.csv")) == 30
    assert Path("paper").is_dir()
    assert Path("runs.parquet").is_file()
