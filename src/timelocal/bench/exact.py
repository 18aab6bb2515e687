"""Exact gradients of element-wise cells, forward in time, compared with torch's autograd, for sequences and
streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, mse_loss
from torch.optim import Adam

from timelocal import kernels
from timelocal.bench.measure import Call, conditions, interleaved, judged
from timelocal.network import LRU, RTU, IndRNN, MinGRU, MinLSTM, Network
from timelocal.rules import RTRL
from timelocal.seeding import generator
from timelocal.training import Stream

INPUTS, HIDDEN, BATCH, STEPS = 8, 128, 32, 1000
CELLS: dict[str, Callable[..., Network]] = {
    "indrnn": IndRNN,
    "lru": LRU,
    "rtu": RTU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
}
BARS = (  # required speed-ups: description, slower, faster, factor
    ("a whole sequence against BPTT of torch.nn.GRU", "GRU, BPTT", "sequence", 8.0),
    ("a whole sequence against autograd of the same cell", "autograd", "sequence", 3.0),
    ("a stream against the loop in torch", "loop in torch", "stream", 25.0),
)


def exact_benchmark(
    *, threads: int = 1, repeats: int = 9, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Microseconds per step of 32 sequences and of one stream, and the bars, as plain numbers.

    128 units, 8 inputs, one output, a loss at every step; single precision; subnormals are flushed for all.
    memory: the bytes that a step of the stream reads and writes, the rate in gigabytes per second, and the
    rate at which the same bytes are only negated in place.
    """
    microseconds, memory = {}, {}
    with conditions(threads):
        for name in CELLS:
            tell(name)
            calls = _calls(name)
            times = interleaved({what: call for what, (call, _) in calls.items()}, repeats=repeats)
            found = {what: 1e6 * times[what].median / calls[what][1] for what in calls}
            moved = bytes_of_a_step(name)
            microseconds[name] = found
            memory[name] = {
                "bytes": moved,
                "GB/s": 1e-3 * moved / found["stream"],
                "streaming, GB/s": streaming(moved, repeats),
            }
    return {
        "threads": threads,
        "kernels": kernels.describe(),
        "microseconds": microseconds,
        "memory": memory,
        "bars": bars(microseconds),
    }


