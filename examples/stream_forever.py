"""A stream without an end, and a memory longer than any window: `python stream_forever.py`.

A number is drawn at every step, and once in 200 to 800 steps it is marked. Once for every mark, 100 steps
after it or later, the network is asked for the number that was marked last; nothing else is learned from. A
minGRU whose update gate starts near 1/500 forgets slowly enough to be taught. It has to learn to write where
the mark is, and nowhere else.

RTRL credits the mark, however long ago it was, by traces that a step hands to the next: no step takes more
memory or time than the first. TBPTT(k) goes back k steps, to no mark if k is 50. Both learn on the same cell
from the same weights. `main` gives the table of docs/stream-forever.md. `--record FILE` writes it to a
file with the other numbers of that page, and `--figure FILE` draws its curves; both need
`pip install "timelocal[report]"`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

import timelocal as tl

LEAST, GAPS = 100, (200, 800)
CHUNK = 10_000
HIDDEN, UPDATE, RATE, CLIP = 16, 1 / 500, 0.01, 0.1
STEPS, WINDOWS, SEEDS = 1_000_000, (1, 10, 50, 500), range(5)


class Recall(NamedTuple):
    """inputs: (1, t, 2), a number and whether it is marked. targets: (1, t, 1). asked: (1, t), 1 or 0."""

    inputs: Tensor
    targets: Tensor
    asked: Tensor


def stream(steps: int, seed: int = 0) -> Recall:
    """The numbers, the marks and the questions."""
    draw = torch.Generator().manual_seed(seed)
    low, high = GAPS
    gaps = torch.randint(low, high + 1, (steps // low + 1,), generator=draw)
    marks = gaps.cumsum(0) - gaps
    waits = LEAST + ((gaps - LEAST) * torch.rand(len(gaps), generator=draw)).long()
    values = 2 * torch.rand(steps, generator=draw) - 1
    marked, asked = torch.zeros(2, steps)
    marked[marks[marks < steps]] = 1
    asked[(marks + waits)[marks + waits < steps]] = 1
    last = torch.where(marked > 0, torch.arange(steps), 0).cummax(0).values
    return Recall(torch.stack((values, marked), -1)[None], values[last][None, :, None], asked[None])


def network(seed: int) -> tl.Network:
    return tl.MinGRU(2, HIDDEN, output_size=1, update=UPDATE, seed=seed)


def adam(rule: tl.Rule) -> torch.optim.Adam:
    return torch.optim.Adam(rule.parameters(), lr=RATE)


def forward_in_time(rule: tl.Rule, data: Recall) -> Tensor:
    """The squared error of every answer before it is learned from, of a rule that keeps no past."""
    learner = tl.Stream(rule, adam(rule), clip=CLIP)
    errors = []
    for inputs, targets, asked in zip(*(part.split(CHUNK, 1) for part in data), strict=True):
        outputs = learner.run(inputs, targets, mask=asked).outputs
        errors.append((outputs - targets)[asked > 0].square().flatten())
    return torch.cat(errors)


def back_in_time(rule: tl.BPTT, window: int, data: Recall) -> Tensor:
    """The same of TBPTT(window). No weight moves between two questions: it is BPTT over the last steps alone.

    `tl.TBPTT` in a `tl.Stream` does the same at every step of a stream, asked or not, which takes longer.
    """
    optimizer = adam(rule)
    state = torch.zeros(1, 1, rule.network.hidden_size)
    errors, start = [], 0
    for asked in data.asked[0].nonzero().flatten().tolist():
        first = max(start, asked + 1 - window)
        if first > start:
            state = rule.network.scan(data.inputs[:, start:first], initial=state).final_states()
        recent, start = data.inputs[:, first : asked + 1], asked + 1
        optimizer.zero_grad()
        loss = rule(recent, data.targets[:, asked], initial=state)
        loss.backward()
        clip_grad_norm_(rule.parameters(), CLIP)
        state = rule.network.scan(recent, initial=state).final_states()
        optimizer.step()
        errors.append(loss.detach())
    return torch.stack(errors)


def main(steps: int = STEPS, windows: Iterable[int] = WINDOWS, seed: int = 0) -> dict[str, Tensor]:
    """Print the mean squared error of every tenth of the stream; returns all errors, by rule."""
    data = stream(steps, seed)
    frozen = network(seed)
    frozen.recurrent.requires_grad_(False)
    found = {
        "RTRL": forward_in_time(tl.RTRL(network(seed), loss="mse"), data),
        "readout alone": forward_in_time(tl.RTRL(frozen, loss="mse"), data),
    }
    for window in windows:
        rule = tl.BPTT(network(seed), loss="mse", at="last")
        found[f"TBPTT({window})"] = back_in_time(rule, window, data)
    print(table({name: means(errors, 10) for name, errors in found.items()}))
    return found


def means(errors: Tensor, parts: int) -> list[float]:
    """The mean of each of so many equal parts of the stream."""
    return [float(part.mean()) for part in errors.tensor_split(parts)]


def table(tenths: Mapping[str, Sequence[float]]) -> str:
    """The errors in each tenth of the stream as Markdown."""
    lines = [f"| rule | {' | '.join(map(str, range(1, 11)))} |", "|---" * 11 + "|"]
    for name, own in tenths.items():
        lines.append(f"| {name} | {' | '.join(f'{one:.3f}' for one in own)} |")
    return "\n".join(lines)


def asked_at_every_step(steps: int = STEPS, seed: int = 0) -> dict[str, Tensor]:
    """The errors of RTRL and TBPTT(1) where the answer is asked for, and learned from, at every step."""
    data = stream(steps, seed)
    data = data._replace(asked=torch.ones_like(data.asked))
    rules = {
        "RTRL": tl.RTRL(network(seed), loss="mse"),
        "TBPTT(1)": tl.TBPTT(network(seed), 1, loss="mse"),
    }
    return {name: forward_in_time(rule, data) for name, rule in rules.items()}


def write_record(path: Path, found: Mapping[str, Tensor], steps: int = STEPS) -> None:
    """The means of the errors, those of RTRL on other seeds, and what they were computed with, as JSON."""
    from timelocal.experiments.environment import environment
    from timelocal.files import make_folder, write_json

    of_seeds = {0: found["RTRL"]}
    for seed in SEEDS[1:]:
        rule = tl.RTRL(network(seed), loss="mse")
        of_seeds[seed] = forward_in_time(rule, stream(steps, seed))
    record = {
        "environment": environment(),
        "steps": steps,
        "questions": len(found["RTRL"]),
        "tenths": {name: means(errors, 10) for name, errors in found.items()},
        "fortieths": {name: means(errors, 40) for name, errors in found.items()},
        "last tenth of RTRL, by seed": {
            str(seed): means(errors, 10)[-1] for seed, errors in of_seeds.items()
        },
        "tenths, asked at every step": {
            name: means(errors, 10) for name, errors in asked_at_every_step(steps).items()
        },
    }
    make_folder(path.parent)
    write_json(path, record)


def draw(fortieths: Mapping[str, Sequence[float]], steps: int, path: Path) -> None:
    """The errors as curves, each point the mean of a fortieth of the stream.

    Where a window contains no mark the curves coincide: the later ones are thinner and lie on the earlier.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    from timelocal.report.figures import TRIVIAL_COLOUR
    from timelocal.report.printed import PAGE_PLOT, PAGE_WIDTH, for_print, save, set_plot_height
    from timelocal.report.style import rule_colours, variant_look

    hue = rule_colours(["rtrl", "tbptt"])
    *short, longest = [name for name in fortieths if name.startswith("TBPTT")]
    shades = [variant_look(hue["tbptt"], 1 + number)[0] for number in range(len(short))]
    widths = [6.0 / 1.9**number for number in range(len(short))]
    looks = {
        "readout alone": (TRIVIAL_COLOUR, 9.0),
        **dict(zip(short, zip(shades, widths, strict=True), strict=True)),
        longest: (hue["tbptt"], 2.0),
        "RTRL": (hue["rtrl"], 2.0),
    }
    beside = {longest: (26, 6), "RTRL": (18, -14)}  # which point, and points above it
    places = [steps / 1e6 * (k + 0.5) / 40 for k in range(40)]
    with for_print(9):
        figure = Figure(figsize=(PAGE_WIDTH, PAGE_PLOT), layout="constrained")
        axes = figure.subplots()
        for name, (colour, width) in looks.items():
            heights = fortieths[name]
            axes.semilogy(places, heights, label=name, color=colour, linewidth=width)
            if name in beside:
                point, above = beside[name]
                where = places[point], heights[point]
                look = {"color": colour, "textcoords": "offset points", "ha": "center"}
                axes.annotate(name, where, (0, above), **look)
        axes.set(xlabel="million steps of the stream", ylabel="mean squared error of the answers")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=3, frameon=False, handlelength=3)
        set_plot_height(figure, PAGE_PLOT)
        save(figure, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path, metavar="FILE")
    parser.add_argument("--figure", type=Path, metavar="FILE")
    asked = parser.parse_args()
    learned = main()
    if asked.record:
        write_record(asked.record, learned)
    if asked.figure:
        draw({name: means(errors, 40) for name, errors in learned.items()}, STEPS, asked.figure)
