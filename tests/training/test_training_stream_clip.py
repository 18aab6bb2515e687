"""A stream whose gradient is clipped at every step, beside the loop over torch.nn that does so."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch
from streams import PATHS, a_stream, moved, take_path
from torch import Tensor, nn
from torch.testing import assert_close

import timelocal as tl
from covering import covering
from timelocal.errors import ArgumentError, RunError

INPUTS, HIDDEN, OUTPUTS, BATCH, STEPS = 3, 7, 2, 4, 20
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.3),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": partial(torch.optim.Adam, lr=0.05),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.02),
}
CELLS = {"rnn": (tl.RNN, nn.RNNCell), "gru": (tl.GRU, nn.GRUCell), "lstm": (tl.LSTM, nn.LSTMCell)}


def data() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return tuple(torch.randn(STEPS, BATCH, n, generator=draw).double() for n in (INPUTS, OUTPUTS))


def by_torch(network: tl.Network, cell_class, make, clip: float) -> tuple[nn.Module, list[float]]:
    """One step of backpropagation a step, with torch's own cell, clipping and optimizer."""
    cell, readout = cell_class(INPUTS, HIDDEN).double(), nn.Linear(HIDDEN, OUTPUTS).double()
    cell.load_state_dict(
        {name[:-3]: own.clone() for name, own in network.recurrent.state_dict().items()}
    )
    readout.load_state_dict(network.readout.state_dict())
    parameters = [*cell.parameters(), *readout.parameters()]
    optimizer, norms = make(parameters), []
    states = [torch.zeros(BATCH, HIDDEN).double()] * 2
    for x, y in zip(*data(), strict=True):
        lstm = cell_class is nn.LSTMCell
        found = cell(x, tuple(states) if lstm else states[0])
        states = list(found) if lstm else [found]
        optimizer.zero_grad()
        nn.functional.mse_loss(readout(states[0]), y).backward()
        norms.append(float(nn.utils.clip_grad_norm_(parameters, clip)))
        optimizer.step()
        states = [state.detach() for state in states]
    return nn.ModuleList([cell, readout]), norms


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("cell", "optimizer"), covering(product(CELLS, OPTIMIZERS)))
def test_a_step_is_clipped_as_torch_does_it(cell, optimizer, path, monkeypatch) -> None:
    take_path(path, monkeypatch)
    make, torch_cell = CELLS[cell]
    network, clip = make(INPUTS, HIDDEN, OUTPUTS, seed=1).double(), 1.0
    expected, norms = by_torch(network, torch_cell, OPTIMIZERS[optimizer], clip)
    assert min(norms) < clip < max(norms)  # some are clipped, some are not
    rule = tl.TBPTT(network, 1, loss="mse")
    stream = tl.Stream(rule, OPTIMIZERS[optimizer](rule.parameters()), BATCH, clip=clip)
    inputs, targets = (rows.transpose(0, 1) for rows in data())
    stream.run(inputs, targets)
    found = [*network.recurrent.parameters(), *network.readout.parameters()]
    assert_close(found, list(expected.parameters()), rtol=1e-9, atol=1e-11)


def test_the_estimate_that_a_clipped_step_returns_is_not_clipped() -> None:
    plain, clipped = (a_stream("tbptt", clip=clip) for clip in (None, 1e-6))
    x, y = (torch.ones(3, n).double() for n in (3, 2))
    one, other = (stream.step(x, y, gradients=True) for stream in (plain, clipped))
    assert_close(one.gradients, other.gradients, rtol=0, atol=0)


def test_a_file_says_how_its_stream_was_clipped(tmp_path) -> None:
    one, other = a_stream(clip=0.5), a_stream(clip=2.0)
    one.save(tmp_path / "stream")
    before = moved(other)
    with pytest.raises(RunError, match=r"clip: got 2.0, expected 0.5"):
        other.load(tmp_path / "stream")
    assert_close(moved(other), before, rtol=0, atol=0)


@pytest.mark.parametrize("clip", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_what_is_no_norm_is_refused(clip) -> None:
    with pytest.raises(ArgumentError, match=r"clip: got .*expected a positive finite number"):
        a_stream(clip=clip)
