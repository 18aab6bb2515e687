"""The interface of an engine, and the outcome that it reports for each trial."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from timelocal.experiments.trial import Trial
from timelocal.studies.limits import Limits

Kind = Literal["done", "failed", "stopped", "busy", "lost", "mistake"]


class Outcome(NamedTuple):
    """How a trial ended.

    done: its folder holds the result. failed: an error or a crash. stopped: it reached a limit. busy: another
    process is running it. lost: its machine went away. mistake: nothing was run, because the user must first
    fix something that other trials need as well.
    """

    trial: Trial
    kind: Kind
    message: str = ""


class Engine(Protocol):
    """Runs trials in their folders under a store and reports each when it ends, in any order."""

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Run the trials. Closing the iterator stops those that are running."""
        ...
