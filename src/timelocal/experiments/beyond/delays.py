"""How recall errors grow with the delay: DFA, e-prop and the exact gradient, on three cells.

The DFA paper concludes from its table 1 that a GRU trained with DFA learns longer correlations than a tanh
RNN. Here one symbol is shown and has to be recalled after a number of blanks; only the delay changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from timelocal.experiments.claims import at_most
from timelocal.experiments.config import TrainConfig, default_task
from timelocal.experiments.experiment import (
    Claim,
    Column,
    Experiment,
    Key,
    Line,
    ProfileName,
    Search,
)

DELAYS = (5, 20, 50, 100, 200)
LONG = tuple(delay for delay in DELAYS if delay >= 50)
CELLS = {"rnn": "tanh RNN", "gru": "GRU", "lru": "LRU"}
RATES = (0.001, 0.003, 0.01)


@dataclass(frozen=True)
class _Size:
    delays: tuple[int, ...]
    epochs: int
    searched: int
    seeds: int
    hidden: int
    rates: tuple[float, ...]


_LAPTOP = _Size(DELAYS, epochs=10, searched=3, seeds=7, hidden=64, rates=RATES)
SIZES: dict[ProfileName, _Size] = {
    "quick": _Size(DELAYS[:2], epochs=1, searched=1, seeds=1, hidden=4, rates=RATES[:1]),
    "laptop": _LAPTOP,
    "paper": _LAPTOP,
}


def _key(delay: int, rule: str, cell: str) -> Key:
    columns: dict[str, Column] = {"BPTT": "true BPTT", "readout alone": "recurrence frozen"}
    column = columns.get(rule, "best without BPTT")
    return Key(f"{delay} steps", f"{rule}, {CELLS[cell]}", column)


def _line(size: _Size, delay: int, name: str, cell: str, **values: Any) -> Line:
    dataset = f"copying-memory:length=1,delay={delay}"
    config = TrainConfig(
        dataset=dataset,
        **default_task(dataset),
        cell=cell,
        cell_options={"r_min": 0.9, "r_max": 0.999} if cell == "lru" else {},
        hidden=size.hidden,
        readout_hidden=size.hidden,
        batch=50,
        clip=1.0,
        epochs=size.epochs,
        lr=size.rates[0],
        **values,
    )
    search = Search({"lr": size.rates}, size.searched)
    return Line(_key(delay, name, cell), config, tuple(range(size.seeds)), search, x=delay)


def lines(profile: ProfileName) -> tuple[Line, ...]:
    """DFA, e-prop and the exact rule of every cell, and the LRU with its recurrence frozen."""
    size = SIZES[profile]
    found = []
    for delay in size.delays:
        for cell in CELLS:
            exact = ("RTRL", "rtrl") if cell == "lru" else ("BPTT", "bptt")
            for name, rule in (("DFA", "dfa"), ("e-prop", "eprop"), exact):
                found.append(_line(size, delay, name, cell, rule=rule))
        found.append(_line(size, delay, "readout alone", "lru", rule="rtrl", frozen=True))
    return tuple(found)


def _less(text: str, first: tuple[str, str], second: tuple[str, str]) -> Claim:
    """At every long delay, the first rule and cell make fewer errors than the second."""
    pairs = [(_key(delay, *first), _key(delay, *second)) for delay in LONG]
    return at_most(text, pairs, 1.0)


CLAIMS = (
    _less(
        "A GRU trained with DFA learns longer correlations than a tanh RNN trained with DFA.",
        ("DFA", "gru"),
        ("DFA", "rnn"),
    ),
    _less(
        "The exact rule (RTRL) on an LRU, forward in time, recalls better than DFA on a GRU.",
        ("RTRL", "lru"),
        ("DFA", "gru"),
    ),
    _less(
        "Within ten epochs, RTRL on an LRU recalls better than BPTT on a GRU.",
        ("RTRL", "lru"),
        ("BPTT", "gru"),
    ),
    _less(
        "RTRL on an LRU recalls better than the readout alone on the same LRU.",
        ("RTRL", "lru"),
        ("readout alone", "lru"),
    ),
)


def _how(profile: ProfileName) -> tuple[str, ...]:
    size = SIZES[profile]
    rates = ", ".join(map(str, size.rates))
    return (
        "One of 8 symbols, then blanks, then a marker at which the symbol is due. The squared error counts "
        "at every step; only the errors on the symbol are shown. Chance is 7/8.",
        f"{size.hidden} units and a readout with a hidden layer of the same size, Adam, batches of 50, "
        f"gradients clipped at norm 1, {size.epochs} epochs of 10,000 sequences. The learning rate of every "
        f"line is chosen from {rates} by the loss on the validation part, in a run of {size.searched} "
        "epochs.",
        "RTRL on the dense cells and BPTT on one layer of the LRU are left out: up to rounding, they give "
        "the same gradients as BPTT and RTRL, respectively.",
        "The LRU is initialised with eigenvalues between 0.9 and 0.999 in modulus.",
        "Ten epochs are few for BPTT on a GRU. Over 20 steps it stays at chance here; in 40 epochs it "
        "learned the task with rates of 0.003 and 0.01 alike, in one run each that is not on record.",
    )


EXPERIMENTS = (
    Experiment(
        "beyond/delays",
        "Recall errors against the delay",
        "How long a delay does each rule learn to bridge, and on which cell?",
        "sizes",
        ("bit_errors", "test_loss"),
        lines,
        CLAIMS,
        _how,
    ),
)
