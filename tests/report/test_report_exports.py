"""What a paper needs: figures, tables, runs and sources, from the same rows as the pages."""

from __future__ import annotations

import csv
import shutil
import statistics
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_up_reproductions import ACCURACIES, BPTT, DFA, costs, everything, reproduction
from made_up_runs import make_run, make_runs, predict
from typer.testing import CliRunner

from timelocal.cli.app import app
from timelocal.report.exports import export_report, export_reproductions
from timelocal.report.latex import escape, tabular
from timelocal.report.line_figures import panels
from timelocal.report.printed import WIDTH, print_figure, thumbnail

SVG = "{http://www.w3.org/2000/svg}"


def test_every_figure_is_there_one_column_wide(tmp_path: Path) -> None:
    made = [reproduction(), costs()]
    export_reproductions(made, tmp_path)
    drawn = [figure for one in made for panel in panels(one) for figure in panel.figures]
    svg, pdf = (sorted((tmp_path / "figures").glob(f"*.{end}")) for end in ("svg", "pdf"))
    assert len(svg) == len(pdf) == len(drawn)
    for path in svg:
        root = ElementTree.parse(path).getroot()
        assert root.tag == f"{SVG}svg"
        assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(72 * WIDTH)
    assert all(path.read_bytes().startswith(b"%PDF") for path in pdf)


def test_a_figure_has_the_lines_of_the_page(tmp_path: Path) -> None:
    panel = panels(reproduction())[0]
    figure = panel.figures[0]
    svg, _ = print_figure(figure, panel.legend, tmp_path / "one")
    strokes = [
        e for e in ElementTree.parse(svg).getroot().iter(f"{SVG}path") if "style" in e.attrib
    ]
    for look in panel.legend[:2]:
        own = [
            one
            for one in strokes
            if f"stroke: {look.colour.lower()}" in one.attrib["style"].lower()
        ]
        # three seeds, their mean, the entry of the legend, and the band has no stroke
        assert len(own) >= 5


def test_the_same_figure_has_the_same_bytes(tmp_path: Path) -> None:
    panel = panels(reproduction())[0]
    twice = [print_figure(panel.figures[0], panel.legend, tmp_path / name) for name in ("a", "b")]
    assert [path.read_bytes() for path in twice[0]] == [path.read_bytes() for path in twice[1]]
    small = thumbnail(panel.figures[0], tmp_path / "small.png")
    assert small.read_bytes()[16:24] == (240).to_bytes(4, "big") + (168).to_bytes(4, "big")


@pytest.mark.parametrize("outputs", [1, 9])
def test_every_output_is_drawn_in_a_row_of_its_own(tmp_path: Path, outputs: int) -> None:
    folder = make_run(tmp_path / "runs", regression=True)
    predict(folder, outputs)
    export_report([tmp_path / "runs"], tmp_path)
    (path,) = (tmp_path / "figures").glob("*first-test-sequence.svg")
    groups = [group.attrib.get("id", "") for group in ElementTree.parse(path).iter(f"{SVG}g")]
    assert sum(name.startswith("axes_") for name in groups) == outputs


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_reproductions([reproduction()], folder)
    return folder


def test_the_table_of_runs_is_tidy(exported: Path) -> None:
    with (exported / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9  # one a run
    assert len({(row["line"], row["column"], row["seed"]) for row in rows}) == 9
    dfa = [float(row["accuracy"]) for row in rows if row["column"] == DFA.column]
    assert dfa == [*ACCURACIES[DFA]]
    assert [row["status"] for row in rows].count("diverged") == 1
    assert {row["config.hidden"] for row in rows} == {"4"}


def test_the_latex_table_has_the_numbers_of_the_runs(exported: Path) -> None:
    text = (exported / "tables" / "dfa-made-up-curves.tex").read_text()
    values = [100 * one for one in ACCURACIES[BPTT] if one is not None]
    mean, sd = statistics.mean(values), statistics.stdev(values)
    assert rf"\textbf{{{mean:.1f} $\pm$ {sd:.1f}}}" in text
    assert "60 $\\pm$ 1.5" in text  # the paper's
    assert text.splitlines()[0] == "% timelocal reproduce dfa/made-up-curves --profile laptop"
    widths = {line.count(" & ") for line in text.splitlines() if " & " in line}
    assert len(widths) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here")
def test_latex_takes_the_tables(tmp_path: Path) -> None:
    export_reproductions(everything()[:-1], tmp_path)
    inputs = "".join(rf"\input{{{path}}}" for path in (tmp_path / "tables").glob("*.tex"))
    page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=batchmode", "-halt-on-error", "page.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_special_letters_are_escaped() -> None:
    assert escape(r"50 % & a_b # {x} \ y") == r"50 \% \& a\_b \# \{x\} \textbackslash{} y"
    text = tabular(["a", "b"], [("one", [["1", "2"]]), ("t_o", [["3", "4"]])], "made by")
    assert text.count(r"\midrule") == 2
    assert r"\textit{t\_o}" in text


def test_commands_write_them_too(tmp_path: Path) -> None:
    make_runs(tmp_path / "runs", seeds=2)
    make_runs(tmp_path / "runs", "mackey-glass", seeds=2, regression=True)
    made = CliRunner().invoke(
        app,
        ["report", str(tmp_path / "runs"), "--figures", str(tmp_path / "print")],
    )
    assert made.exit_code == 0, made.output
    assert {path.name for path in (tmp_path / "print").iterdir()} == {
        "figures",
        "tables",
        "runs.csv",
        "references.bib",
    }
    with (tmp_path / "print" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((tmp_path / "runs").glob("*/config.json")))
    assert "@" in (tmp_path / "print" / "references.bib").read_text()
    assert len(list((tmp_path / "print" / "figures").glob("*.svg"))) >= 3
    made = CliRunner().invoke(
        app,
        [
            *("reproduce", "perturbation/figure9", "--profile", "quick", "--report-only"),
            *("--out", str(tmp_path / "none"), "--figures", str(tmp_path / "empty")),
        ],
    )
    assert made.exit_code == 0, made.output
    assert (tmp_path / "empty" / "tables" / "perturbation-figure9.tex").is_file()
