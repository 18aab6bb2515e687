"""Gradient-Free Training of RNNs using Random Perturbations: its figures 4 to 14 and tables 1 and 2."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from timelocal.experiments.claims import above, at_most, within
from timelocal.experiments.config import CostConfig, TrainConfig, default_task
from timelocal.experiments.experiment import (
    Claim,
    Column,
    Experiment,
    Key,
    Line,
    ProfileName,
    Search,
    listed,
)
from timelocal.kernels.orthogonal import period

RULES = {"NP": "np", "WP": "wp", "ANP": "anp", "BP": "tbptt"}
"""BP is the paper's name for backpropagation through one step, with an update at every step."""
LABELS = ("NP", "DNP", "WP", "DWP", "ANP", "DANP", "BP", "DBP")
MANY = "ANP, a direction a node"
MAIN = ("mackey-glass", "copying", "weather-48h")

AUTHORS_TASK = {"mackey-glass": "mackey-glass-recall", "copying": "copying-fixed"}
"""What the authors' code trains on, where that differs from the paper."""

TABLE_2: dict[str, dict[str, tuple[float, float | None]]] = {
    # η, ε
    "mackey-glass": {
        "NP": (5e-4, None),
        "DNP": (5e-4, 5e-9),
        "WP": (5e-4, None),
        "DWP": (5e-4, 5e-9),
        "ANP": (3e-6, None),
        "DANP": (3e-5, 5e-9),
        "BP": (5e-7, None),
        "DBP": (5e-7, 5e-7),
    },
    "copying": {
        "NP": (5e-2, None),
        "DNP": (5e-2, 1e-4),
        "WP": (1e-3, None),
        "DWP": (1e-3, 1e-4),
        "ANP": (4e-5, None),
        "DANP": (4e-5, 1e-4),
        "BP": (1e-4, None),
        "DBP": (1e-4, 1e-4),
    },
    "weather": {
        "NP": (1e-2, None),
        "DNP": (1e-2, 1e-7),
        "WP": (1e-3, None),
        "DWP": (1e-3, 1e-7),
        "ANP": (3e-5, None),
        "DANP": (1.5e-4, 5e-7),
        "BP": (5e-7, None),
        "DBP": (1e-6, 1e-7),
    },
}
"""The learning rates of the paper's table 2: of the weights, and of D."""

COPYING_STEPS = 210
BATCH = {"mackey-glass": 10, "copying": 1, "weather": 10}
OUTPUTS = {"mackey-glass": 1, "copying": 10, "weather": 1}
FROZEN_ON = ("weather-48h", "weather-1h", "weather-24h")
"""Tasks that have runs of a readout alone; the others have none yet."""
PAPER_HIDDEN = {"mackey-glass": 1000, "copying": 500, "weather": 1000}


@dataclass(frozen=True)
class _Size:
    """The size of a profile; `epochs` by task, of runs as corrected, as in the code, and with BPTT."""

    hidden: dict[str, int]
    epochs: dict[str, int]
    authors_epochs: dict[str, int]
    bptt_epochs: dict[str, int]
    search_epochs: dict[str, int]
    finalists: dict[str, int]
    seeds: dict[str, tuple[int, ...]]
    authors_seeds: tuple[int, ...]
    rates: tuple[float, ...]
    d_rates: tuple[float, ...]
    adam_rates: tuple[float, ...]
    sizes: tuple[int, ...]
    sizes_epochs: int
    sizes_seeds: tuple[int, ...]
    sizes_rates: tuple[float, ...]
    cost_hidden: int
    cost_repeats: int
    authors_on: tuple[str, ...] = field(default=("mackey-glass", "copying", "weather-48h"))


def _tasks(mackey_glass: int, copying: int, weather: int) -> dict[str, int]:
    return {"mackey-glass": mackey_glass, "copying": copying, "weather": weather}


def _seeds(*counts: int) -> dict[str, tuple[int, ...]]:
    return {task: tuple(range(count)) for task, count in _tasks(*counts).items()}


_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
_FIVE = (0, 1, 2, 3, 4)

