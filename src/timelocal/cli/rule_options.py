"""What the command line says of a rule: `--option NAME=VALUE`, and names like "danp"."""

from __future__ import annotations

import json
from collections.abc import Sequence

from timelocal.errors import Problem, raise_problems

DECORRELATION_RATE = 1e-4
"""The learning rate of D where a rule's D is asked for by name alone."""


def parse_options(given: Sequence[str]) -> dict[str, object]:
    """NAME=VALUE pairs; values are JSON where they can be, text otherwise.

    >>> parse_options(["sigma=0.01", "credit=to_go", "antithetic=true"])
    {'sigma': 0.01, 'credit': 'to_go', 'antithetic': True}

    Raises:
        ArgumentError: for what is no such pair, all at once.
    """
    raise_problems(
        Problem("option", repr(text), "NAME=VALUE, such as sigma=0.01")
        for text in given
        if "=" not in text.strip("=")
    )
    return {name: _value(text) for name, _, text in (pair.partition("=") for pair in given)}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def decorrelated(rule: str, rate: float | None) -> tuple[str, float | None]:
    """ "danp" is "anp" with decorrelation, and so for every rule: its name, and the learning rate of D.

    >>> decorrelated("danp", None), decorrelated("anp", None), decorrelated("dfa", None)
    (('anp', 0.0001), ('anp', None), ('dfa', None))
    """
    from timelocal.rules import RULES

    if rule not in RULES and rule[:1] == "d" and rule[1:] in RULES:
        return rule[1:], DECORRELATION_RATE if rate is None else rate
    return rule, rate
