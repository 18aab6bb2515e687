"""What the command line says of a rule: `--option NAME=VALUE`, and names like "danp"."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from timelocal.errors import Problem, raise_problems

DECORRELATION_RATE = 1e-4
"""The learning rate of D where a rule's D is asked for by name alone."""


def rule_options(pairs: Sequence[str], **flags: str | None) -> dict[str, object]:
    """NAME=VALUE pairs, and the options with a flag of their own, None where that is not given.

    The values of pairs are JSON where they can be, text otherwise.

    >>> rule_options(["sigma=0.01", "antithetic=true"], feedback="sign", normalize=None)
    {'feedback': 'sign', 'sigma': 0.01, 'antithetic': True}

    Raises:
        ArgumentError: for pairs that are none, and names that are given twice, all at once.
    """
    chosen = {name: text for name, text in flags.items() if text is not None}
    ways: dict[str, list[str]] = defaultdict(list)
    for name, text in chosen.items():
        ways[name].append(f"--{name.replace('_', '-')} {text}")
    for pair in pairs:
        ways[pair.partition("=")[0]].append(f"--option {pair}")
    malformed = (
        Problem("option", repr(pair), "NAME=VALUE, such as sigma=0.01")
        for pair in pairs
        if "=" not in pair.strip("=")
    )
    repeated = (
        Problem(f"option {name!r}", " and ".join(given), "one value", "Leave out all but one.")
        for name, given in ways.items()
        if len(given) > 1
    )
    raise_problems([*malformed, *repeated])
    split = (pair.partition("=") for pair in pairs)
    return chosen | {name: _value(text) for name, _, text in split}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def decorrelated(rule: str, rate: float | None) -> tuple[str, float | None]:
    """ "danp" is "anp" with decorrelation, and so for every rule: its name, and the learning rate of D.

    A rule of an installed package keeps its name, and `module:name` has no such form.

    >>> decorrelated("danp", None), decorrelated("anp", None), decorrelated("dfa", None)
    (('anp', 0.0001), ('anp', None), ('dfa', None))
    """
    from timelocal.plugins import installed
    from timelocal.rules import RULES

    if rule in RULES or ":" in rule or rule[:1] != "d":
        return rule, rate
    names = {one.name for one in installed("rule", RULES)}
    if rule in names or rule[1:] not in {*RULES, *names}:
        return rule, rate
    return rule[1:], DECORRELATION_RATE if rate is None else rate
