"""Reproductions of experiments that do not exist, from runs that nobody made."""

from __future__ import annotations

import math
from pathlib import Path

from timelocal.experiments.claims import above
from timelocal.experiments.config import CostConfig, TrainConfig
from timelocal.experiments.experiment import Experiment, Key, Line, PaperValue, Search
from timelocal.studies.reproduction import LineResult, Reproduction
from timelocal.studies.search import candidates, choices, with_seed
from timelocal.studies.store import RunRecord

DFA = Key("digits · RNN", "DFA", "as corrected")
CODE = Key("digits · RNN", "DFA", "as in the authors' code")
BPTT = Key("digits · RNN", "BPTT", "true BPTT")
SEEDS = (0, 1, 2)
ACCURACIES = {DFA: (0.5, 0.75, 0.7), CODE: (0.4, None, 0.6), BPTT: (0.9, 0.85, 0.8)}
"""Of every seed; None diverged."""


def record(config: TrainConfig, accuracy: float | None, status: str = "finished") -> RunRecord:
    """A run with this accuracy at all times; the last epoch of one that did not finish is nothing finite."""
    score = 0.0 if accuracy is None else accuracy
    epochs = tuple(
        {
            "epoch": n,
            "test_accuracy": score,
            "test_loss": 1 / n,
            "train_loss": 2 / n,
            "validation_loss": 1.0,
        }
        for n in (1, 2, 3)
    )
    if status != "finished":
        epochs = (*epochs[:2], {"epoch": 3, "test_accuracy": math.nan, "test_loss": math.inf})
    result = {
        "seed": config.seed,
        "last": {"test_accuracy": score},
        "best_validation": {"test_accuracy": score, "validation_accuracy": score},
        "max_test_accuracy": score,
        "trivial": {"majority_class": 0.1},
        "milliseconds": 2.0 + score,
    }
    return RunRecord(
        Path(config.folder_name()),
        status,
        "" if status == "finished" else "the loss is nan <&>",
        config.model_dump(mode="json"),
        {
            "command": "timelocal train",
            "processor": "made-up processor",
            "started": f"2026-01-0{1 + config.seed}T12:00:00+00:00",
        },
        epochs,
        result=result if status == "finished" else None,
    )


def lines() -> tuple[Line, ...]:
    """Three lines; the first is searched and has a number of the paper."""
    given = {"cell": "rnn", "hidden": 4}
    search = Search({"lr": (0.1, 0.01)}, epochs=1, measure="validation_accuracy")
    return (
        Line(DFA, TrainConfig(**given), SEEDS, search, PaperValue(60.0, 1.5), x=10),
        Line(CODE, TrainConfig(**given, rule="dfa-authors-code"), SEEDS, x=10),
        Line(BPTT, TrainConfig(**given, rule="bptt"), SEEDS, x=20),
    )


def reproduction(view: str = "curves", *measures: str, done: bool = True) -> Reproduction:
    """All runs of the three lines, or none."""
    experiment = Experiment(
        f"dfa/made-up-{view}",
        f"Figure 0: {view} < made up >",
        "Is it so?",
        view,  # type: ignore[arg-type]
        measures or ("accuracy", "test_loss"),
        lambda _: lines(),
        (above("BPTT is better than DFA.", [(BPTT, DFA)]),),
        lambda _: ("Made up.",),
    )
    results = []
    for line in lines():
        tried = candidates(line, choices(line.search)) if line.search else []
        finals = [with_seed(one, one.seed, epochs=line.config.epochs) for one in tried]
        runs = []
        for seed, accuracy in zip(SEEDS, ACCURACIES[line.key], strict=True):
            config = with_seed(line.config, seed)
            status = "diverged" if accuracy is None else "finished"
            runs.append((config, record(config, accuracy, status) if done else None))
        searched, in_full = (
            tuple((one, record(one, one.lr) if done else None) for one in ones)
            for ones in (tried, finals)
        )
        results.append(LineResult(line, line.config, searched, in_full, tuple(runs)))
    return Reproduction(experiment, "laptop", tuple(results))


def costs() -> Reproduction:
    """What two rules cost, measured by no command but that of the figure."""
    given = {"dataset": "copying", "loss": "mse", "at": "every", "cell": "rnn", "hidden": 4}
    experiment = Experiment(
        "perturbation/made-up-costs",
        "Figure 0",
        "How much?",
        "costs",
        ("milliseconds",),
        lambda _: (),
    )
    results = []
    for label, rule, column in (("BPTT", "bptt", "true BPTT"), ("NP", "np", "as corrected")):
        configs = [CostConfig(**given, rule=rule, seed=seed) for seed in SEEDS]
        line = Line(Key("copying", label, column), configs[0], SEEDS)  # type: ignore[arg-type]
        runs = tuple((config, record(config, 0.1 * config.seed)) for config in configs)
        results.append(LineResult(line, configs[0], (), (), runs))
    return Reproduction(experiment, "quick", tuple(results))


def everything() -> list[Reproduction]:
    """Every view, and an experiment of which nothing is done."""
    return [
        reproduction(),
        reproduction("sizes"),
        reproduction("costs", "milliseconds"),
        reproduction("grid", "validation_accuracy"),
        reproduction("settings"),
        costs(),
        reproduction("curves", "decorrelation_loss", done=False),
    ]
