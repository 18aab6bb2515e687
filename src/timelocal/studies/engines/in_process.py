"""One trial after the other, here: the simplest engine, for a debugger."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from timelocal.errors import Problem, raise_problems
from timelocal.experiments.trial import Trial
from timelocal.studies.engines.attempt import attempt
from timelocal.studies.engines.engine import Outcome
from timelocal.studies.limits import Limits


class InProcess:
    """Does trials in this process; it cannot stop one, and so takes no limits."""

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Do the trials in their order."""
        if limits != Limits():
            remedy = "Use the engine processes, which can stop a trial."
            raise_problems([Problem("limits", limits, "none in-process", remedy)])
        for trial in trials:
            yield Outcome(trial, *attempt(trial, store, data_dir))
