"""What does trials: all a study asks of an engine, and what it hears of each trial."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from timelocal.experiments.trial import Trial
from timelocal.studies.limits import Limits

Kind = Literal["done", "failed", "stopped", "busy", "lost", "mistake"]


class Outcome(NamedTuple):
    """How a trial ended.

    done: its folder says how. failed: an error or a crash. stopped: at a limit. busy: another process
    does it. lost: its machine went away. mistake: nothing was done, because the user has something to mend
    that other trials need too.
    """

    trial: Trial
    kind: Kind
    message: str = ""


class Engine(Protocol):
    """Does trials in their folders under a store and tells of each when it ends, in any order."""

    def run(
        self, trials: Sequence[Trial], store: Path, data_dir: Path | None, limits: Limits
    ) -> Generator[Outcome, None, None]:
        """Do the trials. Closing the iterator stops what is going on."""
        ...
