"""Run folders with made-up, seeded, plausible curves, for tests of the report only."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

CEILING = {
    ("rnn", "bptt"): 0.962,
    ("rnn", "dfa"): 0.905,
    ("gru", "bptt"): 0.978,
    ("gru", "dfa"): 0.944,
}
READOUT_ONLY = {"rnn": 0.862, "gru": 0.811}


def make_runs(
    out: Path,
    dataset: str = "digits-rows",
    seeds: int = 3,
    epochs: int = 20,
    regression: bool = False,
    **settings: object,
) -> list[Path]:
    """One run folder for each cell, rule and seed."""
    return [
        make_run(out, dataset, cell, rule, seed, epochs, regression, **settings)
        for cell, rule in CEILING
        for seed in range(seeds)
    ]


def make_run(
    out: Path,
    dataset: str = "digits-rows",
    cell: str = "rnn",
    rule: str = "dfa",
    seed: int = 0,
    epochs: int = 20,
    regression: bool = False,
    status: str = "finished",
    message: str = "",
    **settings: object,
) -> Path:
    """One run folder in the documented layout."""
    random_ = random.Random(f"{dataset} {cell} {rule} {seed} {sorted(settings.items())}")
    config: dict[str, object] = {
        "dataset": dataset,
        "cell": cell,
        "rule": rule,
        "rule_options": {"feedback": "gaussian", "normalize": None} if rule == "dfa" else {},
        "loss": "mse" if regression else "cross_entropy",
        "at": "last",
        "hidden": 128,
        "layers": 1,
        "optimizer": "adam",
        "lr": 5e-4 if rule == "dfa" else 1e-3,
        "batch": 32,
        "epochs": 20,
        "clip": None,
        "threads": 1,
        "stratified": False,
        "standardize": False,
        "seed": seed,
    } | settings
    name = f"{dataset}-{cell}-{rule}-s{seed}-{random_.getrandbits(32):08x}"
    folder = out / name
    folder.mkdir(parents=True)
    ceiling = CEILING.get((cell, rule), 0.9) + random_.gauss(0, 0.006)
    records = [_record(epoch, ceiling, random_, regression) for epoch in range(1, epochs + 1)]
    best = (
        min(records, key=lambda record: record["validation_loss"])
        if regression
        else max(records, key=lambda record: record["validation_accuracy"])
    )
    step = {"bptt": 1.9e-3, "dfa": 1.1e-3}.get(rule, 1e-3) * (2.2 if cell == "gru" else 1)
    seconds = [34 * step * random_.uniform(0.95, 1.1) for _ in records]
    environment = {
        "timelocal": "0.1.0",
        "python": "3.11.9",
        "torch": "2.13.0",
        "cpu": "made-up processor",
        "threads": 1,
        "command": "timelocal demo",
        "kernels": {"path": "torch", "reason": "no native kernel was built"},
    }
    files: dict[str, object] = {
        "config": config,
        "environment": environment,
        "status": {"status": status, "message": message},
        "history": {"epochs": records},
        "timing": {"seconds": seconds, "steps_per_epoch": 34, "step_seconds_median": step},
    }
    if status == "finished":
        files["result"] = {
            "seed": seed,
            "epochs": epochs,
            "last": _test_part(records[-1]),
            "best_validation": _test_part(best)
            | {key: value for key, value in best.items() if key.startswith("validation")},
            "seconds": sum(seconds),
        }
        if not regression:
            files["result"] |= {  # type: ignore[operator]
                "max_test_accuracy": max(record["test_accuracy"] for record in records),
                "trivial": {
                    "majority_class": 0.1 + 0.004 * seed,
                    "readout_only": READOUT_ONLY.get(cell, 0.8) + 0.003 * seed,
                },
            }
    for stem, content in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    return folder


def predict(folder: Path, outputs: int, steps: int = 4) -> None:
    """Give a run the predictions of one test sequence, of values at every step."""
    rows = {
        name: [[shift + t + 10 * o for o in range(outputs)] for t in range(steps)]
        for name, shift in (("target", 0.0), ("before", 1.0), ("after", 2.0))
    }
    (folder / "predictions.json").write_text(json.dumps(rows))


def _record(
    epoch: int, ceiling: float, random_: random.Random, regression: bool
) -> dict[str, float]:
    record: dict[str, float] = {"epoch": epoch}
    for part, gap in (("train", 0.01), ("validation", -0.004), ("test", -0.006)):
        accuracy = ceiling + gap - 0.75 * math.exp(-epoch / 3.5) + random_.gauss(0, 0.006)
        record[f"{part}_loss"] = 2.6 * max(1 - accuracy, 1e-3) ** 1.1
        if not regression:
            record[f"{part}_accuracy"] = round(min(accuracy, 1.0) * 360) / 360
    return record


def _test_part(record: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in record.items() if key == "epoch" or key.startswith("test")}
