"""The accuracy of BPTT without BPTT: how close other rules come, with the same budget for all.

On the DFA paper's four data sets, dense cells are trained by BPTT, DFA, e-prop and SnAp-1, and element-wise
cells by RTRL, whose traces are exact on them and go forward in time. The baseline is the same choice of
cells with the recurrence frozen. All have the same readout, and the same loss positions and rates to choose
from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from timelocal.experiments.beyond.feedback import ALIGNMENT
from timelocal.experiments.claims import above, no_worse
from timelocal.experiments.config import CostConfig, TrainConfig
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

MARGINS = {"ecg200": 0.03, "libras": 0.03, "strawberry": 0.02, "row-mnist": 0.005}
"""By data set, how far below BPTT the lower end of the 95 % interval may lie."""
DATASETS = tuple(MARGINS)
NAMES = {"gru": "GRU", "rnn": "tanh RNN", "lru": "LRU", "rtu": "RTU"}
DENSE, ELEMENTWISE = ("gru", "rnn"), ("lru", "rtu")
LOCAL = (("DFA", "dfa"), ("e-prop", "eprop"), ("SnAp-1", "snap1"))
"""Rules without BPTT on dense cells, with ever more of the gradient: random feedback and no trace, a trace of
each unit's own past, and with it the step's own error in place of the random feedback."""

_BATCHES = {"ecg200": 20, "libras": 20, "strawberry": 10, "row-mnist": 100}


@dataclass(frozen=True, kw_only=True)
class _Size:
    """The size of a profile by data set; `searched`: epochs of each candidate, over `search_seeds` seeds."""

    epochs: dict[str, int]
    seeds: dict[str, int]
    searched: dict[str, int]
    search_seeds: dict[str, int]
    places: tuple[str, ...] = ("last", "mean", "every")
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)
    hidden: int = 64


_ONE = dict.fromkeys(DATASETS, 1)
_LAPTOP = _Size(
    epochs={"ecg200": 100, "libras": 200, "strawberry": 100, "row-mnist": 15},
    seeds={"ecg200": 40, "libras": 40, "strawberry": 20, "row-mnist": 10},
    searched={"ecg200": 100, "libras": 100, "strawberry": 60, "row-mnist": 3},
    # 40, 72, 196 and 14,000 sequences to validate on
    search_seeds={"ecg200": 10, "libras": 2, "strawberry": 1, "row-mnist": 1},
)
SIZES: dict[ProfileName, _Size] = {
    "quick": _Size(
        epochs=_ONE,
        seeds=_ONE,
        searched=_ONE,
        search_seeds=_ONE,
        places=("mean",),
        rates=(0.01,),
        hidden=4,
    ),
    "laptop": _LAPTOP,
    "paper": _LAPTOP,
}


def _line(
    size: _Size,
    dataset: str,
    label: str,
    column: Column,
    cells: tuple[str, ...],
    rule: str,
    frozen: bool = False,
) -> Line:
    config = TrainConfig(
        dataset=dataset,
        cell=cells[0],
        rule=rule,
        hidden=size.hidden,
        readout_hidden=size.hidden,
        at=size.places[0],
        batch=_BATCHES[dataset],
        clip=1.0,
        epochs=size.epochs[dataset],
        frozen=frozen,
    )
    grid: dict[str, tuple[object, ...]] = {"at": size.places, "lr": size.rates}
    search = Search(
        {"cell": cells, **grid} if len(cells) > 1 else grid,
        size.searched[dataset],
        tuple(range(size.search_seeds[dataset])),
        measure="validation_accuracy",
    )
    seeds = tuple(range(size.seeds[dataset]))
    return Line(Key(dataset, label, column), config, seeds, search)


def _bptt(dataset: str) -> Key:
    return Key(dataset, "BPTT, the better dense cell", "true BPTT")


def _exact(dataset: str) -> Key:
    return Key(dataset, "RTRL, the better element-wise cell", "best without BPTT")


def _frozen(dataset: str) -> Key:
    return Key(dataset, "readout alone, the better element-wise cell", "recurrence frozen")


def _of(rule: str, cell: str, dataset: str) -> Key:
    column: Column = "true BPTT" if rule == "BPTT" else "best without BPTT"
    return Key(dataset, f"{rule}, {NAMES[cell]}", column)


def gap(profile: ProfileName) -> tuple[Line, ...]:
    """BPTT, the exact rule without it, the same with a frozen recurrence, and rule by rule on dense cells."""
    size = SIZES[profile]
    lines: list[Line] = []
    for dataset in DATASETS:
        chosen: list[tuple[Key, tuple[str, ...], dict[str, Any]]] = [
            (_bptt(dataset), DENSE, {"rule": "bptt"}),
            (_exact(dataset), ELEMENTWISE, {"rule": "rtrl"}),
            (_frozen(dataset), ELEMENTWISE, {"rule": "rtrl", "frozen": True}),
        ]
        for cell in DENSE:
            for name, rule in (("BPTT", "bptt"), *LOCAL):
                chosen.append((_of(name, cell, dataset), (cell,), {"rule": rule}))
        lines += [_line(size, *key, cells, **values) for key, cells, values in chosen]
    return tuple(lines)


COSTS = "beyond/gap-costs"
_REPEATS = 20


def costs(profile: ProfileName) -> tuple[Line, ...]:
    """The cost of one update for every rule and every cell that may be chosen for it."""
    size, lines = SIZES[profile], []
    columns: tuple[tuple[str, str, tuple[str, ...], Column, bool], ...] = (
        ("BPTT", "bptt", DENSE, "true BPTT", False),
        *((name, rule, DENSE, "best without BPTT", False) for name, rule in LOCAL),
        ("RTRL", "rtrl", ELEMENTWISE, "best without BPTT", False),
        ("readout alone", "rtrl", ELEMENTWISE, "recurrence frozen", True),
    )
    for dataset in DATASETS if profile != "quick" else DATASETS[:1]:
        for name, rule, cells, column, frozen in columns:
            for cell in cells:
                line = _line(size, dataset, "", column, (cell,), rule, frozen)
                fields = line.config.model_dump() | {"at": "mean", "epochs": 1}
                config = CostConfig(**fields, repeats=1 if profile == "quick" else _REPEATS)
                seeds = (0,) if profile == "quick" else (0, 1, 2)
                lines.append(Line(Key(dataset, f"{name}, {NAMES[cell]}", column), config, seeds))
    return tuple(lines)


def _costs_how(profile: ProfileName) -> tuple[str, ...]:
    repeats = 1 if profile == "quick" else _REPEATS
    return (
        "One update with the first batch of the training part, on a single CPU thread: networks, "
        "batches and optimizer as in the study, with the loss on the mean of the outputs over the steps. The "
        f"median of {repeats} updates after one warm-up; memory is the peak of resident memory above the "
        "level before.",
    )


_ALIGNED = {"ecg200": 50, "libras": 100, "strawberry": 20, "row-mnist": 1}
"""Epochs over which the alignment is measured."""


def alignment(profile: ProfileName) -> tuple[Line, ...]:
    """The rules without BPTT on dense cells, and the exact one on an element-wise cell as a check."""
    size, quick = SIZES[profile], profile == "quick"
    lines = []
    for dataset in DATASETS[:1] if quick else DATASETS:
        kinds = [(name, rule, cell) for cell in DENSE for name, rule in LOCAL]
        for name, rule, cell in [*kinds, ("RTRL", "rtrl", "lru")]:
            key = _of(name, cell, dataset)
            line = _line(size, dataset, "", key.column, (cell,), rule)
            changed = {"at": "mean", "alignment": True, "epochs": 1 if quick else _ALIGNED[dataset]}
            config = line.config.model_copy(update=changed | {"lr": 0.003})
            lines.append(Line(key, config, tuple(range(1 if quick else 7))))
    return tuple(lines)


def _alignment_claims() -> tuple[Claim, ...]:
    steps = (
        (
            "e-prop",
            "DFA",
            "A trace of each unit's own past brings e-prop nearer to BPTT's gradient than DFA is",
        ),
        (
            "SnAp-1",
            "e-prop",
            "The step's own error brings SnAp-1 nearer to BPTT's gradient than e-prop is",
        ),
    )
    return tuple(
        above(
            f"{said}, on every data set and both dense cells.",
            [(_of(more, cell, one), _of(less, cell, one)) for one in DATASETS for cell in DENSE],
        )
        for more, less, said in steps
    )


def _alignment_how(profile: ProfileName) -> tuple[str, ...]:
    return (
        "Networks, batches and optimizer as in the study, with the loss on the mean of the outputs over the "
        f"steps and a learning rate of 0.003 in every line; epochs: {listed(_ALIGNED)}.",
        f"{ALIGNMENT} On one layer of an element-wise cell RTRL is BPTT's gradient: the last line is a "
        "check.",
        "The seed determines the data split, the weights, the batches and the feedback.",
    )


def _claims() -> tuple[Claim, ...]:
    nearest = [
        no_worse(
            f"On {dataset}, the exact rule (RTRL) on an element-wise cell is as accurate as BPTT on the "
            f"better dense cell, to within {100 * margin:g} points.",
            [(_exact(dataset), _bptt(dataset))],
            margin,
        )
        for dataset, margin in MARGINS.items()
    ]
    return (
        *nearest,
        above(
            "Training the element-wise recurrence is better than leaving it as initialised.",
            [(_exact(dataset), _frozen(dataset)) for dataset in DATASETS],
        ),
        *(
            no_worse(
                f"On the DFA paper's own cells, {rule} comes within 3 points of BPTT on the same cell.",
                [
                    (_of(rule, cell, dataset), _of("BPTT", cell, dataset))
                    for dataset in DATASETS
                    for cell in DENSE
                ],
                0.03,
            )
            for rule, _ in LOCAL
        ),
    )


def _how(profile: ProfileName) -> tuple[str, ...]:
    size = SIZES[profile]
    candidates = len(size.places) * len(size.rates)
    return (
        f"One layer of {size.hidden} units and a readout with a hidden layer of the same size; Adam, "
        f"gradients clipped at norm 1; batch sizes: {listed(_BATCHES)}; epochs: {listed(size.epochs)}.",
        f"Chosen on the validation part: where the loss is taken ({', '.join(size.places)}) and the learning "
        f"rate ({', '.join(map(str, size.rates))}), {candidates} candidates for every cell and rule. Epochs "
        f"per candidate: {listed(size.searched)}; seeds per candidate: {listed(size.search_seeds)}. Where "
        "the better of two cells is taken, the choice is part of the same search, for BPTT and for its "
        "rivals.",
        "The seed determines the data split, the weights, the batches and the feedback; seeds: "
        f"{listed(size.seeds)}. Intervals are of differences paired by seed. Splits of one data set share "
        "sequences, so these intervals are narrower than they would be on new data.",
        "A frozen recurrence is randomly initialised and never trained; its readout learns like all others.",
        "All cells have the same small size: with the DFA paper's 512 units, BPTT on a GRU is more "
        "accurate on Row-MNIST than here (Table 1 of the reproduction); RTRL was not run at that size.",
    )


EXPERIMENTS = (
    Experiment(
        "beyond/gap",
        "The accuracy of BPTT without BPTT",
        "How close to BPTT do rules come that never go back through time?",
        "curves",
        ("accuracy", "last_accuracy", "validation_accuracy"),
        gap,
        _claims(),
        _how,
        beside=COSTS,
    ),
    Experiment(
        COSTS,
        "The cost of one update",
        "How much time and memory does one update take with each rule?",
        "costs",
        ("milliseconds", "peak_megabytes"),
        costs,
        (),
        _costs_how,
    ),
    Experiment(
        "beyond/gap-alignment",
        "Alignment with BPTT",
        "How near is the direction of each rule's updates to that of BPTT's?",
        "curves",
        ("alignment", "last_alignment"),
        alignment,
        _alignment_claims(),
        _alignment_how,
    ),
)
