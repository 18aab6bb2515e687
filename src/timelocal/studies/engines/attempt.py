"""One attempt at a trial, whose errors are returned instead of raised."""

from __future__ import annotations

import warnings
from pathlib import Path

from timelocal.errors import BusyError, RunError, TimelocalError
from timelocal.experiments.origins import ChangedPluginWarning
from timelocal.experiments.trial import Trial, do
from timelocal.studies.engines.engine import Kind


def attempt(trial: Trial, store: Path, data_dir: Path | None) -> tuple[Kind, str]:
    """Run the trial and return how it ended."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ChangedPluginWarning)  # the study reports it
            do(trial, store, data_dir)
    except BusyError as error:
        return "busy", str(error)
    except RunError as error:
        return "failed", str(error)
    except TimelocalError as error:  # data that is unavailable, a network that cannot be built
        begun = (store / trial.folder_name() / "status.json").exists()
        return "failed" if begun else "mistake", str(error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "done", ""
