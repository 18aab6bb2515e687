"""How a network and a rule were made, as JSON, and how to make them again from that."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timelocal.cells import CELLS, Cell
from timelocal.errors import ArgumentError, Problem, described, raise_problems
from timelocal.losses import LOSSES, Loss, loss_problem
from timelocal.model.build import rule_defaults
from timelocal.network import Decorrelation, Network, as_mlp, from_cell
from timelocal.rules import RULES, Rule
from timelocal.rules.slopes import SLOPES, Slope
from timelocal.typing import LossFunction

_DTYPES = {
    str(dtype): dtype for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
}


@dataclass(frozen=True)
class Parts:
    """What a file does not contain: objects from outside this package."""

    cell: Cell | None = None
    rule: type[Rule] | None = None
    readout: nn.Module | None = None
    loss: Loss | LossFunction | None = None
    slope: Slope | None = None


def recipe_of(rule: Rule) -> dict[str, Any]:
    """The JSON that `made_from` reads.

    Raises:
        ArgumentError: for options that JSON cannot hold.
    """
    network, recurrent = rule.network, rule.network.recurrent
    D = recurrent.decorrelate
    return {
        "network": {
            "cell": _named(network.cell, CELLS, type(network.cell)),
            "cell_options": _arguments(network.cell, type(network.cell)),
            "input_size": network.input_size,
            "hidden_size": network.hidden_size,
            "output_size": network.output_size,
            "num_layers": network.num_layers,
            "bias": recurrent.bias,
            "bidirectional": recurrent.bidirectional,
            "dropout": recurrent.dropout,
            "layer_norm": recurrent.layer_norm,
            "skip": recurrent.skip,
            "decorrelate": None if D is None else {"lr": D.lr, "norm": D.norm},
            "batch_first": network.batch_first,
            "linear": type(network.readout) is nn.Linear,
            "readout_hidden": _readout_hidden(network.readout),
            "readout_bias": getattr(network.readout, "bias", None) is not None,
            "dtype": str(recurrent.like.dtype),
        },
        "rule": {
            "name": _named(rule, RULES, type(rule)),
            "options": _rule_options(rule),
            "loss": _named(rule.loss, LOSSES, type(rule.loss)),
            "loss_options": _arguments(rule.loss, type(rule.loss)),
            "at": rule.at,
            "seed": rule.seed,
        },
    }


def made_from(recipe: Mapping[str, Any], parts: Parts) -> Rule:
    """The rule and its network, with fresh parameters.

    Raises:
        ArgumentError: for anything from outside this package that is not among `parts`.
    """
    net, own = recipe["network"], recipe["rule"]
    options, slope = own["options"], own["options"].get("slope")
    raise_problems(_kinds(parts))
    raise_problems(
        [
            _missing("cell", net["cell"], CELLS, parts.cell, "cell=MyCell()"),
            _missing("rule", own["name"], RULES, parts.rule, "rule=MyRule"),
            _missing("loss", own["loss"], LOSSES, parts.loss, "loss=my_loss"),
            None
            if slope is None
            else _missing("slope", slope, SLOPES, parts.slope, "slope=my_function"),
            None
            if net["linear"] or net.get("readout_hidden") or parts.readout is not None
            else Problem("readout", "a module of your own", "readout=, built the same way"),
        ]
    )
    D = net["decorrelate"]
    cell = CELLS[net["cell"]](**net["cell_options"]) if parts.cell is None else parts.cell
    network = from_cell(
        cell,
        net["input_size"],
        net["hidden_size"],
        net["output_size"],
        num_layers=net["num_layers"],
        bias=net["bias"],
        bidirectional=net["bidirectional"],
        dropout=net["dropout"],
        layer_norm=net.get("layer_norm", False),
        skip=net.get("skip", False),
        decorrelate=None if D is None else Decorrelation(D["lr"], D["norm"]),
        readout_hidden=net.get("readout_hidden"),
        dtype=_DTYPES[net["dtype"]],
    )
    readout = parts.readout if parts.readout is not None else network.readout
    if parts.readout is None and net["linear"] and not net["readout_bias"]:
        features = network.features_size * network.directions
        readout = nn.Linear(features, net["output_size"], bias=False, dtype=_DTYPES[net["dtype"]])
    network = Network(network.recurrent, readout, batch_first=net["batch_first"])
    loss = LOSSES[own["loss"]](**own["loss_options"]) if parts.loss is None else parts.loss
    make: Callable[..., Rule] = RULES[own["name"]] if parts.rule is None else parts.rule
    if parts.slope is not None:
        options = options | {"slope": parts.slope}
    return make(network, loss=loss, at=own["at"], seed=own["seed"], **options)


def _readout_hidden(readout: nn.Module) -> int | None:
    """The units of the hidden layer of a readout that `from_cell` makes; None for any other."""
    layers = as_mlp(readout)
    return None if layers is None else layers[0].out_features


def _named(value: object, known: Mapping[str, type], kind: type) -> str:
    """The name of what is of this package; of anything else `module:Class`, which is never imported."""
    for name, own in known.items():
        if kind is own:
            return name
    return f"{kind.__module__}:{kind.__qualname__}"


def _kinds(parts: Parts) -> list[Problem | None]:
    """Whether what was given is what it has to be."""
    cell, rule, readout = parts.cell, parts.rule, parts.readout
    return [
        None
        if cell is None or isinstance(cell, Cell)
        else Problem("cell", described(cell), "a cell, such as MyCell()"),
        None
        if rule is None or (isinstance(rule, type) and issubclass(rule, Rule))
        else Problem("rule", described(rule), "the class of a rule, such as MyRule"),
        None
        if readout is None or isinstance(readout, nn.Module)
        else Problem("readout", described(readout), "a module of torch.nn"),
        None if parts.loss is None else loss_problem(parts.loss),
    ]


def _missing(
    what: str, name: str, known: Mapping[str, Any], given: object, remedy: str
) -> Problem | None:
    if given is not None or name in known:
        return None
    got = f"{name}, which is not part of this package"
    return Problem(what, got, f"the object itself: {remedy}", "Loading a file imports nothing.")


def _rule_options(rule: Rule) -> dict[str, Any]:
    kind = type(rule)
    names = (
        list(rule_defaults(_named(rule, RULES, kind)))
        if kind in RULES.values()
        else list(_arguments_of(kind))
    )
    options = {name: getattr(rule, name) for name in names if hasattr(rule, name)}
    for name in ("loss", "at", "seed", "network"):
        options.pop(name, None)
    return {name: _plain(f"rule option {name}", value) for name, value in options.items()}


def _arguments(made: object, kind: type) -> dict[str, Any]:
    """The constructor arguments of an object that it keeps as attributes of the same names."""
    return {
        name: _plain(f"{kind.__name__}: {name}", getattr(made, name))
        for name in _arguments_of(kind)
        if hasattr(made, name) and not callable(getattr(made, name))
    }


def _arguments_of(kind: type) -> list[str]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [n for n, p in inspect.signature(kind).parameters.items() if p.kind not in variadic]


def _plain(what: str, value: object) -> Any:
    """A value that JSON holds as it is; a function by its name alone."""
    if inspect.isroutine(value):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(what, one) for one in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ArgumentError(
        str(
            Problem(
                what, described(value), "a number, a text, a list of these or None, to be saved"
            )
        )
    )
