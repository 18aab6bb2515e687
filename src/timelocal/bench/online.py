"""Learning at every step of a stream, compared with the torch.nn loop that a user would write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from timelocal import kernels, losses
from timelocal.bench.measure import Call, Sense, Timing, conditions, interleaved, judged
from timelocal.network import GRU, LSTM, RNN, Decorrelation, Network
from timelocal.rules import ANP, DFA, NP, RFLO, TBPTT, WP, EProp, Rule, SnAp1
from timelocal.seeding import generator
from timelocal.training import Stream

INPUTS, HIDDEN = 8, 100
CELLS: dict[str, Callable[..., Network]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
TORCH_CELLS: dict[str, Callable[..., nn.Module]] = {
    "rnn": nn.RNNCell,
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": partial(SGD, lr=1e-6),  # so low that the weights hardly change
    "Adam": partial(Adam, lr=1e-6),
    "momentum": partial(SGD, lr=1e-6, momentum=0.9),
}
RULES: dict[str, Callable[..., Rule]] = {
    "dfa": DFA,
    "rflo": RFLO,
    "eprop": EProp,
    "snap1": SnAp1,
    "tbptt": partial(TBPTT, k=1),
    "np": NP,
    "anp": ANP,
    "wp": WP,
}


@dataclass(frozen=True)
class Kind:
    """A network of 8 inputs and 100 units: its optimizer, loss, number of outputs, masked or not."""

    cell: str
    optimizer: str
    loss: str = "mse"
    outputs: int = 1
    masked: bool = False

    @property
    def name(self) -> str:
        """Such as "gru, Adam, cross_entropy of 10, masked"."""
        loss = f"{self.loss} of {self.outputs}"
        return ", ".join([self.cell, self.optimizer, loss] + ["masked"] * self.masked)


KINDS = (
    *(Kind(cell, optimizer) for cell in CELLS for optimizer in ("SGD", "Adam")),
    Kind("rnn", "SGD", "cross_entropy", 10, masked=True),
    Kind("rnn", "Adam", "cross_entropy", 10, masked=True),
)
COSTS = {  # relative to plain SGD with the squared error of the same number of outputs
    "a mask of ones": (Kind("rnn", "SGD", "mse", 10, masked=True), 1.15),
    "cross-entropy": (Kind("rnn", "SGD", "cross_entropy", 10), 1.4),
    "momentum": (Kind("rnn", "momentum", "mse", 10), 2.2),
}
PLAIN = Kind("rnn", "SGD", "mse", 10)
BARS = {  # required speed-ups over the torch loop
    "rnn": {**dict.fromkeys(RULES, 25.0), "eprop": 12.0, "wp": 12.0},
    "gru": {**dict.fromkeys(RULES, 8.0), **dict.fromkeys(("dfa", "tbptt", "np", "anp"), 15.0)},
    "lstm": {**dict.fromkeys(RULES, 8.0), **dict.fromkeys(("dfa", "tbptt"), 15.0)},
}
USED_MOST = Kind("gru", "Adam")


@dataclass(frozen=True)
class Large:
    """B streams of one input, H tanh units and one output, learning by one rule with plain SGD.

    directions: of orthogonal noise that lasts one step; None: one direction of Gaussian noise that is
    carried.
    """

    name: str
    rule: str
    hidden: int
    batch: int
    decorrelates: bool = False
    directions: int | None = None


LARGE = (
    Large("ANP, H = 100, B = 10", "anp", 100, 10),
    Large("DANP, H = 100, B = 10", "anp", 100, 10, True),
    Large("ANP, H = 100, B = 10, 128 directions", "anp", 100, 10, directions=128),
    Large("ANP, H = 500, B = 1", "anp", 500, 1),
    Large("DANP, H = 500, B = 1", "anp", 500, 1, True),
    Large("NP, H = 500, B = 1", "np", 500, 1),
    Large("WP, H = 500, B = 1", "wp", 500, 1),
    Large("ANP, H = 1000, B = 10", "anp", 1000, 10),
    Large("DANP, H = 1000, B = 10", "anp", 1000, 10, True),
)
LARGE_BARS: tuple[tuple[str, str, str, Sense, float], ...] = (  # description, slower, faster, bar
    (
        "decorrelation: DANP over ANP, H = 1000",
        "DANP, H = 1000, B = 10",
        "ANP, H = 1000, B = 10",
        "at most",
        2.5,
    ),
    (
        "noise on weights: WP over NP, H = 500",
        "WP, H = 500, B = 1",
        "NP, H = 500, B = 1",
        "at most",
        6.0,
    ),
)
EPOCH = ("seconds of a DANP epoch of 5,000 steps, H = 1000, B = 10", "DANP, H = 1000, B = 10", 8.0)


def online_benchmark(
    *, threads: int = 1, repeats: int = 9, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Microseconds per step of every stream, and the bars, as plain numbers.

    Single precision; subnormals are flushed for all.
    """
    with conditions(threads):
        found = {}
        for kind in KINDS:
            tell(kind.name)
            found[kind.name] = _timed(_calls(kind), repeats)
        tell("what a mask, another loss and momentum cost")
        costs = _timed({kind.name: _chunk(kind, "dfa") for kind in _costly()}, repeats)
        large: dict[str, Timing] = {}
        for stream in LARGE:
            tell(stream.name)
            large |= _timed({stream.name: _large_chunk(stream)}, repeats)
        return {
            "threads": threads,
            "kernels": kernels.describe(),
            "microseconds": {name: _microseconds(times) for name, times in found.items()},
            "costs": _microseconds(costs),
            "large": _microseconds(large),
            "bars": bars(found, costs, large),
        }


