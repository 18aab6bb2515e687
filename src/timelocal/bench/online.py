"""Learning at every step of a stream: one native call against the same steps in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from timelocal import kernels
from timelocal.bench.measure import Call, Sense, Timing, conditions, interleaved, judged
from timelocal.kernels import OnlineSettings, OnlineState, OnlineWeights, torch_online
from timelocal.seeding import generator


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
        (f"native against torch: {name}", (name, "torch"), (name, "native"), "at least", bar)
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
    steps = {"native": max(100, 200_000 // rows), "torch": 30}
    calls = {
        "native": _call(stream, kernels.online, steps["native"]),
        "torch": _call(stream, torch_online.online, steps["torch"]),
    }
    timed = interleaved(calls, repeats=repeats)
    return {
        path: Timing(t.median / steps[path], t.low / steps[path], t.high / steps[path])
        for path, t in timed.items()
    }


def _call(stream: Stream, online: Callable[..., object], steps: int) -> Call:
    """A chunk of the stream; learning is slow enough for the weights to stay what they are."""
    draw, size = generator(0, "bench online"), stream.hidden

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    weights = OnlineWeights(
        normal(size, 1),
        normal(size, size) * size**-0.5,
        normal(size),
        normal(size),
        normal(1, size) * size**-0.5,
        normal(1),
        torch.eye(size) if stream.decorrelates else None,
    )
    carries = stream.directions is None
    noisy = torch.zeros(stream.batch, size) if carries else None
    state = OnlineState(torch.zeros(stream.batch, size), noisy)
    settings = OnlineSettings(
        stream.kind,
        1e-6,
        sigma=1e-2,
        decorrelation_lr=1e-6,
        directions=stream.directions or 1,
        orthogonal=not carries,
    )
    inputs, targets = normal(steps, stream.batch, 1), normal(steps, stream.batch, 1)
    return lambda: online(settings, weights, state, inputs, targets)
