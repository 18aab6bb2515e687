"""What the paper says, and how the numbers decide."""

from __future__ import annotations

from timelocal.experiments.claims import above, at_most, within
from timelocal.experiments.experiment import Claim, Column, Key
from timelocal.experiments.papers.perturbation.lines import (
    D_RATES,
    NOISES,
    at_rate,
    at_size,
    frozen_key,
    with_noise,
)
from timelocal.experiments.papers.perturbation.sizes import FROZEN_ON, MAIN, MANY


def key_of(task: str, label: str, column: Column = "as corrected") -> Key:
    """The place of a line; a rule is meant as corrected."""
    return Key(task, label, column)


def _beside_bp(task: str, *labels: str) -> list[tuple[Key, Key]]:
    return [(key_of(task, label), key_of(task, "BP")) for label in labels]


AS_GOOD = 1.15
"""How much larger a loss may be for "closely approaches" and the like."""


TIME = ", in epochs until the training loss has completed nine tenths of its decrease"


def of_task(task: str) -> tuple[Claim, ...]:
    """The claims about one task."""
    return (
        above("NP and WP are clearly inferior to BP.", _beside_bp(task, "NP", "WP"), AS_GOOD),
        within("ANP closely approaches BP.", _beside_bp(task, "ANP"), AS_GOOD),
        within("DANP closely approaches BP.", _beside_bp(task, "DANP"), AS_GOOD),
        above(
            "ANP is superior to NP and WP.",
            [(key_of(task, label), key_of(task, "ANP")) for label in ("NP", "WP")],
        ),
        within("Decorrelation makes little difference to BP.", _beside_bp(task, "DBP"), AS_GOOD),
        at_most(
            "The paper's BP, which goes back one step at every step, is as good as true BPTT.",
            [(key_of(task, "BP"), key_of(task, "BPTT", "true BPTT"))],
            AS_GOOD,
        ),
        at_most(
            f"The convergence time of ANP and DANP closely approaches that of BP{TIME}.",
            _beside_bp(task, "ANP", "DANP"),
            AS_GOOD,
            "convergence",
        ),
        *([_teaches(task)] if task in FROZEN_ON else []),
        *([_many_reach(task)] if task in MAIN else []),
    )


def _teaches(task: str) -> Claim:
    return above(
        "Our claim, not the paper's: ANP and DANP train the recurrence usefully: a readout alone is worse.",
        [(frozen_key(task), key_of(task, label)) for label in ("ANP", "DANP")],
    )


def _many_reach(task: str) -> Claim:
    return at_most(
        "Our claim, not the paper's: with one orthogonal direction per node, ANP is as good as BP.",
        [(key_of(task, MANY, "best without BPTT"), key_of(task, "BP"))],
        AS_GOOD,
    )


SCALING = (
    within(
        "At 1000 units, ANP and DANP are on par with BP.",
        [
            (Key(at_size(1000), one, "as corrected"), Key(at_size(1000), "BP", "as corrected"))
            for one in ("ANP", "DANP")
        ],
        AS_GOOD,
    ),
    above(
        "At 1000 units, NP and WP are inferior to ANP.",
        [
            (Key(at_size(1000), one, "as corrected"), Key(at_size(1000), "ANP", "as corrected"))
            for one in ("NP", "WP")
        ],
        AS_GOOD,
    ),
    within(
        "ANP and DANP scale to 3000 units and stay on par with BP.",
        [
            (Key(at_size(3000), one, "as corrected"), Key(at_size(3000), "BP", "as corrected"))
            for one in ("ANP", "DANP")
        ],
        AS_GOOD,
    ),
)

COSTS_TIME = above(
    "Every perturbation rule takes less time than backpropagation through time.",
    [
        (key_of("copying", "BPTT", "true BPTT"), key_of("copying", one))
        for one in ("NP", "WP", "ANP")
    ],
)


NOISE_CHANGES_LITTLE = within(
    "Our claim, not the paper's: below the paper's value, the variance of the noise makes little difference.",
    [
        (
            Key(with_noise(0.01), label, "as corrected"),
            Key(with_noise(less), label, "as corrected"),
        )
        for label in ("NP", "WP", "ANP")
        for less in NOISES[2:]
    ],
    AS_GOOD,
)

COMPLETE_IS_NOT_BEST = (
    above(
        "A larger learning rate of D leaves the units less correlated.",
        [
            (
                Key(at_rate(D_RATES[0]), label, "as corrected"),
                Key(at_rate(1e-4), label, "as corrected"),
            )
            for label in ("DANP", "DBP")
        ],
        measure="decorrelation_loss",
    ),
    above(
        "Complete decorrelation is not optimal: the learning rate that decorrelates most gives a larger loss "
        "than one that leaves some correlation.",
        [
            (Key(at_rate(1e-4), label, "as corrected"), Key(at_rate(1e-6), label, "as corrected"))
            for label in ("DANP", "DBP")
        ],
    ),
)

NEARER = above(
    "ANP approximates the gradient better than NP: its estimates have a larger cosine with BPTT's gradient.",
    [(key_of("weather-48h", "ANP"), key_of("weather-48h", "NP"))],
    measure="alignment",
)
