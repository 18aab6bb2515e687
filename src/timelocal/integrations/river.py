"""Recurrent networks for river: they learn from one sample at a time, in its order, without BPTT.

    from river import datasets, evaluate, metrics
    from timelocal.integrations.river import RecurrentClassifier

    evaluate.progressive_val_score(datasets.Phishing(), RecurrentClassifier(), metrics.Accuracy())

Samples are dicts of numbers (and booleans); dates are left out. Features may come and go. All learning is
that of `timelocal.Stream`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from timelocal.optional import require

require("river", extra="river", for_="timelocal.integrations.river")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from river import base  # noqa: E402
from river.time_series.base import Forecaster  # noqa: E402

from timelocal.arguments import whole_problem  # noqa: E402
from timelocal.errors import ArgumentError, Problem, raise_problems  # noqa: E402
from timelocal.integrations.growing_stream import (  # noqa: E402
    Fill,
    GrowingStream,
    Moments,
    Options,
    Sample,
    number,
    numbers,
)

__all__ = ["RecurrentClassifier", "RecurrentForecaster", "RecurrentRegressor"]


class _Recurrent:
    """The common part of the estimators: their options, as river expects them, and their tests."""

    def __init__(
        self,
        cell: str = "gru",
        hidden: int = 32,
        rule: str = "snap1",
        optimizer: str = "adam",
        lr: float = 0.01,
        missing: Fill = "mean",
        seed: int = 0,
        clip: float | None = None,
    ) -> None:
        self.cell = cell
        self.hidden = hidden
        self.rule = rule
        self.optimizer = optimizer
        self.lr = lr
        self.missing = missing
        self.seed = seed
        self.clip = clip
        options = Options(cell, hidden, rule, optimizer, lr, missing, seed, clip)
        options.check()
        self._begin(options)

    @abstractmethod
    def _begin(self, options: Options) -> None:
        """Create the stream and the estimator's other state."""

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"hidden": 8}
        yield {"hidden": 8, "cell": "lstm", "rule": "dfa", "missing": "hold"}


class _OfNumbers(_Recurrent):
    """Estimators of a number, standardized by its running mean and standard deviation."""

    def _begin(self, options: Options) -> None:
        self._target = Moments(1)
        self._stream = GrowingStream(options, "mse", 1)

    def _learn(self, known: dict[Hashable, float], target: np.ndarray) -> None:
        self._target.update(target)
        scaled = self._target.standardized(target).astype(np.float32)
        self._stream.learn(known, torch.from_numpy(scaled)[None])

    def _told(self, outputs: list[float]) -> float:
        return float(self._target.mean[0] + outputs[0] * self._target.deviation[0])


class RecurrentClassifier(_Recurrent, base.Classifier):
    """A recurrent network that classifies each sample in the light of those before it.

    Its state moves with `learn_one` alone: predictions change nothing, and may be asked for in any order.
    Features are standardized by running means and deviations. New features and new classes widen the network
    where it stands; its old weights are kept.

    Args:
        cell: "gru", "lstm" or "rnn". hidden: its units.
        rule: the name of a rule that learns online, such as "snap1", "dfa", "eprop", "tbptt" or "np".
        optimizer: "adam", "adamw", "rmsprop" or "sgd". lr: its learning rate.
        missing: what replaces a missing feature (None or NaN): its "mean" so far, or, with "hold", its last
            value.
        seed: of initial weights, feedback and noise.
        clip: the largest norm of a step's gradient; None does not clip.

    Raises:
        ArgumentError: for unknown names and sizes that are not positive; from its methods, for features that
            are not finite numbers; nothing is changed then.

    >>> model = RecurrentClassifier()
    >>> for _ in range(20):
    ...     model.learn_one({"a": 0.0}, "low")
    ...     model.learn_one({"a": 1.0}, "high")
    >>> model.predict_one({"a": 0.0})
    'low'
    """

    def _begin(self, options: Options) -> None:
        self._classes: dict[Hashable, int] = {}
        self._stream = GrowingStream(options, "cross_entropy", 2)

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: Sample, y: Hashable) -> None:
        """Make one step with these features, and learn that its class was `y`."""
        known = numbers(x)
        index = self._classes.setdefault(y, len(self._classes))
        self._stream.widen_outputs(len(self._classes))
        self._stream.learn(known, torch.tensor([index]))

    def predict_proba_one(self, x: Sample, **kwargs: Any) -> dict[Hashable, float]:
        """The probability of each class seen so far."""
        if not self._classes:
            return {}
        outputs = self._stream.outputs(x)[: len(self._classes)]
        highest = max(outputs)
        weights = [math.exp(output - highest) for output in outputs]
        whole = sum(weights)
        return {label: weights[index] / whole for label, index in self._classes.items()}


