"""Does the choice of the feedback matrix matter? Eight kinds under DFA, and two rules that go back in time.

The DFA paper calls the choice crucial. Here it is the only thing that changes: the GRU, readout and search
are the same for every kind. They are compared with feedback alignment through time, which keeps BPTT's
backward pass but replaces its weights, with weight mirrors, which learn those matrices, with BPTT itself,
and with the readout alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from timelocal.experiments.claims import above, no_worse, on_par
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import (
    Claim,
    Column,
    Experiment,
    Key,
    Line,
    ProfileName,
    Search,
    listed,
)

DATASETS = ("ecg200", "libras", "digits-rows")
RANDOM = ("gaussian", "uniform", "orthogonal", "ternary", "sparse")
"""Drawn once and kept."""
INFORMED = ("sign", "symmetric", "kolen_pollack")
"""Derived from the readout, or learned by the same updates."""
LEARNING = {"feedback_lr": 0.1}
"""For matrices with their own learning rule: fast enough to show after ten updates."""
MARGIN = 0.03
"""Accuracies that differ by less are on par."""

_BATCHES = {"ecg200": 20, "libras": 20, "digits-rows": 32}


@dataclass(frozen=True)
class _Size:
    datasets: tuple[str, ...]
    epochs: dict[str, int]
    seeds: int
    hidden: int
    rates: tuple[float, ...]


_LAPTOP = _Size(
    datasets=DATASETS,
    epochs={"ecg200": 20, "libras": 40, "digits-rows": 8},
    seeds=10,
    hidden=32,
    rates=(0.003, 0.01, 0.03),
)
SIZES: dict[ProfileName, _Size] = {
    "quick": _Size(("digits-rows",), {"digits-rows": 1}, seeds=1, hidden=4, rates=(0.01,)),
    "laptop": _LAPTOP,
    "paper": _LAPTOP,
}

ALIGNMENT = (
    "Alignment is the cosine between the gradients of all recurrent parameters from the rule and from "
    "BPTT on the first training batch, after every epoch; given are the mean over all epochs and the "
    "mean over the last tenth."
)
"""What a page says of the measures of alignment."""


def _kind(dataset: str, kind: str) -> Key:
    return Key(dataset, f"DFA, {kind}", "best without BPTT")


def _key(dataset: str, label: str, column: Column = "best without BPTT") -> Key:
    return Key(dataset, label, column)


def _mirror(dataset: str) -> Key:
    return _key(dataset, "weight mirrors")


def _alignment(dataset: str) -> Key:
    return _key(dataset, "feedback alignment through time")


def _bptt(dataset: str) -> Key:
    return _key(dataset, "BPTT", "true BPTT")


def _frozen(dataset: str) -> Key:
    return _key(dataset, "readout alone", "recurrence frozen")


def _line(size: _Size, key: Key, **values: Any) -> Line:
    dataset = key.panel
    config = TrainConfig(
        dataset=dataset,
        cell="gru",
        hidden=size.hidden,
        batch=_BATCHES[dataset],
        clip=1.0,
        epochs=size.epochs[dataset],
        lr=size.rates[0],
        alignment=True,
        **values,
    )
    search = Search({"lr": size.rates}, size.epochs[dataset], measure="validation_accuracy")
    return Line(key, config, tuple(range(size.seeds)), search)


def lines(profile: ProfileName) -> tuple[Line, ...]:
    """BPTT, the readout alone, eight kinds of feedback, and two backward passes with other matrices."""
    size = SIZES[profile]
    found = []
    for dataset in size.datasets:
        found.append(_line(size, _bptt(dataset), rule="bptt"))
        for kind in (*RANDOM, *INFORMED):
            options = {"feedback": kind} | (LEARNING if kind == "kolen_pollack" else {})
            found.append(_line(size, _kind(dataset, kind), rule="dfa", rule_options=options))
        found.append(_line(size, _alignment(dataset), rule="fa"))
        found.append(_line(size, _mirror(dataset), rule="wm", rule_options=LEARNING))
        found.append(_line(size, _frozen(dataset), rule="bptt", frozen=True))
    return tuple(found)


def _kinds(*kinds: str) -> list[tuple[Key, Key]]:
    """Each kind paired with the Gaussian one, on every data set."""
    return [
        (_kind(dataset, kind), _kind(dataset, "gaussian")) for dataset in DATASETS for kind in kinds
    ]


def _each(first: Any, second: Any) -> list[tuple[Key, Key]]:
    return [(first(dataset), second(dataset)) for dataset in DATASETS]


def _gaussian(dataset: str) -> Key:
    return _kind(dataset, "gaussian")


CLAIMS: tuple[Claim, ...] = (
    on_par(
        "The distribution of random feedback makes no difference: every kind is within 3 points of Gaussian.",
        _kinds(*RANDOM[1:]),
        MARGIN,
    ),
    no_worse(
        "One entry per row is enough: sparse feedback is at most 3 points below Gaussian feedback.",
        _kinds("sparse"),
        MARGIN,
    ),
    above(
        "Feedback that follows the readout, W_outᵀ or its signs, is more accurate than random feedback.",
        _kinds("symmetric", "sign"),
    ),
    above(
        "Feedback that learns by the readout's own updates is more accurate than feedback that stays random.",
        _kinds("kolen_pollack"),
    ),
    above(
        "The readout's own matrix brings DFA closer to the gradient of BPTT than a random one does.",
        _kinds("symmetric"),
        measure="last_alignment",
    ),
    above(
        "Random matrices do better through time: feedback alignment is more accurate than DFA.",
        _each(_alignment, _gaussian),
    ),
    no_worse(
        "Weight mirrors are at most 3 points below BPTT.",
        _each(_mirror, _bptt),
        MARGIN,
    ),
    above(
        "DFA is worthwhile at all: with a Gaussian matrix it is more accurate than the readout alone.",
        _each(_gaussian, _frozen),
    ),
)


def _how(profile: ProfileName) -> tuple[str, ...]:
    size = SIZES[profile]
    rates = ", ".join(map(str, size.rates))
    batches = {name: _BATCHES[name] for name in size.datasets}
    return (
        f"A GRU of {size.hidden} units with a linear readout, the loss at the last step, Adam, gradients "
        f"clipped at norm 1; batch sizes: {listed(batches)}; epochs: {listed(size.epochs)}. Planned for half "
        "a second per run on one core, a tenth of an hour in all.",
        f"The learning rate of every line is chosen from {rates} by the accuracy on the validation part, in "
        "one run of the same number of epochs with the first seed: the same budget for all.",
        ALIGNMENT,
        "All matrices are scaled like a freshly initialised readout. Nonzero entries per row of F: all "
        "outputs (2 on ecg200, 15 on libras, 10 on digits-rows) for Gaussian, uniform and orthogonal "
        "feedback, two thirds of them on average for ternary feedback, a single one for sparse feedback.",
        "Kolen-Pollack feedback and weight mirrors learn at a rate of 0.1, set by hand; under Adam "
        "the former does not follow the readout exactly.",
        "The seed determines the data split, the weights, the batches and the feedback.",
    )


EXPERIMENTS = (
    Experiment(
        "beyond/feedback",
        "The choice of the feedback matrix",
        "Is the choice of the feedback matrix crucial, as the DFA paper says?",
        "curves",
        ("accuracy", "last_accuracy", "alignment", "last_alignment"),
        lines,
        CLAIMS,
        _how,
    ),
)
