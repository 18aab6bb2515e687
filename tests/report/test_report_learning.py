"""Learning curves of an experiment: the means that are drawn, and the pages and exports that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawings import kept
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from timelocal.experiments.config import CostConfig, TrainConfig
from timelocal.experiments.experiment import Column, Experiment, Key, Line
from timelocal.report import learning
from timelocal.report.exports import export_reproductions
from timelocal.report.markdown import write_markdown
from timelocal.report.style import rule_colours
from timelocal.studies.reproduction import LineResult, Reproduction
from timelocal.studies.store import RunRecord


def run(
    config: TrainConfig, curve: Sequence[float], name: str, status: str = "finished"
) -> RunRecord:
    environment = {"command": "timelocal train", "started": "2026-01-01T12:00:00+00:00"}
    epochs = tuple({"epoch": n, name: value, "test_loss": 1.0} for n, value in enumerate(curve, 1))
    result = {
        "seed": config.seed,
        "best_validation": {"test_accuracy": 0.5},
        "last": {"test_accuracy": 0.5},
        "milliseconds": 1.0,
    }
    return RunRecord(
        Path(config.folder_name()), status, "", config.model_dump(mode="json"), environment, epochs,
        result=result,
    )  # fmt: skip


def line(
    rule: str, curves: Sequence[Sequence[float]], name: str, panel: str = "digits", **fields: object
) -> LineResult:
    """A line with the validation curve of every seed."""
    configs = [TrainConfig(rule=rule, **fields, seed=seed) for seed in range(len(curves))]
    column: Column = "true BPTT" if rule == "bptt" else "best without BPTT"
    label = f"{rule}, {configs[0].cell}{', frozen' if configs[0].frozen else ''}"
    asked = Line(Key(panel, label, column), configs[0], tuple(range(len(curves))))
    runs = zip(configs, (run(*one, name) for one in zip(configs, curves, strict=True)), strict=True)
    return LineResult(asked, configs[0], (), (), tuple(runs))


CURVES = {
    ("bptt", "gru", False): [[0.1, 0.5, 0.9], [0.2, 0.4, 0.7], [0.3, 0.9]],
    ("bptt", "rnn", False): [[0.1, 0.2], [0.2, 0.3]],
    ("dfa", "gru", False): [[0.1, 0.2, 0.3], [0.2, 0.2, 0.4]],
    ("dfa", "gru", True): [[0.1, 0.15, 0.2], [0.1, 0.1, 0.1]],
}
"""The validation accuracy of every seed; runs of one line may differ in length."""


def study(name: str = "validation_accuracy", panels: Sequence[str] = ("digits",)) -> Reproduction:
    experiment = Experiment(
        "beyond/made-up",
        "Made up",
        "?",
        "curves",
        ("accuracy",),
        lambda _: (),
        beside="beyond/costs",
    )
    lines = [
        line(rule, curves, name, panel, cell=cell, frozen=frozen)
        for panel in panels
        for (rule, cell, frozen), curves in CURVES.items()
    ]
    return Reproduction(experiment, "laptop", tuple(lines))


def costs() -> Reproduction:
    experiment = Experiment("beyond/costs", "Costs", "?", "costs", ("milliseconds",), lambda _: ())
    lines = [
        replace(one, runs=((config, run(config, [], "none")),))
        for one in study().lines
        for config in [CostConfig(**one.line.config.model_dump())]
    ]
    return Reproduction(experiment, "laptop", tuple(lines))


def drawn(axes: Axes) -> dict[tuple[str, str, bool], Line2D]:
    """The lines of a panel by rule, cell and whether it is frozen, as they look."""
    colours = {rule_colours([rule])[rule]: rule for rule in ("bptt", "dfa")}
    cells = {"o": "gru", "s": "rnn"}
    return {
        (colours[one.get_color()], cells[one.get_marker()], one.get_linestyle() == "--"): one
        for one in axes.lines
    }


def test_a_line_is_the_mean_over_seeds_at_the_epochs_that_all_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = kept(monkeypatch)
    learning.draw(study(), Path("a.svg"))
    (axes,) = figures[0].axes
    found = drawn(axes)
    assert found.keys() == CURVES.keys()
    for kind, curves in CURVES.items():
        length = min(map(len, curves))
        means = 100 * np.mean([one[:length] for one in curves], axis=0)
        assert found[kind].get_xdata() == pytest.approx(np.arange(1, length + 1))
        assert found[kind].get_ydata() == pytest.approx(means)
    assert figures[0].get_supylabel() == "validation accuracy (%)"
    (legend,) = figures[0].legends
    names = [text.get_text() for text in legend.get_texts() if text.get_text()]
    assert sorted(names) == ["BPTT", "DFA", "GRU", "RNN", "frozen recurrence"]


def test_runs_that_ended_early_are_not_in_the_mean() -> None:
    one = line("dfa", [[0.2, 0.4], [0.4, 0.6], [0.9, 0.9]], "validation_accuracy")
    config, last = one.runs[-1]
    assert last is not None
    runs = (*one.runs[:-1], (config, replace(last, status="diverged")))
    made = replace(study(), lines=(replace(one, runs=runs),))
    (curve,) = learning.curves(made)["digits"].values()
    assert curve == pytest.approx({1: 30.0, 2: 50.0})


def test_long_runs_are_thinned_and_keep_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = kept(monkeypatch)
    curves = np.random.default_rng(0).uniform(size=(2, 500))
    made = replace(study(), lines=(line("dfa", curves.tolist(), "validation_accuracy"),))
    learning.draw(made, Path("a.svg"))
    (one,) = figures[0].axes[0].lines
    epochs = one.get_xdata()
    assert 50 <= len(epochs) <= 62
    assert (epochs[0], epochs[-1]) == (1, 500)
    assert one.get_ydata() == pytest.approx(100 * curves.mean(axis=0)[np.array(epochs) - 1])


def test_without_histories_there_is_no_picture(tmp_path: Path) -> None:
    assert learning.draw(study("train_loss"), tmp_path / "a.svg") is None
    assert not list(tmp_path.iterdir())
    page = write_markdown([study("train_loss"), costs()], tmp_path / "page.md").read_text()
    assert page.count("![") == 1  # the distance to BPTT
    assert [one.name for one in (tmp_path / "figures").iterdir()] == ["beyond-made-up.svg"]


def test_the_page_and_the_exports_have_them_beside_the_costs(tmp_path: Path) -> None:
    made = [study(panels=("digits", "letters")), costs()]
    page = write_markdown(made, tmp_path / "page.md").read_text()
    section, table = page.index('<a id="beyond-made-up">'), page.index("### digits")
    assert section < page.index("](figures/beyond-made-up-learning.svg)") < table
    assert (tmp_path / "figures" / "beyond-made-up-learning.svg").is_file()
    export_reproductions(made, tmp_path / "print")
    for end in ("svg", "pdf"):
        assert (tmp_path / "print" / "figures" / f"beyond-made-up-learning.{end}").is_file()
    alone = write_markdown([made[0]], tmp_path / "alone" / "page.md").read_text()
    assert "![" not in alone
