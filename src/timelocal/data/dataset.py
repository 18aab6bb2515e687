"""Data sets: arrays and a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from timelocal.data.sequences import Split

Arrays: TypeAlias = tuple[NDArray[np.float32], NDArray[Any]]
"""Inputs (N, T, I) and N rows of targets."""


@dataclass(frozen=True)
class Card:
    """What to know about a data set before using it.

    `shape` is (sequences, steps, features). `classes` and `class_counts` are in the order of the
    labels 0, 1, …, and None where the targets are values. `parts` are the numbers of sequences for training,
    validation and test, in this order, if the data define them; `split` then uses them, and draws parts
    otherwise. `between` is the number of sequences between two parts that are in neither. `lengths` are the
    valid steps of each sequence, if they differ. `stepwise` is whether there is a target per step, not per
    sequence; None: per step if they are values. `one_hot` is whether these values are one-hot classes.
    `consecutive` is whether each part begins where the one before it ends. `features` and `outputs` are the
    names of inputs and of values to predict, if they have any.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...] | None
    class_counts: tuple[int, ...] | None
    source: str
    citation: tuple[str, ...]
    terms: str
    notes: tuple[str, ...] = ()
    parts: tuple[int, int, int] | None = None
    between: int = 0
    lengths: tuple[int, ...] | None = None
    features: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    stepwise: bool | None = None
    one_hot: bool = False
    consecutive: bool = False

    def __post_init__(self) -> None:
        if self.stepwise is None:
            object.__setattr__(self, "stepwise", self.classes is None)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named set of sequences: inputs (N, T, I) float32, targets (N, ...), and its card."""

    name: str
    inputs: Tensor
    targets: Tensor
    card: Card
    lengths: Tensor | None = None

    def __len__(self) -> int:
        return self.inputs.shape[0]


Floors: TypeAlias = Callable[[Split], dict[str, float]]
"""The test errors of the trivial predictors, by predictor and metric."""


def no_floors(split: Split) -> dict[str, float]:
    """For a data set of classes, whose floor is the majority class."""
    return {}


@runtime_checkable
class Entry(Protocol):
    """An entry of the registry: a card, and access to the arrays it describes."""

    @property
    def card(self) -> Card: ...

    @property
    def floors(self) -> Floors: ...

    def locate(self, data_dir: Path | None) -> str | None:
        """Where the data are available now, or None if they would have to be fetched."""

    def read(self, data_dir: Path | None) -> Arrays:
        """The arrays, fetched first if necessary."""


@dataclass(frozen=True)
class BuiltIn:
    """A data set that needs no file: it ships with an installed library, or is computed from a formula."""

    card: Card
    make: Callable[[], Arrays]
    floors: Floors = no_floors

    def locate(self, data_dir: Path | None) -> str | None:
        return "built in"

    def read(self, data_dir: Path | None) -> Arrays:
        return self.make()


@dataclass(frozen=True)
class Derived:
    """A data set derived from the arrays of another, which are found and checked like those."""

    source: Entry
    card: Card
    change: Callable[[Arrays], Arrays]
    floors: Floors = no_floors

    def locate(self, data_dir: Path | None) -> str | None:
        return self.source.locate(data_dir)

    def read(self, data_dir: Path | None) -> Arrays:
        return self.change(self.source.read(data_dir))
