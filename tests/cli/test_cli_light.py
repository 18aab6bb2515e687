"""Help, version and completion come without torch: they answer in a fifth of a second."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import timelocal

VERBS = (
    *(
        "demo",
        "train",
        "predict",
        "evaluate",
        "export",
        "cite",
        "report",
        "list",
        "reproduce",
        "claims",
        "runs",
    ),
    *("doctor", "bench", "pack", "sweep", "backtest"),
    *("data", "data list", "data show", "data fetch"),
)
HEAVY = ("torch", "numpy", "sklearn", "matplotlib")

# In one process, since each call leaves what it has imported for the next: the first that is heavy is named.
CALLS = """
import sys
from timelocal.cli import main

for call in {calls!r}:
    sys.argv = ["timelocal", *call.split()]
    try:
        main()
    except SystemExit as end:
        assert end.code in (0, None), (call, end.code)
    heavy = [name for name in {heavy!r} if name in sys.modules]
    assert not heavy, (call, heavy)
    print("after:", call)
"""


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_version_need_no_torch() -> None:
    calls = ["--version", "--help", *(f"{verb} --help" for verb in VERBS)]
    told = python(CALLS.format(calls=calls, heavy=HEAVY))
    assert told.count("Usage: timelocal") == len(VERBS) + 1
    assert f"timelocal {timelocal.__version__}\n" in told
    assert [line for line in told.splitlines() if line.startswith("after: ")] == [
        f"after: {call}" for call in calls
    ]


def test_every_verb_is_among_those_tested(call) -> None:
    from timelocal.cli.app import app

    names = {command.name for command in app.registered_commands}
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    for name, group in groups.items():
        inner = (one.name or one.callback.__name__ for one in group.registered_commands)
        names |= {name, *(f"{name} {command}" for command in inner)}
    assert names == set(VERBS)
    told = call("--help").stdout
    for verb in VERBS[:10]:
        assert f" {verb} " in told


@pytest.mark.parametrize(
    ("words", "expected"), [("timelocal re", "reproduce"), ("timelocal data f", "fetch")]
)
def test_completion_needs_no_torch(words: str, expected: str) -> None:
    code = """
import atexit, sys
from timelocal.cli import main

def light():
    heavy = [name for name in {heavy!r} if name in sys.modules]
    print("heavy:", heavy)

atexit.register(light)
sys.argv = ["timelocal"]
main()
"""
    told = python(
        code.format(heavy=HEAVY),
        _TIMELOCAL_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )
    assert expected in told.split()
    assert told.endswith("heavy: []\n")


def test_version(call) -> None:
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"timelocal {timelocal.__version__}\n")
