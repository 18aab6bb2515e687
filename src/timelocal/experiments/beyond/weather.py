"""Weather in rolling blocks: the exact rule on an element-wise cell against ridge regression.

A regression on the last days of weather is hard to beat. Both see the same inputs, and both are fitted to
the time before the block that they forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timelocal.data.temperature_block import BLOCKS, LAGS, PENALTIES
from timelocal.experiments.claims import stays_below
from timelocal.experiments.config import ForecastConfig
from timelocal.experiments.experiment import Claim, Experiment, Key, Line, ProfileName

FAR: Mapping[str, Any] = {"cell_options": {"r_max": 0.999, "max_phase": 0.6}, "judged": 1}
HORIZONS: Mapping[int, Mapping[str, Any]] = {1: {}, 24: FAR, 48: FAR}
SEEDS = 7
FROZEN_SEEDS = 3
MEMBERS = 5
ENOUGH = 5


def _key(horizon: int, block: int, frozen: bool) -> Key:
    panel = f"{horizon} h, block {block}"
    if frozen:
        return Key(panel, "readout alone, LRU", "recurrence frozen")
    return Key(panel, "RTRL, LRU", "best without BPTT")


def _line(horizon: int, block: int, profile: ProfileName, frozen: bool) -> Line:
    quick = profile == "quick"
    beside = "" if horizon == 1 else ",shorter=1"
    config = ForecastConfig(
        dataset=f"temperature-block:horizon={horizon},block={block}" + beside,
        loss="mse",
        at="every",
        cell="lru",
        rule="rtrl",
        hidden=4 if quick else 64,
        readout_hidden=32,
        lr=0.001,
        batch=10,
        online=True,
        clip=1.0,
        epochs=1 if quick else 20,
        patience=20,
        scheduler="cosine",
        frozen=frozen,
        members=2 if quick else MEMBERS,
        **HORIZONS[horizon],
    )
    seeds = 1 if quick else FROZEN_SEEDS if frozen else SEEDS
    return Line(_key(horizon, block, frozen), config, tuple(range(seeds)))


def lines(profile: ProfileName) -> tuple[Line, ...]:
    """The exact rule and the readout alone, by horizon and block; the quick profile takes the first."""
    whole = profile != "quick"
    return tuple(
        _line(horizon, block, profile, frozen)
        for horizon in (HORIZONS if whole else (1,))
        for block in range(1, BLOCKS + 1 if whole else 2)
        for frozen in (False, True)
    )


def _below(horizon: int) -> Claim:
    keys = [_key(horizon, block, frozen=False) for block in range(1, BLOCKS + 1)]
    told = (
        f"{horizon} h ahead, networks trained by the exact rule, forward in time, err less than ridge in at "
        f"least {ENOUGH} of {BLOCKS} blocks."
    )
    return stays_below(told, [(key, 1.0) for key in keys], ENOUGH)


def _how(profile: ProfileName) -> tuple[str, ...]:
    shown = lines(profile)[0].config
    assert isinstance(shown, ForecastConfig)
    return (
        "The second half of the record is cut into six blocks. Everything before a block is known: its last "
        "fifth is for validation, the rest for training. Targets are changes of the temperature. Missing "
        "readings, which the file has as zeros or means, hold the value of the hour before, for both.",
        f"Ridge sees the same inputs over the last {', '.join(map(str, LAGS))} hours, with a penalty of "
        f"{', '.join(f'{one:g}' for one in PENALTIES)}; both are chosen on the validation part. Its window "
        "reaches back before the block, and the networks, too, run over what came before it.",
        f"The forecast is the mean of {shown.members} networks, which differ in their initial weights alone; "
        "the error of single networks is shown next to it.",
        f"One layer of {shown.hidden} units (LRU); Adam with a cosine schedule from a learning rate of "
        f"0.001, an update at every step of ten streams, {shown.epochs} epochs, gradients clipped at norm 1. "
        "The readout has a hidden layer of 32. 24 and 48 hours ahead, the eigenvalues start below 0.999 in "
        "modulus and 0.6 in phase, and the networks learn the changes over the next 1, 2, 4, … hours as "
        "well; only the forecast at the horizon is judged.",
        "The weights of the epoch with the lowest validation error are kept. All these settings were chosen "
        "by hand, by the validation error of runs with seeds 0 and 1, their test errors in sight.",
    )


EXPERIMENTS = (
    Experiment(
        "beyond/weather-blocks",
        "Weather in rolling blocks, against ridge regression",
        "Does an element-wise cell that learns forward in time forecast better than a linear regression?",
        "costs",
        ("of_ridge", "of_ridge_alone"),
        lines,
        tuple(map(_below, HORIZONS)),
        _how,
    ),
)
