"""`timelocal bench`: the speed of everything on this machine, compared with torch.nn and JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from timelocal.cli.terminal import say, show, table


def bench(
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shape", help="Which shapes; can be repeated.", show_default="all"),
    ] = None,
    cells: Annotated[
        list[str] | None,
        typer.Option("--cell", help="rnn, gru or lstm; can be repeated.", show_default="all"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads, the same for all.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Samples per measurement.")] = 15,
    sweep: Annotated[bool, typer.Option(help="Also T from 100 to 10,000 at 50 units.")] = False,
    online: Annotated[
        bool,
        typer.Option(
            help="Measure learning at every step of a stream instead; writes online.json."
        ),
    ] = False,
    sequences: Annotated[
        bool,
        typer.Option(
            help="Measure perturbations of whole sequences and large cells instead; writes sequences.json."
        ),
    ] = False,
    loop: Annotated[
        bool, typer.Option("--fit", help="Measure an epoch of training instead; writes fit.json.")
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            help="Measure exact forward-in-time learning of element-wise cells instead; writes exact.json."
        ),
    ] = False,
    estimator: Annotated[
        bool,
        typer.Option(
            "--estimator", help="Measure fits of estimators instead; writes estimator.json."
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for bench.json and bench.html.")] = Path(
        "bench"
    ),
) -> None:
    """Time the forward scan, DFA and BPTT against torch.nn, JAX (if installed) and the hardware."""
    from timelocal.bench import (
        SHAPES,
        benchmark,
        exact_benchmark,
        fit_benchmark,
        long_sequences,
        online_benchmark,
        sequences_benchmark,
        summary,
    )
    from timelocal.bench.shapes import GATES
    from timelocal.errors import raise_problems, unknown_name
    from timelocal.experiments.environment import environment
    from timelocal.files import is_there, make_folder, write_json, write_text
    from timelocal.report.bench import with_tables, write_bench_page

    shapes, cells = shapes or list(SHAPES), cells or list(GATES)
    raise_problems(
        [unknown_name("--shape", name, SHAPES) for name in shapes]
        + [unknown_name("--cell", name, GATES) for name in cells]
    )
    make_folder(out)

    def tell(text: str) -> None:
        say(f"measuring {text}", err=True)

    others = {"online": online_benchmark} if online else {}
    others |= {"sequences": sequences_benchmark} if sequences else {}
    others |= {"fit": fit_benchmark} if loop else {}
    others |= {"exact": exact_benchmark} if exact else {}
    others |= {"estimator": _estimators()} if estimator else {}
    for name, measure in others.items():
        judged = measure(threads=threads, repeats=repeats, tell=tell)
        path = out / f"{name}.json"
        write_json(path, {"environment": environment(), "repeats": repeats, **judged})
        _print_judged(judged)
        say(str(path))
    if others:
        text = out / "README.md"  # whose tables are rewritten from the records next to it
        if is_there(text):
            write_text(text, with_tables(text.read_text(encoding="utf-8"), out))
        return
    chosen = [SHAPES[name] for name in shapes] + (long_sequences() if sweep else [])
    found = [
        summary(comparison)
        for comparison in benchmark(
            chosen,
            cells,
            threads=threads,
            repeats=repeats,
            tell=tell,
        )
    ]
    record = {"environment": environment(), "repeats": repeats, "results": found}
    write_json(out / "bench.json", record)
    _print(found)
    say(f"{out / 'bench.json'}, {write_bench_page(record, out / 'bench.html')}")


def _estimators() -> Callable[..., dict[str, Any]]:
    """The benchmark of estimators, with those of this package."""
    from timelocal.bench.estimator import BATCH, EPOCHS, RATE, UNITS, estimator_benchmark
    from timelocal.integrations.sklearn import RecurrentClassifier

    sizes: dict[str, Any] = {
        "hidden": UNITS,
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "lr": RATE,
        "random_state": 0,
    }
    fits = {
        f"RecurrentClassifier, {rule.upper()}": RecurrentClassifier(rule=rule, **sizes).fit
        for rule in ("dfa", "bptt")
    }
    return partial(estimator_benchmark, fits)


def _print_judged(found: dict[str, Any]) -> None:
    """The measured times, and whether the goals are met."""
    columns = list(next(iter(found["microseconds"].values())))
    steps = table("", *columns, title=found.get("title", "microseconds a step"))
    for name, times in found["microseconds"].items():
        steps.add_row(name, *(f"{times[column]:.1f}" for column in columns))
    bars = table("what", "measured", "bar", "met", title="bars")
    for bar in found["bars"]:
        row = bar["what"], f"{bar['measured']:.2f}", bar["bar"], "yes" if bar["met"] else "no"
        bars.add_row(*row)
    others = []
    for title in ("costs", "large"):
        if title in found:
            others.append(table("", "microseconds a step", title=title))
            for name, time in found[title].items():
                others[-1].add_row(name, f"{time:.1f}")
    if "memory" in found:
        columns = list(next(iter(found["memory"].values())))
        others.append(table("", *columns, title="memory of a stream's step"))
        for name, moved in found["memory"].items():
            others[-1].add_row(name, *(f"{moved[column]:,.0f}" for column in columns))
    show(steps, *others, bars)


def _print(results: list[dict[str, Any]]) -> None:
    made = table(title="milliseconds per call, and how many times faster")
    names = ("scan", "dfa", "bptt", "torch", "jax")
    ratios = {
        "dfa_vs_torch": "DFA/torch",
        "dfa_vs_jax": "DFA/JAX",
        "bptt_vs_torch": "BPTT/torch",
    }
    for heading in ("shape", "cell", *names, *ratios.values()):
        made.add_column(heading, justify="left" if heading in ("shape", "cell") else "right")
    made.add_column("scan % peak", justify="right")
    made.add_column("DFA % roofline", justify="right")
    made.add_column("2 threads", justify="right")
    for result in results:
        times, shares = result["milliseconds"], result["share_of_peak"]
        scaling = result["thread_scaling"].get("scan")
        made.add_row(
            result["shape"]["name"],
            result["cell"],
            *(f"{times[name]['median']:.3g}" if name in times else "–" for name in names),
            *(
                f"{value:.1f}×" if (value := result["ratios"][key]) is not None else "–"
                for key in ratios
            ),
            f"{100 * shares['scan']:.0f}",
            f"{100 * shares['dfa']:.0f}",
            "–" if scaling is None else f"{scaling:.2f}×",
        )
    show(made)
