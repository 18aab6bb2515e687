"""The recurrent stack: parameters under torch.nn's names, for layers and directions of one cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real

import torch
from torch import nn

from timelocal.cells import Cell, CellWeights
from timelocal.errors import Problem, raise_problems
from timelocal.network.decorrelation import Decorrelation, resolve
from timelocal.seeding import generator as seeded_generator

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@cache
def parameter_name(kind: str, layer: int, direction: int) -> str:
    """torch.nn's name, as `weight_hh_l0` or `weight_hh_l0_reverse`."""
    return f"{kind}_l{layer}" + ("_reverse" if direction else "")


@cache
def parameter_names(layer: int, direction: int) -> tuple[str, ...]:
    """The names of one layer and direction's parameters, in the order of `CellWeights`."""
    return tuple(parameter_name(kind, layer, direction) for kind in KINDS)


def positive(what: str, value: object) -> Problem | None:
    """A problem unless `value` is an integer of at least 1."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1:
        return None
    return Problem(what, repr(value), "an integer of at least 1")


class Recurrent(nn.Module):
    """Layers of one cell. Its `state_dict` is that of the `torch.nn` module of the same sizes.

    Where it decorrelates it has a buffer D besides, `decorrelation_l0` (h, h) and the like, for each layer
    and direction.
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        decorrelate: Decorrelation | float | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        parameters: Mapping[str, nn.Parameter] | None = None,
    ) -> None:
        """Draw parameters from U(−1/√H, 1/√H), torch.nn's law, or adopt those given."""
        super().__init__()
        problems = [
            positive("input_size", input_size),
            positive("hidden_size", hidden_size),
            positive("num_layers", num_layers),
        ]
        if not (isinstance(dropout, Real) and 0 <= dropout < 1):
            problems.append(Problem("dropout", repr(dropout), "a probability in [0, 1)"))
        elif dropout and num_layers == 1:
            remedy = "It acts between layers: add a layer, or leave it out."
            problems.append(Problem("dropout", dropout, "0 when num_layers is 1", remedy))
        raise_problems(problems)
        self.cell = cell
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.decorrelate = resolve(decorrelate)
        generator = seeded_generator(seed, "recurrent")
        bound = 1 / math.sqrt(hidden_size)
        for name, shape in self._shapes().items():
            if parameters is None:
                drawn = torch.empty(shape, dtype=dtype).uniform_(-bound, bound, generator=generator)
                self.register_parameter(name, nn.Parameter(drawn.to(device)))
            else:
                self.register_parameter(name, parameters[name])
        if self.decorrelate is not None:
            weight = self.weights(0, 0).hh.detach()
            identity = torch.eye(hidden_size, dtype=weight.dtype, device=weight.device)
            for name in self.decorrelation_names():
                self.register_buffer(name, identity.clone())

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        nodes = len(self.cell.gate_names) * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            entering = self.input_size if layer == 0 else self.hidden_size * self.directions
            for direction in range(self.directions):
                sizes = ((nodes, entering), (nodes, self.hidden_size), (nodes,), (nodes,))
                for kind, size in zip(self.kinds, sizes, strict=False):
                    shapes[parameter_name(kind, layer, direction)] = size
        return shapes

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of parameter each layer and direction has."""
        return KINDS if self.bias else KINDS[:2]

    def weights(self, layer: int, direction: int) -> CellWeights:
        """The parameters of one layer and direction, and its D."""
        ih, hh, b_ih, b_hh = map(self._parameters.get, parameter_names(layer, direction))
        assert ih is not None
        assert hh is not None
        matrix = self._buffers.get(parameter_name("decorrelation", layer, direction))
        return CellWeights(ih, hh, b_ih, b_hh, matrix)

    def decorrelation_names(self) -> list[str]:
        """The names of the matrices D, in the order of torch.nn's states: layer by layer."""
        return [
            parameter_name("decorrelation", layer, direction)
            for layer in range(self.num_layers)
            for direction in range(self.directions)
        ]

    def extra_repr(self) -> str:
        return (
            f"{self.cell!r}, input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"num_layers={self.num_layers}, bias={self.bias}, "
            f"bidirectional={self.bidirectional}, dropout={self.dropout}"
            + ("" if self.decorrelate is None else f", decorrelate={self.decorrelate}")
        )
