"""Runs of `fit` of which `format1/` and `format2/` keep a checkpoint: six epochs, stopped after three.

The checkpoints were written by the last versions with these formats (ebd08836, where a rule did not own its
network, and 38ccf7c1, where an index held no sha256), by this file itself:

    PYTHONPATH=THAT_VERSION/src python tests/training/formats_runs.py tests/training/format1

Nothing here may change: a run is known by all that it is made of.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch.optim import SGD, Adam, Optimizer

import timelocal as tl
from timelocal.data import Sequences

STOPPED, EPOCHS = 3, 6


class Run(NamedTuple):
    rule: Callable[[], tl.Rule]
    optimizer: Callable[..., Optimizer]


RUNS = {
    "dfa-gru-adam": Run(
        lambda: tl.DFA(tl.GRU(3, 4, 2, num_layers=2, dropout=0.2, decorrelate=1e-2)),
        partial(Adam, lr=0.01),
    ),
    "np-rnn-momentum": Run(
        lambda: tl.NP(tl.RNN(3, 4, 2), loss="cross_entropy", at="last", sigma=0.01),
        partial(SGD, lr=0.05, momentum=0.9),
    ),
}


def part(count: int, seed: int) -> Sequences:
    """Quarters, the same on every machine, and whether the first feature of the last step is positive."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(-4, 5, (count, 5, 3), generator=generator) / 4
    return Sequences(inputs, (inputs[:, -1, 0] > 0).long())


def fit(name: str, epochs: int, folder: Path | None = None) -> tuple[tl.Rule, tl.History]:
    run = RUNS[name]
    rule = run.rule()
    history = tl.fit(
        rule,
        run.optimizer(rule.network.parameters()),
        part(12, 1),
        part(8, 2),
        epochs=epochs,
        batch_size=5,
        seed=1,
        folder=folder,
    )
    return rule, history


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for name in RUNS:
        with TemporaryDirectory() as made:
            fit(name, STOPPED, Path(made))
            shutil.copytree(Path(made) / "checkpoint", folder / name / "checkpoint")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
