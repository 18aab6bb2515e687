"""Gated cells by activity perturbation: a GRU and an LSTM in place of the paper's tanh RNN.

The perturbation paper leaves open whether ANP and DANP can train cells with gates. This is tested on its
three tasks and on ECG200, against BPTT on the same cell, its readout alone, and the tanh RNN.

Budget: about half an hour of one core for ECG200 (12 lines, 34 runs each of 1 to 8 s), 6 hours for the
streams (8 new lines on 3 tasks, 13 to 28 runs each of 10 s to 3 minutes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timelocal.experiments.beyond.tasks import (
    PERTURBED,
    classified,
    forecast,
    how_classified,
    how_forecast,
    key,
    paper_line,
)
from timelocal.experiments.claims import above, at_most, no_worse
from timelocal.experiments.experiment import Claim, Experiment, Key, Line, ProfileName

GATED = {"gru": "GRU", "lstm": "LSTM"}
CELLS = {"rnn": "tanh RNN", **GATED}
DATASET = "ecg200"
RULES: Mapping[str, Mapping[str, Any]] = {
    "BPTT": {"rule": "bptt"},
    "ANP": {"rule": "anp", "rule_options": PERTURBED},
    "DANP": {"rule": "anp", "rule_options": PERTURBED, "decorrelate": 1e-5},
    "readout alone": {"rule": "bptt", "frozen": True},
}


def of_classes(profile: ProfileName) -> tuple[Line, ...]:
    """Every rule on every cell."""
    return tuple(
        classified(profile, DATASET, f"{rule}, {name}", cell=cell, **values)
        for cell, name in CELLS.items()
        for rule, values in RULES.items()
    )


TASKS = ("weather-48h", "mackey-glass", "copying")


def of_streams(profile: ProfileName) -> tuple[Line, ...]:
    """ANP and DANP on gated cells and, as in the paper, on the tanh RNN; the quick profile takes one task."""
    found = []
    for task in TASKS[:1] if profile == "quick" else TASKS:
        found += [paper_line(profile, task, rule) for rule in ("ANP", "DANP")]
        for cell, name in GATED.items():
            found += [
                forecast(profile, task, f"{rule}, {name}", rule, cell=cell)
                for rule in ("ANP", "DANP", "BPTT")
            ]
            alone = f"readout alone, {name}"
            found.append(forecast(profile, task, alone, "BP", cell=cell, frozen=True))
    return tuple(found)


def _class_claims() -> tuple[Claim, ...]:
    def pairs(first: str, second: str) -> list[tuple[Key, Key]]:
        return [
            (key(DATASET, f"{first}, {name}"), key(DATASET, f"{second}, {name}"))
            for name in GATED.values()
        ]

    plain = key(DATASET, "ANP, tanh RNN")
    return (
        above(
            f"ANP trains gated recurrences usefully on {DATASET}: a readout alone is worse.",
            pairs("ANP", "readout alone"),
        ),
        no_worse(
            f"ANP is as accurate as BPTT on the same gated cell on {DATASET}, to within 3 points.",
            pairs("ANP", "BPTT"),
            0.03,
        ),
        no_worse(
            f"ANP trains gated cells no worse than the tanh RNN on {DATASET}, to within 3 points.",
            [(key(DATASET, f"ANP, {name}"), plain) for name in GATED.values()],
            0.03,
        ),
        above(
            f"Decorrelation makes ANP on gated cells more accurate on {DATASET}.",
            pairs("DANP", "ANP"),
        ),
    )


def _stream_claims(tasks: Sequence[str]) -> tuple[Claim, ...]:
    def beside(rule: str, other: str) -> list[tuple[Key, Key]]:
        return [
            (key(task, f"{rule}, {name}"), key(task, f"{other}, {name}"))
            for task in tasks
            for name in GATED.values()
        ]

    where = "on " + " and ".join(tasks)
    of_the_rnn = [
        (key(task, f"ANP, {name}"), Key(task, "ANP", "as corrected"))
        for task in tasks
        for name in GATED.values()
    ]
    return (
        at_most(
            f"ANP trains gated recurrences usefully {where}: a readout alone has a larger error.",
            beside("ANP", "readout alone"),
            1.0,
        ),
        at_most(f"Decorrelation improves ANP on gated cells {where}.", beside("DANP", "ANP"), 1.0),
        at_most(f"ANP has a smaller error on gated cells than on the tanh RNN {where}.", of_the_rnn, 1.0),
        at_most(
            f"ANP comes within 15 % of the error of BPTT on the same gated cell {where}.",
            beside("ANP", "BPTT"),
            1.15,
        ),
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "beyond/gated-classes",
        "ANP and DANP on gated cells: ECG200",
        "Does activity perturbation train a GRU and an LSTM to classify?",
        "curves",
        ("accuracy", "last_accuracy"),
        of_classes,
        _class_claims(),
        lambda profile: how_classified(profile, DATASET),
    ),
    Experiment(
        "beyond/gated-streams",
        "ANP and DANP on gated cells: the perturbation paper's tasks",
        "Does activity perturbation train a GRU and an LSTM with an update at every step?",
        "curves",
        ("test_loss", "of_ridge"),
        of_streams,
        tuple(claim for task in TASKS for claim in _stream_claims([task])),
        lambda _: how_forecast(),
    ),
)
