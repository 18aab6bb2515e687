"""One trial after another in this process: the simplest engine, for use with a debugger."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from timelocal.errors import Problem, raise_problems
from timelocal.experiments.trial import Trial
from timelocal.studies.engines.attempt import attempt
from timelocal.studies.engines.engine import Outcome
from timelocal.studies.limits import Limits


class InProcess:
    """Runs trials in this process; it cannot stop a trial, so it accepts no limits."""

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Run the trials in their order."""
        if limits != Limits():
            remedy = "Use the engine processes, which can stop a trial."
            raise_problems([Problem("limits", limits, "none in-process", remedy)])
        for trial in trials:
            yield Outcome(trial, *attempt(trial, store, data_dir))
