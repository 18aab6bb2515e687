"""The two papers meet: the rules of each on the tasks of the other.

Perturbations on the DFA paper's four data sets, and direct feedback alignment on the perturbation paper's
forecasts. BPTT, the recurrence as it was drawn and, of forecasts, a ridge regression stand beside both.

Budget: about 7 hours of one core for the classes (8 lines on 4 data sets, 26 runs each of 2 s to 2 min; more
than half of it is WP), 1 hour for the forecasts (7 new lines on 4 tasks, 20 runs each of 1 to 20 s).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

CLASSES = ("ecg200", "libras", "strawberry", "row-mnist")
RULES: Mapping[str, Mapping[str, Any]] = {
    "BPTT": {"rule": "bptt"},
    "NP": {"rule": "np", "rule_options": PERTURBED},
    "WP": {"rule": "wp", "rule_options": PERTURBED},
    "ANP": {"rule": "anp", "rule_options": PERTURBED},
    "DANP": {"rule": "anp", "rule_options": PERTURBED, "decorrelate": 1e-5},
    "DFA": {"rule": "dfa"},
    "DDFA": {"rule": "dfa", "decorrelate": 1e-5},
    "readout alone": {"rule": "bptt", "frozen": True},
}


def of_classes(profile: ProfileName) -> tuple[Line, ...]:
    """Every rule on the tanh RNN, data set by data set; a quick look takes the first."""
    datasets = CLASSES[:1] if profile == "quick" else CLASSES
    return tuple(
        classified(profile, dataset, label, **values)
        for dataset in datasets
        for label, values in RULES.items()
    )


WEATHER = ("weather-1h", "weather-24h", "weather-48h")
FORECASTS = (*WEATHER, "mackey-glass")
ONLINE: Mapping[str, Mapping[str, Any]] = {
    "DFA": {"rule": "dfa", "rule_options": {}},
    "DDFA": {"like": "DBP", "rule": "dfa", "rule_options": {}},
    "RFLO": {"rule": "rflo", "rule_options": {}, "tau": 10.0},
    "e-prop": {"rule": "eprop", "rule_options": {}},
    "RTRL, LRU": {"rule": "rtrl", "rule_options": {}, "cell": "lru"},
    "RTRL, RTU": {"rule": "rtrl", "rule_options": {}, "cell": "rtu"},
    "readout alone": {"frozen": True},
}


def of_forecasts(profile: ProfileName) -> tuple[Line, ...]:
    """DFA and its likes beside the paper's own rules, task by task; a quick look takes the first."""
    tasks = FORECASTS[:1] if profile == "quick" else FORECASTS
    found = []
    for task in tasks:
        found += [paper_line(profile, task, label) for label in ("BPTT", "BP", "ANP", "DANP")]
        found += [forecast(profile, task, label, **values) for label, values in ONLINE.items()]
    return tuple(found)


def _pairs(panels: Iterable[str], first: str, second: str) -> list[tuple[Key, Key]]:
    return [(_key(panel, first), _key(panel, second)) for panel in panels]


def _key(panel: str, label: str) -> Key:
    """The rules of the perturbation paper's page stand in its column there."""
    beside = panel in FORECASTS and label in ("BP", "ANP", "DANP")
    return Key(panel, label, "as corrected") if beside else key(panel, label)


def _class_claims(datasets: Sequence[str]) -> tuple[Claim, ...]:
    where = "on " + " and ".join(datasets)
    return (
        *(
            above(f"DFA is more accurate than {rule} {where}.", _pairs(datasets, "DFA", rule))
            for rule in ("NP", "WP")
        ),
        no_worse(
            f"ANP is as accurate as DFA {where}, to within 3 points.",
            _pairs(datasets, "ANP", "DFA"),
            0.03,
        ),
        above(
            f"ANP teaches the recurrence something {where}: a readout alone is worse.",
            _pairs(datasets, "ANP", "readout alone"),
        ),
        above(f"Decorrelation makes DFA more accurate {where}.", _pairs(datasets, "DDFA", "DFA")),
    )


LESS = 1.15
"""How much larger a loss may be and still be as good: that of the perturbation paper's page."""


def _forecast_claims(tasks: Sequence[str], where: str) -> tuple[Claim, ...]:
    return (
        at_most(
            f"DFA forecasts as well as one step of backpropagation {where}.",
            _pairs(tasks, "DFA", "BP"),
            LESS,
        ),
        at_most(f"DFA errs less than ANP {where}.", _pairs(tasks, "DFA", "ANP"), 1.0),
        at_most(
            f"DFA teaches the recurrence something {where}: a readout alone is worse.",
            _pairs(tasks, "DFA", "readout alone"),
            1.0,
        ),
        at_most(f"Decorrelation makes DFA better {where}.", _pairs(tasks, "DDFA", "DFA"), 1.0),
        at_most(
            f"The exact rule on an LRU errs less than BPTT on the tanh RNN {where}.",
            _pairs(tasks, "RTRL, LRU", "BPTT"),
            1.0,
        ),
    )


EXPERIMENTS = (
    Experiment(
        "beyond/meet-classes",
        "Perturbations on the DFA paper's data sets",
        "How accurate are rules that only run forward where DFA was shown, beside DFA and BPTT?",
        "curves",
        ("accuracy", "last_accuracy"),
        of_classes,
        (*_class_claims(CLASSES[:2]), *_class_claims(CLASSES[2:])),
        lambda profile: how_classified(profile, *CLASSES),
    ),
    Experiment(
        "beyond/meet-forecasts",
        "DFA on the perturbation paper's forecasts",
        "How well does DFA forecast, beside perturbations, exact rules and ridge?",
        "curves",
        ("test_loss", "of_ridge"),
        of_forecasts,
        (
            *_forecast_claims(WEATHER, "on all three forecasts of the weather"),
            *_forecast_claims(FORECASTS[3:], "on Mackey-Glass"),
        ),
        lambda profile: (
            *how_forecast(),
            "Copying 100 symbols is left out: there BPTT itself is not better than a constant.",
        ),
    ),
)
