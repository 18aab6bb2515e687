"""Chance has names and seeds, and never touches the global generator."""

from __future__ import annotations

import math

import pytest
import torch

import timelocal as tl
from oracles import exactly
from timelocal.seeding import derive_seed, everywhere, generator, own_draws


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


def test_own_draws_are_torchs_from_another_generator() -> None:
    """Bit for bit what torch draws on the CPU, wherever its own generator stands."""
    values = torch.full((4, 5), 0.5)

    def draws() -> list[torch.Tensor]:
        return [
            torch.rand(3),
            torch.randn(2, 2, dtype=torch.float64),
            torch.randint(9, (4,)),
            torch.randperm(7),
            torch.normal(0.0, values),
            torch.bernoulli(values),
            torch.multinomial(values, 3),
            torch.poisson(values),
            torch.rand_like(values, dtype=torch.float64),
            torch.randn_like(values, requires_grad=True),
            values.clone().uniform_(-1, 1),
            values.clone().normal_(),
            values.clone().random_(5),
            values.clone().exponential_(),
            torch.nn.Dropout(0.3)(values),
            torch.nn.Dropout(0.3, inplace=True)(values.clone()),
            torch.nn.functional.dropout(values, p=1.0),
            torch.nn.functional.dropout(values, 0.3, training=False),
            torch.rand(3, generator=generator(5)),
        ]

    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(1, "x"))
        wanted = draws()
    before = torch.get_rng_state()
    with everywhere(1, "x", device=torch.device("cpu")):
        inside = torch.get_rng_state()
        with own_draws():
            found = draws()
        assert torch.equal(torch.get_rng_state(), inside)
        first = torch.rand(3)
        assert not torch.equal(first, wanted[0])  # the process's is another stream
    exactly(found, wanted)
    assert found[9].requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    with own_draws():  # outside of any run, torch's own
        assert not torch.equal(torch.rand(3), wanted[0])
    assert not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)


def test_own_draws_are_given_back_after_a_nested_run() -> None:
    place = torch.device("cpu")
    found = []
    for nested in (False, True):
        with everywhere(1, "x", device=place):
            with own_draws():
                torch.rand(3)
            if nested:
                with everywhere(2, "y", device=place), own_draws():
                    torch.rand(3)
            with own_draws():
                found.append(torch.rand(3))
    exactly(*found)
