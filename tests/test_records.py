"""What the pages beside the records say is what the records say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pages import check_says
from timelocal.analysis.statistics import summarize
from timelocal.experiments.papers.dfa import APPENDIX_B

RESULTS = Path(__file__).parents[1] / "results"


def page(folder: str) -> str:
    return (RESULTS / folder / "README.md").read_text(encoding="utf-8")


def test_printed_and_chosen_hyperparameters_end_where_the_runs_do() -> None:
    pandas = pytest.importorskip("pandas")
    names = ("dataset", "cell", "rule", "hidden", "lr", "batch", "epochs", "seed")
    accuracy = "result.best_validation.test_accuracy"
    columns = [*(f"config.{name}" for name in names), accuracy]
    runs = pandas.read_parquet(RESULTS / "reproduction" / "runs.parquet", columns=columns)
    runs.columns = [*names, "accuracy"]
    runs = runs[runs.rule == "bptt"]

    def told(accuracies: object) -> str:
        return f"{100 * accuracies.mean():.1f} ± {100 * accuracies.std():.1f}"

    said = re.findall(
        r"^\| (\w+) · (\w+) \| (.*?) \| (.*?) \|$", page("reproduction"), re.MULTILINE
    )
    assert len(said) == 4
    unused = 0
    for dataset, cell, printed, chosen in said:
        of_cell = (runs.dataset == dataset) & runs.cell.str.startswith(cell.lower())
        hidden, lr, batch = APPENDIX_B[dataset, cell, "BPTT"]
        as_printed = (runs.hidden == hidden) & (runs.lr == lr) & (runs.batch == batch)
        whole = runs.epochs == runs[of_cell].epochs.max()
        of_printed, of_all = runs[of_cell & as_printed & whole], runs[of_cell & whole]
        tens = [own for _, own in of_all.groupby(["hidden", "lr", "batch"]) if len(own) == 10]
        assert [told(own.accuracy) for own in tens] == [chosen]
        if printed == "the same":
            assert len(of_printed) == 10
        else:
            assert told(of_printed.accuracy) == printed
            assert len(of_printed) == 5
            unused += 5
    check_says(page("reproduction"), [f"The {unused} runs with the printed hyperparameters"])


def test_half_the_epochs_of_mackey_glass_end_where_the_runs_do() -> None:
    pandas = pytest.importorskip("pandas")
    setting = ["config.dataset", "config.epochs", "config.frozen"]
    runs = pandas.read_parquet(
        RESULTS / "memory" / "runs.parquet", columns=[*setting, "result.metrics.nrmse"]
    )
    grouped = runs.groupby(setting)["result.metrics.nrmse"]
    learned, frozen = (grouped.get_group(("mackey-glass", 40, still)) for still in (False, True))
    found = summarize(learned.tolist())
    low, high = found.interval
    said = (
        f"{found.mean:.4f} [{low:.4f}, {high:.4f}] with RTRL on ten seeds and {frozen.mean():.3f} with the "
        "readout alone on three"
    )
    check_says(page("memory"), [said])
    assert (len(learned), len(frozen)) == (10, 3)


def test_the_runs_that_pull_the_mean_of_bptt_down_are_named() -> None:
    pandas = pytest.importorskip("pandas")
    names = ("dataset", "rule", "cell", "epochs", "frozen")
    accuracy = "result.best_validation.test_accuracy"
    columns = [*(f"config.{name}" for name in names), accuracy]
    runs = pandas.read_parquet(RESULTS / "beyond" / "runs.parquet", columns=columns)
    by_setting = 100 * runs.set_index(columns[:-1])[accuracy]
    bptt, rtrl = (
        by_setting.loc["strawberry", rule, cell, 100, False].sort_values()
        for rule, cell in (("bptt", "gru"), ("rtrl", "rtu"))
    )
    (told,) = re.findall(
        r"ended at ([\d.]+) and ([\d.]+) %.* ahead: ([\d.]+) against ([\d.]+) %",
        " ".join(page("beyond").split()),
    )
    assert len(bptt) == len(rtrl) == 20
    assert [float(number) for number in told] == pytest.approx(
        [*bptt[:2], bptt.median(), rtrl.median()], abs=0.05
    )
    assert bptt.iloc[2] > 80  # only two


def bench(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / "bench" / name).read_text(encoding="utf-8"))


def rows(text: str, heading: str) -> list[list[str]]:
    """The rows of the table whose head begins so."""
    (table,) = re.findall(
        rf"^\| {re.escape(heading)}.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]


def met(measured: float, cell: str) -> bool:
    """Whether a cell states this number, and marks it as its goal does."""
    shown = re.fullmatch(r"([\d.]+)×(?: of ([\d.]+) ([✓✗]))?", cell)
    assert shown is not None, cell
    said, goal, mark = shown.groups()
    assert said in (f"{measured:.1f}", f"{measured:.0f}"), (cell, measured)
    return goal is None or (measured >= float(goal)) == (mark == "✓")


def test_speeds_are_those_of_the_record() -> None:
    results = {(run["shape"]["name"], run["cell"]): run for run in bench("bench.json")["results"]}
    text = page("bench")
    peaks = [run["peak_gflops"] for run in results.values()]
    check_says(
        text, [f"for every shape: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s on both cores"]
    )

    goals = rows(text, "shape, cell")
    assert len(goals) == 10
    ratios = ("dfa_vs_torch", "dfa_vs_jax", "bptt_vs_torch")
    for name, milliseconds, *cells in goals:
        run = results[tuple(name.lower().split())]
        assert float(milliseconds) == pytest.approx(run["milliseconds"]["dfa"]["median"], rel=0.005)
        for ratio, cell in zip(ratios, cells, strict=True):
            assert met(run["ratios"][ratio], cell), (name, cell)

    shares = rows(text, "| goal | RNN | GRU")
    for what, goal, *cells in shares:
        *_, shape = what.lower().split(", ")
        quantity = "thread_scaling" if "one thread" in what else "share_of_peak"
        scale, digits = (1, ".2f") if "one thread" in what else (100, ".0f")
        for network, cell in zip(("rnn", "gru"), cells, strict=True):
            run = results[shape, network]
            measured = scale * run[quantity]["dfa" if what.startswith("DFA") else "scan"]
            said, mark = cell.replace(" %", "").split()
            assert said == format(measured, digits), (what, cell, measured)
            assert (mark == "✓") == (measured >= float(goal.removesuffix(" %"))), (what, cell)
    assert len(shares) == 5

    lengths = rows(text, "T, H = 50, B = 10")
    assert len(lengths) == 5
    for length, times, *against in lengths:
        runs = [results[f"T = {length}", network] for network in ("rnn", "gru")]
        for run, said in zip(runs, times.split(", "), strict=True):
            assert float(said) == pytest.approx(run["milliseconds"]["dfa"]["median"], rel=0.005)
        for ratio, cell in zip(ratios, against, strict=False):
            for run, said in zip(runs, cell.split(", "), strict=True):
                assert met(run["ratios"][ratio], said), (length, cell)


def test_what_is_said_of_missed_goals_is_on_record() -> None:
    fits = bench("fit.json")["microseconds"]["RNN, Adam"]
    times = bench("sequences.json")["microseconds"]
    last, every = times["lstm, last"], times["lstm, every"]
    (gru,) = (
        run["milliseconds"]
        for run in bench("bench.json")["results"]
        if (run["shape"]["name"], run["cell"]) == ("row-mnist", "gru")
    )
    old = {name: bench(f"zen4/{name}.json")["bars"] for name in ("online", "sequences")}
    counts = {name: (sum(bar["met"] for bar in bars), len(bars)) for name, bars in old.items()}
    missed = [bar["measured"] for bars in old.values() for bar in bars if not bar["met"]]
    ratio, epoch, *rnn, np_last, anp_last, np_every, anp_every, large = missed
    assert f"{np_every:.1f}" == f"{anp_every:.1f}"
    said = (
        f"an update takes {fits['fit']:.0f} µs and its native call {fits['bare']:.0f} of these",
        f"a step takes it {last['torch']:.0f} µs with a loss at the last step and "
        f"{every['torch']:.0f} with a loss at every step, NP {last['np']:.0f} and {every['np']:.0f}",
        f"2.5 times torch's speed would be {last['torch'] / 2.5:.0f} and {every['torch'] / 2.5:.0f} µs",
        f"take the GRU {gru['jax']['median'] / 4:.1f} ms instead of {gru['dfa']['median']:.1f}",
        f"{counts['online'][0]} of the {counts['online'][1]} goals of `--online` are met (not met: DANP "
        f"over ANP at H = 1000, {ratio:.2f} where the goal is 2.5, and its epoch, {epoch:.1f} seconds",
        f"and {counts['sequences'][0]} of the {counts['sequences'][1]} of `--sequences`",
        f"{rnn[0]:.1f} and {rnn[1]:.1f} of 4; LSTM, {np_last:.1f} and {anp_last:.1f} (last step) and "
        f"{np_every:.1f} (every step) of 2.5; a GRU of 1,024 units, {100 * large:.0f} % of 75",
    )
    check_says(page("bench"), said)
