"""Accuracies against costs: what is paired with what, and a picture that is the same every time."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from drawings import kept
from scipy import stats

from timelocal.experiments.config import CostConfig, TrainConfig
from timelocal.experiments.experiment import Experiment, Key, Line
from timelocal.report import distance
from timelocal.report.markdown import write_markdown
from timelocal.report.printed import WIDTH
from timelocal.studies.reproduction import LineResult, Reproduction
from timelocal.studies.store import RunRecord

SVG = "{http://www.w3.org/2000/svg}"

BPTT = Key("digits", "BPTT, the better cell", "true BPTT")
BPTT_RNN = Key("digits", "BPTT, tanh RNN", "true BPTT")
DFA = Key("digits", "DFA, GRU", "best without BPTT")
FROZEN = Key("digits", "readout alone, GRU", "recurrence frozen")

RUNS: dict[Key, tuple[dict[str, object], dict[int, float]]] = {
    BPTT_RNN: ({"rule": "bptt", "cell": "rnn"}, {0: 0.60, 1: 0.70, 2: 0.65}),
    BPTT: ({"rule": "bptt", "cell": "gru"}, {0: 0.90, 1: 0.80, 2: 0.82, 3: 0.88}),
    DFA: ({"rule": "dfa", "cell": "gru"}, {1: 0.75, 2: 0.70, 3: 0.81, 4: 0.20}),
    FROZEN: ({"rule": "dfa", "cell": "gru", "frozen": True}, {0: 0.5, 1: 0.52}),
}
"""The accuracy of every seed; not all lines have the same seeds."""
COSTS = {BPTT: 4.0, DFA: 1.0, FROZEN: 0.5}  # nobody measured BPTT on the RNN


def record(config: TrainConfig, **result: object) -> RunRecord:
    environment = {"command": "timelocal train", "started": "2026-01-01T12:00:00+00:00"}
    return RunRecord(
        Path(config.folder_name()), "finished", "", config.model_dump(mode="json"), environment, (),
        result={"seed": config.seed, **result},
    )  # fmt: skip


def line(key: Key, configs: list[TrainConfig], results: list[dict[str, object]]) -> LineResult:
    asked = Line(key, configs[0], tuple(one.seed for one in configs))
    runs = [(one, record(one, **result)) for one, result in zip(configs, results, strict=True)]
    return LineResult(asked, configs[0], (), (), tuple(runs))


def result(measure: str, value: float, floor: float | None = None) -> dict[str, object]:
    """A run's result with this accuracy or NRMSE."""
    scores = (
        {"best_validation": {"test_accuracy": value}}
        if measure == "accuracy"
        else {"metrics": {measure: value}}
    )
    return scores if floor is None else scores | {"trivial": {"majority_class": floor}}


def study(
    keys: tuple[Key, ...] = tuple(RUNS),
    measure: str = "accuracy",
    floor: dict[int, float] | None = None,
) -> tuple[Reproduction, Reproduction]:
    """Some of the lines with their runs, and the costs; `floor`: the majority class, by seed."""
    score = Experiment(
        "beyond/made-up",
        "Made up",
        "?",
        "curves",
        (measure,),
        lambda _: (),
        beside="beyond/costs",
    )
    costs = Experiment("beyond/costs", "Costs", "?", "costs", ("milliseconds",), lambda _: ())
    lines = [
        line(
            key,
            [TrainConfig(**RUNS[key][0], seed=seed) for seed in RUNS[key][1]],
            [
                result(measure, value, (floor or {}).get(seed))
                for seed, value in RUNS[key][1].items()
            ],
        )
        for key in keys
    ]
    spent = [
        line(key, [CostConfig(**RUNS[key][0])], [{"milliseconds": took}])
        for key, took in COSTS.items()
    ]
    return Reproduction(score, "laptop", tuple(lines)), Reproduction(costs, "laptop", tuple(spent))


