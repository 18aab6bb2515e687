"""What a user does with the core alone: `python core_session.py`, in an empty folder, without any extra.

It trains, resumes from a checkpoint, learns from a stream, reads and splits data. Every feature that needs
more says which extra brings it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

import timelocal as tl
from timelocal.training import History

EXTRAS = {
    "cli": ("typer", "rich", "pydantic", "sklearn"),
    "data": ("pooch", "requests"),
    "report": ("scipy", "pyarrow", "matplotlib"),  # torch brings jinja2 along
    "ray": ("ray",),
    "slurm": ("submitit",),
    "search": ("optuna",),
    "other": ("joblib", "pandas", "pytest", "pip"),
}
NEED_AN_EXTRA = ("cli", "experiments", "report", "studies")
"""The rooms that are not the core's."""

NEED_MORE = (
    "timelocal.__main__",
    "timelocal.bench.jax_bptt",
    "timelocal.data.own_tables",
    "timelocal.integrations.aeon",
    "timelocal.integrations.sktime",
    "timelocal.integrations.wrapped",
    "timelocal.integrations.river",
    "timelocal.integrations.sklearn",
)
"""The command itself, JAX's benchmark where it is installed, tables, aeon, sktime, river, scikit-learn."""


def nothing_else_is_here() -> None:
    found = {name for names in EXTRAS.values() for name in names if find_spec(name) is not None}
    assert not found, found


def every_module_of_the_core_can_be_imported() -> int:
    count = 0
    for module in pkgutil.walk_packages(tl.__path__, "timelocal.", onerror=lambda name: None):
        room = module.name.split(".")[1]
        if (
            room not in NEED_AN_EXTRA
            and module.name not in NEED_MORE
            and "._native" not in module.name
        ):
            importlib.import_module(module.name)
            count += 1
    assert count > 80, count
    return count


def train(folder: str | None, epochs: int) -> tuple[History, dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(30, 6, 2, generator=draw), torch.arange(30) % 3
    parts = tl.data.standardize(tl.data.split(tl.data.Sequences(inputs, targets), seed=0))
    rule = tl.DFA(tl.GRU(2, 8, output_size=3), loss="cross_entropy", at="last")
    optimizer = torch.optim.Adam(rule.network.parameters(), lr=1e-2)
    parts_and_sizes = {"batch_size": 6, "epochs": epochs, "folder": folder}
    history = tl.fit(rule, optimizer, parts.train, parts.validation, **parts_and_sizes)
    return history, rule.network.state_dict()


def trains_and_resumes() -> None:
    whole, expected = train("whole", 4)
    assert len(whole.epochs) == 4
    train("run", 2)
    resumed, found = train("run", 4)
    assert len(resumed.epochs) == 4
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert Path("run/checkpoint/checkpoint.json").exists()


def learns_from_a_stream() -> None:
    rule = tl.DFA(tl.RNN(2, 8, output_size=1), loss="mse", at="every")
    optimizer = torch.optim.SGD(rule.network.parameters(), lr=0.1)
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 200, 2, generator=draw)
    targets = inputs.sum(-1, keepdim=True)
    losses = tl.Stream(rule, optimizer, 3).run(inputs, targets).loss
    assert losses[-50:].mean() < 0.5 * losses[:50].mean()


def reads_data() -> None:
    assert tl.data.load("copying-fixed").inputs.shape == (3, 210, 10)
    folder = os.environ.get("TIMELOCAL_DATA")
    if folder and tl.data.locate("ecg200", folder):
        assert tl.data.load("ecg200", folder).inputs.shape == (200, 96, 1)
    assert "put them into" in message(tl.DataError, lambda: tl.data.load("ecg200", "."))


def message(kind: type[Exception], do: Callable[[], object]) -> str:
    """What the error says that `do` has to end in."""
    try:
        do()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def is_told_which_extra(extra: str, do: Callable[[], object]) -> None:
    (line,) = message(tl.MissingExtraError, do).splitlines()
    assert line.endswith(f'pip install "timelocal[{extra}]"'), line


def with_a_bar() -> None:
    rule = tl.DFA(tl.GRU(2, 4, output_size=3))
    optimizer = torch.optim.SGD(rule.network.parameters(), lr=0.1)
    part = torch.randn(6, 4, 2), torch.arange(6) % 3
    tl.fit(rule, optimizer, part, epochs=1, batch_size=3, progress=True)


def more_is_asked_for_by_name() -> None:
    os.environ.pop("TIMELOCAL_CACHE", None)
    folder = os.environ.pop("TIMELOCAL_DATA", None)
    from timelocal.analysis.statistics import summarize

    is_told_which_extra("cli", with_a_bar)
    is_told_which_extra("cli", lambda: tl.data.load("digits-rows"))
    is_told_which_extra("data", lambda: tl.data.load("ecg200"))
    is_told_which_extra("data", tl.data.cache_dir)
    os.environ["TIMELOCAL_CACHE"] = "cache"
    is_told_which_extra("data", lambda: tl.data.load("ecg200"))
    is_told_which_extra("report", lambda: summarize([1.0, 2.0]))
    for room in ("experiments", "studies.engines", "studies.store"):
        is_told_which_extra("cli", lambda room=room: importlib.import_module(f"timelocal.{room}"))
    is_told_which_extra("report", lambda: importlib.import_module("timelocal.report"))
    if folder is not None:
        os.environ["TIMELOCAL_DATA"] = folder


def the_command_says_so_in_one_line() -> None:
    script = Path(sys.executable).with_name("timelocal")
    commands = [[sys.executable, "-m", "timelocal"], *([[str(script)]] if script.exists() else [])]
    for command in commands:
        done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: the command timelocal: needs typer"), line
        assert line.endswith('pip install "timelocal[cli]"'), line


if __name__ == "__main__":
    nothing_else_is_here()
    trains_and_resumes()
    learns_from_a_stream()
    reads_data()
    more_is_asked_for_by_name()
    the_command_says_so_in_one_line()
    modules = every_module_of_the_core_can_be_imported()
    print(f"the core stands alone: {modules} modules, in {Path(tl.__file__).parent}")
