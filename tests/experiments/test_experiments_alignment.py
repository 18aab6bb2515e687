"""Alignment with BPTT: what it measures, and that watching changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import timelocal as tl
from timelocal.analysis.alignment import HEADLINE, alignment, watch
from timelocal.data import Sequences
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

    rule(inputs, targets).backward()
    parameters = dict(rule.network.named_parameters())
    ours = {name: p.grad.numpy().copy() for name, p in parameters.items() if p.grad is not None}
    for p in parameters.values():
        p.grad = None
    nn.functional.cross_entropy(readout(recurrent(inputs)[0][:, -1]), targets).backward()
    true = {name: p.grad.numpy().copy() for name, p in parameters.items() if p.grad is not None}

    assert set(found) == {*true, HEADLINE, "recurrent.l0"}
    pairs = {name: (ours[name].ravel(), true[name].ravel()) for name in true}
    inside = [pair for name, pair in pairs.items() if name.startswith("recurrent.")]
    whole = np.concatenate([a for a, _ in inside]), np.concatenate([b for _, b in inside])
    pairs |= {HEADLINE: whole, "recurrent.l0": whole}
    for name, (a, b) in pairs.items():
        size, length = np.linalg.norm(a), np.linalg.norm(b)
        assert found[name].cosine == pytest.approx(float(a @ b / (size * length)), abs=1e-12)
        assert found[name].norm_ratio == pytest.approx(float(size / length), rel=1e-12)
        assert found[name].sign_agreement == pytest.approx(float(np.mean(np.sign(a) == np.sign(b))))
    assert found["readout.weight"].cosine == pytest.approx(1.0)  # an exact delta rule
    assert found[HEADLINE].cosine < 0.999


class _TeachesNothing(tl.BPTT):
    """The readout learns by its exact gradient, the layers named nothing at all."""

    idle = ("",)

    def recurrent_gradients(self, forward):
        return {
            name: torch.zeros_like(own) if name.endswith(self.idle) else own
            for name, own in super().recurrent_gradients(forward).items()
        }


def test_a_rule_that_teaches_the_recurrent_part_nothing_scores_nothing() -> None:
    inputs, targets = batch()
    rule = _TeachesNothing(tl.GRU(3, 5, 4, num_layers=2).double())
    found = alignment(rule, inputs, targets)
    assert found["readout.weight"].cosine == pytest.approx(1.0)
    assert found[HEADLINE] == found["recurrent.l0"] == found["recurrent.l1"]
    assert found[HEADLINE] == (0.0, 0.0, 0.0)
    assert "all" not in found

    rule.idle = ("_l0", "_l0_reverse")
    found = alignment(rule, inputs, targets)
    assert found["recurrent.l0"].cosine == 0
    assert found["recurrent.l1"].cosine == pytest.approx(1.0)
    assert 0 < found[HEADLINE].cosine < 1


def test_both_directions_of_a_layer_are_one_vector() -> None:
    inputs, targets = batch()
    network = tl.GRU(3, 5, 4, num_layers=2, bidirectional=True, bias=False).double()
    found = alignment(tl.BPTT(network), inputs, targets)
    layers = {"recurrent.l0", "recurrent.l1"}
    assert set(found) == {*dict(network.named_parameters()), HEADLINE, *layers}
    for name in (HEADLINE, *layers):
        assert found[name].cosine == pytest.approx(1.0)


@pytest.mark.parametrize("rule", ["anp", "wp", "dfa"])
def test_watching_changes_nothing(rule: str, tmp_path: Path) -> None:
    given = {"dataset": "digits-rows", "cell": "rnn", "rule": rule, "hidden": 8, "epochs": 2}
    epochs = []
    for watched in (False, True):
        folder = run(TrainConfig(**given, alignment=watched), tmp_path)
        epochs.append(json.loads((folder / "history.json").read_text())["epochs"])
    plain, seen = epochs
    assert all("alignment.recurrent.cosine" in epoch for epoch in seen)
    assert plain == [
        {key: value for key, value in epoch.items() if not key.startswith("alignment.")}
        for epoch in seen
    ]


def test_a_black_box_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    config = TrainConfig(
        cell="timelocal.testing.measure:Device", rule="anp", hidden=8, epochs=1, alignment=True
    )
    with pytest.raises(TimelocalError, match=r"[Bb]ackward|derivative|bptt"):
        run(config, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["between layers", "in the readout"])
def test_bptt_is_aligned_with_itself_under_dropout(place: str) -> None:
    inputs, targets = batch()
    if place == "between layers":
        network = tl.GRU(3, 8, output_size=4, num_layers=2, dropout=0.5)
    else:
        readout = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 4))
        network = tl.from_torch(nn.GRU(3, 8, batch_first=True), readout)
    before = torch.get_rng_state()
    found = alignment(tl.BPTT(network.double()), inputs, targets)
    assert found[HEADLINE].cosine == pytest.approx(1.0, abs=1e-12)
    assert found[HEADLINE].norm_ratio == pytest.approx(1.0, abs=1e-12)
    assert torch.equal(before, torch.get_rng_state())
    assert all(module.training for module in network.modules())


def test_a_time_first_network_is_watched_in_its_own_order() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(7, 7, 3, generator=generator)  # as many sequences as steps
    targets = torch.randint(0, 4, (7,), generator=generator)
    part = Sequences(inputs, targets)
    recurrent, readout = nn.RNN(3, 5), nn.Linear(5, 4)
    measured = {}
    for batch_first in (True, False):
        recurrent.batch_first = batch_first
        measured[batch_first] = watch(tl.DFA(tl.from_torch(recurrent, readout)), part)()
    assert measured[True] == pytest.approx(measured[False], abs=1e-6)
