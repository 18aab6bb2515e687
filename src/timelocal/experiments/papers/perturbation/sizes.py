"""The sizes of the profiles: networks, epochs, seeds and searches, and the learning rates of the paper."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from timelocal.experiments.experiment import ProfileName

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
SIZES_D_RATE = 1e-6
"""The learning rate of D in figure 7."""
PAPER_HIDDEN = {"mackey-glass": 1000, "copying": 500, "weather": 1000}

AT_100: dict[str, dict[str, tuple[float, float | None]]] = {
    "mackey-glass": {
        "NP": (3e-4, None),
        "DNP": (3e-4, 1e-6),
        "WP": (1e-4, None),
        "DWP": (1e-4, 1e-6),
        "ANP": (1e-3, None),
        "DANP": (3e-3, 1e-5),
        "BP": (3e-1, None),
        "DBP": (3e-1, 1e-5),
        "RFLO": (1e-3, None),
        "BPTT": (1e-3, None),
    },
    "weather-48h": {
        "NP": (1e-3, None),
        "DNP": (1e-3, 1e-5),
        "WP": (3e-4, None),
        "DWP": (3e-4, 1e-6),
        "ANP": (1e-3, None),
        "DANP": (3e-3, 1e-5),
        "BP": (1e-1, None),
        "DBP": (1e-1, 1e-5),
        "RFLO": (1e-1, None),
        "BPTT": (1e-2, None),
    },
    "weather-1h": {
        "NP": (3e-3, None),
        "DNP": (1e-2, 1e-5),
        "WP": (3e-4, None),
        "DWP": (3e-4, 1e-6),
        "ANP": (3e-3, None),
        "DANP": (1e-2, 1e-5),
        "BP": (1e-1, None),
        "DBP": (1e-1, 1e-5),
        "BPTT": (1e-2, None),
    },
    "weather-24h": {
        "NP": (1e-3, None),
        "DNP": (1e-3, 1e-5),
        "WP": (3e-4, None),
        "DWP": (3e-4, 1e-6),
        "ANP": (3e-3, None),
        "DANP": (3e-3, 1e-5),
        "BP": (1e-1, None),
        "DBP": (1e-1, 1e-5),
        "BPTT": (1e-2, None),
    },
    "copying": {
        "NP": (3e-4, None),
        "DNP": (1e-3, 1e-5),
        "WP": (1e-4, None),
        "DWP": (1e-4, 1e-6),
        "ANP": (3e-4, None),
        "DANP": (1e-3, 1e-5),
        "BP": (1e-2, None),
        "DBP": (1e-2, 1e-5),
        "RFLO": (1e-2, None),
        "NP, conventional": (3e-3, None),
        "NP, local": (1e-1, None),
        "BPTT": (3e-3, None),
    },
}
"""The learning rates, η and ε, chosen with 100 hidden units: those of `results/reproduction`."""


@dataclass(frozen=True)
class Size:
    """The size of a profile.

    Without `rates`, each search looks around the choice with 100 hidden units: `grid` says how.
    """

    hidden: dict[str, int]
    epochs: dict[str, int]
    """By task, of runs as corrected; then as in the authors' code, and with BPTT."""
    authors_epochs: dict[str, int]
    bptt_epochs: dict[str, int]
    search_epochs: dict[str, int]
    finalists: dict[str, int]
    seeds: dict[str, tuple[int, ...]]
    authors_seeds: tuple[int, ...]
    sizes: dict[int, int]
    """The numbers of hidden units of figure 7, with their epochs."""
    sizes_seeds: tuple[int, ...]
    cost_hidden: int
    cost_repeats: int
    rates: tuple[float, ...] = ()
    d_rates: tuple[float, ...] = ()
    adam_rates: tuple[float, ...] = ()
    sizes_rates: tuple[float, ...] = ()
    seeds_with_d: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By task, of the rules with D, where these are fewer."""
    rflo_seeds: tuple[int, ...] = ()
    """Of RFLO, where these are fewer."""
    authors_on: tuple[str, ...] = MAIN
    many_on: tuple[str, ...] = MAIN
    rflo_on: tuple[str, ...] = MAIN
    sizes_bptt: int = 1000
    """The largest network of figure 7 that BPTT trains."""

    def seeds_of(self, task: str, label: str) -> tuple[int, ...]:
        """The seeds of a rule as corrected."""
        every = self.seeds[kind_of(task)]
        if label == "RFLO":
            return self.rflo_seeds or every
        return self.seeds_with_d.get(kind_of(task), every) if decorrelates(label) else every

    def grid(self, task: str, label: str) -> dict[str, tuple[object, ...]]:
        """The learning rates that the search of a rule tries."""
        rate, d_rate = AT_100[task][label]
        rates = self.adam_rates if label == "BPTT" else self.rates
        grid: dict[str, tuple[object, ...]] = {"lr": rates or downwards(rate)}
        if d_rate is not None:
            grid["decorrelate"] = self.d_rates or downwards(d_rate)[::2]
        return grid

    def sizes_grid(self, hidden: int, label: str) -> dict[str, tuple[object, ...]]:
        """The learning rates that figure 7 tries in a network of this size."""
        rate, _ = AT_100["weather-1h"][label]
        return {"lr": self.sizes_rates or downwards(rate, skipped=int(hidden > 1000))}


_LADDER = tuple(float(f"{digit}e{power}") for power in range(-9, 1) for digit in (1, 3))


def downwards(rate: float, count: int = 3, skipped: int = 0) -> tuple[float, ...]:
    """A learning rate and the next lower ones, a third and a tenth of it.

    Larger networks need lower rates: the variance of a perturbation rule grows with the number of nodes, and
    an update of more weights changes the output more. `skipped` leaves out the highest rates.

    >>> downwards(0.3), downwards(0.3, skipped=1)
    ((0.3, 0.1, 0.03), (0.1, 0.03, 0.01))
    """
    first = _LADDER.index(rate) - skipped
    return _LADDER[first : first - count : -1]


RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""The learning rates tried with 100 hidden units."""


