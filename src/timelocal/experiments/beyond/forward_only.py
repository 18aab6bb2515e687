"""Hardware that only runs forward: accuracy against how often the device is asked.

A device answers a query with one noisy or clean run of a sequence and has no derivative. Rules spend queries
in different ways: in pairs, in three runs with opposite noise, in many directions for one update, or one
alone. All have as many queries for every sequence of the training part, so that a rule that asks more for
an update makes fewer of them.

Budget: about 1.5 hours of one core (11 lines with three numbers of queries, 13 runs each of 1 to 35 s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from timelocal.experiments.beyond.tasks import PERTURBED, classified, key
from timelocal.experiments.claims import above, no_worse
from timelocal.experiments.experiment import Claim, Experiment, Key, Line, ProfileName

DATASET = "digits-rows"
QUERIES = (30, 120, 480)
"""Runs of every sequence over the whole training."""


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
}
BESIDE = {
    "BPTT": _Rule(1, "bptt", {}),
    "readout alone": _Rule(1, "bptt", {}),
}
"""What no such device can do, and what takes none of its queries to learn the recurrence."""


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
        "Two noisy runs teach as much as a clean and a noisy one, to within 3 points.",
        _pairs("ANP, two noisy runs", "ANP"),
        0.03,
    ),
    above("Nodes are better perturbed than weights.", _pairs("NP", "WP")),
    above("Many updates in one direction beat few in five.", _pairs("NP", "NP, 5 directions")),
    above("Opposite noise is worth its third run.", _pairs("NP, antithetic", "NP")),
    above(
        "One run and a function in place of the derivative beat every perturbation.",
        [
            pair
            for rule in ("NP", "ANP", "WP", "NP, antithetic")
            for pair in _pairs("DFA, slope cos a", rule)
        ],
    ),
    above(
        "Perturbation teaches the recurrence: a readout alone is worse.",
        _pairs("NP", "readout alone"),
    ),
)


def _how(profile: ProfileName) -> tuple[str, ...]:
    shown = lines(profile)[0]
    runs = ", ".join(f"{name} {one.runs}" for name, one in RULES.items())
    return (
        "Every rule has as many runs of each training sequence as its panel says, and makes them into "
        f"epochs; runs for one update: {runs}. A third of its epochs judges a candidate of the search.",
        f"The device is a tanh RNN of {shown.config.hidden} units, simulated without faults of its own, with "
        "a linear readout; the loss of the outputs' mean over the steps, Adam, gradients clipped at norm 1, "
        f"batches of {shown.config.batch}, eight learning rates, seeds: {len(shown.seeds)}. Perturbations "
        "have σ = 0.01 and credit the change of the loss to the noise of every step.",
        "DFA's slope is a function of the measured pre-activations and not the device's derivative.",
    )


EXPERIMENTS = (
    Experiment(
        "beyond/forward-only",
        "Accuracy against queries of a device that only runs forward",
        "What is learned from so many runs of a device, and how are they best spent?",
        "sizes",
        ("accuracy", "last_accuracy"),
        lines,
        CLAIMS,
        _how,
    ),
)
