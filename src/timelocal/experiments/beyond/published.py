"""Three published claims about how little of the past is enough, under their conditions and outside them.

Under these conditions an error arrives at every step; outside them, once at the end of a sequence. The cell
is a small GRU, for which RTRL, the exact gradient forward in time, is still affordable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from timelocal.experiments.claims import at_most
from timelocal.experiments.config import TrainConfig, default_task
from timelocal.experiments.experiment import (
    Claim,
    Column,
    Experiment,
    Key,
    Line,
    ProfileName,
    Search,
)

WITHIN, OUTSIDE = "an error at every step", "an error at the end"
DATASETS = {WITHIN: "mackey-glass", OUTSIDE: "adding:steps=50"}
RATES = (0.001, 0.003, 0.01)
SGD_RATES = (0.01, 0.03, 0.1)
"""Where derivatives are normalised: lower ones learn little in as many epochs."""
NEAR = 1.1
"""A loss matches another if it is at most this many times as large."""
MOST = 1.5
"""Most of the exact gradient is recovered if the loss is at most this many times that of the gradient."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A claim: its rule, and the same rule without what it keeps of the past, next to the exact gradient.

    also: another form of the rule, of which the same is claimed: how it is called in a claim and in a table.
    online: whether the weights are updated at every step where there is an error at every step.
    """

    name: str
    title: str
    question: str
    said: str
    ours: str
    rule: Mapping[str, Any]
    without: tuple[str, Mapping[str, Any]] | None
    factor: float
    optimizer: str
    online: bool
    source: str
    also: tuple[str, str, Mapping[str, Any]] | None = None


IMMEDIATE = {"rule": "dfa", "rule_options": {"feedback": "exact"}}
PUBLISHED = (
    Published(
        name="immediate",
        title="Immediate derivatives with RMSprop",
        question="Do the derivatives within one step, once normalised, match RTRL online?",
        said="Immediate derivatives with RMSprop match RTRL",
        ours="immediate derivatives",
        rule=IMMEDIATE,
        without=None,
        factor=NEAR,
        optimizer="rmsprop",
        online=True,
        source="RMSprop divides each weight's derivative by its own running magnitude. Normalised by matrix, "
        "the derivatives of each weight matrix and of each bias are divided by their norm, and the optimizer "
        "is plain SGD.",
        also=(
            "Immediate derivatives, normalised matrix by matrix, match RTRL",
            "immediate derivatives, by matrix",
            {
                "rule": "dfa",
                "rule_options": {"feedback": "exact", "normalize": "frobenius"},
                "optimizer": "sgd",
            },
        ),
    ),
    Published(
        name="sparse",
        title="Sparse RTRL with four neighbours",
        question="How much of RTRL is left if each unit follows only four others?",
        said="Sparse RTRL with k = 4 recovers most of RTRL",
        ours="sparse RTRL, k = 4",
        rule={"rule": "sparse-rtrl", "rule_options": {"k": 4}},
        without=("k = 0", {"rule": "sparse-rtrl", "rule_options": {"k": 0}}),
        factor=MOST,
        optimizer="adam",
        online=True,
        source="The neighbours are those with the strongest weights, re-chosen as the stream goes on.",
    ),
    Published(
        name="stationary",
        title="A fixed diagonal feedback of the state",
        question="How close to BPTT is a trace that decays by the same factor at every step?",
        said="A fixed diagonal feedback of the state comes close to BPTT",
        ours="stationary trace",
        rule={
            "rule": "dfa",
            "rule_options": {"feedback": "exact", "trace": "stationary", "decay": "0.5-0.99"},
        },
        without=("no trace", IMMEDIATE),
        factor=MOST,
        optimizer="adam",
        online=False,
        source="The decay factors range from 0.5 to 0.99 over the units and are never learned.",
    ),
)


_Form = tuple[str, str, tuple[float, ...], Mapping[str, Any]]


def _forms(one: Published) -> list[_Form]:
    """The rule and, if there is one, its other form: in a claim, in a table, its rates and its settings."""
    forms: list[_Form] = [(one.said, one.ours, RATES, one.rule)]
    if one.also is not None:
        said, label, values = one.also
        forms.append((said, label, SGD_RATES, values))
    return forms


def _line(
    one: Published,
    size: ProfileName,
    panel: str,
    label: str,
    column: Column,
    rates: tuple[float, ...] = RATES,
    **values: Any,
) -> Line:
    quick = size == "quick"
    dataset = DATASETS[panel]
    online = one.online and panel == WITHIN
    epochs = 2 if online else 20
    config = TrainConfig(
        dataset=dataset,
        **default_task(dataset),
        cell="gru",
        hidden=4 if quick else 16,
        batch=(10 if online else 1) if panel == WITHIN else 50,
        clip=1.0,
        epochs=1 if quick else epochs,
        online=online,
        **{"optimizer": one.optimizer} | values,
    )
    search = Search({"lr": rates[:1] if quick else rates}, 1 if quick else max(1, epochs // 4))
    return Line(Key(panel, label, column), config, tuple(range(1 if quick else 7)), search)


def lines(one: Published, profile: ProfileName) -> tuple[Line, ...]:
    """The exact gradient, the rule and, if it has a trace, the rule without it; in both conditions."""
    found = []
    for panel in DATASETS:
        exact = "rtrl" if one.online and panel == WITHIN else "bptt"
        made = partial(_line, one, profile, panel)
        found.append(made("exact gradient", "true BPTT", rule=exact))
        for _, label, rates, values in _forms(one):
            found.append(made(label, "best without BPTT", rates, **values))
        if one.without is not None:
            label, values = one.without
            found.append(made(label, "best without BPTT", **values))
    return tuple(found)


def _claims(one: Published) -> tuple[Claim, ...]:
    found = []
    for panel, where in (
        (WITHIN, "with an error at every step"),
        (OUTSIDE, "also with an error only at the end"),
    ):
        exact = Key(panel, "exact gradient", "true BPTT")
        for said, label, _, _ in _forms(one):
            form = Key(panel, label, "best without BPTT")
            found.append(at_most(f"{said}, {where}.", [(form, exact)], one.factor))
        if one.without is not None:
            ours = Key(panel, one.ours, "best without BPTT")
            less = Key(panel, one.without[0], "best without BPTT")
            told = f"What it keeps of the past makes the difference, {where}."
            found.append(at_most(told, [(ours, less)], 1.0))
    return tuple(found)


def _how(one: Published, profile: ProfileName) -> tuple[str, ...]:
    first, *_, last = lines(one, profile)
    when = "at every step" if one.online else "after every sequence"
    exact = "RTRL" if one.online else "BPTT"
    return (
        f"A GRU of {first.config.hidden} units with a linear readout; {one.optimizer}, gradients clipped at "
        "norm 1.",
        f"With an error at every step: Mackey-Glass, 15 steps ahead, {first.config.epochs} epochs, updates "
        f"{when}; the exact gradient is computed by {exact}. With an error at the end: adding over 50 steps, "
        f"{last.config.epochs} epochs in batches of {last.config.batch}; the exact gradient is computed by "
        "BPTT, which equals RTRL there.",
        f"The learning rate of every line is chosen from {', '.join(map(str, RATES))} by the loss on the "
        "validation part, in one shorter run each"
        + (f"; that of plain SGD from {', '.join(map(str, SGD_RATES))}." if one.also else "."),
        one.source,
    )


EXPERIMENTS = tuple(
    Experiment(
        f"beyond/{one.name}",
        one.title,
        one.question,
        "curves",
        ("test_loss",),
        partial(lines, one),
        _claims(one),
        partial(_how, one),
    )
    for one in PUBLISHED
)
