"""Doing several runs, and the table that sums them up."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from timelocal.cli.terminal import console, say, show
from timelocal.cli.terminal import table as listing
from timelocal.errors import RunError
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.origins import ChangedPluginWarning, changes, foreign
from timelocal.experiments.run import run
from timelocal.studies.engines import Processes
from timelocal.studies.store import RunRecord, is_settled_packed, read
from timelocal.studies.study import run_study


def do_runs(
    configs: Sequence[TrainConfig], out: Path, data_dir: Path | None = None, workers: int = 1
) -> list[RunRecord]:
    """Execute the runs, one by one here or `workers` at a time in processes; prints one line per run.

    Raises:
        RunError: runs of workers have failed; the others are done.
    """

    def tell(text: str) -> None:
        say(text, err=True)

    is_watched = console(stderr=True).is_terminal
    if workers > 1:
        engine = Processes(workers)
        records = run_study(configs, out, engine=engine, data_dir=data_dir, retries=0, tell=tell)
        failed = [one for one in records if one.status in ("failed", "unknown", "damaged")]
        if failed:
            first = (
                f"{failed[0].folder.name}: {'; '.join([*failed[0].problems, failed[0].message])}"
            )
            raise RunError(f"{len(failed)} of {len(records)} runs failed, such as {first}")
        return records
    records = []
    for number, config in enumerate(configs, 1):
        folder = out / config.folder_name()
        if foreign(config.model_dump()):
            for text in changes(config, read(folder).environment):
                tell(f"warning: {text}")
        if not is_settled_packed(folder) and read(folder).status != "damaged":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ChangedPluginWarning)  # told above
                folder = run(config, out, data_dir, progress=is_watched)
        record = replace(read(folder), config=config.model_dump(mode="json"))  # as asked for
        records.append(record)
        tell(f"{number}/{len(configs)}  {folder.name}  {record.status}{_found(record)}")
    return records


def _found(record: RunRecord) -> str:
    if record.status != "finished":
        return f": {'; '.join([*record.problems, record.message])}"
    for measure, digits in (("accuracy", 3), ("loss", 5)):
        for value in _values([record], "last", measure):
            floors = _floors([record])
            beside = f" beside {told_floors(floors)}" if floors else ""
            return f", test {measure} {value:.{digits}f}{beside}"
    return ""


def print_summary(records: Sequence[RunRecord]) -> None:
    """One row per dataset, cell and rule: mean ± standard deviation over its seeds, on test.

    A damaged run does not count.
    """
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    metric = next((r.config["metric"] for r in records if r.config.get("metric")), None)
    for record in records:
        key = (record.config["dataset"], record.config["cell"], record.config["rule"])
        groups.setdefault(key, []).append(record)
    score = metric or (
        "accuracy"
        if any(_values(group, "last", "accuracy") for group in groups.values())
        else "loss"
    )
    names = ("dataset", "cell", "rule")
    table = listing(*names, title=f"test {score}: mean ± standard deviation over seeds")
    for name in ("seeds", "last epoch", "best on validation", "ms per step"):
        table.add_column(name, justify="right")
    table.add_column("without learning over time", overflow="fold")
    for key, group in groups.items():
        sound = [r for r in group if r.status != "damaged"]
        steps = [
            r.timing["step_seconds_median"] for r in sound if r.timing.get("step_seconds_median")
        ]
        table.add_row(
            *key,
            _counted(sound, damaged=len(group) - len(sound)),
            _spread(_values(sound, "last", score)),
            _spread(_values(sound, "best_validation", score)),
            f"{1000 * mean(steps):.2f}" if steps else "–",
            told_floors(_floors(sound, "trivial_metric" if metric else "trivial")),
        )
    show(table)


def _floors(sound: Sequence[RunRecord], measured: str = "trivial") -> dict[str, float]:
    """The mean over the runs of every predictor that learns nothing over time."""
    found: dict[str, list[float]] = {}
    for record in sound:
        for name, value in ((record.result or {}).get(measured) or {}).items():
            found.setdefault(name, []).append(value)
    return {name: mean(values) for name, values in found.items()}


def told_floors(floors: Mapping[str, float]) -> str:
    """Predictors that learn nothing over time, and their scores."""
    told = (f"{name.replace('_', ' ')} {value:.3g}" for name, value in floors.items())
    return ", ".join(told) or "–"


def _counted(sound: Sequence[RunRecord], damaged: int) -> str:
    diverged = sum(record.status == "diverged" for record in sound)
    told = f"{len(sound)}" + (f" ({diverged} diverged)" if diverged else "")
    return told + (f" + {damaged} damaged" if damaged else "")


def _values(group: Sequence[RunRecord], moment: str, score: str) -> list[float]:
    results = [r.result.get(moment) or {} for r in group if r.status == "finished" and r.result]
    found = [result.get(f"test_{score}") for result in results]
    return [value for value in found if value is not None]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.3g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")
