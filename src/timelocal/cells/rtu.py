"""The recurrent trace unit (RTU; Elelimy et al. 2024): an LRU with a nonlinearity on its features.

    h_t = λ ⊙ h_{t-1} + γ ⊙ (V x_t + b)        f_t = φ([Re h_t, Im h_t])

The recurrence stays linear, so credit for the past stays exact; stacked layers remain nonlinear.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from timelocal.cells.lru import LRUCell
from timelocal.errors import raise_problems, unknown_name
from timelocal.typing import State


def _step(features: Tensor) -> Tensor:
    return (features > 0).to(features.dtype)


NONLINEARITIES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "relu": (torch.relu, _step),
    "tanh": (torch.tanh, lambda features: 1 - features * features),
}
"""φ, and φ' from φ."""


class RTUCell(LRUCell):
    """An LRU with features φ([Re h, Im h]): the paper's linear RTU. φ is "relu" or "tanh"."""

    name = "rtu"
    label = "RTU"

    def __init__(
        self,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        nonlinearity: str = "relu",
    ) -> None:
        super().__init__(r_min, r_max, max_phase)
        raise_problems([unknown_name("nonlinearity", nonlinearity, NONLINEARITIES)])
        self.nonlinearity = nonlinearity

    def features(self, states: State) -> Tensor:
        return NONLINEARITIES[self.nonlinearity][0](super().features(states))

    def features_signal(self, states: State, signal: Tensor) -> State:
        return super().features_signal(states, signal * self._slope(states))

    def features_tangent(self, states: State, tangents: State) -> Tensor:
        return super().features_tangent(states, tangents) * self._slope(states)

    def _slope(self, states: State) -> Tensor:
        return NONLINEARITIES[self.nonlinearity][1](self.features(states))

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, nonlinearity={self.nonlinearity!r})"
