"""The command that makes a run again."""

from __future__ import annotations

import json
import shlex

from timelocal.errors import UnsupportedError
from timelocal.experiments.build import rule_defaults
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.cost import CostConfig

_FLAGS = ("stratified", "standardize", "online", "alignment")
_GIVEN = ("dataset", "cell", "rule", "hidden", "optimizer", "lr", "batch", "epochs")
_IF_SET = ("clip", "tau", "decorrelate", "decorrelate_norm")


def command_of(config: TrainConfig) -> str:
    """The `timelocal train` line that gives this very configuration, hash and all.

    Raises:
        UnsupportedError: for a `CostConfig`, which only its table or figure measures.

    >>> command_of(TrainConfig(epochs=3))[:38]
    'timelocal train --dataset digits-rows '
    """
    if isinstance(config, CostConfig):
        raise UnsupportedError(
            "config: got a CostConfig, expected a training run. Use `timelocal reproduce` with the name of "
            "its table or figure and its profile."
        )
    words = ["timelocal", "train"]
    for name in _GIVEN:
        words += [f"--{name}", _text(getattr(config, name))]
    if config.layers != 1:
        words += ["--layers", str(config.layers)]
    defaults = rule_defaults(config.rule)
    for name, value in config.rule_options.items():
        default = defaults.get(name)
        if value != (list(default) if isinstance(default, tuple) else default):
            words += [
                "--option",
                f"{name}={value if isinstance(value, str) else json.dumps(value)}",
            ]
    for name in _IF_SET:
        value = getattr(config, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", _text(value)]
    words += [f"--{name}" for name in _FLAGS if getattr(config, name)]
    return shlex.join([*words, "--seeds", f"{config.seed},", "--threads", str(config.threads)])


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)
