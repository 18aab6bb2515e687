"""Cells, rules, optimizers and schedules by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from timelocal import cells, plugins
from timelocal.errors import Problem, raise_problems
from timelocal.losses import Loss
from timelocal.network import Network, from_cell
from timelocal.rules import RULES, Rule, RuleSpec


def find_rule(name: str) -> type[Rule]:
    """The class of a rule: built in, from an installed package, or `module:name`.

    Raises:
        ArgumentError: as `plugins.find`; for anything that is not a rule, or has an argument without a
            default, which a configuration could not omit.

    >>> find_rule("dfa").__name__
    'DFA'
    """
    found = plugins.find("rule", name, RULES)
    if name in RULES:
        return RULES[name]
    expected, remedy = "a subclass of timelocal.Rule", "Give the class itself."
    if isinstance(found, type) and issubclass(found, Rule):
        if isinstance(getattr(found, "spec", None), RuleSpec):
            return found
        got, expected = (
            "a rule without a spec",
            "a timelocal.RuleSpec as its class attribute `spec`",
        )
        remedy = ""
    elif isinstance(found, type):
        got, remedy = f"the class {found.__name__}", "Subclass timelocal.Rule."
    else:
        got = f"a {type(found).__name__}"
    raise_problems([Problem("rule", f"{name!r}, {got}", expected, remedy)])
    raise AssertionError


def find_cell(name: str) -> Callable[..., cells.Cell]:
    """The constructor of a cell: a class or a function, named like a rule. A cell instance is used as it is.

    Raises:
        ArgumentError: as `plugins.find`; for anything that is not a cell and makes none without arguments.

    >>> find_cell("rnn")(tau=2.0)
    RNNCell(tau=2.0)
    """
    found = plugins.find("cell", name, cells.CELLS)
    if name in cells.CELLS:
        return cells.CELLS[name]
    if isinstance(found, cells.Cell):
        return lambda: found
    made, got = None, f"a {type(found).__name__}"
    is_class = isinstance(found, type)
    if is_class:
        got = f"the class {found.__name__}"
    if issubclass(found, cells.Cell) if is_class else callable(found):
        with plugins.running("cell", name, cells.CELLS):
            made = found()
        if not is_class:
            got = f"a function that returns a {type(made).__name__}"
    if not isinstance(made, cells.Cell):
        expected = "a subclass of timelocal.Cell, AutogradCell or BlackBox"
        remedy = "A network that you have is not a cell: see timelocal.from_torch and from_cell."
        raise_problems([Problem("cell", f"{name!r}, {got}", expected, remedy)])
    return found


def make_network(
    cell: Callable[..., cells.Cell],
    input_size: int,
    hidden_size: int,
    output_size: int,
    **options: Any,
) -> Network:
    """A network of a kind of cell; options of the cell's class go there, the rest to `from_cell`."""
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


SCHEDULERS: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "cosine": lambda optimizer, epochs: CosineAnnealingLR(optimizer, epochs),
    "plateau": lambda optimizer, epochs: ReduceLROnPlateau(optimizer, patience=5),
    "step": lambda optimizer, epochs: StepLR(optimizer, max(1, epochs // 3)),
}
"""Schedules of the learning rate over the epochs: to 0 along a cosine; a tenth after 5 epochs without a lower
validation loss; a tenth after each third of the epochs."""


def make_scheduler(name: str | None, optimizer: Optimizer, epochs: int) -> LRScheduler | None:
    """The schedule of this name; None for no name."""
    return None if name is None else SCHEDULERS[name](optimizer, epochs)


def cell_defaults(name: str) -> dict[str, Any]:
    """The arguments of the cell `name`, with their defaults.

    >>> cell_defaults("mingru")
    {'update': 0.5, 'update_max': None}
    """
    own = inspect.signature(find_cell(name)).parameters
    return {k: p.default for k, p in own.items() if _is_value(p.default)}


def rule_defaults(name: str) -> dict[str, Any]:
    """The arguments of the rule `name`, with their defaults.

    >>> rule_defaults("bptt")
    {'loss': 'cross_entropy', 'at': 'last', 'seed': 0}
    """
    rule = find_rule(name)
    found: dict[str, Any] = {}
    for own in _constructors(rule):
        found = {k: p.default for k, p in own.items() if p.kind not in _VARIADIC} | found
    # `network` is made for the rule, and `problems` is how a rule's class talks to its base
    for argument in ("self", "network", "problems"):
        found.pop(argument, None)
    required = [k for k, default in found.items() if default is inspect.Parameter.empty]
    raise_problems(
        Problem(f"rule {name!r}: argument {k}", "no default", "one: configurations leave it out")
        for k in required
    )
    return found if name in RULES else {k: v for k, v in found.items() if _is_value(v)}


_VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _constructors(rule: type[Rule]) -> Iterator[Mapping[str, inspect.Parameter]]:
    """The arguments of a rule's constructor, and of those to which it passes on `**options`."""
    for parent in rule.__mro__:
        if "__init__" in vars(parent):
            own = inspect.signature(vars(parent)["__init__"]).parameters
            yield own
            if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in own.values()):
                return


def _is_value(default: object) -> bool:
    """Whether a default can stand in a configuration."""
    if isinstance(default, tuple | list):
        return all(isinstance(one, str) for one in default)
    return default is None or isinstance(default, bool | int | float | str)


def make_rule(
    name: str,
    network: Network,
    loss: str | Loss,
    at: str,
    seed: int,
    options: Mapping[str, object],
) -> Rule:
    """The rule `name` on `network`."""
    make: Callable[..., Rule] = find_rule(name)
    with plugins.running("rule", name, RULES):
        return make(network, loss=loss, at=at, seed=seed, **options)
