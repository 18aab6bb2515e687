"""The tasks of both papers, with the same settings for every rule and cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import Column, Key, Line, ProfileName, Search, listed
from timelocal.experiments.papers import perturbation

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Eight candidates for every rule; with decorrelation, four of these combined with two rates of D."""
WITH_D: Mapping[str, tuple[object, ...]] = {
    "lr": (1e-3, 3e-3, 1e-2, 3e-2),
    "decorrelate": (1e-5, 1e-3),
}
PERTURBED = {"credit": "to_go", "sigma": 0.01}
"""The single loss of a sequence is credited to the noise of all its steps."""
ONE_RUN = {"credit": "to_go", "sigma": 0.1, "baseline_decay": 0.9}
"""As `PERTURBED`, with the mean of earlier losses in the place of a clean run."""
WITH_SIGMA: Mapping[str, tuple[object, ...]] = {
    "lr": (1e-3, 3e-3, 1e-2, 3e-2),
    "rule_options.sigma": (0.03, 0.3),
}
"""Without a clean run the variance of an update depends on σ: it is chosen, from eight candidates as well."""

COLUMNS: dict[str, Column] = {"BPTT": "true BPTT", "readout alone": "recurrence frozen"}


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a profile by data set; `searched`: epochs of each candidate, over `search_seeds` seeds."""

    batch: Mapping[str, int]
    epochs: Mapping[str, int]
    searched: Mapping[str, int]
    search_seeds: Mapping[str, int]
    hidden: int = 64
    seeds: int = 10
    quick: bool = False


_BATCHES = {
    "ecg200": 20,
    "libras": 20,
    "digits-rows": 50,
    "delayed-match": 50,
    "strawberry": 20,
    "row-mnist": 100,
}
_LAPTOP = Size(
    batch=_BATCHES,
    epochs={
        "ecg200": 100,
        "libras": 200,
        "digits-rows": 30,
        "delayed-match": 20,
        "strawberry": 60,
        "row-mnist": 10,
    },
    searched={
        "ecg200": 100,
        "libras": 60,
        "digits-rows": 10,
        "delayed-match": 10,
        "strawberry": 20,
        "row-mnist": 2,
    },
    # 40, 72, 359, 500, 196 and 14,000 sequences to validate on
    search_seeds={
        "ecg200": 3,
        "libras": 2,
        "digits-rows": 1,
        "delayed-match": 1,
        "strawberry": 1,
        "row-mnist": 1,
    },
)
_ONE = dict.fromkeys(_BATCHES, 1)
SIZES: dict[ProfileName, Size] = {
    "quick": Size(
        batch={**_BATCHES, "row-mnist": 1000},
        epochs=_ONE,
        searched=_ONE,
        search_seeds=_ONE,
        hidden=4,
        seeds=1,
        quick=True,
    ),
    "laptop": _LAPTOP,
    "paper": _LAPTOP,
}


def key(panel: str, label: str) -> Key:
    """The key of a line; BPTT, the readout alone and all other rules have their own columns."""
    return Key(panel, label, COLUMNS.get(label.split(",")[0], "best without BPTT"))


def classified(
    profile: ProfileName, dataset: str, label: str, panel: str | None = None, **values: Any
) -> Line:
    """A line on sequences with one label each: the loss of the outputs' mean over the steps, Adam."""
    size, family = SIZES[profile], dataset.partition(":")[0]
    grid: Mapping[str, tuple[object, ...]] = {"lr": RATES}
    if "decorrelate" in values:
        grid = WITH_D
    elif "baseline_decay" in values.get("rule_options", {}):
        grid = WITH_SIGMA
    if size.quick:
        grid = {name: choices[:1] for name, choices in grid.items()}
    config = TrainConfig(
        **{
            "dataset": dataset,
            "at": "mean",
            "cell": "rnn",
            "hidden": size.hidden,
            "batch": size.batch[family],
            "epochs": size.epochs[family],
            "clip": 1.0,
            "lr": 1e-3,
            **values,
        }
    )
    search = Search(
        grid,
        size.searched[family],
        tuple(range(size.search_seeds[family])),
        measure="validation_accuracy",
    )
    return Line(key(panel or dataset, label), config, tuple(range(size.seeds)), search)


def how_classified(profile: ProfileName, *datasets: str) -> tuple[str, ...]:
    """How such lines were run, for their page."""
    size = SIZES[profile]

    def of(counts: Mapping[str, int]) -> str:
        return listed({name: counts[name] for name in datasets})

    return (
        f"One layer of {size.hidden} units and a linear readout, the only kind that can be perturbed; the "
        "loss is on the mean of the outputs over the steps; Adam, gradients clipped at norm 1; batch sizes: "
        f"{of(size.batch)}; epochs: {of(size.epochs)}.",
        "Each line has eight candidates, chosen from by the accuracy on the validation part. Epochs per "
        f"candidate: {of(size.searched)}; seeds per candidate: {of(size.search_seeds)}. They are eight "
        f"learning rates ({', '.join(f'{rate:g}' for rate in RATES)}) or, with decorrelation, four of these "
        f"with two rates of D ({', '.join(f'{rate}' for rate in WITH_D['decorrelate'])}).",
        "Perturbation rules use σ = 0.01 and credit the change of the loss to the noise of every step.",
        f"Seeds: {size.seeds}. The seed determines the data split, the weights, the batches, the noise "
        "and the feedback; differences are paired by seed. A frozen recurrence is randomly initialised and "
        "never trained; its readout learns by its own gradient.",
    )


def how_one_run(who: str) -> str:
    """The note on a page for a line without clean runs."""
    rates, sigmas = (", ".join(map(str, choices)) for choices in WITH_SIGMA.values())
    return (
        f"{who} compares the loss of one noisy run of each sequence with the running mean of earlier losses "
        f"(decay {ONE_RUN['baseline_decay']}). Its eight candidates are four learning rates ({rates}) with "
        f"two σ ({sigmas})."
    )


def forecast(profile: ProfileName, task: str, label: str, like: str = "BP", **fields: Any) -> Line:
    """A line on a task of the perturbation paper: its line `like`, with some fields changed.

    What suits a rule of the paper with 100 hidden units is no guide to other rules: all rates are tried.
    """
    line = paper_line(profile, task, like)
    config = TrainConfig(**line.config.model_dump() | fields)
    search = line.search
    if search is not None and profile == "paper":
        search = replace(search, grid={**search.grid, "lr": perturbation.RATES})
    return replace(line, key=key(task, label), config=config, search=search)


def paper_line(profile: ProfileName, task: str, label: str) -> Line:
    """A line of the perturbation paper as corrected, or one of its baselines."""
    return next(
        line
        for line in perturbation.results(task, profile)
        if line.key.label == label and line.key.column != "as in the authors' code"
    )


def how_forecast() -> tuple[str, ...]:
    """How such lines were run, for their page."""
    return (
        "Networks, data split, epochs, seeds and search are those of the perturbation paper's reproduction, "
        "whose own lines are shown for comparison: SGD with an update at every step of ten streams, nine "
        "learning rates, chosen by the loss on the validation part.",
    )
