"""How the nodes move with what enters a layer: the transpose of the signal that comes back to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import timelocal as tl
from oracles import close
from timelocal.testing import CELLS, Case


class Multiplied(tl.AutogradCell):
    """The inputs act through the state too: nothing but the cell itself knows how."""

    name, gate_names = "multiplied-of-tests", ("a",)

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        return {"v": (hidden_size, input_size), "w": (hidden_size, hidden_size)}

    def nodes(self, weights: Any, inputs: Tensor, states: tuple[Tensor, ...]) -> Tensor:
        return (inputs @ weights.v.t()).sin() * (1 + states[0] @ weights.w.t())

    def update(self, nodes: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (states[0] / 2 + nodes.tanh(),)


@pytest.mark.parametrize("name", [*CELLS, "multiplied"])
@pytest.mark.parametrize("axes", [(), (3,), (2, 3)], ids=str)
def test_it_is_the_transpose_of_the_signal_at_the_inputs(name: str, axes: tuple[int, ...]) -> None:
    """⟨δ, V ẋ⟩ = ⟨Vᵀ δ, ẋ⟩, many tangents side by side too."""
    if name == "multiplied":
        network = tl.from_cell(Multiplied(), 2, 4, output_size=3, dtype=torch.float64)
    else:
        network = Case(name).network()
    (own,) = network.scan(Case().batch()[0]).layers[0]
    own, weights = own.step(2), network.recurrent.weights(0, 0)
    draw = torch.Generator().manual_seed(0)
    lead = (*axes, *own.gates.shape[int(bool(axes)) : -1])
    tangent, delta = (
        torch.randn(*lead, size, generator=draw, dtype=torch.float64)
        for size in (own.inputs.shape[-1], own.gates.shape[-1])
    )
    moved = network.cell.input_tangent(weights, own, tangent)
    back = network.cell.input_signal(weights, own, delta)
    assert moved.shape == delta.shape
    close((moved * delta).sum(-1), (back * tangent).sum(-1))
    assert moved.abs().min() > 0
