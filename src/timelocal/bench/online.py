"""Learning at every step of a stream: a chunk in one native call against `Stream.step`, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from timelocal import kernels
from timelocal.bench.measure import Call, Sense, Timing, conditions, interleaved, judged
from timelocal.network import RNN, Decorrelation
from timelocal.rules import ANP, NP, WP
from timelocal.seeding import generator
from timelocal.training import Stream as LiveStream


@dataclass(frozen=True)
class Stream:
    """B streams of one input, H hidden units and one output, learning by one rule.

    directions: of orthogonal noise that lasts one step; None: one, of Gaussian noise that is carried on.
    """

    name: str
    kind: str
    hidden: int
    batch: int
    decorrelates: bool = False
    directions: int | None = None


STREAMS = (
    Stream("ANP, H = 100, B = 10", "anp", 100, 10),
    Stream("DANP, H = 100, B = 10", "anp", 100, 10, True),
    Stream("ANP, H = 100, B = 10, 128 directions", "anp", 100, 10, directions=128),
    Stream("ANP, H = 500, B = 1", "anp", 500, 1),
    Stream("DANP, H = 500, B = 1", "anp", 500, 1, True),
    Stream("NP, H = 500, B = 1", "np", 500, 1),
    Stream("WP, H = 500, B = 1", "wp", 500, 1),
    Stream("ANP, H = 1000, B = 10", "anp", 1000, 10),
    Stream("DANP, H = 1000, B = 10", "anp", 1000, 10, True),
)

Of = tuple[str, str]
"""A stream and the path it takes."""
BARS: tuple[tuple[str, Of, Of, Sense, float], ...] = (  # what, slower, faster, the bar
    *(
        (
            f"one call against step by step: {name}",
            (name, "steps"),
            (name, "native"),
            "at least",
            bar,
        )
        for name, bar in (
            ("ANP, H = 100, B = 10", 8.0),
            ("DANP, H = 100, B = 10", 8.0),
            ("ANP, H = 500, B = 1", 3.0),
            ("DANP, H = 500, B = 1", 3.0),
            ("ANP, H = 1000, B = 10", 1.5),
            ("DANP, H = 1000, B = 10", 1.5),
        )
    ),
    (
        "decorrelation: DANP over ANP, H = 1000",
        ("DANP, H = 1000, B = 10", "native"),
        ("ANP, H = 1000, B = 10", "native"),
        "at most",
        2.5,
    ),
    (
        "noise on weights: WP over NP, H = 500",
        ("WP, H = 500, B = 1", "native"),
        ("NP, H = 500, B = 1", "native"),
        "at most",
        6.0,
    ),
)
EPOCH = ("seconds of a DANP epoch of 5,000 steps, H = 1000, B = 10", "DANP, H = 1000, B = 10", 8.0)


def online_benchmark(
    *, threads: int = 2, repeats: int = 9, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Microseconds a step of every stream on both paths, and the bars, as plain numbers.

    Single precision; subnormals are flushed for everyone.
    """
    found = {}
    with conditions(threads):
        for stream in STREAMS:
            tell(stream.name)
            found[stream.name] = _measure(stream, repeats)
        return {
            "threads": threads,
            "kernels": kernels.describe(),
            "microseconds": {
                name: {path: 1e6 * timing.median for path, timing in timings.items()}
                for name, timings in found.items()
            },
            "bars": bars(found),
        }


def bars(found: dict[str, dict[str, Timing]]) -> list[dict[str, Any]]:
    """What was asked for, what was measured, and whether it is met."""
    made = [
        judged(what, found[slow][slow_path].median / found[fast][fast_path].median, sense, limit)
        for what, (slow, slow_path), (fast, fast_path), sense, limit in BARS
    ]
    what, name, limit = EPOCH
    return [*made, judged(what, 5000 * found[name]["native"].median, "at most", limit)]


def _measure(stream: Stream, repeats: int) -> dict[str, Timing]:
    """Seconds a step on each path, in turn."""
    rows = stream.hidden * (stream.directions or 1)
    count = {"native": max(100, 200_000 // rows), "steps": 30}
    calls = {"native": _chunk(stream, count["native"]), "steps": _steps(stream, count["steps"])}
    timed = interleaved(calls, repeats=repeats)
    return {
        path: Timing(t.median / count[path], t.low / count[path], t.high / count[path])
        for path, t in timed.items()
    }


RULES: dict[str, Callable[..., NP | ANP | WP]] = {"np": NP, "anp": ANP, "wp": WP}


def _made(stream: Stream, steps: int) -> tuple[LiveStream, torch.Tensor, torch.Tensor]:
    """The stream and a chunk for it; learning is slow enough for the weights to stay what they are."""
    law = Decorrelation(1e-6) if stream.decorrelates else None
    network = RNN(1, stream.hidden, 1, decorrelate=law)
    options = {} if stream.directions is None else {
        "carry": False, "noise": "orthogonal", "directions": stream.directions
    }  # fmt: skip
    rule = RULES[stream.kind](network, loss="mse", sigma=1e-2, **options)
    live = LiveStream(rule, torch.optim.SGD(rule.parameters(), lr=1e-6), stream.batch)
    draw = generator(0, "bench online")
    inputs, targets = (torch.randn(stream.batch, steps, 1, generator=draw) for _ in range(2))
    return live, inputs, targets


def _chunk(stream: Stream, steps: int) -> Call:
    live, inputs, targets = _made(stream, steps)
    return lambda: live.run(inputs, targets)


def _steps(stream: Stream, steps: int) -> Call:
    live, inputs, targets = _made(stream, steps)

    def one_by_one() -> None:
        for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
            live.step(x, y)

    return one_by_one
