"""Whole sequences: perturbations compared with torch's BPTT, and DFA of large cells with the peak rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from timelocal import kernels
from timelocal.bench.contestants import MAKERS, torch_bptt
from timelocal.bench.measure import Call, Timing, conditions, interleaved, judged, peak
from timelocal.bench.run import PASSES
from timelocal.bench.shapes import Shape
from timelocal.rules import ANP, DFA, NP, WP, Rule
from timelocal.seeding import generator
from timelocal.typing import Place

SMALL = Shape("perturbations", 32, 100, 8, 64, 10)
RULES: dict[str, Callable[..., Rule]] = {"dfa": DFA, "np": NP, "anp": ANP, "wp": WP}
BARS = {  # required speed-ups over torch's BPTT
    "rnn": {"np": 4.0, "anp": 4.0, "wp": 1.5},
    "gru": {"np": 4.0, "anp": 4.0, "wp": 1.5},
    "lstm": {"np": 2.5, "anp": 2.5, "wp": 1.5},
}
PLACES: tuple[Place, ...] = ("last", "every")
LARGE = {"lstm": Shape("large", 64, 50, 8, 512, 10), "gru": Shape("large", 64, 50, 8, 1024, 10)}
SHARE = 0.75
"""The required share of the processor's peak multiply-add rate, for DFA of the large cells."""


def sequences_benchmark(
    *, threads: int = 1, repeats: int = 9, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Microseconds per step of every call, and the bars, as plain numbers.

    Single precision; subnormals are flushed for all.
    """
    with conditions(threads):
        found: dict[str, dict[str, Timing]] = {}
        for cell in BARS:
            for at in PLACES:
                tell(f"{cell}, loss at {at}")
                calls = _calls(SMALL, cell, at, RULES)
                found[f"{cell}, {at}"] = interleaved(calls, repeats=repeats)
        large, peaks = {}, {}
        for cell, shape in LARGE.items():
            tell(f"{cell}, H = {shape.hidden}")
            loop, operations = peak(threads)
            calls = {"peak": loop, **_calls(shape, cell, "last", {"dfa": DFA})}
            large[cell] = interleaved(calls, repeats=repeats)
            peaks[cell] = operations / large[cell].pop("peak").median
        by_name = {
            f"{cell}, H = {LARGE[cell].hidden}: {name}": 1e6 * timing.median / LARGE[cell].steps
            for cell, times in large.items()
            for name, timing in times.items()
        }
        return {
            "threads": threads,
            "kernels": kernels.describe(),
            "microseconds": {
                name: {rule: 1e6 * timing.median / SMALL.steps for rule, timing in times.items()}
                for name, times in found.items()
            },
            "large": by_name,
            "bars": bars(found, large, peaks),
        }


def bars(
    found: Mapping[str, Mapping[str, Timing]],
    large: Mapping[str, Mapping[str, Timing]],
    peaks: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Each requirement, the measured value, and whether it is met."""
    made = []
    for name, times in found.items():
        for rule, limit in BARS[name.partition(",")[0]].items():
            ratio = times["torch"].median / times[rule].median
            what = f"{name}: {rule} against BPTT by torch"
            made.append(judged(what, ratio, "at least", limit))
    for cell, times in large.items():
        shape = LARGE[cell]
        operations = PASSES["dfa"] * shape.forward_flops(cell)
        share = operations / times["dfa"].median / peaks[cell]
        what = f"{cell}, H = {shape.hidden}: DFA, of the multiply-add peak"
        made.append(judged(what, share, "at least", SHARE))
    return made


def _calls(
    shape: Shape, cell: str, at: Place, rules: Mapping[str, Callable[..., Rule]]
) -> dict[str, Call]:
    network = MAKERS[cell](shape.inputs, shape.hidden, shape.outputs)
    draw = generator(0, "bench sequences")
    inputs = torch.randn(shape.batch, shape.steps, shape.inputs, generator=draw)
    entries = (shape.batch,) if at == "last" else (shape.batch, shape.steps)
    targets = torch.randint(shape.outputs, entries, generator=draw)
    calls: dict[str, Call] = {"torch": torch_bptt(network, inputs, targets)}
    for name, make in rules.items():
        rule = make(network, at=at)
        calls[name] = partial(rule.estimate, inputs, targets)
    return calls
