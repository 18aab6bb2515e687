"""One attempt at a trial, with whatever goes wrong told instead of raised."""

from __future__ import annotations

import warnings
from pathlib import Path

from timelocal.errors import BusyError, RunError, TimelocalError
from timelocal.experiments.origins import ChangedPluginWarning
from timelocal.experiments.trial import Trial, do
from timelocal.studies.engines.engine import Kind


def attempt(trial: Trial, store: Path, data_dir: Path | None) -> tuple[Kind, str]:
    """Do the trial and say how it ended."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ChangedPluginWarning)  # the study tells it
            do(trial, store, data_dir)
    except BusyError as error:
        return "busy", str(error)
    except RunError as error:
        return "failed", str(error)
    except TimelocalError as error:  # data that cannot be had, a network that cannot be made
        begun = (store / trial.folder_name() / "status.json").exists()
        return "failed" if begun else "mistake", str(error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "done", ""
