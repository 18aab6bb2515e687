"""Alignment with BPTT: what it measures, and that watching changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import timelocal as tl
from timelocal.analysis.alignment import WHOLE, alignment
from timelocal.errors import TimelocalError
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.run import run


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(6, 7, 3, generator=draw, dtype=torch.float64)
    return inputs, torch.randint(0, 4, (6,), generator=draw)


def test_it_is_the_angle_to_autograds_gradient() -> None:
    inputs, targets = batch()
    torch.manual_seed(0)
    recurrent, readout = nn.GRU(3, 5, batch_first=True).double(), nn.Linear(5, 4).double()
    rule = tl.DFA(tl.from_torch(recurrent, readout))
    found = alignment(rule, inputs, targets)

    rule(inputs, targets)
    parameters = dict(rule.network.named_parameters())
    ours = {name: p.grad.numpy().copy() for name, p in parameters.items() if p.grad is not None}
    for p in parameters.values():
        p.grad = None
    nn.functional.cross_entropy(readout(recurrent(inputs)[0][:, -1]), targets).backward()
    true = {name: p.grad.numpy().copy() for name, p in parameters.items() if p.grad is not None}

    assert set(found) == {*true, WHOLE}
    pairs = {name: (ours[name].ravel(), true[name].ravel()) for name in true}
    pairs[WHOLE] = (
        np.concatenate([a for a, _ in pairs.values()]),
        np.concatenate([b for _, b in pairs.values()]),
    )
    for name, (a, b) in pairs.items():
        size, length = np.linalg.norm(a), np.linalg.norm(b)
        assert found[name].cosine == pytest.approx(float(a @ b / (size * length)), abs=1e-12)
        assert found[name].norm_ratio == pytest.approx(float(size / length), rel=1e-12)
        assert found[name].sign_agreement == pytest.approx(float(np.mean(np.sign(a) == np.sign(b))))
    assert found["readout.weight"].cosine == pytest.approx(1.0)  # an exact delta rule
    assert found[WHOLE].cosine < 0.999


@pytest.mark.parametrize("rule", ["anp", "wp", "dfa"])
def test_watching_changes_nothing(rule: str, tmp_path: Path) -> None:
    given = {"dataset": "digits-rows", "cell": "rnn", "rule": rule, "hidden": 8, "epochs": 2}
    epochs = []
    for watched in (False, True):
        folder = run(TrainConfig(**given, alignment=watched), tmp_path)
        epochs.append(json.loads((folder / "history.json").read_text())["epochs"])
    plain, seen = epochs
    assert all("alignment.all.cosine" in epoch for epoch in seen)
    assert plain == [
        {key: value for key, value in epoch.items() if not key.startswith("alignment.")}
        for epoch in seen
    ]


def test_a_black_box_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    config = TrainConfig(cell="lif", rule="anp", hidden=8, epochs=1, alignment=True)
    with pytest.raises(TimelocalError, match=r"[Bb]ackward|derivative|bptt"):
        run(config, tmp_path)
    assert not list(tmp_path.iterdir())
