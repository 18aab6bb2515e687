"""The element-wise cells: how they begin, and where numbers would fail."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import timelocal as tl
from timelocal.cells import CELLS, ElementwiseCell
from timelocal.testing import check_cell


@pytest.mark.parametrize("rate", [(0.0, 1.0), (0.9, 0.999)])
def test_the_lru_begins_on_its_ring(rate: tuple[float, float]) -> None:
    low, high = rate
    network = tl.LRU(3, 4000, 2, r_min=low, r_max=high, max_phase=0.3)
    size = (-network.recurrent.nu_l0.exp()).exp()
    phase = network.recurrent.theta_l0.exp()
    assert low <= size.min()
    assert size.max() <= high
    assert phase.max() <= 0.3
    # |λ|² and arg λ are uniform: their means, within five standard errors
    span, error = high**2 - low**2, 5 / math.sqrt(12 * 4000)
    assert abs(size.square().mean() - (low**2 + span / 2)) < span * error
    assert abs(phase.mean() - 0.15) < 0.3 * error


def test_the_others_begin_as_they_are_told() -> None:
    u = tl.IndRNN(3, 4000, 2, steps=10).recurrent.u_l0
    assert u.min() >= 0
    assert 1 < u.max() <= 2**0.1
    bias = tl.MinGRU(3, 5, 2, update=1 / 500).recurrent.bias_l0
    torch.testing.assert_close(bias.sigmoid()[:5], torch.full((5,), 1 / 500))
    assert not bias[5:].any()
    bias = tl.MinGRU(3, 3, 2, update=0.01, update_max=0.25).recurrent.bias_l0
    torch.testing.assert_close(bias.sigmoid()[:3], torch.tensor([0.01, 0.05, 0.25]))
    bias = tl.MinLSTM(3, 5, 2, forget_bias=2.0).recurrent.bias_l0
    assert bias.tolist() == [2.0] * 5 + [0.0] * 10


def test_gamma_keeps_its_digits_near_a_modulus_of_one() -> None:
    """1 − |λ|² of |λ| = 1 − 10⁻⁸ is nothing in float32, unless by expm1."""
    network = tl.LRU(1, 1, 1)
    with torch.no_grad():
        network.recurrent.nu_l0.fill_(math.log(1e-8))
        network.recurrent.weight_ih_l0.fill_(1.0)
    run = network.scan(torch.ones(1, 1, 1))
    expected = math.sqrt(-math.expm1(-2e-8))
    assert run.outputs[0, 0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_gates_too_small_for_a_number_still_have_a_ratio() -> None:
    network = tl.MinLSTM(1, 2, 1)
    with torch.no_grad():
        network.recurrent.bias_l0.copy_(torch.tensor([-500, -500, -500, -500, 1, 1.0]))
        network.recurrent.weight_ih_l0.zero_()
    outputs = network.scan(torch.zeros(1, 3, 1)).outputs[:, 0, 0]
    torch.testing.assert_close(outputs, torch.tensor([0.5, 0.75, 0.875]))


def test_what_reads_a_complex_layer_reads_both_parts() -> None:
    network = tl.LRU(3, 5, 2, num_layers=2, bidirectional=True, decorrelate=0.1)
    assert network.recurrent.weight_ih_l1.shape == (10, 20)
    assert network.recurrent.decorrelation_l0.shape == (10, 10)
    assert network.readout.weight.shape == (2, 20)
    assert tl.DFA(network).feedback_matrix().shape == (10, 2)
    assert network(torch.zeros(4, 6, 3)).shape == (4, 6, 2)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tl.IndRNN(2, 3, 1, steps=0), "steps: got 0"),
        (lambda: tl.LRU(2, 3, 1, r_min=0.9, r_max=0.5), "r_min and r_max: got 0.9 and 0.5"),
        (lambda: tl.LRU(2, 3, 1, max_phase=7), "max_phase: got 7"),
        (lambda: tl.RTU(2, 3, 1, nonlinearity="tahn"), "Did you mean 'tanh'"),
        (lambda: tl.MinGRU(2, 3, 1, update=1), "update: got 1"),
        (lambda: tl.MinGRU(2, 3, 1, update=0.5, update_max=0.1), "update_max: got 0.1"),
        (lambda: tl.MinLSTM(2, 3, 1, forget_bias=math.nan), "forget_bias: got nan"),
    ],
)
def test_bad_options_are_told(make: Callable[[], object], told: str) -> None:
    with pytest.raises(tl.ArgumentError, match=told):
        make()


def test_another_nonlinearity_is_checked_too() -> None:
    assert not check_cell(CELLS["rtu"](nonlinearity="tanh")).failures  # type: ignore[call-arg]


def test_five_are_in_the_registry() -> None:
    found = [name for name, cell in CELLS.items() if issubclass(cell, ElementwiseCell)]
    assert found == ["indrnn", "lru", "rtu", "mingru", "minlstm"]
