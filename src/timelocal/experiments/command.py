"""The command that makes a run again."""

from __future__ import annotations

import json
import shlex
from functools import cache

from timelocal.data.reading import is_file
from timelocal.errors import UnsupportedError
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.config import TrainConfig, default_task
from timelocal.experiments.experiment import PROFILES, ProfileName
from timelocal.model.build import rule_defaults

_FLAGS = ("stratified", "online", "alignment", "frozen", "layer_norm", "skip")
_GIVEN = ("dataset", "cell", "rule", "hidden", "optimizer", "lr", "batch", "epochs")
_IF_SET = (
    "clip", "tau", "recurrent_lr", "readout_hidden", "decorrelate", "decorrelate_norm", "test", "patience",
    "class_weight", "metric", "scheduler",
)  # fmt: skip


def command_of(config: TrainConfig) -> str:
    """The line that makes this very run again: `timelocal train …`, hash and all.

    A cost or a forecast is measured by its table or figure: then it is `timelocal reproduce …`.

    Raises:
        UnsupportedError: for a cost or a forecast of no table or figure.

    >>> command_of(TrainConfig(epochs=3))[:38]
    'timelocal train --dataset digits-rows '
    """
    if not is_training(config):
        for name, profile, measured in _measured():
            if config.model_copy(update={"seed": 0}) in measured:
                return f"timelocal reproduce {name} --profile {profile}"
        raise UnsupportedError(
            f"config: got a {type(config).__name__}, expected a training run. Use `timelocal reproduce` "
            "with the name of its table or figure and its profile."
        )
    words = ["timelocal", "train"]
    for name in _GIVEN:
        words += [f"--{name}", _text(getattr(config, name))]
    for name, value in config.reading.items():
        told = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words += [f"--{name}", told]
    if config.at != default_task(config.dataset, config.reading)["at"]:
        words += ["--at", config.at]
    if config.loss != default_task(config.dataset, config.reading)["loss"]:
        words += ["--loss", config.loss]
    if config.layers != 1:
        words += ["--layers", str(config.layers)]
    for name, value in config.cell_options.items():
        words += ["--cell-option", _option(name, value)]
    defaults = rule_defaults(config.rule)
    for name, value in config.rule_options.items():
        default = defaults.get(name)
        if value != (list(default) if isinstance(default, tuple) else default):
            words += ["--option", _option(name, value)]
    for name in _IF_SET:
        value = getattr(config, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", _text(value)]
    if config.device != "cpu":
        words += ["--device", config.device]
    if config.standardize != is_file(config.dataset):
        words.append("--standardize" if config.standardize else "--no-standardize")
    words += [f"--{name.replace('_', '-')}" for name in _FLAGS if getattr(config, name)]
    return shlex.join([*words, "--seeds", f"{config.seed},", "--threads", str(config.threads)])


def is_training(config: TrainConfig) -> bool:
    """Whether it is a training run, which a `timelocal train …` makes, and none of the other kinds."""
    return type(config) is TrainConfig


def _option(name: str, value: object) -> str:
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def known_command(config: TrainConfig) -> str | None:
    """As `command_of`; None where there is none."""
    try:
        return command_of(config)
    except UnsupportedError:
        return None


@cache
def _measured() -> list[tuple[str, ProfileName, list[TrainConfig]]]:
    """What every table and figure measures that is no training run, in each of its sizes, with the seed 0."""
    return [
        (
            one.name,
            profile,
            [line.config for line in one.lines(profile) if not is_training(line.config)],
        )
        for one in EXPERIMENTS.values()
        for profile in PROFILES
    ]


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)
