"""The runs a report is about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from timelocal.studies.store import RunRecord, runs


def load(folders: Sequence[Path]) -> tuple[list[RunRecord], list[str]]:
    """The runs in `folders`, each once, and a sentence for everything that cannot be read."""
    kept: dict[str, RunRecord] = {}
    problems: list[str] = []
    for folder in folders:
        found = runs(folder)
        if not found:
            problems.append(f"{folder}: no run in it (a run has a config.json)")
        for run in found:
            missing = [key for key in ("dataset", "cell", "rule", "seed") if key not in run.config]
            left_out = [f"left out, no {', '.join(missing)} in its config"] if missing else []
            if run.problems or missing:
                problems.append(f"{run.folder.name}: {'; '.join([*run.problems, *left_out])}")
            if missing:
                continue
            first = kept.setdefault(json.dumps(run.config, sort_keys=True), run)
            if first.folder.resolve() != run.folder.resolve():
                problems.append(f"{run.folder}: left out, the same run as {first.folder}")
    return list(kept.values()), list(dict.fromkeys(problems))


def seed_of(run: RunRecord) -> int:
    """The seed of a run."""
    return int(run.config["seed"])


def finished(run: RunRecord) -> bool:
    """Whether a run came to its end and has a result: only such runs count in means."""
    return run.status == "finished" and run.result is not None
