"""The kinds of networks and batches that users may have: the grid on which every rule is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from timelocal import cells
from timelocal.cells import BlackBox, Cell, ElementwiseCell, RNNCell
from timelocal.losses import Loss, resolve
from timelocal.network import Network, from_cell
from timelocal.seeding import generator
from timelocal.typing import Place


@dataclass(frozen=True)
class Case:
    """A small network and batch in float64. Each call of `network()` and `batch()` makes new ones."""

    cell: str = "rnn"
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    dropout: float = 0.0
    layer_norm: bool = False
    skip: bool = False
    decorrelate: bool = False
    readout: str = "linear"
    loss: str = "cross_entropy"
    at: Place = "last"
    whole: bool = False
    sequences: int = 3
    steps: int = 5
    unequal: bool = False
    mask: bool = False
    batch_first: bool = True
    seed: int = 0

    INPUTS = 2
    HIDDEN = 4
    OUTPUTS = 3

    def __str__(self) -> str:
        default = Case()
        told = [self.cell, f"{self.layers}x", self.at, self.loss]
        told += [
            name
            for name in (
                "bidirectional",
                "layer_norm",
                "skip",
                "decorrelate",
                "whole",
                "unequal",
                "mask",
            )
            if getattr(self, name) != getattr(default, name)
        ]
        told += [] if self.bias else ["no-bias"]
        told += [] if self.readout == "linear" else [self.readout]
        told += [] if self.batch_first else ["time-first"]
        told += [f"dropout{self.dropout}"] if self.dropout else []
        return f"{'-'.join(told)}-b{self.sequences}-t{self.steps}"

    def network(self) -> Network:
        """A network with weights larger than torch.nn's, so that the past matters, and perhaps D."""
        options = {
            "num_layers": self.layers,
            "bidirectional": self.bidirectional,
            "bias": self.bias,
            "dropout": self.dropout,
            "layer_norm": self.layer_norm,
            "skip": self.skip,
            "decorrelate": 0.1 if self.decorrelate else None,
            "dtype": torch.float64,
            "seed": self.seed,
        }
        sizes = (self.INPUTS, self.HIDDEN, self.OUTPUTS)
        make = _CELLS.get(self.cell) or cells.CELLS[self.cell]
        network = from_cell(make(), *sizes, **options)  # type: ignore[arg-type]
        network.batch_first = self.batch_first
        width = network.features_size * network.directions
        if self.readout == "mlp":
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                network.readout = nn.Sequential(
                    nn.LayerNorm(width), nn.Linear(width, 5), nn.Tanh(), nn.Linear(5, self.OUTPUTS)
                ).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2)
            g = generator(self.seed, "decorrelation")
            for name in network.recurrent.decorrelation_names() if self.decorrelate else ():
                matrix = network.recurrent.get_buffer(name)
                matrix += torch.randn(matrix.shape, generator=g, dtype=matrix.dtype) / 2
        return network

    @property
    def stepwise_targets(self) -> bool:
        """Whether every step has its own target; `whole`: one per sequence, used at every step."""
        return self.at in ("every", "ramp") and not self.whole

    def loss_function(self) -> Loss:
        return resolve(self.loss)

    def batch(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """inputs, targets, lengths, mask. Padding is NaN, and targets at padding are nonsense."""
        g = generator(self.seed, "case")
        surface = (self.sequences, self.steps)
        inputs = torch.randn(*surface, self.INPUTS, generator=g, dtype=torch.float64)
        stepwise = self.at in ("every", "ramp")
        counted = surface if stepwise else surface[:1]
        entries = surface if self.stepwise_targets else surface[:1]
        if self.loss == "cross_entropy":
            targets = torch.randint(self.OUTPUTS, entries, generator=g)
        else:
            targets = torch.rand(*entries, self.OUTPUTS, generator=g, dtype=torch.float64)
        lengths = mask = None
        if self.unequal:
            lengths = 1 + torch.arange(self.sequences).flip(0) * 2 % self.steps
            padding = torch.arange(self.steps) >= lengths[:, None]
            inputs[padding] = float("nan")
            if self.stepwise_targets:
                nonsense = -100 if self.loss == "cross_entropy" else float("nan")
                targets[padding] = nonsense
        if self.mask:
            mask = torch.rand(counted, generator=g, dtype=torch.float64)
            mask[0] = 0
            mask[-1] += 0.5
        if not self.batch_first:
            inputs = inputs.transpose(0, 1)
            targets = targets.transpose(0, 1) if self.stepwise_targets else targets
            if stepwise:
                mask = None if mask is None else mask.transpose(0, 1)
        return inputs, targets, lengths, mask


_CELLS: dict[str, Callable[[], Cell]] = {
    "rnn": RNNCell,
    "leaky": partial(RNNCell, 2.5),
    **{
        name: cell
        for name, cell in cells.CELLS.items()
        if not (issubclass(cell, BlackBox | ElementwiseCell) or cell.pseudo_derivatives)
    },
}
CELLS = tuple(_CELLS)
"""The cells of the whole grid: all that have derivatives except the element-wise ones; the leaky RNN."""
ELEMENTWISE = tuple(name for name, cell in cells.CELLS.items() if issubclass(cell, ElementwiseCell))
"""The element-wise cells, each with a few cases."""
SPIKING = tuple(name for name, cell in cells.CELLS.items() if cell.pseudo_derivatives)
"""The cells with surrogate derivatives, on which rules with exact estimates are tested."""


def cases() -> Iterator[Case]:
    """Every cell with each variation alone; then the combinations that interact."""
    for cell in CELLS:
        plain = Case(cell=cell)
        for at in ("last", "every"):
            here = replace(plain, at=at)
            yield here
            yield replace(here, loss="mse")
            yield replace(here, loss="bce", mask=True)
            yield replace(here, unequal=True)
            yield replace(here, layers=2, unequal=True)
            yield replace(here, layers=3, bidirectional=True, unequal=True)
            yield replace(here, sequences=1, steps=1)
            yield replace(here, readout="mlp", unequal=True)
            yield replace(here, batch_first=False, unequal=True)
            yield replace(here, decorrelate=True)
            yield replace(here, decorrelate=True, layers=2, unequal=True)
            yield replace(here, decorrelate=True, layers=2, bidirectional=True, unequal=True)
            yield replace(here, decorrelate=True, sequences=1, steps=3, readout="mlp")
        yield replace(plain, at="mean", loss="mse")
        yield replace(plain, at="mean", loss="bce", mask=True)
        yield replace(plain, at="mean", layers=2, unequal=True)
        yield replace(plain, at="mean", layers=2, bidirectional=True, unequal=True, readout="mlp")
        yield replace(plain, at="mean", decorrelate=True, unequal=True, batch_first=False)
        yield replace(plain, at="every", whole=True, unequal=True, mask=True)
        yield replace(plain, at="ramp", whole=True, layers=2, unequal=True, batch_first=False)
        yield replace(plain, at="ramp", loss="mse", mask=True)
        yield replace(plain, bias=False)
        yield replace(plain, sequences=1)
        yield replace(plain, steps=1)
        yield replace(plain, bidirectional=True)
        yield replace(plain, layers=2, dropout=0.5, at="every")
        yield replace(plain, decorrelate=True, layers=2, dropout=0.5, at="every")
    yield from elementwise_cases()


def elementwise_cases() -> Iterator[Case]:
    """Every element-wise cell in the settings where its features, unlike its states, matter."""
    for cell in ELEMENTWISE:
        plain = Case(cell=cell)
        yield replace(plain, unequal=True)
        yield replace(plain, at="every", loss="mse")
        yield replace(plain, at="every", layers=2, unequal=True)
        yield replace(plain, at="every", layers=2, dropout=0.5, decorrelate=True)
        yield replace(plain, layers=2, bidirectional=True, readout="mlp", unequal=True)
        yield replace(plain, at="every", sequences=1, steps=1, bias=False)


def spiking_cases() -> Iterator[Case]:
    """Every spiking cell alone and in a stack: for rules that use derivatives, not for means of noise."""
    for cell in SPIKING:
        plain = Case(cell=cell, steps=8)
        yield replace(plain, unequal=True)
        yield replace(plain, at="every", loss="mse", mask=True)
        yield replace(plain, at="mean", bias=False)
        yield replace(plain, at="every", layers=2, unequal=True)
        yield replace(plain, at="every", layers=2, dropout=0.5, decorrelate=True)
        yield replace(plain, layers=2, bidirectional=True, readout="mlp", unequal=True)


def stacked_cases() -> Iterator[Case]:
    """Stacks with layer normalisation and skip between the layers, of every cell with derivatives."""
    for cell in (*CELLS, *ELEMENTWISE, *SPIKING):
        plain = Case(cell=cell, layers=3, layer_norm=True, at="every")
        yield replace(plain, skip=True, unequal=True)
        yield replace(plain, skip=True, at="last", mask=True, dropout=0.5)
        yield replace(
            plain, layer_norm=False, skip=True, at="last", bidirectional=True, unequal=True
        )
        yield replace(plain, decorrelate=True, at="mean", loss="mse", batch_first=False)
