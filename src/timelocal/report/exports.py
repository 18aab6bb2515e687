"""Exports for a paper: figures as SVG and PDF, tables as LaTeX, runs as CSV, sources as BibTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from timelocal.experiments.bibtex import bibtex
from timelocal.files import make_folder, write_text
from timelocal.report import (
    distance,
    figures,
    learning,
    line_figures,
    lines,
    provenance,
    runs,
    tables,
    words,
)
from timelocal.report.citations import PAPERS
from timelocal.report.latex import escape, tabular
from timelocal.report.line_figures import Panel
from timelocal.report.printed import print_figure
from timelocal.report.style import cell_label
from timelocal.studies.measures import value
from timelocal.studies.reproduction import Reproduction
from timelocal.studies.store import RunRecord


def export_reproductions(reproductions: Sequence[Reproduction], folder: Path) -> Path:
    """Write `figures/`, `tables/`, `runs.csv` and `references.bib` of reproductions into a folder.

    Every line of `runs.csv` is a run of a line of an experiment: what it is, what it measured, its
    configuration.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: something cannot be written.
    """
    for one in reproductions:
        name = lines.anchor(one.experiment.name)
        _figures(line_figures.panels(one), name, folder)
        write_text(_made(folder / "tables") / f"{name}.tex", _table(one))
    for one, costs in distance.pairs(reproductions):
        stem = folder / "figures" / lines.anchor(one.experiment.name)
        for end in ("svg", "pdf"):
            distance.draw(one, costs, stem.with_name(f"{stem.name}-distance.{end}"), paper=True)
            learning.draw(one, stem.with_name(f"{stem.name}-learning.{end}"), paper=True)
    found = [
        {
            "experiment": one.experiment.name,
            "panel": result.line.key.panel,
            "line": result.line.key.label,
            "column": result.line.key.column,
            **_of_run(run),
            **{name: value(run, name) for name in one.experiment.measures},
            **_configuration(run),
        }
        for one in reproductions
        for result in one.lines
        for _, run in result.runs
        if run is not None
    ]
    write_text(folder / "runs.csv", tidy(found))
    papers = {one.experiment.name.split("/")[0] for one in reproductions}
    cited = [paper.citation for name, paper in PAPERS.items() if name in papers and paper.citation]
    rules = {result.line.config.rule: None for one in reproductions for result in one.lines}
    _references([*cited, *provenance.references(list(rules))], folder)
    return folder


def export_report(run_folders: Sequence[Path], folder: Path) -> Path:
    """Write `figures/`, `tables/`, `runs.csv` and `references.bib` of runs into a folder.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: something cannot be written.
    """
    found, _ = runs.load(run_folders)
    sections = tables.sections(found)
    for section in sections:
        drawn = (*figures.learning_curves(section), *figures.predictions(section))
        panel = Panel("", tuple(figures.legend(section)), drawn)
        name = lines.anchor(section.dataset, section.metric.name)
        _figures([panel], name, folder)
        write_text(_made(folder / "tables") / f"{name}.tex", _section(section))
    rows = [
        {
            **_of_run(run),
            **{f"result.{key}": kept for key, kept in tables.flatten(run.result or {}).items()},
            **_configuration(run),
        }
        for run in found
    ]
    write_text(folder / "runs.csv", tidy(rows))
    rules = {group.rule: None for section in sections for group in section.groups}
    _references(provenance.references(list(rules), found), folder)
    return folder


def tidy(rows: Iterable[Mapping[str, object]]) -> str:
    """CSV with all columns that any row has, in the order in which they come up.

    >>> print(tidy([{"a": 1}, {"a": 2, "b": None, "c": "x"}]), end="")
    a,b,c
    1,,
    2,,x
    """
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _of_run(run: RunRecord) -> dict[str, object]:
    return {
        "run": run.folder.name,
        "seed": run.config.get("seed"),
        "status": run.status,
        "epochs_done": len(run.epochs),
    }


def _configuration(run: RunRecord) -> dict[str, object]:
    return {f"config.{key}": kept for key, kept in tables.flatten(run.config).items()}


def _figures(panels: Iterable[Panel], name: str, folder: Path) -> None:
    for panel in panels:
        for figure in panel.figures:
            stem = f"{name}-{lines.anchor(figure.caption)}"
            print_figure(figure, panel.legend, folder / "figures" / stem)


def _references(citations: Iterable[str], folder: Path) -> None:
    write_text(folder / "references.bib", "\n\n".join(bibtex(citations)) + "\n")


def _made(folder: Path) -> Path:
    make_folder(folder)
    return folder


def _table(one: Reproduction) -> str:
    """The lines of an experiment by panel: mean ± sd of every measure, the best bold, and the paper's."""
    rows = lines.rows(one)
    paper = any(row.line.paper is not None for row in rows)
    head = ["Rule", "Column", *(lines.titled(measure) for measure in lines.measures(one))]
    head += ["The paper"] if paper else []
    groups: dict[str, list[list[str]]] = {}
    for row in rows:
        cells = [
            rf"\textbf{{{escape(cell)}}}" if best else escape(cell)
            for cell, best in zip(row.cells, row.best, strict=True)
        ]
        told = [escape(row.line.key.label), escape(row.line.key.column), *cells]
        told += [escape(row.paper)] if paper else []
        groups.setdefault(row.line.key.panel, []).append([*told, escape(row.stability)])
    return tabular([*head, "Finished"], list(groups.items()), one.command)


def _section(section: tables.Section) -> str:
    """The rows of a data set by cell."""
    metric = section.metric
    name = f"{metric.name} ({metric.unit.strip()})" if metric.unit else metric.name
    head = ["Rule", "Seeds", f"{name}, best validation epoch", "Last epoch"]
    groups = [
        (
            cell_label(rows[0].group.cell),
            [
                [
                    escape(row.group.rule_and_variant),
                    str(len(row.group.finished)),
                    escape(words.spread(row.best, metric)),
                    escape(words.spread(row.last, metric)),
                ]
                for row in rows
            ],
        )
        for rows in section.cells
    ]
    return tabular(head, groups, f"timelocal report, {section.dataset}")