def bars(
    found: Mapping[str, Mapping[str, Timing]],
    costs: Mapping[str, Timing],
    large: Mapping[str, Timing],
) -> list[dict[str, Any]]:
    """Each requirement, the measured value, and whether it is met."""
    made = []
    for kind in KINDS:
        times = found[kind.name]
        for rule, limit in BARS[kind.cell].items():
            ratio = times["torch"].median / times[rule].median
            made.append(judged(f"{kind.name}: {rule} against torch", ratio, "at least", limit))
    times = found[USED_MOST.name]
    for what, slow, fast, limit in (
        ("dfa against torch's fused optimizer", "torch, fused", "dfa", 7.0),
        ("one sample from Python against torch", "torch", "dfa, step", 6.0),
        ("predict, then learn, against torch", "torch", "dfa, predict and learn", 6.0),
    ):
        ratio = times[slow].median / times[fast].median
        made.append(judged(f"{USED_MOST.name}: {what}", ratio, "at least", limit))
    for what, (kind, limit) in COSTS.items():
        ratio = costs[kind.name].median / costs[PLAIN.name].median
        made.append(judged(f"{what} over {PLAIN.name}", ratio, "at most", limit))
    for what, slow, fast, sense, limit in LARGE_BARS:
        made.append(judged(what, large[slow].median / large[fast].median, sense, limit))
    what, name, limit = EPOCH
    return [*made, judged(what, 5000 * large[name].median, "at most", limit)]


def _costly() -> Iterable[Kind]:
    return (PLAIN, *(kind for kind, _ in COSTS.values()))


def _microseconds(times: Mapping[str, Timing]) -> dict[str, float]:
    return {name: 1e6 * timing.median for name, timing in times.items()}


def _timed(calls: Mapping[str, tuple[Call, int]], repeats: int) -> dict[str, Timing]:
    """Seconds per step of calls with the given numbers of steps, timed in turn."""
    timed = interleaved({name: call for name, (call, _) in calls.items()}, repeats=repeats)
    steps = {name: count for name, (_, count) in calls.items()}
    return {
        name: Timing(t.median / steps[name], t.low / steps[name], t.high / steps[name])
        for name, t in timed.items()
    }


def _calls(kind: Kind) -> dict[str, tuple[Call, int]]:
    """The torch loop, every rule's chunk, and single samples."""
    calls = {"torch": _torch_loop(kind), "torch, fused": _torch_loop(kind, fused=True)}
    calls |= {rule: _chunk(kind, rule) for rule in RULES}
    return calls | {"dfa, step": _samples(kind), "dfa, predict and learn": _predictions(kind)}


