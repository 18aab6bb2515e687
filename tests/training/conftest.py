"""A problem small enough to be learned in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from streams import PATHS, take_path
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import timelocal as tl
from timelocal.data import Sequences
from timelocal.training import History


class Problem(NamedTuple):
    train: Sequences
    validation: Sequences
    test: Sequences


class Trained(NamedTuple):
    history: History
    network: tl.Network
    rule: tl.Rule
    optimizer: Optimizer


def _part(count: int, seed: int) -> Sequences:
    inputs = torch.randn(count, 5, 3, generator=torch.Generator().manual_seed(seed))
    return Sequences(inputs, (inputs[:, -1, 0] > 0).long())


@pytest.fixture(scope="session")
def problem() -> Problem:
    """Is the first feature of the last step positive?"""
    return Problem(_part(40, 1), _part(20, 2), _part(20, 3))


Train = Callable[..., Trained]


@pytest.fixture
def train(problem: Problem) -> Train:
    """Train fresh objects; whatever is not said is the same each time."""

    def start(
        epochs: int,
        folder: Path | None = None,
        *,
        network: tl.Network | None = None,
        optimizer: Callable[..., Optimizer] = torch.optim.Adam,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        **options: object,
    ) -> Trained:
        network = network or tl.GRU(3, 8, 2, dropout=0.2, num_layers=2)
        rule = tl.DFA(network)
        built = optimizer(rule.parameters(), lr=0.01)
        history = tl.fit(
            rule,
            built,
            problem.train,
            problem.validation,
            test=problem.test,
            epochs=epochs,
            batch_size=16,
            folder=folder,
            scheduler=scheduler and scheduler(built),
            **options,
        )
        return Trained(history, network, rule, built)

    return start


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Streams by native code, and by Python's loop over steps."""
    take_path(request.param, monkeypatch)
    return request.param


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, object]]:
    """All of a run folder that must not depend on interruptions: every byte but those of the clock."""

    def read(folder: Path) -> dict[str, object]:
        found: dict[str, object] = {
            path.name: path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name not in {"checkpoint.json", "timing.json"}
        }
        index = json.loads((folder / "checkpoint" / "checkpoint.json").read_text())
        del index["timing"], index["sha256"]["checkpoint.json"]
        return {**found, "index": index}

    return read
