"""The plotly.js that pages carry: unchanged, enough for all that is drawn, and small enough."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from made_up_reproductions import everything
from made_up_runs import make_run, make_runs, predict

from timelocal.report import figures, line_figures, page, tables, write_report
from timelocal.report.figures import Figure
from timelocal.report.runs import load
from timelocal.report.site import write_site

FOLDER = Path(page.__file__).parent / "plotly"
LARGEST = 1_500_000
"""Bytes of a file that a reader has to load."""


@pytest.fixture
def drawn(tmp_path: Path) -> list[Figure]:
    """Every kind of figure that reports and sites have."""
    make_runs(tmp_path, seeds=2)
    make_run(tmp_path, seed=7, epochs=4, status="diverged")
    make_runs(tmp_path, "weather", seeds=2, regression=True)
    for outputs in (1, 9):
        predict(make_run(tmp_path, f"copying-{outputs}", regression=True), outputs)
    found = [figure for one in everything() for figure in line_figures.figures(one)]
    for section in tables.sections(load([tmp_path])[0]):
        found += [*figures.learning_curves(section), *figures.predictions(section)]
    assert len(found) > 15
    return found


def test_the_script_is_the_one_it_says() -> None:
    told = (FOLDER / "README.md").read_text()
    script = (FOLDER / "plotly-basic.min.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() in told
    (version,) = re.findall(r"version ([\d.]+\d)", told)
    assert f"plotly.js (basic - minified) v{version}\n".encode() in script[:200]
    assert (FOLDER / "LICENSE").read_text().startswith("MIT License")


def test_no_figure_needs_more_than_it_holds(drawn: list[Figure]) -> None:
    holds = set(re.findall(r'moduleType:"trace",name:"(\w+)"', page.plotly()))
    assert holds == {"scatter", "bar", "pie"}
    needed = {trace["type"] for figure in drawn for trace in figure.spec["data"]}
    assert "scatter" in needed
    assert needed <= holds


def test_it_knows_every_property(drawn: list[Figure]) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    from plotly.offline import get_plotlyjs_version

    assert (
        f"v{get_plotlyjs_version()}\n" in page.plotly()[:200]
    )  # its schema is of the same version
    for figure in drawn:
        graph_objects.Figure(figure.spec)  # raises on a property that does not exist
    with pytest.raises(ValueError, match="Invalid"):
        graph_objects.Figure(figure.spec | {"layout": {"no_such_property": 1}})


def test_pages_are_small(tmp_path: Path) -> None:
    for folder in make_runs(tmp_path / "runs", "copying", seeds=10, regression=True):
        predict(folder, outputs=10, steps=500)
    report = write_report([tmp_path / "runs"], tmp_path / "report.html")
    site = write_site(everything(), tmp_path / "site").parent
    sizes = {path.name: path.stat().st_size for path in (report, *site.rglob("*.*"))}
    assert {"plotly.min.js", "dfa-made-up-curves.html"} <= sizes.keys()
    assert max(sizes.values()) <= LARGEST, sizes
