"""Late and sparse rewards: one number per episode, 10, 30 or 100 steps after what had to be stored.

Node perturbation knows nothing but the change of the loss. If that comes once, at the end, it can credit the
noise of all steps equally, of recent steps more, or of the last step alone; if it comes at several steps, it
can leave out what was lost before a step's noise.

Budget: a sixth of an hour of one core for the match (6 lines at three delays, 18 runs each of 0.5 to 6 s),
two thirds of an hour for copying (7 lines at three delays, 13 runs each of 2 to 30 s).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timelocal.experiments.beyond.tasks import (
    ONE_RUN,
    classified,
    how_classified,
    how_one_run,
    key,
)
from timelocal.experiments.claims import above, at_most, no_worse
from timelocal.experiments.config import TrainConfig, default_task
from timelocal.experiments.experiment import Experiment, Key, Line, ProfileName, Search

DELAYS = (10, 30, 100)
RATES = (1e-3, 3e-3, 1e-2)
CREDITS = {"whole": "global", "to go": "to_go", "trace": "trace(0.95)", "last step": "local"}
MATCH = ("whole", "trace", "last step")
"""Where the loss comes once, at the end, the loss to go is the whole loss at every step."""
PREDICTION_ERROR = "prediction error"
"""The whole loss of one noisy run, compared with what was expected and not with a clean run."""


def _panel(delay: int) -> str:
    return f"{delay} steps"


def _perturbed(credit: str) -> Mapping[str, Any]:
    return {"rule": "np", "rule_options": {"sigma": 0.01, "credit": CREDITS[credit]}}


def _rules(*credits: str) -> Mapping[str, Mapping[str, Any]]:
    return {
        "BPTT": {"rule": "bptt"},
        **{f"NP, {credit}": _perturbed(credit) for credit in credits},
        f"NP, {PREDICTION_ERROR}": {"rule": "np", "rule_options": {**ONE_RUN, "credit": "global"}},
        "readout alone": {"rule": "bptt", "frozen": True},
    }


def match(profile: ProfileName) -> tuple[Line, ...]:
    """Every kind of credit on the delayed match; the quick profile takes the shortest delay."""
    return tuple(
        classified(profile, f"delayed-match:delay={delay}", rule, _panel(delay), at="last", **values)
        for delay in (DELAYS[:1] if profile == "quick" else DELAYS)
        for rule, values in _rules(*MATCH).items()
    )  # fmt: skip


def _copying(profile: ProfileName, delay: int, rule: str, values: Mapping[str, Any]) -> Line:
    quick, dataset = profile == "quick", f"copying-memory:length=1,delay={delay}"
    config = TrainConfig(
        dataset=dataset,
        **default_task(dataset),
        cell="rnn",
        hidden=4 if quick else 64,
        batch=1000 if quick else 50,
        epochs=1 if quick else 5,
        clip=1.0,
        **values,
    )
    search = Search({"lr": RATES[:1] if quick else RATES}, 1)
    return Line(key(_panel(delay), rule), config, tuple(range(1 if quick else 10)), search)


def copying(profile: ProfileName) -> tuple[Line, ...]:
    """Every kind of credit on the recall of one symbol, with an error at every step."""
    return tuple(
        _copying(profile, delay, rule, values)
        for delay in (DELAYS[:1] if profile == "quick" else DELAYS)
        for rule, values in _rules(*CREDITS).items()
    )


def _at(delay: int, credit: str) -> Key:
    return key(_panel(delay), f"NP, {credit}")


MATCH_CLAIMS = (
    *(
        above(
            f"A reward delayed by {delay} steps trains a perturbed recurrence usefully: a readout alone is "
            "worse.",
            [(_at(delay, "whole"), key(_panel(delay), "readout alone"))],
        )
        for delay in DELAYS
    ),
    above(
        "Crediting the noise of every step beats crediting the noise of the last step alone.",
        [(_at(delay, "whole"), _at(delay, "last step")) for delay in DELAYS],
    ),
    above(
        "A decaying trace beats crediting the noise of every step equally.",
        [(_at(delay, "trace"), _at(delay, "whole")) for delay in DELAYS],
    ),
    no_worse(
        "The mean of earlier losses serves as well as a clean run, to within 3 points.",
        [(_at(delay, PREDICTION_ERROR), _at(delay, "whole")) for delay in DELAYS],
        0.03,
    ),
)
COPYING_CLAIMS = (
    at_most(
        "Crediting a step's noise with the loss to go gives fewer errors than with the whole loss.",
        [(_at(delay, "to go"), _at(delay, "whole")) for delay in DELAYS],
        1.0,
    ),
    at_most(
        "Perturbation credited with the loss to go makes fewer errors than a readout alone.",
        [(_at(delay, "to go"), key(_panel(delay), "readout alone")) for delay in DELAYS],
        1.0,
    ),
    at_most(
        "One noisy run compared with the mean of earlier losses makes fewer errors than a readout alone.",
        [(_at(delay, PREDICTION_ERROR), key(_panel(delay), "readout alone")) for delay in DELAYS],
        1.0,
    ),
)

EXPERIMENTS = (
    Experiment(
        "beyond/rewards-match",
        "One delayed reward per episode",
        "By how many steps may the only reward of an episode be delayed, and whose noise should it credit?",
        "curves",
        ("accuracy", "last_accuracy"),
        match,
        MATCH_CLAIMS,
        lambda profile: (
            *how_classified(profile, "delayed-match"),
            "Here the loss is taken at the last step only. Two stimuli are shown, separated by the number of "
            "steps that the panel names; the first must be remembered for that long.",
            "The trace decays by a factor of 0.95 per step.",
            how_one_run("NP with the prediction error"),
        ),
    ),
    Experiment(
        "beyond/rewards-copying",
        "Rewards at every step, the decisive one late",
        "Does it help to leave earlier losses out of a step's credit?",
        "curves",
        ("bit_errors", "test_loss"),
        copying,
        COPYING_CLAIMS,
        lambda profile: (
            "One of 8 symbols, then the number of blanks that the panel names, then a marker at which the "
            "symbol is due. The squared error counts at every step; only the errors on the symbol are shown, "
            f"7/8 by chance. {copying(profile)[0].config.hidden} units, Adam, gradients clipped at norm 1, "
            f"{copying(profile)[0].config.epochs} epochs of 10,000 sequences; the learning rate of every "
            f"line is chosen from {', '.join(map(str, RATES))} by the validation loss after one epoch with "
            "seed 0.",
            f"NP has σ = 0.01; with the prediction error {ONE_RUN['sigma']}, chosen by hand after one look. "
            "It compares the loss of one noisy run of each sequence with the running mean of earlier losses "
            f"(decay {ONE_RUN['baseline_decay']}), and credits the difference to the noise of every step.",
        ),
    ),
)
