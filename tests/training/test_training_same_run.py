"""What makes a run another one: everything that its numbers depend on, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import timelocal as tl
from timelocal.training import load_weights

Make = Callable[[], tl.Rule]


def net(**options: object) -> tl.Network:
    return tl.RNN(3, 6, 2, **options)


def begun() -> tl.Rule:
    return tl.DFA(net())


OTHERS: dict[str, Make] = {
    "normalize": lambda: tl.DFA(net(), normalize="frobenius"),
    "feedback": lambda: tl.DFA(net(), feedback="sparse"),
    "trace": lambda: tl.DFA(net(tau=1.0), trace="diagonal"),
    "seed": lambda: tl.DFA(net(), seed=1),
    "label_smoothing": lambda: tl.DFA(net(), loss=tl.losses.CrossEntropy(0.5)),
    "class_weights": lambda: tl.DFA(
        net(), loss=tl.losses.CrossEntropy(class_weights=torch.ones(2))
    ),
    "tau": lambda: tl.DFA(net(tau=5.0)),
}


NP = {"loss": "cross_entropy", "at": "last", "sigma": 0.01}


def run(problem: object, make: Make, folder: Path, epochs: int = 1) -> tl.History:
    rule = make()
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
    return tl.fit(rule, optimizer, problem.train, epochs=epochs, batch_size=16, folder=folder)  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", OTHERS)
def test_a_rule_a_loss_or_a_cell_with_another_option_is_another_run(problem, tmp_path, option):
    run(problem, begun, tmp_path)
    with pytest.raises(tl.RunError, match=option):
        run(problem, OTHERS[option], tmp_path, epochs=2)
    assert len(run(problem, begun, tmp_path, epochs=2).epochs) == 2


def test_the_reset_of_a_gru_and_the_noise_of_a_rule_are_part_of_a_run(problem, tmp_path):
    for number, (begun, other, word) in enumerate(
        (
            (
                lambda: tl.DFA(tl.GRU(3, 6, 2)),
                lambda: tl.DFA(tl.GRU(3, 6, 2, reset_after=False)),
                "Reset",
            ),
            (lambda: tl.NP(net(), **NP), lambda: tl.NP(net(), **NP | {"sigma": 0.1}), "sigma"),
            (
                lambda: tl.NP(net(), **NP),
                lambda: tl.NP(net(), **NP | {"credit": "to_go"}),
                "credit",
            ),
        )
    ):
        folder = tmp_path / str(number)
        run(problem, begun, folder)
        with pytest.raises(tl.RunError, match=word):
            run(problem, other, folder)


def test_a_loss_of_the_users_own_is_known_by_its_name(problem, tmp_path):
    def one(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    def another(outputs, targets):
        return 2 * one(outputs, targets)

    run(problem, lambda: tl.DFA(net(), loss=one), tmp_path)
    run(problem, lambda: tl.DFA(net(), loss=one), tmp_path)
    with pytest.raises(tl.RunError, match="loss"):
        run(problem, lambda: tl.DFA(net(), loss=another), tmp_path)


def test_dropout_in_the_readout_goes_on_in_the_same_bits(problem, tmp_path):
    def make() -> tl.Rule:
        torch.manual_seed(0)
        readout = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2))
        rule = tl.DFA(tl.from_torch(nn.RNN(3, 6, batch_first=True), readout))
        torch.rand(len(drawn))  # where torch's own generator is differs from one call to the next
        drawn.append(1)
        return rule

    drawn: list[int] = []
    whole = run(problem, make, tmp_path / "whole", 4)
    run(problem, make, tmp_path / "parts", 2)
    assert run(problem, make, tmp_path / "parts", 4).epochs == whole.epochs
    torch.testing.assert_close(
        load_weights(tmp_path / "parts", "last"),
        load_weights(tmp_path / "whole", "last"),
        rtol=0,
        atol=0,
    )


def test_training_leaves_torchs_own_generator_where_it_was(problem, tmp_path):
    before = torch.get_rng_state()
    run(problem, begun, tmp_path)
    assert torch.equal(before, torch.get_rng_state())
