"""A stream's session: kept and gone on with in any order, its arguments and states checked at the door."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

import timelocal as tl
from timelocal.errors import ArgumentError


def made(dropout: float = 0.3) -> tuple[tl.Network, tl.Rule, torch.optim.Optimizer]:
    network = tl.GRU(2, 8, output_size=3, num_layers=2, dropout=dropout)
    rule = tl.DFA(network, at="every", loss="mse")
    return network, rule, torch.optim.SGD(network.parameters(), lr=0.1)


def data(steps: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, steps, 2, generator=generator), torch.randn(
        4, steps, 3, generator=generator
    )


@pytest.mark.parametrize("stream_first", [True, False])
def test_a_stream_with_dropout_goes_on_in_the_same_bits(stream_first: bool) -> None:
    x, y = data()
    network, rule, optimizer = made()
    stream = rule.stream(4)
    stream.run(x[:, :3], y[:, :3], optimizer)
    saved = copy.deepcopy((network.state_dict(), rule.state_dict(), stream.state_dict()))
    wanted = stream.run(x[:, 3:], y[:, 3:], optimizer)
    network, rule, optimizer = made()
    network.load_state_dict(saved[0])
    again = rule.stream(4) if stream_first else None
    rule.load_state_dict(saved[1])
    again = again or rule.stream(4)
    again.load_state_dict(saved[2])
    assert_close(again.run(x[:, 3:], y[:, 3:], optimizer), wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("other", "batch", "word"),
    [
        (tl.RNN(2, 8, output_size=3), 5, "states"),
        (tl.RNN(2, 8, output_size=3, num_layers=2), 4, "states"),
        (tl.LSTM(2, 8, output_size=3), 4, "states"),
        (tl.RNN(2, 8, output_size=3).double(), 4, "float64"),
    ],
)
def test_the_state_of_another_stream_is_refused_and_nothing_changed(
    other: tl.Network, batch: int, word: str
) -> None:
    stream = tl.DFA(tl.RNN(2, 8, output_size=3), at="every", loss="mse").stream(4)
    before = copy.deepcopy(stream.state_dict())
    theirs = tl.DFA(other, at="every", loss="mse").to(torch.float32)
    with pytest.raises(ArgumentError, match=word):
        stream.load_state_dict(theirs.stream(batch).state_dict())
    with pytest.raises(ArgumentError, match="'key': got nothing"):
        stream.load_state_dict({name: one for name, one in before.items() if name != "key"})
    assert_close(stream.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("inputs", "targets", "mask", "told"),
    [
        (torch.zeros(4, 2), None, None, "targets: got a NoneType"),
        (torch.zeros(4, 2), [[0.0] * 3] * 4, None, "targets: got a list"),
        (
            torch.zeros(4, 2),
            torch.zeros(4),
            None,
            r"targets: got shape \(4,\), expected shape \(4, 3\)",
        ),
        (torch.zeros(4, 2), torch.zeros(4, 3), [True] * 4, "mask: got a list"),
        (torch.zeros(4, 2), torch.zeros(4, 3), torch.ones(3), r"mask: got shape \(3,\)"),
        (
            torch.zeros(4, 3),
            torch.zeros(4, 3),
            None,
            r"inputs: got shape \(4, 3\), expected shape \(4, 2\)",
        ),
        (
            torch.zeros(3, 2),
            torch.zeros(3, 3),
            None,
            r"inputs: got shape \(3, 2\), expected shape \(4, 2\)",
        ),
    ],
)
def test_what_is_wrong_with_a_step_is_told_in_the_shapes_that_were_given(
    inputs, targets, mask, told
):
    stream = made()[1].stream(4)
    with pytest.raises(ArgumentError, match=told):
        stream.step(inputs, targets, mask=mask)
    assert stream.steps == 0


def test_an_optimizer_of_another_network_is_refused() -> None:
    x, y = data()
    _, rule, _ = made()
    stream = rule.stream(4)
    with pytest.raises(ArgumentError, match="optimizer: got none of the parameters"):
        stream.run(x, y, made()[2])
    assert stream.steps == 0
