"""A study: a list of trials in a store, of which only the missing ones are run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from timelocal.errors import ArgumentError, TimelocalError
from timelocal.experiments.config import CostConfig
from timelocal.experiments.folder import set_status
from timelocal.experiments.origins import changes, foreign
from timelocal.experiments.trial import Trial
from timelocal.files import is_there, make_folder, read_object, write_json
from timelocal.studies.engines.engine import Engine
from timelocal.studies.limits import Limits
from timelocal.studies.store import DAMAGED, Records, RunRecord, is_settled_packed, read

_PATIENCE = 1.0
"""Seconds between two checks of trials that another driver is running."""

_AGAIN = {"failed", "lost"}
"""Outcomes of an attempt after which another attempt may succeed."""

_MOST_LOSSES = 20
"""How often a trial may lose its machine before it counts as failed."""


def run_study(
    trials: Iterable[Trial],
    store: Path,
    *,
    engine: Engine,
    data_dir: Path | None = None,
    retries: int = 1,
    limits: Limits | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[RunRecord]:
    """Run the missing trials and return the records of all trials, in their order, each once.

    Finished and diverged trials are kept; interrupted ones resume from their checkpoints; failed ones are
    tried `retries` more times; those stopped at a limit run again only if the limits now allow more. Trials
    that another driver is running are waited for. Trials that measure costs run last, one at a time.

    Args:
        trials: configurations; a repeated configuration is one trial.
        store: folder of run folders; runs packed in the file next to it count as well.
        engine: runs the trials.
        data_dir: folder of data files, as for `timelocal.data.load`.
        tell: called with one line for every trial that ends, and for every plug-in whose source has changed
            since an existing trial began.

    Raises:
        ArgumentError: the user must fix something before any trial can run (missing data, for example).
    """
    wanted = {trial.folder_name(): trial for trial in trials}
    limits = limits or Limits()
    make_folder(store)
    for name, trial in wanted.items():
        if foreign(trial.model_dump()):
            for text in changes(trial, read(store / name).environment):
                tell(f"warning: {text}")
    missing = [trial for name, trial in wanted.items() if not _settled(store / name, limits)]
    tell(f"{len(wanted)} trials, {len(wanted) - len(missing)} of them done")
    timed: list[Trial] = [trial for trial in missing if isinstance(trial, CostConfig)]
    others = [trial for trial in missing if not isinstance(trial, CostConfig)]
    told = _Told(len(missing), tell)
    batches = [others, *([trial] for trial in timed)]
    for batch in batches:
        _do(batch, store, engine, data_dir, retries, limits, told)
    found = Records(store)
    records = [found[name] for name in wanted if name in found]
    for record in records:
        if record.status == DAMAGED:
            told_of = "; ".join([*record.problems, record.message])
            tell(f"warning: {record.folder.name} does not count: {told_of}")
    return records


class _Told:
    """Counts the trials that have ended and reports each."""

    def __init__(self, count: int, tell: Callable[[str], None]) -> None:
        self.count, self.tell, self.done = count, tell, 0

    def ended(self, trial: Trial, text: str) -> None:
        self.done += 1
        self.tell(f"{self.done}/{self.count}  {trial.folder_name()}  {text}")


def _do(
    pending: list[Trial],
    store: Path,
    engine: Engine,
    data_dir: Path | None,
    retries: int,
    limits: Limits,
    told: _Told,
) -> None:
    tries: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    while pending:
        again, busy = [], []
        with closing(engine.run(pending, store, data_dir, limits)) as outcomes:
            for trial, kind, message in outcomes:
                name = trial.folder_name()
                tries[name] += kind == "failed"
                losses[name] += kind == "lost"
                if kind == "mistake":
                    raise ArgumentError(message)
                if kind == "busy":
                    busy.append(trial)
                elif tries[name] <= retries and losses[name] <= _MOST_LOSSES and kind in _AGAIN:
                    again.append(trial)
                else:
                    if kind != "done":
                        _leave_a_record(trial, store / name, message)
                    text = read(store / name).status if kind == "done" else f"{kind}: {message}"
                    told.ended(trial, text)
        if busy and not again:
            time.sleep(_PATIENCE)
        pending = again + [t for t in busy if not _settled(store / t.folder_name(), limits)]


def _leave_a_record(trial: Trial, folder: Path, message: str) -> None:
    """Write a record for a trial that ended before its folder existed, e.g. if its process did not start."""
    if not is_there(folder / "config.json"):
        make_folder(folder)
        write_json(folder / "config.json", trial.model_dump(mode="json"))
        set_status(folder, "failed", message)


def _settled(folder: Path, limits: Limits) -> bool:
    """Whether a trial has ended in a way that another attempt would not change."""
    if is_settled_packed(folder):
        return True
    if not is_there(folder / "status.json"):
        return False
    record = read(folder)
    if record.status == "stopped":
        return not record.problems and not limits.allow_more_than(_limits(folder))
    return record.status in {"finished", "diverged", DAMAGED}


def _limits(folder: Path) -> Limits:
    """The limits at which a run was stopped; no limits if they cannot be read, so that it is tried again."""
    try:
        return Limits(**read_object(folder / "limits.json"))
    except (TimelocalError, TypeError):
        return Limits(0.1**9)
