"""Streams that have run for long: numbers of steps beyond what 31, 32 and 53 bits hold, on both paths."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from streams import BATCH, INPUTS, OUTPUTS, PATHS, a_stream, take_path
from torch.testing import assert_close

import timelocal as tl
from timelocal import kernels

EDGES = [2**24, 2**31, 2**32, 2**53, 2**62]
SGD = partial(torch.optim.SGD, lr=0.01)


def chunk(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH, steps, INPUTS, generator=generator, dtype=torch.float64)
    return inputs, torch.randn(BATCH, steps, OUTPUTS, generator=generator, dtype=torch.float64)


def aged(stream: tl.Stream, steps: int) -> tl.Stream:
    """The stream after so many steps, of which one was made: the optimizer has what it keeps."""
    inputs, targets = chunk(1)
    stream.run(inputs, targets)
    stream.steps = steps
    for state in stream.optimizer.state.values():
        if "step" in state:
            state["step"].fill_(steps)
    return stream


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("rule", ["np", "anp", "wp", "np-many"])
def test_the_noise_goes_on_across_an_edge(
    edge: int, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, targets = chunk(6)
    native = aged(a_stream(rule, tl.RNN, SGD), edge - 3)
    found = native.run(inputs, targets)
    take_path("loop", monkeypatch)
    loop = aged(a_stream(rule, tl.RNN, SGD), edge - 3)
    assert_close(found.loss, loop.run(inputs, targets).loss)
    assert native.steps == loop.steps == edge + 3


def test_no_noise_comes_back_after_two_to_the_32_steps() -> None:
    early = kernels.normal(1, 0, 4, 0, (64,))
    for upper in (1, 2, 2**21, 2**30):
        late = kernels.normal(1, upper * 2**32, 4, 0, (64,))
        assert float((late * early).mean().abs()) < 0.25  # 4 standard errors of 256 products
        assert not torch.isclose(late, early).all(1).any()
    across = kernels.normal(1, 2**32 - 2, 4, 0, (64,))
    assert torch.equal(across[:2], kernels.normal(1, 2**32 - 2, 2, 0, (64,)))
    assert torch.equal(across[2:], kernels.normal(1, 2**32, 2, 0, (64,)))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("edge", EDGES)
def test_a_file_holds_every_count_exactly(
    edge: int, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_path(path, monkeypatch)
    inputs, targets = chunk(2)
    stream = aged(a_stream("np"), edge + 1)
    stream.save(tmp_path / "stream")
    other = a_stream("np", seed=2)
    other.load(tmp_path / "stream")
    assert other.steps == edge + 1
    assert torch.equal(other.run(inputs, targets).loss, stream.run(inputs, targets).loss)
    assert other.steps == edge + 3


@pytest.mark.parametrize("edge", EDGES)
def test_adam_goes_on_where_its_count_no_longer_fits(
    edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 2²⁴ on the count of Adam, in float32, rests; its correction is 1 long since."""
    inputs, targets = chunk(5)
    native = aged(a_stream("dfa"), edge)
    native.run(inputs, targets)
    take_path("loop", monkeypatch)
    loop = aged(a_stream("dfa"), edge)
    loop.run(inputs, targets)
    for found, expected in zip(native.rule.parameters(), loop.rule.parameters(), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("seed", [2**31, 2**32, 2**53, 2**63, 10**30])
def test_seeds_are_told_apart_to_their_last_digit(seed: int, tmp_path: Path) -> None:
    x, y = torch.ones(4, 3, 2), torch.tensor([0, 1, 1, 0])

    def fit(own: int) -> None:
        rule = tl.NP(tl.RNN(2, 3, 2))
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        tl.fit(rule, optimizer, (x, y), epochs=1, batch_size=2, seed=own, folder=tmp_path)

    fit(seed)
    with pytest.raises(tl.RunError, match="seed"):
        fit(seed + 1)
    fit(seed)
    assert tl.NP(tl.RNN(2, 3, 2), seed=seed).generator.initial_seed() != (
        tl.NP(tl.RNN(2, 3, 2), seed=seed + 1).generator.initial_seed()
    )
