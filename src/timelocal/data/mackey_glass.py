"""mackey-glass: a chaotic curve, to be predicted 15 steps ahead; and its recall, 15 steps back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from timelocal.arguments import LARGEST, memory_problem, seed_problem, whole_problem
from timelocal.data.dataset import Arrays, BuiltIn, Card
from timelocal.data.metrics import mse, nrmse
from timelocal.data.sequences import Sequences, Split
from timelocal.data.trivial import linear_on_lags, persistence
from timelocal.errors import raise_problems
from timelocal.seeding import generator

TAU = 17
HORIZON = 15
LAGS = 50
_SUBSTEPS = 10  # Euler steps per unit of time: what is known of this benchmark is at this step
_DELAY = TAU * _SUBSTEPS
_WASHOUT = 1000  # units of time after which streams from nearly equal histories have parted
_MEAN = -0.066  # of tanh(x − 1) in the long run: centred without a look at the other streams


def mackey_glass_streams(
    streams: int, steps: int = 5000, horizon: int = HORIZON, seed: int = 0
) -> Sequences:
    """Independent streams of the Mackey-Glass equation, and the same streams `horizon` steps later.

    dx/dt = 0.2 x(t−τ) / (1 + x(t−τ)¹⁰) − 0.1 x(t) with τ = 17, by Euler's method with a step of
    0.1, one value per unit of time; the curve is tanh(x − 1) + 0.066, of mean 0 and deviation 0.22.
    A stream starts from a history drawn uniformly from 1.1..1.3; its first 1000 units are dropped.

    Args:
        streams: N, 1 or more; stream n depends only on the seed and on n.
        steps: T, 1 or more.
        horizon: h, from inputs to targets; if negative the targets lie in the past.
        seed: 0 or more.

    Returns:
        Sequences with inputs x(t) and targets x(t+h), both (N, T, 1) float32.

    Raises:
        ArgumentError: no stream, no step, or an invalid seed.

    Source: A. R. Voelker, I. Kajić, C. Eliasmith, Legendre Memory Units, NeurIPS 2019, from which this
    differs in the washout (theirs, of 100, leaves streams that start alike) and in the mean (they subtract
    that of all streams, training and test).

    >>> part = mackey_glass_streams(streams=2, steps=100)
    >>> part.inputs.shape, bool((part.inputs[:, 15:] == part.targets[:, :-15]).all())
    (torch.Size([2, 100, 1]), True)
    """
    raise_problems(
        [
            whole_problem("streams", streams),
            whole_problem("steps", steps),
            whole_problem("horizon", horizon, -LARGEST),
            seed_problem(seed),
        ]
    )
    streams, steps, horizon = int(streams), int(steps), int(horizon)
    length = steps + abs(horizon)
    needed = 8 * streams * (_WASHOUT + length) * _SUBSTEPS
    raise_problems([memory_problem("streams, steps, horizon", needed)])
    x = solve(_histories(streams, seed), _WASHOUT + length)[_WASHOUT:]
    curve = torch.from_numpy((np.tanh(x - 1) - _MEAN).astype(np.float32).T.copy()).unsqueeze(-1)
    early, late = curve[:, :steps], curve[:, length - steps :]
    return Sequences(early, late) if horizon >= 0 else Sequences(late, early)


def solve(histories: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """The solution at the times 1..T.

    Only sums, products and quotients are used, which are the same to the last bit on every machine; anything
    else would not be reproducible for a chaotic curve.

    Args:
        histories: (171, N), x at the times −17, −16.9, …, 0.
        steps: T.

    Returns:
        (T, N).

    >>> solve(np.ones((171, 1)), 2).tolist()  # a fixed point
    [[1.0], [1.0]]
    """
    count = steps * _SUBSTEPS
    x = np.empty((_DELAY + 1 + count, histories.shape[1]))
    x[: _DELAY + 1] = histories
    # Production depends on values one delay ago, so it is known that far ahead; only the decay is sequential.
    for start in range(0, count, _DELAY):
        now = start + _DELAY
        past = x[start : min(now, count)]
        square = past * past
        fourth = square * square
        produced = 0.2 * past / (1 + fourth * fourth * square)
        for k, production in enumerate(produced, start=now):
            x[k + 1] = x[k] + (production - 0.1 * x[k]) / _SUBSTEPS
    return x[_DELAY + _SUBSTEPS :: _SUBSTEPS]


def _histories(streams: int, seed: int) -> NDArray[np.float64]:
    uniform = [
        torch.rand(_DELAY + 1, dtype=torch.float64, generator=generator(seed, "mackey-glass", n))
        for n in range(streams)
    ]
    return 1.1 + 0.2 * torch.stack(uniform, dim=1).numpy()


def _floors(split: Split) -> dict[str, float]:
    train, test = split.train, split.test
    linear = linear_on_lags(train, test, LAGS, ridge=1e-10)  # next to none
    return {
        "persistence, MSE": mse(persistence(test), test.targets),
        f"linear on {LAGS} lags, MSE": mse(linear, test.targets[:, LAGS - 1 :]),
        "persistence, NRMSE": nrmse(persistence(test), test.targets),
        f"linear on {LAGS} lags, NRMSE": nrmse(linear, test.targets[:, LAGS - 1 :]),
    }


def _entry(name: str, title: str, horizon: int, *notes: str) -> BuiltIn:
    def make() -> Arrays:
        streams = mackey_glass_streams(30, horizon=horizon)
        return streams.inputs.numpy(), streams.targets.numpy()

    return BuiltIn(
        card=Card(
            name=name,
            title=title,
            shape=(30, 5000, 1),
            classes=None,
            class_counts=None,
            source="computed here: timelocal.data.mackey_glass_streams(30, seed=0)",
            citation=(
                "M. C. Mackey, L. Glass. Oscillation and chaos in physiological control systems. "
                "Science 197(4300):287-289, 1977.",
                "A. R. Voelker, I. Kajić, C. Eliasmith. Legendre Memory Units: Continuous-Time "
                "Representation in Recurrent Neural Networks. NeurIPS 2019.",
            ),
            terms="none: a formula",
            notes=(
                *notes,
                "τ = 17, Euler steps of 0.1, one value per unit of time, tanh(x − 1) + 0.066.",
                "10 streams each to train, to validate and to test.",
                "Published test NRMSE, 15 ahead: LSTM 0.0587, LMU 0.0487 (Voelker et al.).",
            ),
            parts=(10, 10, 10),
        ),
        make=make,
        floors=_floors,
    )


ENTRIES = (
    _entry(
        "mackey-glass",
        "The chaotic Mackey-Glass curve, to be predicted 15 steps ahead",
        HORIZON,
        "Inputs x(t), targets x(t + 15).",
    ),
    _entry(
        "mackey-glass-recall",
        "The chaotic Mackey-Glass curve, to be recalled 15 steps back",
        -HORIZON,
        "Inputs x(t + 15), targets x(t): not a prediction, but the task of some published results.",
    ),
)