SIZES: dict[ProfileName, _Size] = {
    "quick": _Size(
        hidden=_tasks(8, 8, 8),
        epochs=_tasks(1, 1, 1),
        authors_epochs=_tasks(1, 1, 1),
        bptt_epochs=_tasks(1, 1, 1),
        search_epochs=_tasks(1, 1, 1),
        finalists=_tasks(1, 1, 1),
        seeds=_seeds(1, 1, 1),
        authors_seeds=(0,),
        rates=(1e-3,),
        d_rates=(1e-6,),
        adam_rates=(1e-3,),
        sizes=(4, 8),
        sizes_epochs=1,
        sizes_seeds=(0,),
        sizes_rates=(1e-3,),
        cost_hidden=8,
        cost_repeats=1,
        authors_on=("copying",),
    ),
    "laptop": _Size(
        hidden=_tasks(100, 100, 100),
        epochs=_tasks(100, 10, 50),
        authors_epochs=_tasks(20, 500, 20),
        bptt_epochs=_tasks(500, 25, 500),
        search_epochs=_tasks(10, 2, 10),
        finalists=_tasks(3, 1, 1),
        seeds=_seeds(5, 5, 10),
        authors_seeds=(0, 1, 2),
        rates=_RATES,
        d_rates=(1e-6, 1e-5),
        adam_rates=(1e-3, 3e-3, 1e-2),
        sizes=(100, 300, 1000),
        sizes_epochs=10,
        sizes_seeds=(0, 1, 2),
        sizes_rates=(1e-4, 1e-3, 1e-2),
        cost_hidden=100,
        cost_repeats=5,
    ),
    "paper": _Size(
        hidden=PAPER_HIDDEN,
        epochs=_tasks(500, 500, 500),
        authors_epochs=_tasks(500, 500, 500),
        bptt_epochs=_tasks(500, 500, 500),
        search_epochs=_tasks(50, 20, 50),
        finalists=_tasks(3, 3, 3),
        seeds=_seeds(5, 5, 10),
        authors_seeds=_FIVE,
        rates=_RATES,
        d_rates=(1e-7, 1e-6, 1e-5, 1e-4),
        adam_rates=(3e-4, 1e-3, 3e-3, 1e-2),
        sizes=(100, 500, 1000, 1500, 2000, 2500, 3000),
        sizes_epochs=500,
        sizes_seeds=_FIVE,
        sizes_rates=_RATES,
        cost_hidden=500,
        cost_repeats=5,
        authors_on=("mackey-glass", "copying", "weather-48h", "weather-1h", "weather-24h"),
    ),
}


def _kind(task: str) -> str:
    return "weather" if task.startswith("weather") else task


def _rule(label: str) -> str:
    return RULES.get(label, RULES.get(label.removeprefix("D"), ""))


def _decorrelates(label: str) -> bool:
    return label not in RULES


def _options(rule: str, sigma: float = 0.01) -> dict[str, Any]:
    return {"k": 1} if rule == "tbptt" else {"sigma": sigma}


def _config(size: _Size, task: str, rule: str, **values: Any) -> TrainConfig:
    kind = _kind(task)
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


def _corrected(size: _Size, task: str, label: str) -> Line:
    """The rule without the code's deviations, its learning rates chosen on the validation part."""
    rule = _rule(label)
    grid: dict[str, tuple[object, ...]] = {"lr": size.rates}
    values: dict[str, Any] = {"rule_options": _options(rule)}
    if _decorrelates(label):
        grid["decorrelate"] = size.d_rates
        values["decorrelate"] = size.d_rates[0]
    config = _config(size, task, rule, lr=size.rates[0], **values)
    return Line(
        Key(task, label, "as corrected"), config, size.seeds[_kind(task)], _search(size, task, grid)
    )


def _search(size: _Size, task: str, grid: dict[str, tuple[object, ...]]) -> Search:
    kind = _kind(task)
    return Search(grid, size.search_epochs[kind], finalists=size.finalists[kind])


def _varied(line: Line, panel: str | None = None, x: float | None = None, **fields: Any) -> Line:
    """A line with some fields of its configuration changed, in another panel if one is named."""
    key = line.key if panel is None else line.key._replace(panel=panel)
    return replace(line, key=key, config=TrainConfig(**line.config.model_dump() | fields), x=x)


