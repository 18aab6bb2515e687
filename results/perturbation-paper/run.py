"""The perturbation paper's three tasks, online: one-step BP and ANP with and without D, NP, WP; and BPTT.

    python results/perturbation-paper/run.py <task> [<rule> …]      mackey-glass, copying, weather-48h

Every rule is tuned over the same grid of learning rates on the validation part (one seed, fewer epochs),
decorrelation then over its own rate at the best of these; then 5 seeds with what was chosen. Plain SGD with
an update at every step, but for BPTT: Adam, one update a batch of whole sequences. A run that is finished
is not repeated and one that was stopped goes on.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from timelocal.errors import TimelocalError
from timelocal.experiments.config import TrainConfig, default_task
from timelocal.experiments.run import run
from timelocal.studies.store import RunRecord, read

HERE = Path(__file__).parent
RATES = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
ADAM_RATES = (0.0003, 0.001, 0.003, 0.01)
DECORRELATION_RATES = (1e-6, 1e-5, 1e-4)
SEEDS = range(5)
EPOCHS = {"mackey-glass": (40, 100), "copying": (10, 25), "weather-48h": (20, 40)}
"""For tuning, and for what counts."""
BPTT_EPOCHS = {"mackey-glass": (100, 500), "copying": (10, 50), "weather-48h": (100, 500)}
"""BPTT makes one update where the others make one a step."""
RULES = {"tbptt": {"k": 1}, "np": {"sigma": 0.01}, "wp": {"sigma": 0.01}, "anp": {"sigma": 0.01}}


def config(task: str, rule: str, seed: int, epochs: int, lr: float, d: float | None) -> TrainConfig:
    online = rule != "bptt"
    return TrainConfig(
        dataset=task,
        **default_task(task),
        cell="rnn",
        hidden=100,
        rule=rule,
        rule_options=dict(RULES.get(rule, {})),
        tau=10.0 if rule == "rflo" else None,
        optimizer="sgd" if online else "adam",
        lr=lr,
        batch=10,
        epochs=epochs,
        clip=None if online else 1.0,
        seed=seed,
        decorrelate=d,
        online=online,
    )


def done(made: TrainConfig, out: Path) -> RunRecord:
    try:
        return read(run(made, out))
    except TimelocalError as error:
        print(f"  {error}", file=sys.stderr)
        raise


def score(record: RunRecord) -> float:
    """The mean validation loss of the last tenth of the epochs; a run that diverged has none."""
    if record.status != "finished":
        return math.inf
    losses = [epoch["validation_loss"] for epoch in record.epochs]
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def tune(task: str, rule: str) -> dict[str, object]:
    """The learning rates with the smallest validation loss, without and with D."""
    epochs = (BPTT_EPOCHS if rule == "bptt" else EPOCHS)[task][0]
    rates = ADAM_RATES if rule == "bptt" else RATES
    tried = []

    def best(pairs: list[tuple[float, float | None]]) -> tuple[float, float | None]:
        scores = {}
        for lr, d in pairs:
            record = done(config(task, rule, 0, epochs, lr, d), HERE / "tuning")
            scores[lr, d] = score(record)
            tried.append({"lr": lr, "decorrelate": d, "validation_loss": scores[lr, d]})
            print(f"{task} {rule} lr {lr} D {d}: {scores[lr, d]:.6f}", flush=True)
        return min(scores, key=lambda pair: scores[pair])

    lr, _ = best([(rate, None) for rate in rates])
    found: dict[str, object] = {"lr": lr}
    if rule in ("tbptt", "anp"):
        found["with D"] = best([(lr, d) for d in DECORRELATION_RATES])
    return found | {"tried": tried}


def main(task: str, rules: list[str]) -> None:
    for rule in rules or ["tbptt", "anp", "np", "wp", "bptt"] + ["rflo"] * (task == "weather-48h"):
        found = tune(task, rule)
        (HERE / f"tuning-{task}-{rule}.json").write_text(json.dumps(found, indent=1) + "\n")
        epochs = (BPTT_EPOCHS if rule == "bptt" else EPOCHS)[task][1]
        for lr, d in [(found["lr"], None), *([found["with D"]] if "with D" in found else [])]:
            for seed in SEEDS:
                record = done(config(task, rule, seed, epochs, lr, d), HERE / "runs")
                said = (record.result or {}).get("metrics", record.message)
                print(f"{task} {rule} lr {lr} D {d} seed {seed}: {said}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
