"""A cell without a recurrent matrix, for what is exact there: IndRNN, h_t = tanh(V x_t + u ⊙ h_{t-1} + b)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import timelocal as tl


class IndRNN(tl.AutogradCell):
    name, gate_names, elementwise, biases = "indrnn-of-tests", ("a",), True, ("bias",)

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        nodes = (hidden_size,)
        return {"weight_ih": (hidden_size, input_size), "u": nodes, "bias": nodes}

    def nodes(self, weights: Any, inputs: Tensor, states: tuple[Tensor, ...]) -> Tensor:
        a = inputs @ weights.weight_ih.t() + weights.u * states[0]
        return a if weights.bias is None else a + weights.bias

    def update(self, nodes: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (nodes.tanh(),)


def indrnn(layers: int = 1, units: int = 4) -> tl.Network:
    """A network of it in float64, with weights large enough for the past to matter."""
    network = tl.from_cell(
        IndRNN(), 2, units, output_size=3, num_layers=layers, dtype=torch.float64, seed=3
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network
