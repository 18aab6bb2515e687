"""A trial: one configuration that leaves one folder, whatever it measures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from timelocal.errors import TimelocalError
from timelocal.experiments.config import CostConfig, TrainConfig
from timelocal.experiments.cost import measure_cost
from timelocal.experiments.origins import foreign
from timelocal.experiments.run import run

Trial = TrainConfig
"""A training run, or a `CostConfig`, which is one too but measures the time and memory of one update."""


def from_json(values: Mapping[str, Any]) -> Trial:
    """The trial whose `config.json` holds `values`; unknown keys are refused.

    >>> from_json({"dataset": "digits-rows", "epochs": 2}).epochs
    2
    """
    return _checked(json.dumps(dict(values)))


def name_of(config: Mapping[str, Any], otherwise: str) -> str:
    """The name of the run whose `config.json` holds `config`, whatever it was called when it was made.

    `otherwise` for a configuration that means nothing here, and for a rule, cell or data set that is not of
    this package: what a record names is not imported.

    >>> name_of({"dataset": "digits-rows", "cell": "rnn"}, "run"), name_of({"rule": "its own"}, "run")
    ('digits-rows-rnn-dfa-s0-3f5c0b39', 'run')
    """
    trial = of_record(config)
    return otherwise if trial is None else trial.folder_name()


def recorded_name(config: Mapping[str, Any]) -> str | None:
    """As `name_of`, for thousands of records: the configuration is taken as it is, nothing is judged."""
    if foreign(config):
        return None
    try:
        kind = CostConfig if "measures" in config else TrainConfig
        return kind.model_construct(**config).folder_name()
    except (TimelocalError, TypeError, ValueError, LookupError, AttributeError):
        return None


def of_record(config: Mapping[str, Any]) -> Trial | None:
    """As `from_json`, of a record that may be anyone's: None for what means nothing without an import."""
    if foreign(config):
        return None
    try:
        return from_json(config)
    except TimelocalError:
        return None


@lru_cache(maxsize=10_000)
def _checked(text: str) -> Trial:
    """Remembered, for a rule itself judges its options, which takes milliseconds, and searches ask again."""
    values = json.loads(text)
    return (CostConfig if "measures" in values else TrainConfig)(**values)


def do(trial: Trial, out: str | Path, data_dir: str | Path | None = None) -> Path:
    """Do the trial in its own folder under `out` and return that folder; what is done is not repeated."""
    if isinstance(trial, CostConfig):
        return measure_cost(trial, out, data_dir)
    return run(trial, out, data_dir)
