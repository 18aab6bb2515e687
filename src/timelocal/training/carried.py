"""Checks that what a stream carries from step to step still has the form the rule needs."""

from __future__ import annotations

from timelocal.errors import Problem, raise_problems
from timelocal.network import Network
from timelocal.rules import Rule
from timelocal.typing import Memory


class Carried:
    """The form that a stream's memory must have for the current rule and network."""

    def __init__(self, rule: Rule, memory: Memory) -> None:
        self.rule = rule
        self._forms = _forms(memory)
        self._made_for = _circumstances(rule)
        self._first_readout = self._made_for[0]

    def check(self, memory: Memory, rows: int) -> None:
        """Raise an `ArgumentError` unless the rule would start with this form for `rows` sequences.

        A replaced readout may not fit, and torch would silently compute with mixed dtypes or broadcast one
        row to all.
        """
        now = _circumstances(self.rule)
        if now != self._made_for:
            self._made_for, self._forms = now, _forms(self.rule.begin(1))
        found = _forms(memory)
        if found == self._forms and all(len(own) == rows for own in memory.values()):
            return
        if now[0] != self._first_readout:
            got = "a different readout than at the start, with traces of the old one"
            remedy = "Create the stream and its optimizer again."
            raise_problems([Problem("stream", got, "the same readout throughout", remedy)])
        remedy = "Restore it, or create the stream again."
        raise_problems(
            Problem(
                f"memory {name!r}", found.get(name), f"{self._forms.get(name)} of {rows}", remedy
            )
            for name in sorted({*found, *self._forms})
            if found.get(name) != self._forms.get(name) or len(memory[name]) != rows
        )


def readout_now(network: Network) -> tuple[object, ...]:
    """Which readout there is, which weight in it, and whether it has a bias."""
    readout = network.readout
    weight, bias = getattr(readout, "weight", None), getattr(readout, "bias", None)
    return id(readout), id(weight), getattr(weight, "shape", None), bias is None


def _circumstances(rule: Rule) -> tuple[object, ...]:
    """What decides the form of what is carried: the readout, type, place and the rule's options."""
    like = rule.network.recurrent.like
    options = [own for own in vars(rule).values() if isinstance(own, int | float | str)]
    return readout_now(rule.network), like.dtype, like.device, options


def _forms(memory: Memory) -> dict[str, tuple[object, ...]]:
    """The shape of each tensor but for the batch, its type and its device."""
    return {name: (tuple(own.shape[1:]), own.dtype, own.device) for name, own in memory.items()}
