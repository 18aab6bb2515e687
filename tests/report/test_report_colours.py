"""Every rule can be told from those beside it, also by people who see fewer colours."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import make_run
from vision import VISIONS, contrast_on_white, difference, lab, linear, seen

from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.report import line_figures, tables
from timelocal.report.figures import TRIVIAL_COLOUR, legend
from timelocal.report.runs import load
from timelocal.report.style import rule_colours
from timelocal.rules import RULES
from timelocal.studies.reproduction import LineResult


def least_difference(one: str, other: str) -> float:
    """CIEDE2000 of two colours, in the eyes that see the least of it."""
    return min(
        float(difference(*(lab(seen(linear(colour), vision)) for colour in (one, other))))
        for vision in VISIONS
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((50, 2.5, 0), (61, -5, 29), 22.8977),
        ((50, 2.5, 0), (56, -27, -3), 31.9030),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_difference_is_that_of_sharma_wu_and_dalal(
    one: tuple[float, ...], other: tuple[float, ...], expected: float
) -> None:
    found = difference(np.array(one, float), np.array(other, float))
    assert float(found) == pytest.approx(expected, abs=5e-5)


def test_grey_and_white_look_the_same_to_all() -> None:
    for vision in VISIONS:
        for colour in ("#ffffff", "#888888"):
            assert seen(linear(colour), vision) == pytest.approx(linear(colour), abs=1e-5)
    assert lab(linear("#ffffff")) == pytest.approx([100, 0, 0], abs=1e-3)


def results(name: str) -> list[LineResult]:
    return [LineResult(one, one.config, (), (), ()) for one in EXPERIMENTS[name].lines("laptop")]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_rules_that_share_a_page_can_be_told_apart_by_all(name: str) -> None:
    configs = [one.line.config for one in results(name)]
    colours = {rule_colours([])[one.rule] for one in configs if not one.frozen}
    for one, other in combinations(sorted(colours), 2):
        assert least_difference(one, other) >= 13.5, (one, other)
    for one in colours:  # the recurrence frozen is dotted, too
        assert least_difference(one, TRIVIAL_COLOUR) >= 11.5, one


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_different_rules_lines_of_the_same_dash_can_be_told_apart_by_all(name: str) -> None:
    lines = results(name)
    looks = line_figures._looks(lines)
    kinds = {
        one.line.key.label: "frozen"
        if one.line.config.frozen
        else one.line.config.rule.removesuffix("-authors-code")
        for one in lines
    }
    for one, other in combinations(looks, 2):
        if looks[one].dash == looks[other].dash and kinds[one] != kinds[other]:
            assert least_difference(looks[one].colour, looks[other].colour) >= 10, (one, other)


def test_no_two_rules_are_nearly_of_one_colour() -> None:
    colours = sorted({*rule_colours([]).values(), TRIVIAL_COLOUR})
    assert len(colours) == 1 + sum(not rule.endswith("-authors-code") for rule in RULES)
    for one, other in combinations(colours, 2):
        assert least_difference(one, other) >= 7, (one, other)


def test_the_lines_of_rules_stand_out_from_white() -> None:
    colours = rule_colours([])
    assert colours.keys() >= RULES.keys()
    for rule in RULES:
        assert contrast_on_white(linear(colours[rule])) >= 3, rule


def test_a_rule_and_its_authors_code_differ_by_a_marker(tmp_path: Path) -> None:
    for rule in ("dfa", "dfa-authors-code"):
        make_run(tmp_path, rule=rule)
    (section,) = tables.sections(load([tmp_path])[0])
    ours, theirs = legend(section)[:2]
    assert ours.colour == theirs.colour
    assert ours.symbol != theirs.symbol
