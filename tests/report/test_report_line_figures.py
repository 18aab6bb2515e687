"""The figures of a reproduction: the values, layers and looks of its lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from made_up_reproductions import BPTT, CODE, DFA, reproduction

from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import Key
from timelocal.report import line_figures
from timelocal.report.figures import TRIVIAL_COLOUR, Figure
from timelocal.report.line_figures import figures, panels
from timelocal.report.lines import anchor
from timelocal.report.style import rule_colours, variant_look
from timelocal.studies.measures import MEASURES
from timelocal.studies.reproduction import LineResult, Reproduction

Trace = Mapping[str, Any]


def renamed(one: LineResult, **parts: str) -> LineResult:
    return replace(one, line=replace(one.line, key=one.line.key._replace(**parts)))


def at_size(one: LineResult, size: int) -> LineResult:
    return replace(one, line=replace(one.line, x=size))


def of(made: Reproduction, key: Key) -> LineResult:
    (one,) = [one for one in made.lines if one.line.key == key]
    return one


def with_epochs(one: LineResult, name: str, values: Sequence[float]) -> LineResult:
    """The line with these values of a measure in every run."""
    epochs = tuple({"epoch": n, name: value} for n, value in enumerate(values, 1))
    runs = tuple((config, replace(run, epochs=epochs)) for config, run in one.runs if run)
    return replace(one, runs=runs)


def on_panels(count: int) -> Reproduction:
    made = reproduction()
    lines = [renamed(one, panel=f"data {n}") for n in range(count) for one in made.lines]
    return replace(made, lines=tuple(lines))


def drawn(figure: Figure, key: Key) -> list[Trace]:
    return [trace for trace in figure.spec["data"] if trace.get("meta") == anchor(*key)]


def rows_of(text: str) -> int:
    return text.count("<br>") + 1


def test_final_values_are_those_of_the_seeds() -> None:
    finals = figures(reproduction())[-1]
    bar, mean = drawn(finals, DFA)
    assert bar["x"] == pytest.approx([50, 70, 75])
    assert bar["customdata"] == [0, 2, 1]  # the seeds
    assert mean["x"] == pytest.approx([65])
    assert bar["marker"]["symbol"] == "circle"
    assert drawn(finals, CODE)[0]["marker"]["symbol"] == "circle-open"


def test_a_line_without_a_value_keeps_its_row() -> None:
    made = reproduction()
    code = of(made, CODE)
    diverged = tuple(
        (config, replace(run, status="diverged", result=None)) for config, run in code.runs if run
    )
    lines = tuple(replace(one, runs=diverged) if one is code else one for one in made.lines)
    axis = figures(replace(made, lines=lines))[-1].spec["layout"]["yaxis"]
    assert axis["categoryarray"] == ["BPTT", "DFA (as in the authors' code), 0 of 3", "DFA"]


def test_a_row_has_room_for_its_name() -> None:
    made = reproduction()
    name = "a name of several words, which do not fit into a single row above their line"
    lines = tuple(renamed(of(made, DFA), label=f"{name}, {n}") for n in range(20))
    finals = figures(replace(made, lines=lines))[-1]
    notes = finals.spec["layout"]["annotations"]
    assert {rows_of(note["text"]) for note in notes} == {2}
    margins = finals.spec["layout"]["margin"]
    assert finals.height is not None
    row = (finals.height - margins["t"] - margins["b"]) / len(lines)
    # 15 pixels of each row of the name, half a stroke of 14, and the shift of the name
    assert row > 2 * 15 + 7 + notes[0]["yshift"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_long_title_below_an_axis_is_wrapped_into_its_margin(count: int) -> None:
    made = on_panels(count)
    experiment = replace(made.experiment, measures=("max_accuracy",))
    figure = panels(replace(made, experiment=experiment))[0].figures[-1]
    layout = figure.spec["layout"]
    title = layout["xaxis"]["title"]["text"]
    assert title.replace("<br>", " ").startswith(MEASURES["max_accuracy"].title)
    letters = 34 if count == 1 else 28  # names of panels take a part of the width
    assert rows_of(title) > 1
    assert max(map(len, title.split("<br>"))) <= letters
    assert layout["margin"]["b"] == 44 + 16 * (rows_of(title) - 1)


def test_panels_are_one_below_the_other_with_borders_between() -> None:
    overview, *folded = panels(on_panels(3))
    assert not overview.folded
    assert [panel.folded for panel in folded] == [True] * 3
    assert [panel.title for panel in folded] == ["data 0", "data 1", "data 2"]
    (figure,) = overview.figures
    layout = figure.spec["layout"]
    heights = {
        n: {
            trace["y"][0]
            for key in (DFA, CODE, BPTT)
            for trace in drawn(figure, key._replace(panel=f"data {n}"))
        }
        for n in range(3)
    }
    assert all(len(own) == 3 for own in heights.values())
    assert dict(zip(layout["yaxis"]["ticktext"], layout["yaxis"]["tickvals"], strict=True)) == {
        f"data {n}": sum(own) / 3 for n, own in heights.items()
    }
    low, high = sorted(shape["y0"] for shape in layout["shapes"])
    assert max(heights[2]) < low < min(heights[1])
    assert max(heights[1]) < high < min(heights[0])
    assert figure.note.startswith("Open dots: as in the authors' code. ✕ ended early")
    assert "DFA (as in the authors' code) at data 1: 1 of 3 diverged" in figure.note


@pytest.mark.parametrize("count", [3, 20])
def test_a_figure_of_panels_is_as_high_as_its_lines_need(count: int) -> None:
    (figure,) = panels(on_panels(count))[0].figures
    margins = figure.spec["layout"]["margin"]
    assert figure.height is not None
    # 13 pixels for each of three lines, and between panels
    assert figure.height - margins["t"] - margins["b"] >= max(260, 13 * 4 * count)


def test_means_lie_before_seeds_and_these_before_bands() -> None:
    layers = []
    for trace in figures(reproduction())[0].spec["data"]:
        told = trace.get("hovertemplate", "")
        layers.append("band" if "fill" in trace else "mean" if "mean" in told else "seed")
    assert layers == ["band"] * 2 + ["seed"] * 6 + ["mean"] * 2


def test_a_legend_has_the_lines_of_its_panel() -> None:
    made = on_panels(2)
    first = [one for one in made.lines if one.line.key.panel == "data 0"]
    other = renamed(of(reproduction(), BPTT), panel="data 1", label="another")
    one, two = panels(replace(made, lines=(*first, other)))
    assert [entry.label for entry in one.legend] == ["DFA", "BPTT"]
    assert [entry.label for entry in two.legend] == ["another"]
    for panel in (one, two):
        groups = {t["legendgroup"] for f in panel.figures for t in f.spec["data"]}
        assert groups == {entry.key for entry in panel.legend}


def test_many_seeds_are_drawn_with_fewer_points_each() -> None:
    made = reproduction()
    lines = [with_epochs(of(made, key), "test_accuracy", [0.5] * 400) for key in (DFA, BPTT)]
    lines = [
        replace(
            one,
            chosen=one.line.config.model_copy(update={"epochs": 400}),
            runs=40 * one.runs,
        )
        for one in lines
    ]
    figure = figures(replace(made, lines=tuple(lines)))[0]
    seeds = [t for t in figure.spec["data"] if t.get("hovertemplate", "").startswith("seed")]
    assert len(seeds) == 240
    assert 20 * 240 < sum(len(trace["x"]) for trace in seeds) < 12_000
    assert all(trace["opacity"] >= 0.08 for trace in seeds)


@pytest.mark.parametrize(("epochs", "step"), [(3, 1), (200, None)])
def test_a_short_axis_of_epochs_has_ticks_at_whole_ones(epochs: int, step: int | None) -> None:
    made = reproduction()
    lines = tuple(
        replace(one, chosen=one.line.config.model_copy(update={"epochs": epochs}))
        for one in made.lines
    )
    layout = figures(replace(made, lines=lines))[0].spec["layout"]
    assert layout["xaxis"].get("dtick") == step


def test_a_curve_of_an_accuracy_is_in_percent() -> None:
    layout = figures(reproduction())[0].spec["layout"]
    assert layout["yaxis"]["title"]["text"] == "test accuracy (%)"


def test_a_loss_of_zero_is_not_drawn_on_a_logarithmic_axis() -> None:
    made = reproduction("curves", "test_loss")
    types = []
    for losses in ([0.5, 0.25], [0.5, 0.0]):
        lines = tuple(with_epochs(one, "test_loss", losses) for one in made.lines)
        layout = figures(replace(made, lines=lines))[0].spec["layout"]
        types.append(layout["yaxis"].get("type"))
    assert types == ["log", None]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((-3.0, 0.0), {"dtick": 1}),
        ((-1.0, 0.0), {"dtick": "D2", "tickformat": "~g"}),
        ((-6.7, -5.6), {"dtick": "D2", "tickformat": "~e"}),  # else 0.000002 beside 5e-7
    ],
)
def test_a_vertical_axis_has_ticks_by_its_decades(
    ends: tuple[float, float], expected: dict[str, object]
) -> None:
    assert line_figures._log_ticks(*ends) == expected


def test_a_rule_and_its_authors_code_share_a_hue_and_what_is_frozen_is_grey() -> None:
    base = of(reproduction(), DFA)
    configs = {
        "ours": {"rule": "dfa"},
        "theirs": {"rule": "dfa-authors-code"},
        "frozen": {"rule": "dfa", "frozen": True},
    }
    lines = []
    for label, own in configs.items():
        line = renamed(base, label=label).line
        lines.append(replace(base, line=replace(line, config=TrainConfig(cell="rnn", **own))))
    looks = line_figures._looks(lines)
    hue = rule_colours(["dfa"])["dfa"]
    assert (looks["ours"].colour, looks["ours"].dash) == variant_look(hue, 0)
    assert (looks["theirs"].colour, looks["theirs"].dash) == variant_look(hue, 1)
    assert (looks["frozen"].colour, looks["frozen"].dash) == (TRIVIAL_COLOUR, "dot")


def test_sizes_have_means_over_seeds_and_open_circles_where_some_did_not_finish() -> None:
    made = reproduction("sizes", "accuracy")
    code = with_epochs(of(made, CODE), "test_accuracy", [0.2, 0.3])
    lines = (
        renamed(at_size(of(made, DFA), 10), panel="10 units"),
        renamed(at_size(of(made, BPTT), 20), panel="20 units", label="DFA"),
        renamed(at_size(code, 40), panel="40 units"),
    )
    (figure,) = figures(replace(made, lines=lines))
    shape, means, cross = figure.spec["data"]
    assert "fill" in shape
    assert means["x"] == [10, 20, 40]
    assert means["y"] == pytest.approx([65, 85, 50])
    assert means["marker"]["symbol"] == ["circle", "circle", "circle-open"]
    assert means["customdata"] == ["mean of 3", "mean of 3", "mean of 2"]
    assert (cross["x"], cross["y"]) == ([40], [30.0])
    assert cross["marker"]["symbol"] == "x"
    assert figure.spec["layout"]["xaxis"]["type"] == "log"
    assert figure.note.startswith(
        "✕ ended early, not in any mean: DFA (as in the authors' code) at"
    )


@pytest.mark.parametrize(
    ("panel", "axis"), [("100 hidden units", "hidden units"), ("σ² = 0.1", "σ²")]
)
def test_the_axis_of_sizes_is_what_the_panels_name(panel: str, axis: str) -> None:
    made = reproduction("sizes", "accuracy")
    lines = tuple(renamed(one, panel=panel) for one in made.lines)
    (figure,) = figures(replace(made, lines=lines))
    assert figure.spec["layout"]["xaxis"]["title"]["text"] == axis


@pytest.mark.parametrize("view", ["settings", "grid"])
def test_a_table_of_settings_and_a_grid_have_no_figure(view: str) -> None:
    assert panels(reproduction(view)) == []


def test_powers_of_ten_are_written_as_such_on_both_axes() -> None:
    made = reproduction("sizes", "test_loss")
    panels = ("ε = 1e-07", "ε = 1e-05", "ε = 0.001")
    lines = [
        replace(with_epochs(one, "test_loss", [1e-4]), line=replace(one.line, key=key, x=x))
        for one in made.lines[:1]
        for x, key in ((float(at[4:]), one.line.key._replace(panel=at)) for at in panels)
    ]
    (figure,) = figures(replace(made, lines=tuple(lines)))
    assert figure.spec["layout"]["xaxis"]["exponentformat"] == "power"  # not 100n, 10µ


def test_a_curve_has_a_name_in_words() -> None:
    made = reproduction("curves", "last_alignment")
    lines = [with_epochs(one, "alignment.recurrent.cosine", [0.5, 0.25]) for one in made.lines]
    captions = [figure.caption for figure in figures(replace(made, lines=tuple(lines)))]
    assert any("cosine with the gradient of BPTT per epoch" in caption for caption in captions)
    assert not any("alignment.recurrent" in caption for caption in captions)


def test_lines_without_a_curve_have_final_values_alone() -> None:
    made = reproduction()
    lines = tuple(with_epochs(one, "something_else", [1.0]) for one in made.lines)
    (figure,) = figures(replace(made, lines=lines))
    assert figure.caption.endswith("every seed")
