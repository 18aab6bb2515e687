"""Noise that lasts one step, in many directions: the native call is its twin."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch_online
from torch import Tensor

from timelocal import kernels
from timelocal.kernels import OnlineSettings, OnlineState, OnlineWeights

KINDS = [*itertools.product(("np", "anp"), (1, 3, 40), (False, True), ("gaussian", "orthogonal"))]
"""Rule, directions, antithetic, noise."""


@pytest.mark.skipif(kernels.describe()["path"] != "native", reason="no native kernels here")
@pytest.mark.parametrize(("name", "directions", "antithetic", "noise"), KINDS)
def test_the_kernel_is_its_twin(name: str, directions: int, antithetic: bool, noise: str) -> None:
    settings = OnlineSettings(name, 0.01, 2.0, 0.1, 5, 1e-3, directions=directions)
    settings = settings._replace(antithetic=antithetic, orthogonal=noise == "orthogonal")
    settings = settings._replace(layer_norms=antithetic)
    ends = []
    for online in (torch_online.online, kernels.online):
        draw = torch.Generator().manual_seed(0)

        def normal(*shape: int, draw: torch.Generator = draw) -> Tensor:
            return 0.3 * torch.randn(*shape, generator=draw, dtype=torch.float64)

        weights = OnlineWeights(
            normal(33, 3), normal(33, 33), normal(33), normal(33), normal(2, 33), normal(2),
            torch.eye(33, dtype=torch.float64) + normal(33, 33) / 10,
        )  # fmt: skip
        state = OnlineState(normal(4, 33))
        losses, outputs = online(settings, weights, state, normal(12, 4, 3), normal(12, 4, 2), 7)
        ends.append([losses, outputs, state.hidden, *weights])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