def _many_directions(size: _Size, task: str) -> Line:
    """ANP without variance: one orthogonal direction per node, each lasting one step.

    It shows what the variance of a single direction costs and what more forward passes buy; the paper has
    no such line. σ is small compared with the final errors, so δℓ = ⟨g, ξ⟩ + O(σ²) is still the slope.
    """
    line = _corrected(size, task, "ANP")
    nodes = size.hidden[_kind(task)] + OUTPUTS[_kind(task)]
    options = {
        **_options("anp"),
        "carry": False,
        "norm": "layer",
        "sigma": 0.0001,
        "noise": "orthogonal",
        "directions": period(nodes),
    }
    config = TrainConfig(**line.config.model_dump() | {"rule_options": options})
    return Line(Key(task, MANY, "best without BPTT"), config, size.seeds[_kind(task)], line.search)


def _rflo(size: _Size, task: str) -> Line:
    """RFLO on a leaky network."""
    config = _config(size, task, "rflo", tau=10.0, lr=size.rates[0])
    search = _search(size, task, {"lr": size.rates})
    return Line(Key(task, "RFLO", "as corrected"), config, size.seeds[_kind(task)], search)


def _frozen(size: _Size, task: str) -> Line:
    """The readout alone, by its own gradient, on a recurrence that is randomly initialised and frozen."""
    return replace(_varied(_corrected(size, task, "BP"), frozen=True), key=_frozen_key(task))


def _frozen_key(panel: str) -> Key:
    return Key(panel, "readout alone", "recurrence frozen")


def _authors(size: _Size, task: str, label: str) -> Line:
    """The rule as in the authors' code, with the learning rates of table 2; BP with Adam.

    On the copying task there is one update per sequence, by the sum over its steps: T times the mean.
    """
    rule, kind = _rule(label), _kind(task)
    lr, d = TABLE_2[kind][label]
    back, whole = rule == "tbptt", kind == "copying"
    if whole and not back:  # Adam is invariant to a factor
        lr *= COPYING_STEPS
    config = _config(
        size,
        task,
        rule if back else f"{rule}-authors-code",
        dataset=AUTHORS_TASK.get(task, task),
        rule_options=_options(rule, 0.001),
        optimizer="adam" if back else "sgd",
        lr=lr,
        decorrelate=d,
        epochs=size.authors_epochs[kind],
        online=not whole,
    )
    return Line(Key(task, label, "as in the authors' code"), config, size.authors_seeds)


