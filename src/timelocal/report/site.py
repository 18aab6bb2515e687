"""A site of static pages: one for every reproduced table and figure, and an index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.experiment import WORDS
from timelocal.files import make_folder, replaced, to_json, write_text
from timelocal.report import line_figures, lines, provenance
from timelocal.report.citations import PAPERS, Paper
from timelocal.report.overview import LEVELS, overview
from timelocal.report.page import plotly, render
from timelocal.report.printed import thumbnail
from timelocal.studies.reproduction import Reproduction
from timelocal.studies.store import RunRecord

LIBRARY = "plotly.min.js"
_THUMBNAILS = "thumbnails"


def write_site(reproductions: Sequence[Reproduction], output: Path) -> Path:
    """Write the site into the folder `output` and return its `index.html`.

    The site is built in a folder next to `output`, which it replaces when it is complete. The pages need no
    network and no server. Pages of experiments that are not in `reproductions` are kept unchanged.

    Raises:
        RunError: the folder cannot be written.
    """
    with replaced(output) as folder:
        make_folder(folder / "runs")
        write_text(folder / LIBRARY, plotly())
        for run in runs_of(reproductions):
            write_text(folder / "runs" / f"{run.folder.name}.json", _record(run))
        for one in reproductions:
            html = render("experiment.html", library=LIBRARY, **_page(one))
            write_text(folder / page_name(one.experiment.name), html)
            drawn = line_figures.figures(one)
            if drawn:
                thumbnail(drawn[0], folder / thumbnail_name(one.experiment.name))
        here = {one.experiment.name for one in reproductions}
        earlier = [
            (experiment.title, page_name(name))
            for name, experiment in EXPERIMENTS.items()
            if name not in here and (folder / page_name(name)).exists()
        ]
        content = _index(reproductions) | {"earlier": earlier}
        index = render("site.html", charts=False, images=True, **content)
        write_text(folder / "index.html", index)
    return output / "index.html"


def page_name(experiment: str) -> str:
    """The file name of an experiment's page."""
    return experiment.replace("/", "-") + ".html"


def thumbnail_name(experiment: str) -> str:
    """The file name of the thumbnail of an experiment's first figure."""
    return f"{_THUMBNAILS}/{experiment.replace('/', '-')}.png"


def paper_of(one: Reproduction) -> Paper:
    """The paper of an experiment, or the entry for experiments beyond the papers."""
    return PAPERS[one.experiment.name.split("/")[0]]


def _page(one: Reproduction) -> dict[str, Any]:
    rows = lines.rows(one)
    settings = one.experiment.view == "settings"
    told = {  # a table of settings leaves the differences to the pages of their figures
        "has_paper": any(row.line.paper is not None for row in rows),
        "has_bptt": not settings and any(row.from_bptt != lines.NOTHING for row in rows),
        "has_frozen": not settings and any(row.from_frozen != lines.NOTHING for row in rows),
    }
    return {
        "title": one.experiment.title,
        "experiment": one.experiment,
        "profile": one.profile,
        "command": one.command,
        "paper": paper_of(one),
        "progress": lines.progress(one),
        "verdicts": [
            (
                claim,
                verdict,
                lines.with_links(verdict.because, rows),
                [(lines.with_links(test.told, rows), test) for test in verdict.tests],
            )
            for claim, verdict in one.verdicts()
        ],
        "measures": lines.measures(one),
        "heads": [lines.titled(measure) for measure in lines.measures(one)],
        "rows": rows,
        "names": list(dict.fromkeys(row.line.key.panel for row in rows)),
        "columns": len(lines.measures(one)) + 2 + sum(told.values()) + settings,
        **told,
        "trivial": lines.trivial(one),
        "panels": line_figures.panels(one),
        "deviations": one.experiment.deviations(one.profile),
        "environment": provenance.environment(runs_of([one])),
    }


def _index(reproductions: Sequence[Reproduction]) -> dict[str, Any]:
    papers: dict[str, list[dict[str, Any]]] = {}
    for one in reproductions:
        entry = {
            "experiment": one.experiment,
            "profile": one.profile,
            "page": page_name(one.experiment.name),
            "picture": thumbnail_name(one.experiment.name) if line_figures.figures(one) else None,
            "progress": lines.progress(one),
            "words": Counter(verdict.summary for _, verdict in one.verdicts()),
        }
        papers.setdefault(paper_of(one).title, []).append(entry)
    found = runs_of(reproductions)
    return {
        "title": "Two papers, reproduced, and beyond",
        "papers": papers,
        "overviews": {
            paper.title: overview([one for one in reproductions if paper_of(one) is paper])
            for paper in PAPERS.values()
        },
        "levels": LEVELS,
        "words": WORDS,
        "statuses": Counter(run.status for run in found).most_common(),
        "missing": len(missing_runs(reproductions)),
        "environment": provenance.environment(found),
        "references": [paper for paper in PAPERS.values() if paper.citation],
    }


def runs_of(reproductions: Sequence[Reproduction]) -> list[RunRecord]:
    """The existing runs among those that lines and their searches need, each once."""
    found = {
        run.folder.name: run
        for one in reproductions
        for result in one.lines
        for _, run in result.asked
        if run is not None
    }
    return list(found.values())


def missing_runs(reproductions: Sequence[Reproduction]) -> set[str]:
    """The missing runs, as far as they are known: a search must end before the runs after it are known."""
    return {
        config.folder_name()
        for one in reproductions
        for result in one.lines
        for config, run in result.asked
        if run is None
    }


def _record(run: RunRecord) -> str:
    parts = ("status", "message", "config", "environment", "result", "timing", "epochs")
    return to_json({name: getattr(run, name) for name in parts}, indent=1)
