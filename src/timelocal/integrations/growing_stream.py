"""A stream of one sequence whose samples are dicts: its network widens as features and outputs appear."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from timelocal.arguments import seed_problem, whole_problem
from timelocal.errors import ArgumentError, Problem, raise_problems, unknown_name
from timelocal.network import GRU, LSTM, RNN, Network
from timelocal.rules import RULES
from timelocal.training import Stream
from timelocal.training.clipping import clip_problem
from timelocal.training.missing import Missing

Sample: TypeAlias = Mapping[Any, Any]
Fill: TypeAlias = Literal["mean", "hold"]

CELLS: dict[str, Callable[..., Network]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
ONLINE = {name: rule for name, rule in RULES.items() if rule.spec.online}
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "sgd": SGD,
}  # fmt: skip

_FARTHEST = 10.0
"""Standard deviations from the mean at which an input is cut: one outlier must not ruin the weights."""


class Options(NamedTuple):
    """The parts of a stream, except for its sizes."""

    cell: str
    hidden: int
    rule: str
    optimizer: str
    lr: float
    missing: str
    seed: int
    clip: float | None = None

    def check(self) -> None:
        """Raise one `ArgumentError` for all that is wrong with them."""
        fits = (
            isinstance(self.lr, Real) and not isinstance(self.lr, bool) and 0 < self.lr < math.inf
        )
        raise_problems(
            [
                unknown_name("cell", self.cell, CELLS),
                whole_problem("hidden", self.hidden),
                unknown_name("rule", self.rule, ONLINE),
                unknown_name("optimizer", self.optimizer, OPTIMIZERS),
                None if fits else Problem("lr", repr(self.lr), "a positive number"),
                unknown_name("missing", self.missing, get_args(Fill)),
                seed_problem(self.seed),
                clip_problem(self.clip),
            ]
        )

    def stream(self, inputs: int, outputs: int, loss: str) -> Stream:
        """A new stream; its readout is zero, so that it begins with the outputs of knowing nothing."""
        network = CELLS[self.cell](inputs, self.hidden, outputs, seed=self.seed)
        with torch.no_grad():
            for parameter in network.readout.parameters():
                parameter.zero_()
        rule = ONLINE[self.rule](network, loss=loss, seed=self.seed)
        optimizer = OPTIMIZERS[self.optimizer](rule.parameters(), lr=self.lr)  # type: ignore[call-arg]
        missing: Missing = "hold" if self.missing == "hold" else "raise"
        return Stream(rule, optimizer, missing=missing, clip=self.clip)


class Moments:
    """Running mean and standard deviation of some columns, by Welford's update; NaN is passed over."""

    def __init__(self, columns: int = 0) -> None:
        self.count, self.mean, self.squares = (np.zeros(columns) for _ in range(3))

    def update(self, values: np.ndarray) -> None:
        """Take in one sample of each column."""
        there = ~np.isnan(values)
        self.count += there
        off = np.where(there, values - self.mean, 0.0)
        self.mean += off / np.maximum(self.count, 1)
        self.squares += off * np.where(there, values - self.mean, 0.0)

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation; 1 of a column that never changed."""
        found = np.sqrt(self.squares / np.maximum(self.count, 1))
        return np.where(found > 0, found, 1.0)

    def standardized(self, values: np.ndarray) -> np.ndarray:
        """In deviations from the mean; NaN stays."""
        return np.clip((values - self.mean) / self.deviation, -_FARTHEST, _FARTHEST)

    def widen(self, places: list[int], columns: int) -> None:
        """Move the columns to these places among `columns`; the others are new."""
        for name in ("count", "mean", "squares"):
            wider = np.zeros(columns)
            wider[places] = getattr(self, name)
            setattr(self, name, wider)


class GrowingStream:
    """A `Stream` of one sequence of dict samples, standardized, with as many outputs as it needs.

    Features that were never seen before widen the network where it stands: what it computes from the others
    is the same as before, old weights, states, traces and moments of the optimizer stay. So do new outputs.

    Args:
        options: what the stream is made of.
        loss: "cross_entropy" or "mse".
        outputs: how many to begin with.
    """

    def __init__(self, options: Options, loss: str, outputs: int) -> None:
        self.options, self.loss = options, loss
        self.names: list[Hashable] = []
        self.moments = Moments()
        self.stream = options.stream(1, outputs, loss)

    def outputs(self, sample: Sample) -> list[float]:
        """The outputs of one more step, which is not made; features never seen are left out."""
        found: list[float] = self.stream.peek(self._inputs(self._row(numbers(sample))))[0].tolist()
        return found

    def learn(self, known: dict[Hashable, float], target: Tensor) -> None:
        """One step with its target, (1,) or (1, o); `known` is what `numbers` gave."""
        self._meet(known)
        row = self._row(known)
        self.moments.update(row)
        self.stream.step(self._inputs(row), target)

    def pass_on(self, sample: Sample) -> list[float]:
        """One step without a target; its outputs."""
        found: list[float] = self.stream.predict(self._inputs(self._row(numbers(sample))))[
            0
        ].tolist()
        return found

    def widen_outputs(self, outputs: int) -> None:
        """Grow to at least this many outputs."""
        network = self.stream.rule.network
        if outputs > network.output_size:
            places = list(range(network.output_size))
            self._replace(self.options.stream(network.input_size, outputs, self.loss), places)

    def __getstate__(self) -> dict[str, Any]:
        """Values alone, as arrays: the same stream is pickled to the same bytes."""
        stream, network = self.stream, self.stream.rule.network
        saved = {
            "rule": stream.rule.state_dict(),
            "optimizer": stream.optimizer.state_dict(),
            "stream": stream.state_dict(),
        }
        sizes = network.input_size, network.output_size
        return {**self.__dict__, "stream": _mapped(saved, Tensor, Tensor.numpy), "sizes": sizes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved, sizes = _mapped(state.pop("stream"), np.ndarray, torch.tensor), state.pop("sizes")
        self.__dict__.update(state)
        self.stream = self.options.stream(sizes[0], sizes[1], self.loss)
        self.stream.rule.load_state_dict(saved["rule"])
        self.stream.optimizer.load_state_dict(saved["optimizer"])
        self.stream.load_state_dict(saved["stream"])

    def _meet(self, names: Iterable[Hashable]) -> None:
        """Widen the inputs by the names that are new, in sorted order."""
        new = set(names).difference(self.names)
        if not new:
            return
        together = sorted([*self.names, *new], key=lambda name: (str(name), type(name).__name__))
        places = [together.index(name) for name in self.names]
        network = self.stream.rule.network
        wider = self.options.stream(len(together), network.output_size, self.loss)
        if not self.names and not self.stream.steps:
            self.stream = wider
        elif len(together) > network.input_size:
            self._replace(wider, places or [0])
        self.names = together
        self.moments.widen(places, len(together))

    def _row(self, known: Mapping[Hashable, float]) -> np.ndarray:
        return np.array([known.get(name, math.nan) for name in self.names])

    def _inputs(self, row: np.ndarray) -> Tensor:
        """(1, i): standardized; without any feature a zero."""
        if not self.names:
            return torch.zeros(1, 1)
        values = self.moments.standardized(row)
        if self.options.missing == "mean":
            values = np.nan_to_num(values, copy=False)
        return torch.from_numpy(values.astype(np.float32))[None]

    def _replace(self, wider: Stream, places: list[int]) -> None:
        """Go on in a stream with more inputs, or more outputs, in which the old ones have these places."""
        old = self.stream
        parameters = dict(wider.rule.named_parameters())
        kept = {
            # what is new of a weight is 0: old features give what they gave; of a feedback matrix, as drawn
            name: _widened(own, torch.zeros_like(new) if name in parameters else new, places)
            for (name, own), new in zip(
                old.rule.state_dict().items(), wider.rule.state_dict().values(), strict=True
            )
        }
        wider.rule.load_state_dict(kept)
        wider.optimizer.load_state_dict(old.optimizer.state_dict())
        for before, after in zip(old.rule.parameters(), wider.rule.parameters(), strict=True):
            wider.optimizer.state[after] = {
                name: _widened(own, torch.zeros_like(after), places)
                if isinstance(own, Tensor) and own.shape == before.shape
                else own
                for name, own in old.optimizer.state[before].items()
            }
        fresh = wider.state_dict()
        wider.load_state_dict(
            {
                name: _widened(own, fresh[name], places) if own.dim() > 1 else own
                for name, own in old.state_dict().items()
            }
        )
        self.stream = wider


def _mapped(tree: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same dicts and lists, with each leaf of a kind changed."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, dict):
        return {name: _mapped(own, kind, change) for name, own in tree.items()}
    return [_mapped(own, kind, change) for own in tree] if isinstance(tree, list) else tree


def _widened(old: Tensor, new: Tensor, places: list[int]) -> Tensor:
    """`new` with `old` in it: along the one axis that is longer now, at these places."""
    longer = [axis for axis in range(old.dim()) if old.shape[axis] != new.shape[axis]]
    if not longer:
        return old.clone()
    if len(longer) > 1 or old.shape[longer[0]] != len(places):
        return new  # a trace over all parameters in one row: it begins again
    return new.clone().index_copy_(longer[0], torch.tensor(places), old)


def numbers(sample: Sample) -> dict[Hashable, float]:
    """The features that are known, as numbers; dates are left out: the order of the stream is its clock.

    Raises:
        ArgumentError: for text and the like, and infinite numbers; all of them at once.
    """
    found: dict[Hashable, float] = {}
    wrong: list[Problem] = []
    for name, value in sample.items():
        if value is None or isinstance(value, datetime.date):
            continue
        number = math.nan
        try:
            number = float(value) if not isinstance(value, str) else math.inf
        except (TypeError, ValueError, OverflowError):
            number = math.inf
        if math.isinf(number):
            remedy = "Encode it first, for instance with river's preprocessing.OneHotEncoder()."
            wrong.append(Problem(f"feature {name!r}", repr(value), "a finite number", remedy))
        elif not math.isnan(number):
            found[name] = number
    raise_problems(wrong)
    return found


def number(name: str, value: object) -> float:
    """A target as a finite number; an `ArgumentError` otherwise."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ArgumentError(str(Problem(name, repr(value), "a finite number")))
    return found