def test_a_point_is_the_mean_difference_to_the_best_bptt_paired_by_seed() -> None:
    (pair,) = distance.pairs(list(study()))
    (panel,) = distance.panels(*pair)
    found = {point.kind[1:]: point for point in panel.points}
    assert found.keys() == {("bptt", "gru", False), ("dfa", "gru", False), ("dfa", "gru", True)}
    best = found["bptt", "gru", False]
    assert (best.milliseconds, best.difference, best.interval) == (4.0, 0.0, None)
    for key, rule in ((DFA, ("dfa", "gru", False)), (FROZEN, ("dfa", "gru", True))):
        ours, bptt = RUNS[key][1], RUNS[BPTT][1]
        differences = np.array(
            [ours[seed] - bptt[seed] for seed in range(5) if seed in ours and seed in bptt]
        )
        n = len(differences)
        assert n == {DFA: 3, FROZEN: 2}[key]
        ends = stats.t.interval(0.95, n - 1, differences.mean(), stats.sem(differences))
        assert found[rule].milliseconds == COSTS[key]
        assert found[rule].difference == pytest.approx(differences.mean())
        assert found[rule].interval == pytest.approx(ends)


@pytest.mark.parametrize(("measure", "best"), [("accuracy", BPTT), ("nrmse", BPTT_RNN)])
def test_the_best_bptt_needs_no_cost_and_is_the_lowest_of_errors(measure: str, best: Key) -> None:
    (panel,) = distance.panels(*study(measure=measure))
    (dfa,) = [point for point in panel.points if point.kind[1:] == ("dfa", "gru", False)]
    ours, bptt = RUNS[DFA][1], RUNS[best][1]
    assert dfa.difference == pytest.approx(np.mean([ours[n] - bptt[n] for n in ours if n in bptt]))


@pytest.mark.parametrize(("measure", "above"), [("accuracy", "bptt"), ("nrmse", "dfa")])
def test_the_better_rule_is_above_and_the_best_bptt_has_no_bar(
    monkeypatch: pytest.MonkeyPatch, measure: str, above: str
) -> None:
    figures = kept(monkeypatch)
    distance.draw(*study((BPTT, DFA), measure), Path("a.svg"))
    (axes,) = figures[0].axes
    bptt, dfa = axes.containers
    assert (bptt.has_yerr, dfa.has_yerr) == (False, True)
    (panel,) = distance.panels(*study((BPTT, DFA), measure))
    scale = 100 if measure == "accuracy" else 1
    bar = dfa.lines[2][0].get_segments()[0][:, 1]
    assert sorted(bar) == pytest.approx([scale * end for end in panel.points[1].interval])
    places = [axes.transData.transform(one.lines[0].get_xydata()[0])[1] for one in (bptt, dfa)]
    assert ("bptt" if places[0] > places[1] else "dfa") == above
    (zero,) = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert set(zero.get_ydata()) == {0}


def test_without_bptt_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    assert distance.draw(*study((DFA, FROZEN)), tmp_path / "a.svg") is None


def test_the_floor_is_compared_with_the_best_bptt_on_the_same_seeds() -> None:
    floor = {0: 0.4, 1: 0.45, 2: 0.5, 4: 0.9}  # BPTT has no seed 4
    (panel,) = distance.panels(*study(floor=floor))
    bptt = RUNS[BPTT][1]
    assert panel.floor == pytest.approx(np.mean([floor[n] - bptt[n] for n in (0, 1, 2)]))


@pytest.mark.parametrize(("floor", "shown"), [(None, False), (0.6, True), (0.4, False)])
def test_the_floor_is_drawn_where_it_is_known_and_does_not_squash_the_points(
    monkeypatch: pytest.MonkeyPatch, floor: float | None, shown: bool
) -> None:
    figures = kept(monkeypatch)
    known = None if floor is None else dict.fromkeys(range(5), floor)
    distance.draw(*study((BPTT, DFA), floor=known), Path("a.svg"))
    (axes,) = figures[0].axes
    dashed = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    expected = 100 * (floor - np.mean(list(RUNS[BPTT][1].values()))) if shown else None
    assert dashed == ([pytest.approx(expected)] if shown else [])
    (legend,) = figures[0].legends
    assert ("floor" in [text.get_text() for text in legend.get_texts()]) == shown


PHONE = 358
"""Pixels: the width of a picture on a phone."""


