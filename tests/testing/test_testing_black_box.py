"""The contract of a black box: right devices pass, and every wrong one fails for what is wrong with it."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

import timelocal as tl
from timelocal.cells import CellWeights, LayerTrajectory
from timelocal.testing import check_black_box
from timelocal.testing.measure import Device
from timelocal.typing import State


class Chip(tl.BlackBox):
    """A tanh layer in a plain loop, with places where a subclass goes wrong."""

    name = "chip"

    def scan(
        self,
        weights: CellWeights,
        inputs: Tensor,
        initial: State,
        node_noise: Tensor | None = None,
    ) -> LayerTrajectory:
        hidden, measured = [self.start(initial[0])], []
        for t, drive in enumerate(self.drive(weights, inputs, None)):
            noise = None if node_noise is None else node_noise[t]
            node = self.node(weights, drive, hidden[-1], noise)
            measured.append(self.seen(node))
            hidden.append(self.bent(node))
        return self.report(inputs, torch.stack(hidden), torch.stack(measured))

    def start(self, initial: Tensor) -> Tensor:
        return initial

    def node(self, weights: CellWeights, drive: Tensor, h: Tensor, noise: Tensor | None) -> Tensor:
        node = drive + h @ weights.hh.t()
        return node if noise is None else node + self.scaled(noise)

    def scaled(self, noise: Tensor) -> Tensor:
        return noise

    def bent(self, node: Tensor) -> Tensor:
        return node.tanh()

    def seen(self, node: Tensor) -> Tensor:
        return node


class ScaledNoise(Chip):
    def scaled(self, noise: Tensor) -> Tensor:
        return 2 * noise


class FlippedNoise(Chip):
    def scaled(self, noise: Tensor) -> Tensor:
        return -noise


class UnmeasuredNoise(Chip):
    """Noise enters, and what is measured was taken before."""

    def node(self, weights: CellWeights, drive: Tensor, h: Tensor, noise: Tensor | None) -> Tensor:
        self.before = drive + h @ weights.hh.t()
        return super().node(weights, drive, h, noise)

    def seen(self, node: Tensor) -> Tensor:
        return self.before


class StartsAtZero(Chip):
    def start(self, initial: Tensor) -> Tensor:
        return torch.zeros_like(initial)


class MixesSequences(Chip):
    """Neighbouring sequences leak into each other."""

    def bent(self, node: Tensor) -> Tensor:
        return (node + 0.1 * node.roll(1, 0)).tanh()


class Remembers(Chip):
    """A charge that builds up over a call, and is in no state."""

    def start(self, initial: Tensor) -> Tensor:
        self.charge = torch.zeros_like(initial)
        return initial

    def bent(self, node: Tensor) -> Tensor:
        self.charge = 0.5 * self.charge + node
        return (node + 0.1 * self.charge).tanh()


class LooksAhead(Chip):
    """Normalises its inputs over the whole sequence."""

    def drive(self, weights: CellWeights, inputs: Tensor, node_noise: Tensor | None) -> Tensor:
        return super().drive(weights, inputs - inputs.mean(0), node_noise)


class Unconnected(Chip):
    def node(self, weights: CellWeights, drive: Tensor, h: Tensor, noise: Tensor | None) -> Tensor:
        return drive if noise is None else drive + noise


class Deaf(Chip):
    def drive(self, weights: CellWeights, inputs: Tensor, node_noise: Tensor | None) -> Tensor:
        return super().drive(weights, torch.zeros_like(inputs), node_noise)


class Overflows(Chip):
    def bent(self, node: Tensor) -> Tensor:
        return node / torch.zeros_like(node)


class Writes(Chip):
    def node(self, weights: CellWeights, drive: Tensor, h: Tensor, noise: Tensor | None) -> Tensor:
        node = super().node(weights, drive, h, noise)
        weights.hh.mul_(0.999)
        return node


class ShortReport(Chip):
    def seen(self, node: Tensor) -> Tensor:
        return node[:, :1]


class Raises(Chip):
    def bent(self, node: Tensor) -> Tensor:
        raise OSError("device not connected")


WRONG = {
    ScaledNoise: "node_noise",
    FlippedNoise: "node_noise",
    UnmeasuredNoise: "node_noise",
    StartsAtZero: "states",
    MixesSequences: "sequences",
    Remembers: "in pieces",
    LooksAhead: "time",
    Unconnected: "weights, inputs",
    Deaf: "weights, inputs",
    Overflows: "report",
    Writes: "arguments",
    ShortReport: "report",
    Raises: "report",
}


@pytest.mark.parametrize("cell", WRONG, ids=lambda cell: cell.__name__)
def test_a_wrong_black_box_fails_for_what_is_wrong(cell: type[Chip]) -> None:
    with pytest.raises(AssertionError) as failure:
        check_black_box(cell())
    text = str(failure.value)
    assert text.startswith("chip: BROKEN")
    assert re.search(rf"^{WRONG[cell]}  .*✗$", text, re.MULTILINE), text


@pytest.mark.parametrize("cell", [Chip(), Device()], ids=lambda cell: cell.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_right_ones_pass(cell: tl.BlackBox, dtype: torch.dtype) -> None:
    report = check_black_box(cell, dtype=dtype)
    assert report.ok
    assert len(report.findings) == 10
    assert "node_noise        added to the measured nodes  yes, to " in str(report)


class Noisy(Chip):
    """Noise of its own, from a generator of its own; none can be given to it."""

    def __init__(self, size: float = 0.1) -> None:
        self.size = size
        self.generator = torch.Generator().manual_seed(0)

    def node(self, weights: CellWeights, drive: Tensor, h: Tensor, noise: Tensor | None) -> Tensor:
        own = torch.randn(h.shape, generator=self.generator).to(h)
        return drive + h @ weights.hh.t() + self.size * own


class GloballyNoisy(Noisy):
    def node(self, weights: CellWeights, drive: Tensor, h: Tensor, noise: Tensor | None) -> Tensor:
        return drive + h @ weights.hh.t() + self.size * torch.randn_like(h)


@pytest.mark.parametrize("cell", [Noisy(), GloballyNoisy()])
def test_a_noisy_one_that_takes_no_noise_is_told_what_trains_it(cell: tl.BlackBox) -> None:
    found = {finding.name: finding for finding in check_black_box(cell).findings}
    ignored = "ignored: NP learns nothing from it. Use ANP(clean=False), or WP"
    assert found["node_noise"].measured == ignored
    assert found["noise of its own"].measured == "yes: no run is clean. Use ANP(clean=False)"
    assert found["trained by"].measured == "ANP and WP and DFA"


def test_a_quiet_one_that_takes_no_noise_learns_without() -> None:
    found = check_black_box(Noisy(size=0)).findings[-1]
    assert found.measured == "WP and DFA; it has no noise and accepts none: no other rule learns"


class Untamed(Noisy):
    """Nobody can make it do the same twice, as a real device."""

    def __init__(self) -> None:
        self.count = [0]

    def __deepcopy__(self, memo: object) -> Untamed:
        return self

    def node(self, weights: CellWeights, drive: Tensor, h: Tensor, noise: Tensor | None) -> Tensor:
        self.count[0] += 1
        g = torch.Generator().manual_seed(self.count[0])
        return drive + h @ weights.hh.t() + torch.randn(h.shape, generator=g).to(h) / 10


def test_a_real_device_is_not_asked_what_noise_hides() -> None:
    text = str(check_black_box(Untamed()))
    assert text.count("not measured: copies of it do not behave alike") == 4


def test_a_converter_has_a_resolution() -> None:
    class Coarse(Chip):
        def seen(self, node: Tensor) -> Tensor:
            return (64 * node).round() / 64

    with pytest.raises(AssertionError, match="of resolution"):
        check_black_box(Coarse())
    assert check_black_box(Coarse(), resolution=1 / 64).ok
