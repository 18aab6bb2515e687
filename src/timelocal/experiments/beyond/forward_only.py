"""Forward-only hardware: accuracy against the number of queries.

A device answers a query with one noisy or clean run of a sequence and has no derivative. Rules spend queries
in different ways: in pairs, in three runs with opposite noise, in many directions for one update, or singly.
All have the same number of queries for every training sequence, so a rule that needs more queries per update
makes fewer updates.

Budget: about 1.7 hours of one core (12 lines with three numbers of queries, 13 runs each of 1 to 35 s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from timelocal.experiments.beyond.tasks import (
    ONE_RUN,
    PERTURBED,
    classified,
    how_one_run,
    key,
)
from timelocal.experiments.claims import above, no_worse
from timelocal.experiments.experiment import Claim, Experiment, Key, Line, ProfileName

DATASET = "digits-rows"
QUERIES = (30, 120, 480)
"""Runs of each sequence during the whole training."""


class _Rule(NamedTuple):
    runs: int
    """Of a sequence, for one update."""
    rule: str
    options: Mapping[str, Any]


RULES = {
    "NP": _Rule(2, "np", PERTURBED),
    "ANP": _Rule(2, "anp", PERTURBED),
    "ANP, two noisy runs": _Rule(2, "anp", {**PERTURBED, "clean": False}),
    "WP": _Rule(2, "wp", PERTURBED),
    "NP, antithetic": _Rule(3, "np", {**PERTURBED, "antithetic": True}),
    "NP, 5 directions": _Rule(6, "np", {**PERTURBED, "directions": 5}),
    "ANP, 5 directions": _Rule(6, "anp", {**PERTURBED, "directions": 5}),
    "DFA, slope cos a": _Rule(1, "dfa", {"slope": "cos"}),
    "DFA, slope 1": _Rule(1, "dfa", {"slope": "constant"}),
    "NP, one run": _Rule(1, "np", ONE_RUN),
}
BESIDE = {
    "BPTT": _Rule(1, "bptt", {}),
    "readout alone": _Rule(1, "bptt", {}),
}
"""What no such device can do, and what uses no queries to learn the recurrence."""


def _panel(queries: int) -> str:
    return f"{queries} runs"


def _line(profile: ProfileName, queries: int, label: str, one: _Rule) -> Line:
    made = classified(
        profile,
        DATASET,
        label,
        _panel(queries),
        rule=one.rule,
        rule_options=one.options,
        epochs=1 if profile == "quick" else queries // one.runs,
        frozen=label == "readout alone",
    )
    assert made.search is not None
    search = replace(made.search, epochs=max(1, made.config.epochs // 3))
    return replace(made, search=search, x=queries)


def lines(profile: ProfileName) -> tuple[Line, ...]:
    """Every rule with every number of queries; a quick look takes the fewest."""
    return tuple(
        _line(profile, queries, label, one)
        for queries in (QUERIES[:1] if profile == "quick" else QUERIES)
        for label, one in {**RULES, **BESIDE}.items()
    )


def _pairs(first: str, second: str) -> list[tuple[Key, Key]]:
    return [(key(_panel(queries), first), key(_panel(queries), second)) for queries in QUERIES]


CLAIMS: tuple[Claim, ...] = (
    no_worse(
        "Two noisy runs train as well as one clean and one noisy run, to within 3 points.",
        _pairs("ANP, two noisy runs", "ANP"),
        0.03,
    ),
    above("Perturbing nodes is better than perturbing weights.", _pairs("NP", "WP")),
    above(
        "Many updates along one direction beat few updates along five.",
        _pairs("NP", "NP, 5 directions"),
    ),
    above("Antithetic noise is worth its third run.", _pairs("NP, antithetic", "NP")),
    above(
        "A single run with a fixed function in place of the derivative beats every perturbation.",
        [
            pair
            for rule in ("NP", "ANP", "WP", "NP, antithetic")
            for pair in _pairs("DFA, slope cos a", rule)
        ],
    ),
    above(
        "Perturbation trains the recurrence usefully: a readout alone is worse.",
        _pairs("NP", "readout alone"),
    ),
    above(
        "Twice as many updates from one noisy run each beat NP with a clean run beside it.",
        _pairs("NP, one run", "NP"),
    ),
)


def _how(profile: ProfileName) -> tuple[str, ...]:
    shown = lines(profile)[0]
    runs = ", ".join(f"{name} {one.runs}" for name, one in RULES.items())
    return (
        "Every rule gets the number of runs per training sequence that its panel names, spent over as many "
        f"epochs as they allow; runs per update: {runs}. Candidates of the search are judged after a third "
        "of the epochs.",
        f"The device is a simulated tanh RNN of {shown.config.hidden} units without faults, with a linear "
        "readout; the loss is on the mean of the outputs over the steps; Adam, gradients clipped at norm 1, "
        f"batches of {shown.config.batch}, eight learning rates, seeds: {len(shown.seeds)}. Perturbations "
        "have σ = 0.01 and credit the change of the loss to the noise of every step.",
        "DFA's slope is a function of the measured pre-activations, not the device's derivative.",
        how_one_run("NP with one run"),
    )


EXPERIMENTS = (
    Experiment(
        "beyond/forward-only",
        "Accuracy against queries of forward-only hardware",
        "What can be learned from a given number of runs of a device, and how are they best spent?",
        "sizes",
        ("accuracy", "last_accuracy"),
        lines,
        CLAIMS,
        _how,
    ),
)
