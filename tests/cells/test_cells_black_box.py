"""What a black box reports is looked at where it comes in: nothing is read wrongly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import timelocal as tl
from timelocal.errors import ArgumentError


class Device(tl.BlackBox):
    """Runs as it should and then reports what `spoil` makes of it."""

    name = "device"

    def __init__(self, spoil: Callable[[Tensor, Tensor], tuple[object, object]]) -> None:
        self.spoil = spoil

    def scan(self, weights, inputs, initial, node_noise=None):
        hidden, measured = [initial[0]], []
        for drive in self.drive(weights, inputs, node_noise):
            measured.append(drive + hidden[-1] @ weights.hh.t())
            hidden.append(measured[-1].tanh())
        return self.report(inputs, *self.spoil(torch.stack(hidden), torch.stack(measured)))


def learn(spoil: Callable[[Tensor, Tensor], tuple[object, object]]) -> Tensor:
    rule = tl.ANP(tl.black_box(Device(spoil), 2, 8, 1), loss="mse", at="every", sigma=0.1)
    return rule(torch.ones(4, 6, 2), torch.zeros(4, 6, 1))


def test_one_state_may_be_reported_alone_or_as_one_of_several() -> None:
    assert (
        learn(lambda h, a: ((h,), a)) == learn(lambda h, a: (h, a)) == learn(lambda h, a: ([h], a))
    )


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda h, a: (h, a[-1:]),
            r"measured: got a tensor \(1, 8, 8\).*expected a tensor \(6, 8, 8\)",
        ),
        (lambda h, a: (h, a[..., :1]), r"measured: got a tensor \(6, 8, 1\)"),
        (
            lambda h, a: (h, a.double()),
            r"measured: got .* torch.float64 .*expected .* torch.float32",
        ),
        (lambda h, a: (h, None), "measured: got a NoneType"),
        (lambda h, a: (h, a.numpy()), "measured: got a ndarray"),
        (
            lambda h, a: (h[1:], a),
            r"states: got a tensor \(6, 8, 8\).*expected a tensor \(7, 8, 8\)",
        ),
        (lambda h, a: (h.double(), a), r"states: got .* torch.float64"),
        (lambda h, a: ((h, h), a), "states: got 2 of them, expected 1: h"),
        (lambda h, a: (h.numpy(), a), "states: got ndarray"),
        (lambda h, a: (None, a), "states: got NoneType"),
        (lambda h, a: ((), a), "states: got none"),
    ],
)
def test_a_wrong_report_is_told(spoil, told) -> None:
    with pytest.raises(ArgumentError, match="(?s)device.*" + told):
        learn(spoil)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ArgumentError, match=r"(?s)states.*measured"):
        learn(lambda h, a: (h[1:], a[1:]))


def test_what_is_no_report_at_all_is_told() -> None:
    class Silent(Device):
        def scan(self, weights, inputs, initial, node_noise=None):
            return inputs

    network = tl.black_box(Silent(lambda h, a: (h, a)), 2, 8, 1)
    with pytest.raises(
        ArgumentError, match="scan of device: got a Tensor, expected what `report` returns"
    ):
        network(torch.ones(4, 6, 2))


def test_a_black_box_needs_a_name() -> None:
    class Nameless(Device):
        name = None

    with pytest.raises(ArgumentError, match="Nameless without a name"):
        tl.black_box(Nameless(lambda h, a: (h, a)), 2, 8, 1)
