"""The recurrent stack: parameters under torch.nn's names, for layers and directions of one cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from timelocal.arguments import (
    as_real,
    flag_problem,
    is_flag,
    is_whole,
    memory_problem,
    placement_problems,
    seed_problem,
    whole_problem,
)
from timelocal.cells import Cell, CellWeights, cell_problems, weights_type
from timelocal.errors import Problem, UnsupportedError, described, raise_problems
from timelocal.network.decorrelation import Decorrelation, resolve
from timelocal.seeding import generator as seeded_generator

_MOST_LAYERS = 10_000


@cache
def parameter_name(kind: str, layer: int, direction: int) -> str:
    """torch.nn's name, as `weight_hh_l0` or `weight_hh_l0_reverse`."""
    return f"{kind}_l{layer}" + ("_reverse" if direction else "")


@cache
def _parameter_names(kinds: tuple[str, ...], layer: int, direction: int) -> tuple[str, ...]:
    return tuple(parameter_name(kind, layer, direction) for kind in kinds)


class Recurrent(nn.Module):
    """Layers of one cell. Its `state_dict` is that of the `torch.nn` module of the same sizes.

    The parameters are those of `Cell.parameter_shapes`, such as `u_l0` for a cell of your own. If it
    decorrelates, it also has a buffer D, such as `decorrelation_l0` (f, f), for each layer and direction.
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
        layer_norm: bool = False,
        skip: bool = False,
        decorrelate: Decorrelation | float | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        parameters: Mapping[str, nn.Parameter] | None = None,
    ) -> None:
        """Initialise the parameters as the cell defines, usually U(−1/√H, 1/√H), or adopt those given."""
        super().__init__()
        raise_problems(cell_problems(cell))
        problems = [
            whole_problem("input_size", input_size),
            whole_problem("hidden_size", hidden_size),
            whole_problem("num_layers", num_layers, most=_MOST_LAYERS),
            flag_problem("bias", bias),
            flag_problem("bidirectional", bidirectional),
            flag_problem("layer_norm", layer_norm),
            flag_problem("skip", skip),
            seed_problem(seed),
            *placement_problems(device, dtype),
        ]
        if not 0 <= as_real(dropout) < 1:
            problems.append(Problem("dropout", described(dropout), "a probability in [0, 1)"))
        elif dropout and is_whole(num_layers) and num_layers == 1:
            remedy = "It acts between layers: add a layer, or leave it out."
            problems.append(Problem("dropout", dropout, "0 when num_layers is 1", remedy))
        for name, asked in (("layer_norm", layer_norm), ("skip", skip)):
            if is_flag(asked) and asked and is_whole(num_layers) and num_layers == 1:
                remedy = "It acts between layers: add a layer, or leave it out."
                problems.append(Problem(name, True, "False when num_layers is 1", remedy))
        if is_flag(bias) and not bias and not cell.biases:
            remedy = f"Leave it out, or name them in the class attribute `biases` of {type(cell).__name__}."
            problems.append(
                Problem("bias", False, f"True: {cell.name} has no biases to leave out", remedy)
            )
        raise_problems(problems)
        if decorrelate is not None and not cell.decorrelates:
            raise UnsupportedError(
                f"decorrelate: got {decorrelate!r}, expected None: the cell {cell.name!r} declares that D h "
                "cannot replace h. Use decorrelate=None, or another cell."
            )
        if decorrelate is not None and skip:
            raise UnsupportedError(
                "skip: got True in a network that decorrelates, expected False: a sum of separately "
                "decorrelated layers is not decorrelated. Use skip=False, or decorrelate=None."
            )
        self.cell = cell
        self.input_size = int(input_size)
        self.hidden_size = int(hidden_size)
        self.num_layers = int(num_layers)
        self.bias = bool(bias)
        self.bidirectional = bool(bidirectional)
        self.dropout = as_real(dropout)
        self.layer_norm = bool(layer_norm)
        self.skip = bool(skip)
        self.decorrelate = resolve(decorrelate)
        raise_problems([memory_problem("network", self._bytes(dtype))])
        self._declared = tuple((name, shape) for _, name, shape in self._shapes())
        generator = seeded_generator(seed, "recurrent")
        for kind, name, shape in self._shapes():
            if parameters is None:
                drawn = torch.empty(shape, dtype=dtype)
                cell.initialise(kind, drawn, hidden_size, generator)
                self.register_parameter(name, nn.Parameter(drawn.to(device)))
            else:
                self.register_parameter(name, parameters[name])
        if self.decorrelate is not None:
            like = self.like
            identity = torch.eye(self.features_size, dtype=like.dtype, device=like.device)
            for name in self.decorrelation_names():
                self.register_buffer(name, identity.clone())

    @property
    def features_size(self) -> int:
        """f: the number of features per layer and direction; h unless the cell defines others."""
        return self.cell.features_size(self.hidden_size)

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _bytes(self, dtype: torch.dtype | None) -> float:
        """The memory that the parameters take."""
        size = (dtype or torch.get_default_dtype()).itemsize
        return float(size) * sum(math.prod(shape) for _, _, shape in self._shapes())

    def _shapes(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Each parameter's name in its cell, its name here, and its shape."""
        for layer in range(self.num_layers):
            entering = self.input_size if layer == 0 else self.features_size * self.directions
            shapes = self.cell.parameter_shapes(entering, self.hidden_size)
            for direction in range(self.directions):
                for kind in self.parameter_kinds:
                    yield kind, parameter_name(kind, layer, direction), shapes[kind]

    @property
    def parameter_kinds(self) -> tuple[str, ...]:
        """The names in its cell of the parameters that each layer and direction has."""
        names = self.cell.parameter_names
        return names if self.bias else tuple(n for n in names if n not in self.cell.biases)

    @property
    def is_frozen(self) -> bool:
        """Whether no parameter is trained: only the readout learns."""
        return not any(own.requires_grad for own in self.parameters())

    @property
    def like(self) -> Tensor:
        """One of the parameters, which gives the dtype and device of all."""
        first = getattr(
            self, self._declared[0][0], None
        )  # soon found, unless it is computed or gone
        return first if isinstance(first, nn.Parameter) else next(self.parameters())

    def is_as_declared(self, like: Tensor) -> bool:
        """Whether every parameter has the shape that the cell declares, and the dtype and device of `like`.

        Code that reads weights by address must check this: a parameter may have been replaced.
        """
        dtype, device = like.dtype, like.device
        for name, shape in self._declared:
            own = getattr(self, name, None)
            if own is None or own.shape != shape or own.dtype != dtype or own.device != device:
                return False
        return True

    def parameter_problems(self) -> list[Problem]:
        """Problems with parameters that were replaced by ones of another shape than the cell declares."""
        return [
            Problem(name, "none" if own is None else f"shape {tuple(own.shape)}", f"{tuple(shape)}")
            for name, shape in self._declared
            if (own := getattr(self, name, None)) is None or own.shape != shape
        ]

    def weights(self, layer: int, direction: int) -> CellWeights:
        """The parameters of one layer and direction, and its D."""
        names = self.parameter_names(layer, direction)
        own = (getattr(self, name, None) for name in names)
        matrix = None
        if self.decorrelate is not None:
            matrix = getattr(self, parameter_name("decorrelation", layer, direction))
        return weights_type(self.cell.parameter_names)._make((*own, matrix))

    def parameter_names(self, layer: int, direction: int) -> tuple[str, ...]:
        """The names of one layer and direction's parameters, in the order of `CellWeights`.

        Includes those of biases, even if it has none.
        """
        return _parameter_names(self.cell.parameter_names, layer, direction)

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
            + (", layer_norm=True" if self.layer_norm else "")
            + (", skip=True" if self.skip else "")
            + ("" if self.decorrelate is None else f", decorrelate={self.decorrelate}")
        )
