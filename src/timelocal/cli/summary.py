"""Doing several runs, and the table that sums them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table

from timelocal.experiments.config import TrainConfig
from timelocal.experiments.run import run
from timelocal.studies.store import RunRecord, is_settled_packed, read


def do_runs(
    configs: Sequence[TrainConfig], out: Path, data_dir: Path | None = None
) -> list[RunRecord]:
    """Do the runs one after the other; a line for each."""
    errors = Console(stderr=True)
    records = []
    for number, config in enumerate(configs, 1):
        folder = out / config.folder_name()
        if not is_settled_packed(folder):
            folder = run(config, out, data_dir, progress=errors.is_terminal)
        record = replace(read(folder), config=config.model_dump(mode="json"))  # as asked for
        records.append(record)
        errors.print(
            f"{number}/{len(configs)}  {folder.name}  {record.status}{_found(record)}",
            highlight=False,
            soft_wrap=True,
        )
    return records


def _found(record: RunRecord) -> str:
    if record.status != "finished":
        return f": {record.message}"
    if record.result is None:
        remedy = f"Delete {record.folder / 'status.json'} and give the same command again"
        return f", but it does not count: {'; '.join(record.problems)}. {remedy}."
    damage = "".join(f"; {problem}" for problem in record.problems)
    accuracy = record.result["last"].get("test_accuracy")
    if accuracy is not None:
        return f", test accuracy {accuracy:.3f}{damage}"
    return f", test loss {record.result['last']['test_loss']:.5f}{damage}"


def print_summary(records: Sequence[RunRecord]) -> None:
    """One row per dataset, cell and rule: mean ± standard deviation over its seeds, on test.

    A damaged run, finished but without a result that can be read, does not count.
    """
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        key = (record.config["dataset"], record.config["cell"], record.config["rule"])
        groups.setdefault(key, []).append(record)
    score = (
        "accuracy"
        if any(_values(group, "last", "accuracy") for group in groups.values())
        else "loss"
    )
    table = Table(title=f"test {score}: mean ± standard deviation over seeds")
    for name in ("dataset", "cell", "rule"):
        table.add_column(name)
    for name in ("seeds", "last epoch", "best on validation", "ms per step"):
        table.add_column(name, justify="right")
    for key, group in groups.items():
        sound = [r for r in group if not (r.status == "finished" and r.result is None)]
        steps = [
            r.timing["step_seconds_median"] for r in sound if r.timing.get("step_seconds_median")
        ]
        table.add_row(
            *key,
            _counted(sound, damaged=len(group) - len(sound)),
            _spread(_values(sound, "last", score)),
            _spread(_values(sound, "best_validation", score)),
            f"{1000 * mean(steps):.2f}" if steps else "–",
        )
    Console().print(table)


def _counted(sound: Sequence[RunRecord], damaged: int) -> str:
    diverged = sum(record.status == "diverged" for record in sound)
    told = f"{len(sound)}" + (f" ({diverged} diverged)" if diverged else "")
    return told + (f" + {damaged} damaged" if damaged else "")


def _values(group: Sequence[RunRecord], moment: str, score: str) -> list[float]:
    results = [r.result[moment] for r in group if r.status == "finished" and r.result]
    return [result[f"test_{score}"] for result in results if f"test_{score}" in result]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.3g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")