def on_several(accuracy: Reproduction, names: tuple[str, ...]) -> Reproduction:
    """The same lines on several data sets."""
    several = [
        replace(one, line=replace(one.line, key=one.line.key._replace(panel=name)))
        for name in names
        for one in accuracy.lines
    ]
    return replace(accuracy, lines=tuple(several))


def box(svg: ElementTree.Element) -> tuple[float, float]:
    """The width and the height of a picture in points."""
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    return width, height


def plot_heights(svg: ElementTree.Element) -> list[float]:
    """Of every panel, in points."""
    found = []
    for group in svg.iter(f"{SVG}g"):
        if group.attrib.get("id", "").startswith("axes_"):
            outline = group.find(f"{SVG}g/{SVG}path")  # its background comes first
            if outline is None:  # the place of a fourth panel is empty
                continue
            places = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", outline.attrib["d"])]
            found.append(max(places) - min(places))
    return found


@pytest.mark.parametrize("rules", [2, 9])
def test_a_plot_is_high_enough_on_a_phone_and_its_ticks_are_round(
    tmp_path: Path, rules: int
) -> None:
    accuracy, costs = study()
    for rule in ("rflo", "eprop", "fa", "tbptt", "uoro", "snap1", "np")[: rules - 2]:
        config = {"rule": rule, "cell": "gru"}
        key = Key("digits", rule, "best without BPTT")
        runs = [TrainConfig(**config, seed=seed) for seed in range(3)]
        found = [{"best_validation": {"test_accuracy": value}} for value in (0.6, 0.7, 0.65)]
        accuracy = replace(accuracy, lines=(*accuracy.lines, line(key, runs, found)))
        spent = line(key, [CostConfig(**config)], [{"milliseconds": 2.0}])
        costs = replace(costs, lines=(*costs.lines, spent))
    picture = distance.draw(
        on_several(accuracy, ("one", "two", "three")), costs, tmp_path / "a.svg"
    )
    assert picture is not None
    svg = ElementTree.parse(picture).getroot()
    heights = [height * PHONE / box(svg)[0] for height in plot_heights(svg)]
    assert len(heights) == 3
    assert min(heights) >= 260
    ticks = re.findall(r"<!-- −?([\d.]+) -->", picture.read_text())
    assert len(ticks) > 6
    assert all((2 * float(tick)).is_integer() for tick in ticks)


def test_the_picture_for_print_is_a_column_wide_and_leaves_room_for_text(tmp_path: Path) -> None:
    accuracy, costs = study()
    for number in (1, 4):
        names = tuple(map(str, range(number)))
        picture = distance.draw(on_several(accuracy, names), costs, tmp_path / "a.svg", paper=True)
        assert picture is not None
        svg = ElementTree.parse(picture).getroot()
        width, height = box(svg)
        assert width == pytest.approx(72 * WIDTH)
        assert height <= 600
        assert len(plot_heights(svg)) == number
        assert min(plot_heights(svg)) > 120


def test_without_costs_there_is_no_picture(tmp_path: Path) -> None:
    accuracy, costs = study()
    assert distance.pairs([accuracy]) == []
    assert (
        distance.draw(accuracy, Reproduction(costs.experiment, "laptop", ()), tmp_path / "a.svg")
        is None
    )
    assert not list(tmp_path.iterdir())
    page = write_markdown([accuracy], tmp_path / "page.md").read_text()
    assert "![" not in page


def test_a_page_opens_with_the_picture_which_is_the_same_every_time(tmp_path: Path) -> None:
    pages = []
    for name in ("one", "two"):
        page = write_markdown(list(study()), tmp_path / name / "page.md")
        pages.append(
            (page.read_text(), (page.parent / "figures" / "beyond-made-up.svg").read_bytes())
        )
    assert pages[0] == pages[1]
    text, picture = pages[0]
    title, _, first = text.splitlines()[:3]
    assert title == "# Made up"
    assert first.startswith("![Made up: difference to the best BPTT")
    assert first.endswith("(figures/beyond-made-up.svg)")
    assert ElementTree.fromstring(picture).tag.endswith("svg")