def _bptt(size: _Size, task: str) -> Line:
    """BPTT over whole sequences: Adam, its learning rate chosen on the validation part."""
    kind = _kind(task)
    config = _config(
        size,
        task,
        "bptt",
        optimizer="adam",
        lr=size.adam_rates[0],
        clip=1.0,
        online=False,
        batch=10,
        epochs=size.bptt_epochs[kind],
    )
    grid = {"lr": size.adam_rates}
    search = Search(grid, max(1, size.bptt_epochs[kind] // 5), finalists=size.finalists[kind])
    return Line(Key(task, "BPTT", "true BPTT"), config, size.seeds[_kind(task)], search)


def results(task: str, profile: ProfileName) -> tuple[Line, ...]:
    """The eight rules on one task as corrected and as in the authors' code, with their baselines."""
    size = SIZES[profile]
    authors = LABELS if task in size.authors_on else ()
    return (
        *(_corrected(size, task, label) for label in LABELS),
        *([_many_directions(size, task), _rflo(size, task)] if task in MAIN else []),
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
    size = SIZES[profile]
    lines = []
    for hidden in size.sizes:
        for label in LABELS:
            rule = _rule(label)
            values: dict[str, Any] = {"rule_options": _options(rule)}
            if _decorrelates(label):
                values["decorrelate"] = 1e-6
            config = _config(
                size,
                "weather-1h",
                rule,
                hidden=hidden,
                lr=size.sizes_rates[0],
                epochs=size.sizes_epochs,
                **values,
            )
            search = Search(
                {"lr": size.sizes_rates},
                max(1, size.sizes_epochs // 5),
                finalists=size.finalists["weather"],
            )
            key = Key(f"{hidden} units", label, "as corrected")
            lines.append(Line(key, config, size.sizes_seeds, search, x=hidden))
        bptt = _varied(_bptt(size, "weather-1h"), f"{hidden} units", hidden, hidden=hidden)
        lines.append(replace(bptt, seeds=size.sizes_seeds))
    return tuple(lines)


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
        config = _config(
            size,
            task,
            "np",
            rule_options={"sigma": 0.01, "credit": credit},
            lr=size.rates[0],
            online=False,
        )
        search = _search(size, task, {"lr": size.rates})
        lines.append(
            Line(Key(task, label, "as corrected"), config, size.seeds[_kind(task)], search)
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
        rule = _rule(label)
        options = _options(rule)
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
        panel = _with_noise(variance)
        for label in ("NP", "WP", "ANP"):
            options = _options(_rule(label), math.sqrt(variance))
            line = _corrected(size, task, label)
            lines.append(_varied(line, panel, variance, rule_options=options))
        lines.append(_varied(_frozen(size, task), panel, variance))
    return tuple(lines)


def _with_noise(variance: float) -> str:
    return f"σ² = {variance:g}"


def decorrelation_rates(profile: ProfileName) -> tuple[Line, ...]:
    """How D's learning rate affects correlation and loss, 1 hour ahead, with a readout alone."""
    size, task, lines = SIZES[profile], "weather-1h", []
    for rate in D_RATES if profile != "quick" else D_RATES[:1]:
        panel = _at_rate(rate)
        for label in ("DANP", "DBP"):
            line = _varied(_corrected(size, task, label), panel, rate, decorrelate=rate)
            lines.append(replace(line, search=_search(size, task, {"lr": size.rates})))
        lines.append(_varied(_frozen(size, task), panel, rate))
    return tuple(lines)


def _at_rate(rate: float) -> str:
    return f"ε = {rate:g}"


def gradients(profile: ProfileName) -> tuple[Line, ...]:
    """How close each rule's estimate on one batch is to the gradient, during training 48 hours ahead."""
    size, task = SIZES[profile], "weather-48h"
    watched = (_varied(_corrected(size, task, label), alignment=True) for label in LABELS)
    return (*watched, _bptt(size, task))


def _all_tasks(profile: ProfileName) -> tuple[Line, ...]:
    tasks = ("mackey-glass", "copying", "weather-48h", "weather-1h", "weather-24h")
    return tuple(line for task in tasks for line in results(task, profile))


# --- what the paper says, and how the numbers decide --------------------------------------------


def _key(task: str, label: str, column: Column = "as corrected") -> Key:
    return Key(task, label, column)


def _beside_bp(task: str, *labels: str) -> list[tuple[Key, Key]]:
    return [(_key(task, label), _key(task, "BP")) for label in labels]


AS_GOOD = 1.15
"""How much larger a loss may be for "closely approaches" and the like."""


_TIME = ", in epochs until the training loss has completed nine tenths of its decrease"


def _claims(task: str) -> tuple[Claim, ...]:
    return (
        above("NP and WP are clearly inferior to BP.", _beside_bp(task, "NP", "WP"), AS_GOOD),
        within("ANP closely approaches BP.", _beside_bp(task, "ANP"), AS_GOOD),
        within("DANP closely approaches BP.", _beside_bp(task, "DANP"), AS_GOOD),
        above(
            "ANP is superior to NP and WP.",
            [(_key(task, label), _key(task, "ANP")) for label in ("NP", "WP")],
        ),
        within("Decorrelation makes little difference to BP.", _beside_bp(task, "DBP"), AS_GOOD),
        at_most(
            "The paper's BP, which goes back one step at every step, is as good as true BPTT.",
            [(_key(task, "BP"), _key(task, "BPTT", "true BPTT"))],
            AS_GOOD,
        ),
        at_most(
            f"The convergence time of ANP and DANP closely approaches that of BP{_TIME}.",
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
        [(_frozen_key(task), _key(task, label)) for label in ("ANP", "DANP")],
    )


def _many_reach(task: str) -> Claim:
    return at_most(
        "Our claim, not the paper's: with one orthogonal direction per node, ANP is as good as BP.",
        [(_key(task, MANY, "best without BPTT"), _key(task, "BP"))],
        AS_GOOD,
    )


def _at_size(hidden: int) -> str:
    return f"{hidden} units"


_SCALING = (
    within(
        "At 1000 units, ANP and DANP are on par with BP.",
        [
            (Key(_at_size(1000), one, "as corrected"), Key(_at_size(1000), "BP", "as corrected"))
            for one in ("ANP", "DANP")
        ],
        AS_GOOD,
    ),
    above(
        "At 1000 units, NP and WP are inferior to ANP.",
        [
            (Key(_at_size(1000), one, "as corrected"), Key(_at_size(1000), "ANP", "as corrected"))
            for one in ("NP", "WP")
        ],
        AS_GOOD,
    ),
    within(
        "ANP and DANP scale to 3000 units and stay on par with BP.",
        [
            (Key(_at_size(3000), one, "as corrected"), Key(_at_size(3000), "BP", "as corrected"))
            for one in ("ANP", "DANP")
        ],
        AS_GOOD,
    ),
)

_COSTS_TIME = above(
    "Every perturbation rule takes less time than backpropagation through time.",
    [(_key("copying", "BPTT", "true BPTT"), _key("copying", one)) for one in ("NP", "WP", "ANP")],
)


_NOISE_CHANGES_LITTLE = within(
    "Our claim, not the paper's: below the paper's value, the variance of the noise makes little difference.",
    [
        (
            Key(_with_noise(0.01), label, "as corrected"),
            Key(_with_noise(less), label, "as corrected"),
        )
        for label in ("NP", "WP", "ANP")
        for less in NOISES[2:]
    ],
    AS_GOOD,
)

_COMPLETE_IS_NOT_BEST = (
    above(
        "A larger learning rate of D leaves the units less correlated.",
        [
            (
                Key(_at_rate(D_RATES[0]), label, "as corrected"),
                Key(_at_rate(1e-4), label, "as corrected"),
            )
            for label in ("DANP", "DBP")
        ],
        measure="decorrelation_loss",
    ),
    above(
        "Complete decorrelation is not optimal: the learning rate that decorrelates most gives a larger loss "
        "than one that leaves some correlation.",
        [
            (Key(_at_rate(1e-4), label, "as corrected"), Key(_at_rate(1e-6), label, "as corrected"))
            for label in ("DANP", "DBP")
        ],
    ),
)

_NEARER = above(
    "ANP approximates the gradient better than NP: its estimates have a larger cosine with BPTT's gradient.",
    [(_key("weather-48h", "ANP"), _key("weather-48h", "NP"))],
    measure="alignment",
)


def _deviations(profile: ProfileName) -> tuple[str, ...]:
    size = SIZES[profile]
    told = {
        "hidden units": (size.hidden, PAPER_HIDDEN),
        "epochs": (size.epochs, _tasks(500, 500, 500)),
    }
    found = [
        f"{name}: {listed(ours)} (the paper: {listed(theirs)})."
        for name, (ours, theirs) in told.items()
        if ours != theirs
    ]
    return (
        *found,
        "As corrected: per-sample changes of the loss, σ⁻² and N as derived, norms per sample "
        "over all perturbed nodes, σ = 0.01, prediction of Mackey-Glass and fresh copying sequences; SGD "
        "with an update at every step. Learning rates are chosen on the validation part from one grid for "
        f"all rules, with seed 0 and this number of epochs: {listed(size.search_epochs)}. This number of "
        f"finalists, skipping those that diverge, is run in full with that seed: {listed(size.finalists)}; "
        "the one that ends best is taken.",
        "As in the authors' code: one scalar for the batch, 1/σ, their norms, σ = 0.001, recall "
        "of Mackey-Glass, one fixed copying sequence with one update per sequence by the sum over its steps "
        "(D by the mean), no noise on the recurrent weights at the first step (WP), the learning rates of "
        "table 2 (chosen there for more hidden units), BP with "
        f"Adam; epochs: {listed(size.authors_epochs)}, "
        f"{len(size.authors_seeds)} seeds, on {', '.join(size.authors_on)}.",
        "BP goes back one step, with an update at every step, as in the authors' code. True BPTT "
        "is shown for comparison: Adam, clipped at norm 1, one update per batch of 10 whole sequences; "
        f"epochs: {listed(size.bptt_epochs)}.",
        f"{MANY} (one direction of noise per node) is our addition: as many orthogonal directions as nodes, "
        "rounded up to a power of two, at every step, each lasting one step, and so as many forward passes; "
        "norms per layer and σ = 0.0001.",
        f"Readout alone, on {', '.join(FROZEN_ON)}: the recurrence is randomly initialised and frozen, "
        "and the readout learns by its own gradient, with the same search, epochs and seeds.",
        "RFLO runs on a leaky network, τ = 10, and on all three tasks; the paper shows it only in figure 11.",
        f"Seeds: {listed({task: len(seeds) for task, seeds in size.seeds.items()})} (the paper: 5).",
        "States start at zero for every sequence, in training and in testing; the authors' test passes "
        "continue from the last state of training. h* = D h uses D as the previous step left it; their "
        "code uses D from one step earlier, a difference of the order of D's learning rate.",
        "The final value is the mean over the last tenth of the epochs, like the paper's last 50 of 500.",
    )


def _sizes_deviations(profile: ProfileName) -> tuple[str, ...]:
    size = SIZES[profile]
    return (
        f"Sizes {', '.join(map(str, size.sizes))} (the paper: 100 to 3000), {size.sizes_epochs} "
        f"epochs (500), "
        f"{len(size.sizes_seeds)} seeds (5).",
        "At every size each rule's learning rate is chosen on the validation part from "
        f"{', '.join(f'{rate:g}' for rate in size.sizes_rates)}; D learns at 1e-06.",
    )


def _gradients_deviations(profile: ProfileName) -> tuple[str, ...]:
    return (
        *_deviations(profile),
        "After every epoch the estimate of the first batch, by one draw, is compared with the gradient of "
        "BPTT: the cosine of all recurrent parameters taken as one vector, in the mean over the epochs.",
    )


def _costs_deviations(profile: ProfileName) -> tuple[str, ...]:
    size = SIZES[profile]
    return (
        f"{size.cost_hidden} hidden units (the paper: 500), on a single CPU thread (the paper: a GPU).",
        "One sequence of 210 steps, presented once; the median of "
        f"{size.cost_repeats} presentations after one warm-up. Memory is the true peak of resident memory "
        "above the level before, measured alike for all rules; the paper's is what stayed allocated "
        "afterwards.",
        "All rules but BPTT update at every step.",
    )


def _figure(number: int, task: str, title: str, more: tuple[Claim, ...] = ()) -> Experiment:
    second = {"mackey-glass": ("nrmse",), "copying": ("bit_errors",)}.get(task, ("nrmse",))
    return Experiment(
        f"perturbation/figure{number}",
        f"Figure {number}: {title}",
        "How well do networks learn by random perturbations, compared with one-step backpropagation and "
        "BPTT?",
        "curves",
        ("test_loss", "train_loss", *second, "convergence"),
        partial(results, task),
        (*_claims(task), *more),
        _deviations,
    )


EXPERIMENTS = (
    _figure(4, "mackey-glass", "Mackey-Glass, 15 steps ahead"),
    _figure(5, "copying", "the copying task"),
    _figure(
        6,
        "weather-48h",
        "weather, 48 hours ahead",
        (
            above(
                "Decorrelation makes BP generalise worse.",
                [(_key("weather-48h", "DBP"), _key("weather-48h", "BP"))],
            ),
            at_most(
                f"Decorrelation makes BP converge faster{_TIME}.",
                [(_key("weather-48h", "DBP"), _key("weather-48h", "BP"))],
                1.0,
                "convergence",
            ),
            above(
                "DANP generalises better than ANP: its test loss exceeds its training loss by less.",
                [(_key("weather-48h", "ANP"), _key("weather-48h", "DANP"))],
                measure="generalization_gap",
            ),
        ),
    ),
    Experiment(
        "perturbation/figure7",
        "Figure 7: scaling with the number of hidden units",
        "Which rules still learn, and stay stable, in large networks?",
        "sizes",
        ("test_loss", "train_loss"),
        scaling,
        _SCALING,
        _sizes_deviations,
    ),
    Experiment(
        "perturbation/figure8",
        "Figure 8: the decorrelation loss during training",
        "How correlated are the hidden units, with and without the decorrelation mechanism?",
        "curves",
        ("decorrelation_loss", "test_loss"),
        decorrelation,
        (
            above(
                "Decorrelation lowers the correlation of the hidden units.",
                [
                    (_key("weather-1h", one), _key("weather-1h", f"D{one}"))
                    for one in ("NP", "WP", "ANP", "BP")
                ],
            ),
        ),
        _deviations,
    ),
    Experiment(
        "perturbation/noise",
        "The variance of the noise",
        "Does it matter how large the perturbations are?",
        "sizes",
        ("test_loss", "train_loss"),
        noises,
        (_NOISE_CHANGES_LITTLE,),
        _deviations,
    ),
    Experiment(
        "perturbation/decorrelation",
        "The learning rate of D",
        "How much decorrelation is best?",
        "sizes",
        ("test_loss", "decorrelation_loss", "train_loss"),
        decorrelation_rates,
        _COMPLETE_IS_NOT_BEST,
        _deviations,
    ),
    Experiment(
        "perturbation/gradients",
        "How close the estimates are to the gradient",
        "How well do single perturbation estimates agree with the gradient during training?",
        "curves",
        ("test_loss", "alignment"),
        gradients,
        (_NEARER,),
        _gradients_deviations,
    ),
    Experiment(
        "perturbation/figure9",
        "Figure 9: conventional and local node perturbation",
        "Is the loss of each step a better signal than the loss of the whole sequence?",
        "curves",
        ("test_loss", "train_loss", "bit_errors"),
        node_perturbation,
        (
            above(
                "Local node perturbation is clearly better than conventional node perturbation.",
                [(_key("copying", "NP, conventional"), _key("copying", "NP, local"))],
            ),
        ),
        _deviations,
    ),
    Experiment(
        "perturbation/figure10",
        "Figure 10: time and memory",
        "What does learning from one sequence cost?",
        "costs",
        ("milliseconds", "peak_megabytes"),
        costs,
        (_COSTS_TIME,),
        _costs_deviations,
    ),
    Experiment(
        "perturbation/figure11",
        "Figure 11: RFLO on weather, 48 hours ahead",
        "How do perturbation rules compare with another rule that needs no gradient?",
        "curves",
        ("test_loss", "train_loss", "nrmse"),
        with_rflo,
        (
            above(
                "RFLO generalises much worse than ANP and BP.",
                [(_key("weather-48h", "RFLO"), _key("weather-48h", one)) for one in ("ANP", "BP")],
                AS_GOOD,
            ),
        ),
        _deviations,
    ),
    Experiment(
        "perturbation/figure12",
        "Figure 12: time and memory, with RFLO",
        "What does learning from one sequence cost?",
        "costs",
        ("milliseconds", "peak_megabytes"),
        partial(costs, rflo=True),
        (
            above(
                "RFLO takes slightly less time than ANP.",
                [(_key("copying", "ANP"), _key("copying", "RFLO"))],
            ),
        ),
        _costs_deviations,
    ),
    _figure(13, "weather-1h", "weather, 1 hour ahead"),
    _figure(14, "weather-24h", "weather, 24 hours ahead"),
    Experiment(
        "perturbation/table1",
        "Table 1: hyperparameters shared by all rules",
        "With which noise, network size, batch size and number of epochs does every rule run?",
        "settings",
        ("test_loss",),
        _all_tasks,
        (),
        _deviations,
    ),
    Experiment(
        "perturbation/table2",
        "Table 2: learning rates",
        "Which learning rates of the weights and of D are best on the validation part?",
        "settings",
        ("test_loss",),
        _all_tasks,
        (),
        _deviations,
    ),
)
