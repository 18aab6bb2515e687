"""Names of cells and optimizers, and what they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch.optim import Optimizer

from timelocal.network import GRU, LSTM, RNN, Network
from timelocal.rules import RULES, Rule

CELLS: dict[str, Callable[..., Network]] = {
    "rnn": RNN,
    "gru": GRU,
    "gru-reset-before": partial(GRU, reset_after=False),
    "lstm": LSTM,
}

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
    "adamw": torch.optim.AdamW,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def rule_arguments(name: str) -> set[str]:
    """The names of the arguments that the constructor of the rule `name` takes."""
    return set(inspect.signature(RULES[name]).parameters)


def make_rule(
    name: str, network: Network, loss: str, at: str, seed: int, options: Mapping[str, object]
) -> Rule:
    """The rule `name` on `network`; a rule without chance takes no seed."""
    arguments: dict[str, object] = {"loss": loss, "at": at, "seed": seed, **options}
    if "seed" not in rule_arguments(name):
        del arguments["seed"]
    make: Callable[..., Rule] = RULES[name]
    return make(network, **arguments)
