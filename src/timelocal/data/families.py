"""Data sets that differ in a few numbers, given in the name: `copying-memory:length=10,delay=25-75`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from timelocal.data.dataset import Entry
from timelocal.errors import Problem, raise_problems, unknown_name

Number: TypeAlias = int | tuple[int, int]
"""A whole number, or the smallest and largest of numbers drawn for each sequence."""


@dataclass(frozen=True)
class Family:
    """One task in many sizes.

    Args:
        name: the part before the colon; by itself it is the task with its defaults.
        defaults: the options that may follow it, `option=value`, separated by commas.
        make: from the whole name and the value of each option to the entry; it checks the values.
        spans: the options whose value may be a range, `25-75`.
    """

    name: str
    defaults: Mapping[str, Number]
    make: Callable[..., Entry]
    spans: frozenset[str] = frozenset()

    def entry(self, name: str) -> Entry:
        """The entry of `name`, which starts with the name of the family.

        Raises:
            ArgumentError: an unknown option, a duplicate one, or an invalid value; all at once.
        """
        told = name.partition(":")[2]
        values, problems = dict(self.defaults), []
        given = [part.partition("=") for part in told.split(",")] if told else []
        names = [option for option, _, _ in given]
        for option, _, text in given:
            what = f"dataset {self.name}: {option or 'option'}"
            if option not in self.defaults:
                problems.append(unknown_name(f"option of {self.name}", option, self.defaults))
            elif names.count(option) > 1:
                problems.append(Problem(what, "given twice", "one value"))
            elif (value := _number(text, option in self.spans)) is None:
                span = " or a span, such as 25-75" if option in self.spans else ""
                problems.append(Problem(what, repr(text), f"a whole number{span}"))
            else:
                values[option] = value
        raise_problems(problems)
        return self.make(name, **values)


def _number(text: str, span: bool) -> Number | None:
    parts = text.split("-") if span else [text]
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


class Registry(dict[str, Entry]):
    """Entries by name: families by their bare names, and other members of a family on request.

    >>> from timelocal.data.adding import FAMILY
    >>> registry = Registry([], [FAMILY])
    >>> list(registry), "adding:steps=30" in registry, registry["adding:steps=30"].card.shape
    (['adding'], True, (12000, 30, 2))
    """

    def __init__(self, entries: Iterable[Entry], families: Iterable[Family]) -> None:
        self.families = {family.name: family for family in families}
        super().__init__({entry.card.name: entry for entry in entries})
        self.update({name: family.entry(name) for name, family in self.families.items()})

    def __contains__(self, name: object) -> bool:
        known = isinstance(name, str) and name.partition(":")[0] in self.families
        return known or super().__contains__(name)

    def __missing__(self, name: str) -> Entry:
        family = self.families.get(name.partition(":")[0])
        if family is None:
            raise KeyError(name)
        return family.entry(name)
