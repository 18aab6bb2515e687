"""Data sets from outside this package: a function that returns a `Dataset`, or an `Entry`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from timelocal import plugins
from timelocal.data.dataset import Arrays, Card, Dataset, Entry, Floors, no_floors
from timelocal.data.sequences import Sequences, valid
from timelocal.errors import Problem, raise_problems


def own_entry(name: str, found: Any) -> Entry:
    """The entry of a data set that `plugins.find` found.

    A function is called once per process, without arguments; it must find its files itself. An `Entry` has
    `locate` and `read`, which get the user's `data_dir`.

    Raises:
        ArgumentError: for anything else, and for a data set whose parts do not match.
    """
    if not isinstance(found, type):
        if isinstance(found, Entry):
            return found
        if callable(found):
            return Made(name, _dataset(name, found))
    got = f"{name!r}, which is {_kind(found)}"
    remedy = "Write `def my_data(): return timelocal.data.Dataset(name, inputs, targets, card)`."
    raise_problems(
        [Problem("dataset", got, "a function that returns a timelocal.data.Dataset", remedy)]
    )
    raise AssertionError


@dataclass(frozen=True, eq=False)
class Made:
    """A data set that a function has made, as an entry of the registry."""

    name: str
    dataset: Dataset

    @property
    def card(self) -> Card:
        card, lengths = self.dataset.card, self.dataset.lengths
        if card.classes is not None:
            targets = valid(self.dataset.targets, lengths)
            counts = torch.bincount(targets.flatten(), minlength=len(card.classes))
            card = replace(card, class_counts=tuple(counts.tolist()))
        return card if lengths is None else replace(card, lengths=tuple(lengths.tolist()))

    @property
    def floors(self) -> Floors:
        return no_floors

    def locate(self, data_dir: Path | None) -> str | None:
        return f"made by {self.name}"

    def read(self, data_dir: Path | None) -> Arrays:
        return self.dataset.inputs.numpy(), self.dataset.targets.numpy()


@lru_cache(maxsize=8)
def _dataset(name: str, function: Callable[[], Any]) -> Dataset:
    with plugins.running("dataset", name, ()):
        made = function()
    what = f"dataset {name!r}"
    if not isinstance(made, Dataset):
        raise_problems([Problem(what, _kind(made), "a timelocal.data.Dataset")])
    raise_problems(_problems(what, made))
    Sequences(made.inputs, made.targets, made.lengths)  # refuses lengths that do not fit
    return made


def _problems(what: str, made: Dataset) -> list[Problem]:
    inputs, targets, card = made.inputs, made.targets, made.card
    if not isinstance(card, Card):
        return [Problem(f"{what}: card", _kind(card), "a timelocal.data.Card")]
    if not (isinstance(inputs, Tensor) and inputs.ndim == 3 and inputs.dtype == torch.float32):
        return [Problem(f"{what}: inputs", _told(inputs), "(N, T, I) torch.float32")]
    problems = []
    sequences, steps, _ = inputs.shape
    if card.shape != inputs.shape:
        problems.append(Problem(f"{what}: card.shape", card.shape, f"{tuple(inputs.shape)}"))
    entries = inputs.shape[:2] if card.stepwise else inputs.shape[:1]
    told = f"{sequences}, {steps}" if card.stepwise else f"{sequences},"
    if card.classes is None:
        expected = f"({told.rstrip(',')}, O) torch.float32, as card.classes is None"
        fits = isinstance(targets, Tensor) and targets.dtype == torch.float32
        fits = fits and targets.shape[:-1] == entries
    else:
        last = len(card.classes) - 1
        expected = f"({told}) torch.int64 from 0 to {last}, indices into card.classes"
        fits = isinstance(targets, Tensor) and targets.dtype == torch.int64
        fits = fits and targets.shape == entries
        fits = fits and bool(((targets >= 0) & (targets <= last)).all())
    if not fits:
        problems.append(Problem(f"{what}: targets", _told(targets), expected))
    return problems


def _told(values: object) -> str:
    if not isinstance(values, Tensor):
        return _kind(values)
    span = ""
    if values.dtype == torch.int64 and values.numel():
        span = f" from {int(values.min())} to {int(values.max())}"
    return f"{tuple(values.shape)} {values.dtype}{span}"


def _kind(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    return f"a {type(found).__name__}"