# --- what is measured -------------------------------------------------------------------------


def _data(kind: Kind, steps: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs (1, t, i), targets (1, t) or (1, t, o), and a mask of ones or none."""
    draw = generator(0, "bench online")
    inputs = torch.randn(1, steps, INPUTS, generator=draw)
    if kind.loss == "cross_entropy":
        targets = torch.randint(kind.outputs, (1, steps), generator=draw)
    else:
        targets = torch.randn(1, steps, kind.outputs, generator=draw)
    return inputs, targets, torch.ones(1, steps, dtype=torch.bool) if kind.masked else None


def _stream(kind: Kind, rule: str) -> Stream:
    network = CELLS[kind.cell](INPUTS, HIDDEN, kind.outputs)
    made = RULES[rule](network, loss=kind.loss)
    return Stream(made, OPTIMIZERS[kind.optimizer](made.parameters()))


def _chunk(kind: Kind, rule: str, steps: int = 1000) -> tuple[Call, int]:
    stream, (inputs, targets, mask) = _stream(kind, rule), _data(kind, steps)
    return lambda: stream.run(inputs, targets, mask=mask), steps


def _samples(kind: Kind, steps: int = 100) -> tuple[Call, int]:
    stream, (inputs, targets, mask) = _stream(kind, "dfa"), _data(kind, steps)

    def one_by_one() -> None:
        for t in range(steps):
            counts = None if mask is None else mask[:, t]
            stream.step(inputs[:, t], targets[:, t], mask=counts)

    return one_by_one, steps


def _predictions(kind: Kind, steps: int = 100) -> tuple[Call, int]:
    stream, (inputs, targets, _) = _stream(kind, "dfa"), _data(kind, steps)

    def one_by_one() -> None:
        for t in range(steps):
            stream.predict(inputs[:, t])
            stream.learn(targets[:, t])

    return one_by_one, steps


def _torch_loop(kind: Kind, *, fused: bool = False, steps: int = 50) -> tuple[Call, int]:
    """torch.nn's cell with a `backward()` at every step, as a torch user would write it."""
    cell, readout = TORCH_CELLS[kind.cell](INPUTS, HIDDEN), nn.Linear(HIDDEN, kind.outputs)
    make = OPTIMIZERS[kind.optimizer]
    optimizer = make(
        [*cell.parameters(), *readout.parameters()], **({"fused": True} if fused else {})
    )
    inputs, targets, _ = _data(kind, steps)
    loss_of = nn.CrossEntropyLoss() if kind.loss == "cross_entropy" else nn.MSELoss()
    zeros = torch.zeros(1, HIDDEN)

    def loop() -> None:
        states: tuple[Tensor, ...] = (zeros, zeros)
        for t in range(steps):
            found = cell(inputs[:, t], states if kind.cell == "lstm" else states[0])
            states = found if kind.cell == "lstm" else (found,)
            optimizer.zero_grad()
            loss_of(readout(states[0]), targets[:, t]).backward()
            optimizer.step()
            states = tuple(state.detach() for state in states)

    return loop, steps


def _large_chunk(stream: Large) -> tuple[Call, int]:
    law = Decorrelation(1e-6) if stream.decorrelates else None
    network = RNN(1, stream.hidden, 1, decorrelate=law)
    options: dict[str, Any] = {} if stream.directions is None else {
        "carry": False, "noise": "orthogonal", "directions": stream.directions
    }  # fmt: skip
    rule = RULES[stream.rule](network, loss=losses.MSE(), sigma=1e-2, **options)
    live = Stream(rule, OPTIMIZERS["SGD"](rule.parameters()), stream.batch)
    steps = max(100, 200_000 // (stream.hidden * (stream.directions or 1)))
    draw = generator(0, "bench online")
    inputs, targets = (torch.randn(stream.batch, steps, 1, generator=draw) for _ in range(2))
    return lambda: live.run(inputs, targets), steps