class RecurrentRegressor(_OfNumbers, base.Regressor):
    """A recurrent network that predicts a number for each sample, given the previous ones.

    Features and target are standardized by running means and standard deviations. For the rest see
    `RecurrentClassifier`.

    Args:
        The same as those of `RecurrentClassifier`.

    >>> model = RecurrentRegressor()
    >>> for step in range(200):
    ...     model.learn_one({"a": step % 2}, 5 + step % 2)
    >>> round(model.predict_one({"a": 0}))
    5
    """

    def learn_one(self, x: Sample, y: float) -> None:
        """Make one step with these features, and learn that its target was `y`."""
        self._learn(numbers(x), np.array([number("y", y)]))

    def predict_one(self, x: Sample) -> float:
        """The predicted target; the running mean before anything was learned."""
        return self._told(self._stream.outputs(x))


class RecurrentForecaster(_OfNumbers, Forecaster):
    """A recurrent network that forecasts a series from its past values, and from features if there are any.

    As in river's SNARIMAX, the series is differenced first, and forecasts are summed up again. The network
    sees the last `p` differences and the features of the step, and forecasts the next difference; further
    steps are forecast from earlier forecasts. It starts by forecasting the mean difference.

    Args:
        p: the number of past differences that the network sees besides its own state.
        d: how often the series is differenced; 0 for a stationary series.
        m: the length of a season in steps. sd: how often it is differenced at that distance.
        The rest: as in `RecurrentClassifier`.

    >>> model = RecurrentForecaster(m=4, sd=1)
    >>> for step in range(40):
    ...     model.learn_one(float(step % 4))
    >>> [round(value) for value in model.forecast(4)]
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        p: int = 1,
        d: int = 1,
        m: int = 1,
        sd: int = 0,
        cell: str = "gru",
        hidden: int = 32,
        rule: str = "snap1",
        optimizer: str = "adam",
        lr: float = 0.01,
        missing: Fill = "mean",
        seed: int = 0,
        clip: float | None = None,
    ) -> None:
        orders = (("p", p, 0), ("d", d, 0), ("m", m, 1), ("sd", sd, 0))
        raise_problems(whole_problem(name, value, least) for name, value, least in orders)
        super().__init__(cell, hidden, rule, optimizer, lr, missing, seed, clip)
        self.p = p
        self.d = d
        self.m = m
        self.sd = sd
        self._weights = _difference_weights(d, m, sd)
        self._past: deque[float] = deque(maxlen=len(self._weights))
        self._differences: deque[float] = deque(maxlen=p)

    def learn_one(self, y: float, x: Sample | None = None) -> None:
        """Make one step of the series, and learn that its value was `y`."""
        known, value = numbers(self._seen(x, self._differences)), number("y", y)
        if len(self._past) == len(self._weights):
            target = np.array([value - self._level(self._past)])
            self._learn(known, target)
            self._differences.appendleft(float(target[0]))
        self._past.appendleft(value)

    def forecast(self, horizon: int, xs: Sequence[Sample] | None = None) -> list[float]:
        """The next `horizon` values; `xs` are the features of those steps, if there are any."""
        samples: Sequence[Sample | None] = [None] * horizon if xs is None else xs
        if len(samples) != horizon:
            got = f"features of {len(samples)} steps"
            raise ArgumentError(str(Problem("xs", got, f"of {horizon} steps, as the horizon")))
        past, differences = self._past.copy(), self._differences.copy()
        found: list[float] = []
        stream = self._stream.stream
        before = stream.state_dict()
        for x in samples:
            difference = self._told(self._stream.pass_on(self._seen(x, differences)))
            found.append(difference + self._level(past))
            differences.appendleft(difference)
            past.appendleft(found[-1])
        stream.load_state_dict(before)
        return found

    def _seen(self, x: Sample | None, differences: deque[float]) -> dict[Hashable, Any]:
        return {**(x or {}), **{f"y-{1 + age}": value for age, value in enumerate(differences)}}

    def _level(self, past: deque[float]) -> float:
        """The next value if its difference is 0; with too short a past, the last value."""
        if len(past) < len(self._weights):
            return past[0] if past else 0.0
        return sum(weight * value for weight, value in zip(self._weights, past, strict=True))


def _difference_weights(d: int, m: int, sd: int) -> list[float]:
    """Of the values 1, 2, … steps ago in 1 − (1 − B)^d (1 − B^m)^sd, where B is one step back."""
    polynomial = np.ones(1)
    for distance in [1] * d + [m] * sd:
        polynomial = np.convolve(polynomial, [1.0, *[0.0] * (distance - 1), -1.0])
    return [float(-weight) for weight in polynomial[1:]]
