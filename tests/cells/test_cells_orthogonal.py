"""The tanh RNN with orthogonal recurrent weights at its start."""

from __future__ import annotations

import pytest
import torch

import timelocal as tl
from oracles import close, exactly
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.run import build_network


def test_recurrent_weights_are_orthogonal_and_seeded() -> None:
    network, again, other = (
        tl.RNN(2, 9, 3, orthogonal=True, num_layers=2, dtype=torch.float64, seed=s)
        for s in (4, 4, 5)
    )
    plain = tl.RNN(2, 9, 3, num_layers=2, dtype=torch.float64, seed=4)
    for layer in range(2):
        own = network.recurrent.get_parameter(f"weight_hh_l{layer}")
        close(own @ own.t(), torch.eye(9, dtype=torch.float64))
        exactly(own, again.recurrent.get_parameter(f"weight_hh_l{layer}"))
        assert not torch.equal(own, other.recurrent.get_parameter(f"weight_hh_l{layer}"))
        unlike = plain.recurrent.get_parameter(f"weight_hh_l{layer}")
        assert not torch.allclose(unlike @ unlike.t(), torch.eye(9, dtype=torch.float64), atol=0.1)
        bound = 1 / 9**0.5
        assert (
            float(network.recurrent.get_parameter(f"weight_ih_l{layer}").detach().abs().max())
            <= bound
        )


def test_a_configuration_reaches_it() -> None:
    config = TrainConfig(cell="rnn", hidden=8, cell_options={"orthogonal": True})
    own = build_network(config, tl.data.load("digits-rows")).recurrent.get_parameter("weight_hh_l0")
    torch.testing.assert_close(own @ own.t(), torch.eye(8), rtol=0, atol=1e-5)
    with pytest.raises(tl.ArgumentError, match="orthogonal"):
        tl.RNN(2, 3, 1, orthogonal=2)  # type: ignore[arg-type]
