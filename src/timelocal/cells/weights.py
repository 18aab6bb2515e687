"""The parameters of one layer and direction, as read by a cell."""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import NamedTuple, cast

from torch import Tensor

TORCH_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""The parameters of `torch.nn.RNN`, `GRU` and `LSTM`, in their order."""


class CellWeights(NamedTuple):
    """The parameters of a cell of torch.nn, in torch.nn's gate order, and D.

    ih (g, i), hh (g, h), b_ih (g,) and b_hh (g,); the biases are None together. They can also be read by the
    parameters' own names, `weight_ih` and so on. decorrelation: D (h, h), not a parameter; None means the
    identity.

    Cells with other parameters get a class made by `weights_type`: the same methods, and one field per
    parameter under its own name, in the order of `Cell.parameter_shapes`. Code for arbitrary cells therefore
    goes by position: the parameters first, D last.
    """

    ih: Tensor
    hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    decorrelation: Tensor | None = None

    @property
    def weight_ih(self) -> Tensor:
        return self.ih

    @property
    def weight_hh(self) -> Tensor:
        return self.hh

    @property
    def bias_ih(self) -> Tensor | None:
        return self.b_ih

    @property
    def bias_hh(self) -> Tensor | None:
        return self.b_hh

    def decorrelated(self, hidden: Tensor) -> Tensor:
        """h* = D h, the input of the recurrent weights and of all readers of the layer: (…, h) -> (…, h)."""
        return hidden if self.decorrelation is None else hidden @ self.decorrelation.t()

    def carried_back(self, signal: Tensor) -> Tensor:
        """Dᵀ G: from a signal at h* to the signal at h, (…, h) -> (…, h)."""
        return signal if self.decorrelation is None else signal @ self.decorrelation

    def of_itself(self) -> Tensor:
        """The weight of each unit's own past state in each of its gates: (W D)_ii, (gates, h)."""
        blocks = self.hh.unflatten(0, (-1, self.hh.shape[1]))
        if self.decorrelation is None:
            return blocks.diagonal(dim1=1, dim2=2)
        return (blocks * self.decorrelation.t()).sum(-1)


RESERVED = frozenset({"decorrelation", "decorrelated", "carried_back", "count", "index"})
"""Names that parameters cannot have: those of the methods and of D."""


@cache
def weights_type(names: tuple[str, ...]) -> type[CellWeights]:
    """The class of the weights of a cell with these parameters.

    >>> from timelocal.cells.weights import weights_type
    >>> weights_type(("u", "bias"))(u=1, bias=2).u
    1
    """
    if names == TORCH_NAMES:
        return CellWeights
    fields = namedtuple("CellWeights", (*names, "decorrelation"), defaults=(None,))  # type: ignore[misc]
    shared = {name: getattr(CellWeights, name) for name in ("decorrelated", "carried_back")}
    made = type("CellWeights", (fields,), {"__slots__": (), **shared})
    return cast(type[CellWeights], made)