def bars(microseconds: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Each requirement, the measured value, and whether it is met."""
    return [
        judged(f"{name}: {what}", found[slow] / found[fast], "at least", limit)
        for name, found in microseconds.items()
        for what, slow, fast, limit in BARS
    ]


def bytes_of_a_step(name: str) -> int:
    """The bytes that a step of the stream reads and writes: weights, both moments of Adam, traces."""
    rule = _rule(name)
    parameters = sum(parameter.numel() for parameter in rule.parameters())
    traces = sum(own.numel() for key, own in rule.begin(1).items() if key != "states")
    return 4 * 2 * (3 * parameters + traces)


def streaming(moved: int, repeats: int) -> float:
    """Gigabytes per second of negating numbers in place, so many that `moved` bytes are read or written.

    torch's cost for a call, here that of negating one number, is not counted: it exceeds the rest.
    """
    calls = {"all": torch.ones(moved // 8).neg_, "one": torch.ones(1).neg_}
    times = interleaved(calls, repeats=repeats)
    return 1e-9 * moved / max(times["all"].median - times["one"].median, 1e-9)


def _rule(name: str) -> RTRL:
    return RTRL(CELLS[name](INPUTS, HIDDEN, 1), loss="mse", at="every")


def _calls(name: str) -> dict[str, tuple[Call, int]]:
    """The calls, and the number of steps in each."""
    draw = generator(0, "bench exact")
    inputs = torch.randn(BATCH, STEPS, INPUTS, generator=draw)
    targets = torch.randn(BATCH, STEPS, 1, generator=draw)
    short = min(STEPS, 50)
    return {
        "sequence": (_sequence(_rule(name), inputs, targets), STEPS),
        "autograd": (_autograd(name, inputs, targets), STEPS),
        "GRU, BPTT": (_gru(inputs, targets), STEPS),
        "stream": (_stream(name, inputs[:1], targets[:1]), STEPS),
        "loop in torch": (_loop(name, inputs[:1, :short], targets[:1, :short]), short),
    }


def _sequence(rule: RTRL, inputs: Tensor, targets: Tensor) -> Call:
    def call() -> None:
        rule.zero_grad()
        rule(inputs, targets).backward()

    return call


def _stream(name: str, inputs: Tensor, targets: Tensor) -> Call:
    rule = _rule(name)
    stream = Stream(
        rule, Adam(rule.parameters(), lr=1e-6)
    )  # a learning rate so low that the weights hardly change
    return lambda: stream.run(inputs, targets)


def _gru(inputs: Tensor, targets: Tensor) -> Call:
    gru, readout = nn.GRU(INPUTS, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 1)

    def call() -> None:
        gru.zero_grad()
        readout.zero_grad()
        mse_loss(readout(gru(inputs)[0]), targets).backward()

    return call


def _autograd(name: str, inputs: Tensor, targets: Tensor) -> Call:
    network = CELLS[name](INPUTS, HIDDEN, 1)

    def call() -> None:
        network.zero_grad()
        mse_loss(by_torch(name, network, inputs), targets).backward()

    return call


def _loop(name: str, inputs: Tensor, targets: Tensor) -> Call:
    """Autograd and Adam at every step, as a torch user would write it."""
    network = CELLS[name](INPUTS, HIDDEN, 1)
    optimizer = Adam(network.parameters(), lr=1e-6)

    def call() -> None:
        state = first_state(name, 1)
        for t in range(inputs.shape[1]):
            drive, step, features = cell_in_torch(name, network)
            state = step(drive(inputs[:, t]), state)
            optimizer.zero_grad()
            mse_loss(network.readout(features(state)), targets[:, t]).backward()
            optimizer.step()
            state = state.detach()

    return call


def by_torch(name: str, network: Network, inputs: Tensor) -> Tensor:
    """Outputs (b, t, o) by a loop over the steps in torch, with a graph."""
    drive, step, features = cell_in_torch(name, network)
    drives, state, seen = drive(inputs), first_state(name, len(inputs)), []
    for row in drives.unbind(1):
        state = step(row, state)
        seen.append(state)
    outputs: Tensor = network.readout(features(torch.stack(seen, 1)))
    return outputs


def first_state(name: str, batch: int) -> Tensor:
    return torch.zeros(batch, HIDDEN, dtype=torch.complex64 if name in ("lru", "rtu") else None)


def cell_in_torch(
    name: str, network: Network
) -> tuple[
    Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]
]:
    """A cell as a torch user would write it: its input transformation, its step, and its features."""
    own = {key.removesuffix("_l0"): value for key, value in network.recurrent.named_parameters()}

    def drive(inputs: Tensor) -> Tensor:
        return linear(inputs, own["weight_ih"], own["bias"])

    def indrnn(a: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(a + own["u"] * h)

    def mingru(a: Tensor, h: Tensor) -> Tensor:
        update, candidate = a.chunk(2, -1)
        return torch.lerp(h, candidate, update.sigmoid())

    def minlstm(a: Tensor, h: Tensor) -> Tensor:
        forget, write, candidate = a.chunk(3, -1)
        forget, write = forget.sigmoid(), write.sigmoid()
        return (forget * h + write * candidate) / (forget + write)

    if name not in ("lru", "rtu"):
        step = {"indrnn": indrnn, "mingru": mingru, "minlstm": minlstm}[name]
        return drive, step, lambda state: state
    growth = own["nu"].exp()
    eigenvalue, gamma = (
        torch.polar((-growth).exp(), own["theta"].exp()),
        (-torch.expm1(-2 * growth)).sqrt(),
    )

    def complex_drive(inputs: Tensor) -> Tensor:
        return gamma * torch.complex(*drive(inputs).chunk(2, -1))

    def features(state: Tensor) -> Tensor:
        parts = torch.cat((state.real, state.imag), -1)
        return parts.relu() if name == "rtu" else parts

    return complex_drive, lambda a, h: eigenvalue * h + a, features
