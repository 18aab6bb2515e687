"""The lines of runs of each figure and table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from timelocal.experiments.config import CostConfig, TrainConfig, default_task
from timelocal.experiments.experiment import Column, Key, Line, ProfileName, Search
from timelocal.experiments.papers.perturbation.sizes import (
    AUTHORS_TASK,
    BATCH,
    COPYING_STEPS,
    FROZEN_ON,
    LABELS,
    MANY,
    OUTPUTS,
    SIZES,
    SIZES_D_RATE,
    TABLE_2,
    Size,
    decorrelates,
    kind_of,
    options_of,
    rule_of,
)
from timelocal.kernels.orthogonal import period


def _config(size: Size, task: str, rule: str, **values: Any) -> TrainConfig:
    kind = kind_of(task)
    chosen: dict[str, Any] = {
        "dataset": task,
        **default_task(task),
        "cell": "rnn",
        "hidden": size.hidden[kind],
        "rule": rule,
        "optimizer": "sgd",
        "lr": 1e-3,
        "batch": BATCH[kind],
        "epochs": size.epochs[kind],
        "online": True,
    }
    return TrainConfig(**chosen | values)


def _corrected(size: Size, task: str, label: str) -> Line:
    """The rule without the code's deviations, its learning rates chosen on the validation part."""
    rule, grid = rule_of(label), size.grid(task, label)
    config = _config(size, task, rule, rule_options=options_of(rule), **_first(grid))
    return Line(
        Key(task, label, "as corrected"),
        config,
        size.seeds_of(task, label),
        _search(size, task, grid),
    )


def _first(grid: Mapping[str, tuple[object, ...]]) -> dict[str, Any]:
    """The first value of every field of a grid, where the search will put those it chooses."""
    return {name: values[0] for name, values in grid.items()}


def _search(size: Size, task: str, grid: dict[str, tuple[object, ...]]) -> Search:
    kind = kind_of(task)
    return Search(grid, size.search_epochs[kind], finalists=size.finalists[kind])


def _varied(line: Line, panel: str | None = None, x: float | None = None, **fields: Any) -> Line:
    """A line with some fields of its configuration changed, in another panel if one is named."""
    key = line.key if panel is None else line.key._replace(panel=panel)
    return replace(line, key=key, config=TrainConfig(**line.config.model_dump() | fields), x=x)


def _many_directions(size: Size, task: str) -> Line:
    """ANP without variance: one orthogonal direction per node, each lasting one step.

    It shows what the variance of a single direction costs and what more forward passes buy; the paper has
    no such line. σ is small compared with the final errors, so δℓ = ⟨g, ξ⟩ + O(σ²) is still the slope.
    """
    line, kind = _corrected(size, task, "ANP"), kind_of(task)
    nodes = size.hidden[kind] + OUTPUTS[kind]
    options = {
        **options_of("anp"),
        "carry": False,
        "norm": "layer",
        "sigma": 0.0001,
        "noise": "orthogonal",
        "directions": period(nodes),
    }
    config = TrainConfig(**line.config.model_dump() | {"rule_options": options})
    return Line(Key(task, MANY, "best without BPTT"), config, size.seeds[kind], line.search)


def _rflo(size: Size, task: str) -> Line:
    """RFLO on a leaky network."""
    grid = size.grid(task, "RFLO")
    config = _config(size, task, "rflo", tau=10.0, **_first(grid))
    search = _search(size, task, grid)
    return Line(Key(task, "RFLO", "as corrected"), config, size.seeds_of(task, "RFLO"), search)


def _frozen(size: Size, task: str) -> Line:
    """The readout alone, by its own gradient, on a recurrence that is randomly initialised and frozen."""
    return replace(_varied(_corrected(size, task, "BP"), frozen=True), key=frozen_key(task))


def frozen_key(panel: str) -> Key:
    """The place of the readout alone."""
    return Key(panel, "readout alone", "recurrence frozen")


