"""Names of cells and optimizers, and what they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from timelocal import cells
from timelocal.errors import Problem, raise_problems
from timelocal.network import Network, from_cell
from timelocal.rules import RULES, Rule


def make_network(
    cell: type[cells.Cell], input_size: int, hidden_size: int, output_size: int, **options: Any
) -> Network:
    """A network of a kind of cell; options that its class takes go there, the rest to `from_cell`."""
    known = inspect.signature(cell).parameters
    own = {name: options.pop(name) for name in list(options) if name in known}
    return from_cell(cell(**own), input_size, hidden_size, output_size, **options)


CELLS: dict[str, Callable[..., Network]] = {
    name: partial(make_network, cell) for name, cell in cells.CELLS.items()
}
"""A network of a cell by its name: `CELLS["gru"](input_size, hidden_size, output_size, …)`."""

# Fused: one pass over the parameters instead of ten, 5 times as fast for a million of them.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adagrad": torch.optim.Adagrad,
    "adamw": partial(torch.optim.AdamW, fused=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def rule_defaults(name: str) -> dict[str, Any]:
    """What one may choose when making the rule `name`: arguments and their defaults.

    >>> rule_defaults("bptt")
    {'loss': 'cross_entropy', 'at': 'last', 'seed': 0}
    """
    parameters = inspect.signature(RULES[name]).parameters
    # `network` is made for the rule, and `problems` is how a rule's class talks to its base
    return {k: p.default for k, p in parameters.items() if k not in {"network", "problems"}}


def make_rule(
    name: str, network: Network, loss: str, at: str, seed: int, options: Mapping[str, object]
) -> Rule:
    """The rule `name` on `network`.

    A rule that has no choice where the loss is takes no `at`; asking it for another place than its
    own is an `ArgumentError`.
    """
    arguments: dict[str, object] = {"loss": loss, "at": at, "seed": seed, **options}
    if "at" not in rule_defaults(name):
        del arguments["at"]
    make: Callable[..., Rule] = RULES[name]
    rule = make(network, **arguments)
    if rule.at != at:
        raise_problems(
            [Problem("at", repr(at), f"{rule.at!r}, the only place rule {name!r} knows")]
        )
    return rule
