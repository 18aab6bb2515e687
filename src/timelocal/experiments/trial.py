"""A trial: one configuration that leaves one folder, whatever it measures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from timelocal.errors import TimelocalError
from timelocal.experiments.config import KINDS, CostConfig, ForecastConfig, TrainConfig
from timelocal.experiments.cost import measure_cost
from timelocal.experiments.forecast import forecast
from timelocal.experiments.origins import foreign
from timelocal.experiments.run import run

Trial = TrainConfig
"""A training run, or one of its kinds: a `CostConfig` measures the time and memory of one update, a
`ForecastConfig` averages the forecasts of several networks."""


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
        return KINDS[config.get("measures")].model_construct(**config).folder_name()
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
    """Remembered, because searches ask for the same trials many times."""
    values = json.loads(text)
    return KINDS.get(values.get("measures"), TrainConfig)(**values)


def do(trial: Trial, out: str | Path, data_dir: str | Path | None = None) -> Path:
    """Do the trial in its own folder under `out` and return that folder; what is done is not repeated."""
    if isinstance(trial, CostConfig):
        return measure_cost(trial, out, data_dir)
    if isinstance(trial, ForecastConfig):
        return forecast(trial, out, data_dir)
    return run(trial, out, data_dir)
