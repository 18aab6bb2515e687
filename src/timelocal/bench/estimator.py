"""The time of an estimator's `fit`, compared with a torch loop on the same network and with sktime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from timelocal import data, kernels
from timelocal.bench.measure import conditions, interleaved, judged

UNITS, EPOCHS, BATCH, RATE = 64, 5, 32, 0.01
BAR = 5.0
"""The required speed-up of DFA over the torch loop."""

Fit = Callable[[NDArray[np.float32], NDArray[Any]], object]


def estimator_benchmark(
    estimators: Mapping[str, Fit],
    *,
    threads: int = 2,
    repeats: int = 5,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Seconds per `fit` on Strawberry's training part: GRU, 64 units, 5 epochs of Adam, 32 series per update.

    Args:
        estimators: the `fit` of each by name, all with these sizes; the first one is judged.
        threads: of torch, for all.
        repeats: fits of each, in turn.

    Returns:
        `microseconds` and `bars`, as in the other benchmarks.

    Raises:
        DataError: Strawberry is not available and cannot be downloaded.
    """
    train = data.split(data.load("strawberry"), seed=0).train
    X, y = train.inputs[..., 0].numpy(), train.targets.numpy()
    fits: dict[str, Fit] = {**estimators, "a loop of torch, BPTT": _torch_loop}
    if find_spec("sktime") is not None:
        fits["sktime's GRUClassifier, BPTT"] = _sktime
    tell(f"fit of estimators: {', '.join(fits)}")
    with conditions(threads):
        calls = {name: lambda fit=fit: fit(X, y) for name, fit in fits.items()}
        found = interleaved(calls, repeats=repeats, at_least=0.0)
    seconds = {name: timing.median for name, timing in found.items()}
    first = next(iter(estimators))
    bars = [
        judged(f"{name} over {first}", seconds[name] / seconds[first], "at least", BAR)
        for name in seconds
        if name not in estimators
    ]
    return {
        "threads": threads,
        "kernels": kernels.describe(),
        "series": list(X.shape),
        "title": "microseconds",
        "microseconds": {name: {"a fit": 1e6 * one} for name, one in seconds.items()},
        "bars": bars,
    }


def _torch_loop(X: NDArray[np.float32], y: NDArray[Any]) -> None:
    """As a torch user would write it."""
    torch.manual_seed(0)
    gru, readout = torch.nn.GRU(1, UNITS, batch_first=True), torch.nn.Linear(UNITS, 2)
    optimizer = torch.optim.Adam([*gru.parameters(), *readout.parameters()], lr=RATE)
    inputs, targets = torch.from_numpy((X - X.mean()) / X.std())[..., None], torch.from_numpy(y)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            outputs = readout(gru(inputs[batch])[0][:, -1])
            torch.nn.functional.cross_entropy(outputs, targets[batch]).backward()
            optimizer.step()


def _sktime(X: NDArray[np.float32], y: NDArray[Any]) -> None:
    """sktime's network with one layer of the same size; its arrays are (n, features, t)."""
    sktime = import_module("sktime.classification.deep_learning.gru")
    sktime.GRUClassifier(
        hidden_dim=UNITS, n_layers=1, batch_first=True, num_epochs=EPOCHS, batch_size=BATCH, lr=RATE,
        optimizer="Adam", random_state=0,
    ).fit(X[:, None].astype(np.float64), y)  # fmt: skip
