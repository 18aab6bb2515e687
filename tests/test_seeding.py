"""Chance has names and seeds, and never touches the global generator."""

from __future__ import annotations

import math

import pytest
import torch

import timelocal as tl
from oracles import exactly
from timelocal.seeding import derive_seed, generator


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derive_seed(0, "split") == 8279595097511488989
    assert derive_seed(7) == 8460147692890830636


def test_children_of_different_seeds_do_not_meet() -> None:
    seeds = {derive_seed(seed, "run", index) for seed in range(30) for index in range(30)}
    assert len(seeds) == 900


def test_generators() -> None:
    one, same = (torch.rand(3, generator=generator(1, "x")) for _ in range(2))
    exactly(one, same)
    assert not torch.equal(one, torch.rand(3, generator=generator(1, "y")))


@pytest.mark.parametrize("make", [tl.RNN, tl.GRU, tl.LSTM])
def test_networks_are_drawn_from_their_seed_alone(make: object) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = torch.get_rng_state()
        one = make(3, 50, 4, num_layers=2, bidirectional=True, seed=3)
        rule = tl.DFA(one)
        rule(torch.zeros(2, 5, 3), torch.tensor([0, 1])).backward()
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(1)
        exactly(
            make(3, 50, 4, num_layers=2, bidirectional=True, seed=3).state_dict(),
            dict(one.state_dict()),
        )
    other = make(3, 50, 4, num_layers=2, bidirectional=True, seed=4)
    bounds = {"recurrent": 1 / math.sqrt(50), "readout": 1 / math.sqrt(100)}
    for name, parameter in one.named_parameters():
        assert not torch.equal(parameter, other.get_parameter(name))
        bound = bounds[name.split(".")[0]]
        largest = float(parameter.detach().abs().max())
        assert largest <= bound, name
        assert largest > 0.8 * bound or parameter.numel() < 50, name