def by_task(mackey_glass: int, copying: int, weather: int) -> dict[str, int]:
    """A number for each kind of task."""
    return {"mackey-glass": mackey_glass, "copying": copying, "weather": weather}


def seeds_by_task(*counts: int) -> dict[str, tuple[int, ...]]:
    """The first seeds, as many as given for each kind of task."""
    return {task: tuple(range(count)) for task, count in by_task(*counts).items()}


SIZES: dict[ProfileName, Size] = {
    "quick": Size(
        hidden=by_task(8, 8, 8),
        epochs=by_task(1, 1, 1),
        authors_epochs=by_task(1, 1, 1),
        bptt_epochs=by_task(1, 1, 1),
        search_epochs=by_task(1, 1, 1),
        finalists=by_task(1, 1, 1),
        seeds=seeds_by_task(1, 1, 1),
        authors_seeds=(0,),
        rates=(1e-3,),
        d_rates=(1e-6,),
        adam_rates=(1e-3,),
        sizes={4: 1, 8: 1},
        sizes_seeds=(0,),
        sizes_rates=(1e-3,),
        cost_hidden=8,
        cost_repeats=1,
        authors_on=("copying",),
    ),
    "laptop": Size(
        hidden=by_task(100, 100, 100),
        epochs=by_task(100, 10, 50),
        authors_epochs=by_task(20, 500, 20),
        bptt_epochs=by_task(500, 25, 500),
        search_epochs=by_task(10, 2, 10),
        finalists=by_task(3, 1, 1),
        seeds=seeds_by_task(5, 5, 10),
        authors_seeds=(0, 1, 2),
        rates=RATES,
        d_rates=(1e-6, 1e-5),
        adam_rates=(1e-3, 3e-3, 1e-2),
        sizes={100: 10, 300: 10, 1000: 10},
        sizes_seeds=(0, 1, 2),
        sizes_rates=(1e-4, 1e-3, 1e-2),
        cost_hidden=100,
        cost_repeats=5,
    ),
    "paper": Size(
        hidden=PAPER_HIDDEN,
        epochs=by_task(500, 10, 100),
        authors_epochs=by_task(20, 500, 20),
        bptt_epochs=by_task(500, 100, 500),
        search_epochs=by_task(20, 2, 10),
        finalists=by_task(1, 1, 1),
        seeds=seeds_by_task(8, 5, 8),
        seeds_with_d=seeds_by_task(5, 5, 8),
        authors_seeds=(0, 1, 2),
        sizes={100: 50, 300: 50, 1000: 50, 3000: 20},
        sizes_seeds=(0, 1, 2),
        cost_hidden=500,
        cost_repeats=5,
        many_on=(),
        rflo_on=("weather-48h",),
        rflo_seeds=(0, 1, 2),
    ),
}
"""What the paper's profile leaves out, and the hours it needs, is told in `results/paper/README.md`."""


def kind_of(task: str) -> str:
    """The kind of a task: all horizons of the weather share their settings."""
    return "weather" if task.startswith("weather") else task


def rule_of(label: str) -> str:
    """The name of a rule, with D or without it."""
    return RULES.get(label, RULES.get(label.removeprefix("D"), ""))


def decorrelates(label: str) -> bool:
    """Whether this is one of the paper's rules with D."""
    return label in LABELS and label not in RULES


def options_of(rule: str, sigma: float = 0.01) -> dict[str, Any]:
    """The options of a rule as corrected."""
    return {"k": 1} if rule == "tbptt" else {"sigma": sigma}
