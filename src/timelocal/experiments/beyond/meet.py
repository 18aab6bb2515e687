"""The two papers meet: the rules of each on the tasks of the other.

Perturbations on the DFA paper's four data sets, and direct feedback alignment on the perturbation paper's
forecasting tasks. Both are compared with BPTT, a frozen recurrence and, for forecasts, a ridge regression.

Budget: about 7 hours of one core for the classes (8 lines on 4 data sets, 26 runs each of 2 s to 2 min; more
than half of it is WP), 1 hour for the forecasts (7 new lines on 4 tasks, 20 runs each of 1 to 20 s).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """Every rule on the tanh RNN, data set by data set; the quick profile takes the first."""
    datasets = CLASSES[:1] if profile == "quick" else CLASSES
    return tuple(
        classified(profile, dataset, label, **values)
        for dataset in datasets
        for label, values in RULES.items()
    )


FORECASTS = ("weather-1h", "weather-24h", "weather-48h", "mackey-glass")
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
    """DFA and related rules with the paper's own, task by task; the quick profile takes the first."""
    tasks = FORECASTS[:1] if profile == "quick" else FORECASTS
    found = []
    for task in tasks:
        found += [paper_line(profile, task, label) for label in ("BPTT", "BP", "ANP", "DANP")]
        found += [forecast(profile, task, label, **values) for label, values in ONLINE.items()]
    return tuple(found)


def _pairs(panels: Iterable[str], first: str, second: str) -> list[tuple[Key, Key]]:
    return [(_key(panel, first), _key(panel, second)) for panel in panels]


def _key(panel: str, label: str) -> Key:
    """The key of a line; rules of the perturbation paper's page have its column."""
    beside = panel in FORECASTS and label in ("BP", "ANP", "DANP")
    return Key(panel, label, "as corrected") if beside else key(panel, label)


def _class_claims(dataset: str) -> tuple[Claim, ...]:
    def more(text: str, first: str, second: str) -> Claim:
        return above(f"{text} on {dataset}.", _pairs([dataset], first, second))

    return (
        more("DFA is more accurate than NP", "DFA", "NP"),
        more("DFA is more accurate than WP", "DFA", "WP"),
        no_worse(
            f"ANP is as accurate as DFA on {dataset}, to within 3 points.",
            _pairs([dataset], "ANP", "DFA"),
            0.03,
        ),
        more("ANP is more accurate than a readout alone", "ANP", "readout alone"),
        more("Decorrelation makes DFA more accurate", "DDFA", "DFA"),
    )


LESS = 1.15
"""How much larger a loss may be and still count as equally good, as on the perturbation paper's page."""


def _forecast_claims(task: str) -> tuple[Claim, ...]:
    def less(text: str, first: str, second: str, factor: float = 1.0) -> Claim:
        return at_most(f"{text} on {task}.", _pairs([task], first, second), factor)

    return (
        less("DFA forecasts as well as one step of backpropagation", "DFA", "BP", LESS),
        less("DFA has a smaller error than ANP", "DFA", "ANP"),
        less("DFA has a smaller error than a readout alone", "DFA", "readout alone"),
        less("Decorrelation improves DFA", "DDFA", "DFA"),
        less("RTRL on an LRU has a smaller error than BPTT on the tanh RNN", "RTRL, LRU", "BPTT"),
    )


EXPERIMENTS = (
    Experiment(
        "beyond/meet-classes",
        "Perturbations on the DFA paper's data sets",
        "How accurate are forward-only rules on the tasks of the DFA paper, compared with DFA and BPTT?",
        "curves",
        ("accuracy", "last_accuracy"),
        of_classes,
        tuple(claim for dataset in CLASSES for claim in _class_claims(dataset)),
        lambda profile: how_classified(profile, *CLASSES),
    ),
    Experiment(
        "beyond/meet-forecasts",
        "DFA on the perturbation paper's forecasting tasks",
        "How well does DFA forecast, compared with perturbations, exact rules and ridge regression?",
        "curves",
        ("test_loss", "of_ridge"),
        of_forecasts,
        tuple(claim for task in FORECASTS for claim in _forecast_claims(task)),
        lambda profile: (
            *how_forecast(),
            "The copying task (100 symbols) is left out: even BPTT is no better there than a constant.",
        ),
    ),
)
