"""The command line, called in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`timelocal` with these arguments."""
    from timelocal.cli.app import app

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def train(call) -> Callable[..., Result]:
    """`timelocal train`, small."""

    def run(*arguments: object) -> Result:
        return call("train", "--hidden", 8, "--epochs", 2, "--batch", 200, *arguments)

    return run
