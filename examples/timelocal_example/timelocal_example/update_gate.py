"""The update-gate RNN (J. Collins, J. Sohl-Dickstein, D. Sussillo, ICLR 2017)."""

from typing import Any

from torch import Tensor

import timelocal as tl
from timelocal.typing import State


class UpdateGate(tl.AutogradCell):
    """c = tanh(V_c x + W_c h + b_c), g = σ(V_g x + W_g h + b_g), h = g ⊙ h_{t-1} + (1 − g) ⊙ c."""

    name = "update-gate"
    gate_names = ("c", "g")

    def parameter_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        nodes = 2 * hidden_size
        return {
            "weight_ih": (nodes, input_size),
            "weight_hh": (nodes, hidden_size),
            "bias": (nodes,),
        }

    def nodes(self, weights: Any, inputs: Tensor, states: State) -> Tensor:
        return inputs @ weights.weight_ih.t() + states[0] @ weights.weight_hh.t() + weights.bias

    def update(self, nodes: Tensor, states: State) -> State:
        candidate, gate = nodes.chunk(2, -1)
        gate = gate.sigmoid()
        return (gate * states[0] + (1 - gate) * candidate.tanh(),)
