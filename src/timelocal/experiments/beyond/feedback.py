"""Does the choice of the feedback matrix matter? Eight kinds of it under DFA, and two ways back through time.

The DFA paper calls the choice crucial. Here it is the only thing that changes: the same GRU, readout and
search under every kind. Beside them stand feedback alignment through time, which keeps BPTT's way back and
replaces the weights on it, weight mirrors, which learn those matrices, BPTT itself, and the readout alone.
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
"""Made of the readout, or learned by its law."""
LEARNING = {"feedback_lr": 0.1}
"""Of matrices that learn by a law of their own: ten updates are to show."""
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
    """BPTT and the readout alone, eight kinds of feedback, and the two ways back through other matrices."""
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
    """Each kind beside the Gaussian one, on every data set."""
    return [
        (_kind(dataset, kind), _kind(dataset, "gaussian")) for dataset in DATASETS for kind in kinds
    ]


def _each(first: Any, second: Any) -> list[tuple[Key, Key]]:
    return [(first(dataset), second(dataset)) for dataset in DATASETS]


def _gaussian(dataset: str) -> Key:
    return _kind(dataset, "gaussian")


CLAIMS: tuple[Claim, ...] = (
    on_par(
        "How a random feedback is drawn makes no difference: every kind is within 3 points of the Gaussian.",
        _kinds(*RANDOM[1:]),
        MARGIN,
    ),
    no_worse(
        "One entry a row is enough: sparse feedback is at most 3 points below the Gaussian.",
        _kinds("sparse"),
        MARGIN,
    ),
    above(
        "Feedback that follows the readout, W_outᵀ or its signs, is more accurate than a random one.",
        _kinds("symmetric", "sign"),
    ),
    above(
        "Feedback that learns by the readout's own law is more accurate than one that stays random.",
        _kinds("kolen_pollack"),
    ),
    above(
        "The readout's own matrix brings DFA nearer to the gradient of BPTT than a random one does.",
        _kinds("symmetric"),
        measure="last_alignment",
    ),
    above(
        "Through time the random matrices do better: feedback alignment is more accurate than DFA.",
        _each(_alignment, _gaussian),
    ),
    no_worse(
        "Weight mirrors are at most 3 points below BPTT.",
        _each(_mirror, _bptt),
        MARGIN,
    ),
    above(
        "Any of it is worth while: DFA with a Gaussian matrix is more accurate than the readout alone.",
        _each(_gaussian, _frozen),
    ),
)


def _how(profile: ProfileName) -> tuple[str, ...]:
    size = SIZES[profile]
    rates = ", ".join(map(str, size.rates))
    batches = {name: _BATCHES[name] for name in size.datasets}
    return (
        f"A GRU of {size.hidden} units with a linear readout, the loss at the last step, Adam, gradients "
        f"clipped at norm 1; batches: {listed(batches)}; epochs: {listed(size.epochs)}. Planned at half a "
        "second of one core a run, a tenth of an hour in all.",
        f"The rate of every line is chosen from {rates} by the accuracy on the validation part, in one run "
        "of as many epochs with the first seed: the same budget for all.",
        "Alignment is the cosine between the gradients of all recurrent parameters that the rule and BPTT "
        "give on the first training batch, after every epoch: the mean over all epochs, and that of the last "
        "tenth.",
        "All matrices have the size of a fresh readout. Entries a row of F: all outputs (2 on ecg200, 15 on "
        "libras, 10 on digits-rows) for the Gaussian, uniform and orthogonal kinds, two thirds of them on "
        "average for the ternary one, a single one for the sparse one.",
        "Kolen-Pollack feedback and weight mirrors learn at a rate of 0.1, which was set by hand; under Adam "
        "the former does not follow the readout exactly.",
        "The seed decides the split into parts, the weights, the batches and the feedback.",
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
