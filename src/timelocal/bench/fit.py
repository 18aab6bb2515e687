"""The overhead of the training loop: an epoch through `fit` compared with its native calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from timelocal import kernels
from timelocal.bench.contestants import MAKERS
from timelocal.bench.measure import conditions, judged, seconds_of
from timelocal.bench.shapes import SHAPES
from timelocal.errors import UnsupportedError
from timelocal.rules import DFA
from timelocal.seeding import generator
from timelocal.training import fit

STEPS = 61
"""Updates per epoch: 610 sequences, as in Strawberry's training part, ten at a time."""
BAR = 1.6

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
}


def fit_benchmark(
    *, threads: int = 2, repeats: int = 15, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Microseconds per update of DFA on Strawberry's shape, in an epoch through `fit` and in the bare call.

    An epoch is everything between the ends of two epochs: cutting batches, the rule, the optimizer (fused),
    the state saved for resuming. The bare call is only the native one: scan, readout, credit.
    """
    found = {}
    with conditions(threads):
        for cell in ("rnn", "gru"):
            for optimizer in OPTIMIZERS:
                tell(f"fit, {cell}, {optimizer}")
                found[f"{cell.upper()}, {optimizer}"] = _measure(cell, optimizer, repeats)
        return {
            "threads": threads,
            "kernels": kernels.describe(),
            "microseconds": found,
            "bars": [
                judged(
                    f"an epoch through fit over its native calls: {name}",
                    times["fit"] / times["bare"],
                    "at most",
                    BAR,
                )
                for name, times in found.items()
            ],
        }


def _measure(cell: str, optimizer: str, repeats: int) -> dict[str, float]:
    """Medians over epochs, each followed by the same number of bare calls."""
    shape, draw = SHAPES["strawberry"], generator(0, "bench fit")
    network = MAKERS[cell](shape.inputs, shape.hidden, shape.outputs)
    rule = DFA(network)
    count = STEPS * shape.batch
    inputs = torch.randn(count, shape.steps, shape.inputs, generator=draw)
    targets = torch.randint(shape.outputs, (count,), generator=draw)
    weight, bias = (network.readout.get_parameter(name) for name in ("weight", "bias"))
    made = kernels.repeated_direct(
        kernels.DirectCall(
            cell=network.cell,
            weights=network.recurrent.weights(0, 0),
            inputs=network.time_first(inputs[: shape.batch]),
            initial=None,
            loss="cross_entropy",
            readout=weight,
            bias=bias,
            targets=targets[: shape.batch],
            feedback=rule.feedback_matrix(),
        )
    )
    if made is None:
        raise UnsupportedError(
            "fit: got the torch path, expected native kernels: there is no native call to compare with. "
            "`timelocal doctor` says why"
        )
    _, bare_call = made
    epochs, bare = [], []
    began = 0.0

    def watch() -> dict[str, float]:
        nonlocal began
        epochs.append(time.perf_counter() - began)
        bare.append(seconds_of(bare_call, STEPS))
        began = time.perf_counter()
        return {}

    fit(
        rule,
        OPTIMIZERS[optimizer](network.parameters(), lr=1e-4, fused=True),
        (inputs, targets),
        epochs=1 + repeats,
        batch_size=shape.batch,
        watch=watch,
    )
    return {"fit": 1e6 * median(epochs[1:]) / STEPS, "bare": 1e6 * median(bare[1:])}
