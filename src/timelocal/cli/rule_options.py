"""How the command line specifies a rule: `--option NAME=VALUE`, and names such as "danp"."""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from timelocal.errors import Problem, raise_problems

DECORRELATION_RATE = 1e-4
"""The learning rate of D where decorrelation is requested only by the rule's name."""


def rule_options(
    pairs: Sequence[str], defaults: Mapping[str, object] | None = None, **flags: str | None
) -> dict[str, object]:
    """NAME=VALUE pairs, and the options with a flag of their own, None where that is not given.

    Args:
        pairs: the values in the words of JSON, Python or YAML; what is none of these is text.
        defaults: of the rule's options. Where one is text, so is a bare word: "none" names a trace.
        flags: the values likewise.

    >>> rule_options(["sigma=.01", "antithetic=True"], feedback="sign", normalize=None)
    {'feedback': 'sign', 'sigma': 0.01, 'antithetic': True}
    >>> rule_options(["trace=none", "normalize=none"], {"trace": "none", "normalize": None})
    {'trace': 'none', 'normalize': None}

    Raises:
        ArgumentError: for pairs that are none, and names that are given twice, all at once.
    """
    given = {name: text for name, text in flags.items() if text is not None}
    ways: dict[str, list[str]] = defaultdict(list)
    for name, text in given.items():
        ways[name].append(f"--{name.replace('_', '-')} {text}")
    for pair in pairs:
        ways[pair.partition("=")[0]].append(f"--option {pair}")
    malformed = (
        Problem("option", repr(pair), "NAME=VALUE, such as sigma=0.01")
        for pair in pairs
        if "=" not in pair.strip("=")
    )
    repeated = (
        Problem(f"option {name!r}", " and ".join(typed), "one value", "Leave out all but one.")
        for name, typed in ways.items()
        if len(typed) > 1
    )
    raise_problems([*malformed, *repeated])
    given |= {name: text for name, _, text in (pair.partition("=") for pair in pairs)}
    return {name: _value(text, (defaults or {}).get(name)) for name, text in given.items()}


def plain_value(text: str) -> object:
    """A value in the syntax of JSON, Python or YAML; anything else is text.

    >>> plain_value("1e-3"), plain_value("none"), plain_value("dfa")
    (0.001, None, 'dfa')
    """
    return _value(text, None)


_WORDS: dict[str, bool | None] = {
    "true": True,
    "false": False,
    "null": None,
    "none": None,
    "~": None,
}
_SWITCHES: dict[str, bool | None] = {"yes": True, "no": False, "on": True, "off": False}


def _value(text: str, default: object) -> object:
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = read(text)
            if isinstance(value, tuple):
                return list(value)
            if value is None or isinstance(value, bool | int | float | str | list):
                return value
    words: dict[str, bool | None] = {} if isinstance(default, str) else _WORDS
    if isinstance(default, bool):
        words = words | _SWITCHES
    return words.get(text.strip().casefold(), text)


def decorrelated(rule: str, rate: float | None) -> tuple[str, float | None]:
    """ "danp" is "anp" with decorrelation, likewise for every rule: its name, and the learning rate of D.

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