def _authors(size: Size, task: str, label: str) -> Line:
    """The rule as in the authors' code, with the learning rates of table 2; BP with Adam.

    On the copying task there is one update per sequence, by the sum over its steps: T times the mean.
    """
    rule, kind = rule_of(label), kind_of(task)
    lr, d = TABLE_2[kind][label]
    back, whole = rule == "tbptt", kind == "copying"
    if whole and not back:  # Adam is invariant to a factor
        lr *= COPYING_STEPS
    config = _config(
        size,
        task,
        rule if back else f"{rule}-authors-code",
        dataset=AUTHORS_TASK.get(task, task),
        rule_options=options_of(rule, 0.001),
        optimizer="adam" if back else "sgd",
        lr=lr,
        decorrelate=d,
        epochs=size.authors_epochs[kind],
        online=not whole,
    )
    return Line(Key(task, label, "as in the authors' code"), config, size.authors_seeds)


def _bptt(size: Size, task: str) -> Line:
    """BPTT over whole sequences: Adam, its learning rate chosen on the validation part."""
    kind, grid = kind_of(task), size.grid(task, "BPTT")
    config = _config(
        size,
        task,
        "bptt",
        optimizer="adam",
        **_first(grid),
        clip=1.0,
        online=False,
        batch=10,
        epochs=size.bptt_epochs[kind],
    )
    search = Search(grid, max(1, size.bptt_epochs[kind] // 5), finalists=size.finalists[kind])
    return Line(Key(task, "BPTT", "true BPTT"), config, size.seeds[kind], search)


def results(task: str, profile: ProfileName) -> tuple[Line, ...]:
    """The eight rules on one task as corrected and as in the authors' code, with their baselines."""
    size = SIZES[profile]
    authors = LABELS if task in size.authors_on else ()
    return (
        *(_corrected(size, task, label) for label in LABELS),
        *([_many_directions(size, task)] if task in size.many_on else []),
        *([_rflo(size, task)] if task in size.rflo_on else []),
        *(_authors(size, task, label) for label in authors),
        *([_frozen(size, task)] if task in FROZEN_ON else []),
        _bptt(size, task),
    )


def with_rflo(profile: ProfileName) -> tuple[Line, ...]:
    """Figure 11: RFLO on a leaky network compared with ANP and BP, 48 hours ahead."""
    shown = {"ANP", "DANP", "BP", "DBP", "RFLO", "readout alone", "BPTT"}
    beside = [line for line in results("weather-48h", profile) if line.key.label in shown]
    return tuple(line for line in beside if line.key.column != "as in the authors' code")


def scaling(profile: ProfileName) -> tuple[Line, ...]:
    """Figure 7: the rules on networks of growing size, 1 hour ahead."""
    size, task = SIZES[profile], "weather-1h"
    lines = []
    for hidden, epochs in size.sizes.items():
        panel = at_size(hidden)
        for label in LABELS:
            rule, grid = rule_of(label), size.sizes_grid(hidden, label)
            values: dict[str, Any] = {"rule_options": options_of(rule), **_first(grid)}
            if decorrelates(label):
                values["decorrelate"] = SIZES_D_RATE
            config = _config(size, task, rule, hidden=hidden, epochs=epochs, **values)
            search = Search(grid, max(1, epochs // 5), finalists=size.finalists["weather"])
            key = Key(panel, label, "as corrected")
            lines.append(Line(key, config, size.sizes_seeds, search, x=hidden))
        if hidden <= size.sizes_bptt:
            bptt = _varied(_bptt(size, task), panel, hidden, hidden=hidden)
            lines.append(replace(bptt, seeds=size.sizes_seeds))
    return tuple(lines)


def at_size(hidden: int) -> str:
    """The panel of a network of this size."""
    return f"{hidden} units"


def decorrelation(profile: ProfileName) -> tuple[Line, ...]:
    """Figure 8: how correlated the hidden units are, with D and without, 1 hour ahead."""
    size, task = SIZES[profile], "weather-1h"
    learned = (_corrected(size, task, label) for label in ("DNP", "DWP", "DANP", "DBP"))
    plain = (_corrected(size, task, label) for label in ("NP", "WP", "ANP", "BP"))
    # D stays the identity there, but exists, so that its loss is measured
    return (*learned, *(_varied(line, decorrelate=0.0) for line in plain))


def node_perturbation(profile: ProfileName) -> tuple[Line, ...]:
    """Figure 9: NP with the loss of the whole sequence, and with that of each step, on the copying task."""
    size, task = SIZES[profile], "copying"
    lines = []
    for label, credit in (("NP, conventional", "global"), ("NP, local", "local")):
        options, grid = {"sigma": 0.01, "credit": credit}, size.grid(task, label)
        config = _config(size, task, "np", rule_options=options, online=False, **_first(grid))
        search = _search(size, task, grid)
        lines.append(
            Line(Key(task, label, "as corrected"), config, size.seeds_of(task, label), search)
        )
    return (*lines, _bptt(size, task))


def costs(profile: ProfileName, rflo: bool = False) -> tuple[Line, ...]:
    """Figures 10 and 12: time and peak memory of learning from one sequence of the copying task."""
    size = SIZES[profile]
    labels = ("ANP", "DANP", "BP", "DBP", "RFLO") if rflo else LABELS
    seeds = size.sizes_seeds

    def cost(label: str, column: Column, **values: Any) -> Line:
        config = CostConfig(
            dataset="copying",
            loss="mse",
            at="every",
            cell="rnn",
            hidden=size.cost_hidden,
            optimizer="sgd",
            lr=1e-6,
            batch=1,
            repeats=size.cost_repeats,
            **values,
        )
        return Line(Key("copying", label, column), config, seeds)

    lines = []
    for label in labels:
        d = 1e-6 if label.startswith("D") else None
        if label == "RFLO":
            lines.append(cost(label, "as corrected", rule="rflo", tau=10.0, online=True))
            continue
        rule = rule_of(label)
        options = options_of(rule)
        made = partial(cost, label, "as corrected", rule=rule, online=True)
        lines.append(made(rule_options=options, decorrelate=d))
        if rule == "tbptt":
            lines.append(cost(label + "TT", "true BPTT", rule="bptt", decorrelate=d))
    return tuple(lines)


NOISES = (0.1, 0.01, 0.001, 0.0001)
"""Variances; the paper's is 0.01."""
D_RATES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def noises(profile: ProfileName) -> tuple[Line, ...]:
    """The rules under noise of several variances, 48 hours ahead, and a readout alone."""
    size, task, lines = SIZES[profile], "weather-48h", []
    for variance in NOISES if profile != "quick" else NOISES[:1]:
        panel = with_noise(variance)
        for label in ("NP", "WP", "ANP"):
            options = options_of(rule_of(label), math.sqrt(variance))
            line = _corrected(size, task, label)
            lines.append(_varied(line, panel, variance, rule_options=options))
        lines.append(_varied(_frozen(size, task), panel, variance))
    return tuple(lines)


def with_noise(variance: float) -> str:
    """The panel of a variance of the noise."""
    return f"σ² = {variance:g}"


def decorrelation_rates(profile: ProfileName) -> tuple[Line, ...]:
    """How D's learning rate affects correlation and loss, 1 hour ahead, with a readout alone."""
    size, task, lines = SIZES[profile], "weather-1h", []
    for rate in D_RATES if profile != "quick" else D_RATES[:1]:
        panel = at_rate(rate)
        for label in ("DANP", "DBP"):
            line = _varied(_corrected(size, task, label), panel, rate, decorrelate=rate)
            grid = {"lr": size.grid(task, label)["lr"]}
            lines.append(replace(line, search=_search(size, task, grid)))
        lines.append(_varied(_frozen(size, task), panel, rate))
    return tuple(lines)


def at_rate(rate: float) -> str:
    """The panel of a learning rate of D."""
    return f"ε = {rate:g}"


def gradients(profile: ProfileName) -> tuple[Line, ...]:
    """How close each rule's estimate on one batch is to the gradient, during training 48 hours ahead."""
    size, task = SIZES[profile], "weather-48h"
    watched = (_varied(_corrected(size, task, label), alignment=True) for label in LABELS)
    return (*watched, _bptt(size, task))


def all_tasks(profile: ProfileName) -> tuple[Line, ...]:
    """The lines of all tasks, whose settings the tables list."""
    tasks = ("mackey-glass", "copying", "weather-48h", "weather-1h", "weather-24h")
    return tuple(line for task in tasks for line in results(task, profile))
