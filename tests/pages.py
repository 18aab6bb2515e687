"""What a page of the docs says, and the files that its commands name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd


def check_says(page: str, sentences: Iterable[str]) -> None:
    """That a page has these words, wherever its lines break."""
    words = " ".join(page.split())
    for said in sentences:
        assert said in words, said


def commands(text: str, program: str = "timelocal") -> list[list[str]]:
    """The lines that begin with the name of the program, without their comments."""
    lines = re.findall(rf"^(?: {{4}})?({program} .*)$", text, re.MULTILINE)
    return [shlex.split(re.sub(r"\s+# .*", "", line)) for line in lines]


def inline_commands(text: str, program: str = "timelocal") -> list[list[str]]:
    """Code spans that begin with the name of the program, except messages and what leaves out words ("…").

    An option of the program itself (`timelocal --help`) is no command.
    """
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))
    command = re.compile(rf"{program} (?!--)[^ :]+( |$)")
    return [shlex.split(span) for span in spans if command.match(span) and "…" not in span]


def write_own_files(folder: Path) -> None:
    """The tables that the README's commands name: 30 series of 8 steps that rise or fall, and a load."""
    for name, seed in (("own.csv", 0), ("test.csv", 1), ("new.csv", 2)):
        draw = np.random.default_rng(seed)
        rows = [
            (n, t, (t if n % 2 else -t) + draw.normal(), "rises" if n % 2 else "falls")
            for n in range(30)
            for t in range(8)
        ]
        pd.DataFrame(rows, columns=["id", "t", "x", "kind"]).to_csv(folder / name, index=False)
    when = pd.date_range("2026-01-01", periods=700, freq="h")
    load = np.sin(np.arange(700) * np.pi / 12)
    pd.DataFrame({"when": when, "load": load}).to_csv(folder / "load.csv", index=False)
