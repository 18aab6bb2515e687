"""Accuracies against costs: what is paired with what, and a picture that is the same every time."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

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

RUNS: dict[Key, tuple[dict[str, object], tuple[float, ...]]] = {
    BPTT: ({"rule": "bptt", "cell": "gru"}, (0.90, 0.80, 0.85)),
    BPTT_RNN: ({"rule": "bptt", "cell": "rnn"}, (0.60, 0.70, 0.65)),
    DFA: ({"rule": "dfa", "cell": "gru"}, (0.80, 0.75, 0.70)),
    FROZEN: ({"rule": "dfa", "cell": "gru", "frozen": True}, (0.5, 0.5, 0.5)),
}
COSTS = {BPTT: 4.0, DFA: 1.0, FROZEN: 0.5}  # nobody measured BPTT on the RNN


def record(config: TrainConfig, **result: object) -> RunRecord:
    environment = {"command": "timelocal train", "started": "2026-01-01T12:00:00+00:00"}
    return RunRecord(
        Path(config.folder_name()), "finished", "", config.model_dump(mode="json"), environment, (),
        result={"seed": config.seed, **result},
    )  # fmt: skip


def line(key: Key, configs: list[TrainConfig], results: list[dict[str, object]]) -> LineResult:
    asked = Line(key, configs[0], tuple(range(len(configs))))
    runs = [(one, record(one, **result)) for one, result in zip(configs, results, strict=True)]
    return LineResult(asked, configs[0], (), (), tuple(runs))


def study() -> tuple[Reproduction, Reproduction]:
    accuracy = Experiment(
        "beyond/made-up",
        "Made up",
        "?",
        "curves",
        ("accuracy",),
        lambda _: (),
        beside="beyond/costs",
    )
    costs = Experiment("beyond/costs", "Costs", "?", "costs", ("milliseconds",), lambda _: ())
    lines = [
        line(
            key,
            [TrainConfig(**fields, seed=seed) for seed in range(3)],
            [{"best_validation": {"test_accuracy": value}} for value in values],
        )
        for key, (fields, values) in RUNS.items()
    ]
    spent = [
        line(key, [CostConfig(**RUNS[key][0])], [{"milliseconds": took}])
        for key, took in COSTS.items()
    ]
    return Reproduction(accuracy, "laptop", tuple(lines)), Reproduction(
        costs, "laptop", tuple(spent)
    )


def test_a_point_has_the_mean_over_seeds_and_its_interval() -> None:
    (pair,) = distance.pairs(list(study()))
    found = {(point.rule, point.cell, point.frozen): point for point in distance.points(*pair)}
    assert found.keys() == {("bptt", "gru", False), ("dfa", "gru", False), ("dfa", "gru", True)}
    dfa = found["dfa", "gru", False]
    assert dfa.milliseconds == 1.0
    assert dfa.mean == pytest.approx(0.75)
    # t(0.975, 2) = 4.3027, sd 0.05, n = 3
    assert dfa.interval == pytest.approx(
        (0.75 - 4.3027 * 0.05 / 3**0.5, 0.75 + 4.3027 * 0.05 / 3**0.5), abs=1e-4
    )
    assert found["dfa", "gru", True].mean == found["dfa", "gru", True].interval[0] == 0.5
    assert found["dfa", "gru", True].milliseconds == 0.5


@pytest.mark.parametrize("majority", [None, 0.4])
def test_the_floor_is_drawn_where_it_is_known(tmp_path: Path, majority: float | None) -> None:
    accuracy, costs = study()
    trivial = {} if majority is None else {"majority_class": majority}
    for one in accuracy.lines:
        for _, run in one.runs:
            assert run is not None
            assert run.result is not None
            run.result["trivial"] = trivial
    picture = distance.draw(accuracy, costs, tmp_path / "a.svg")
    assert picture is not None
    assert ("stroke-dasharray: 3.7" in picture.read_text()) == (majority is not None)


PHONE = 358
"""Pixels: the width of a picture on a phone."""


def panels(accuracy: Reproduction, names: tuple[str, ...]) -> Reproduction:
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
    picture = distance.draw(panels(accuracy, ("one", "two", "three")), costs, tmp_path / "a.svg")
    assert picture is not None
    svg = ElementTree.parse(picture).getroot()
    heights = [height * PHONE / box(svg)[0] for height in plot_heights(svg)]
    assert len(heights) == 3
    assert min(heights) >= 260
    ticks = re.findall(r"<!-- ([\d.]+) -->", picture.read_text())
    assert len(ticks) > 6
    assert all((2 * float(tick)).is_integer() for tick in ticks)


def test_the_picture_for_print_is_a_column_wide_and_leaves_room_for_text(tmp_path: Path) -> None:
    accuracy, costs = study()
    for number in (1, 4):
        names = tuple(map(str, range(number)))
        picture = distance.draw(panels(accuracy, names), costs, tmp_path / "a.svg", paper=True)
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
    assert first.startswith("![Made up")
    assert first.endswith("(figures/beyond-made-up.svg)")
    assert ElementTree.fromstring(picture).tag.endswith("svg")
