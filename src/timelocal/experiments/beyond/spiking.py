"""Spiking networks: rules with a surrogate derivative, a rule without one, and a frozen recurrence.

Handwritten digits are read row by row, in eight steps, by leaky integrate-and-fire neurons with and without
adaptive thresholds.

Budget: a tenth of an hour of one core (10 lines, 18 runs each of 1 to 3.5 s).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timelocal.experiments.beyond.tasks import PERTURBED, classified, how_classified, key
from timelocal.experiments.claims import above, no_worse
from timelocal.experiments.experiment import Claim, Experiment, Key, Line, ProfileName

DATASET = "digits-rows"
CELLS = {"lif": "LIF", "alif": "adaptive LIF"}
SIGMA = 0.3
"""A spike changes only if the noise carries a membrane across its threshold; less noise rarely does."""
RULES: Mapping[str, Mapping[str, Any]] = {
    "BPTT": {"rule": "bptt"},
    "e-prop": {"rule": "eprop"},
    "DFA": {"rule": "dfa"},
    "ANP": {"rule": "anp", "rule_options": {**PERTURBED, "sigma": SIGMA}},
    "readout alone": {"rule": "bptt", "frozen": True},
}


def lines(profile: ProfileName) -> tuple[Line, ...]:
    """Every rule on both cells."""
    return tuple(
        classified(profile, DATASET, rule, CELLS[cell], cell=cell, **values)
        for cell in CELLS
        for rule, values in RULES.items()
    )


def _pairs(first: str, second: str) -> list[tuple[Key, Key]]:
    return [(key(cell, first), key(cell, second)) for cell in CELLS.values()]


CLAIMS: tuple[Claim, ...] = (
    *(
        above(
            f"{rule} trains spiking recurrences usefully: a readout alone is worse.",
            _pairs(rule, "readout alone"),
        )
        for rule in ("ANP", "DFA", "e-prop")
    ),
    *(
        no_worse(
            f"{rule} is as accurate as BPTT with a surrogate derivative, to within 3 points.",
            _pairs(rule, "BPTT"),
            0.03,
        )
        for rule in ("ANP", "DFA", "e-prop")
    ),
)

EXPERIMENTS = (
    Experiment(
        "beyond/spiking",
        "Spiking networks with and without a surrogate derivative",
        "How accurate does a spiking network become under rules that do not go back through time?",
        "curves",
        ("accuracy", "last_accuracy"),
        lines,
        CLAIMS,
        lambda profile: (
            *how_classified(profile, DATASET),
            f"ANP's noise on the currents has σ = {SIGMA} here, chosen by hand after one trial. All rules "
            "but ANP, which needs none, use the triangular surrogate of the e-prop paper.",
        ),
    ),
)
