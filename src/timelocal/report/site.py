"""A site of static pages: one for every table and figure that was reproduced, and an index."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from timelocal.report import line_figures, lines, provenance
from timelocal.report.page import render
from timelocal.studies.reproduction import Reproduction
from timelocal.studies.store import RunRecord
from timelocal.training.files import make_folder, write_text

LIBRARY = "plotly.min.js"
PAPERS = {
    "dfa": "Direct Feedback Alignment for Recurrent Neural Networks (submitted to MLNCP at NeurIPS 2024)",
    "perturbation": "J. García Fernández, S. Keemink, M. van Gerven: Gradient-free training of recurrent "
    "neural networks using random perturbations (Frontiers in Neuroscience 18, 2024)",
}


def write_site(reproductions: Sequence[Reproduction], output: Path) -> Path:
    """Write the site into the folder `output` and return its `index.html`.

    Every file is complete before it takes its name. The pages need no network and no server. Pages of
    experiments that are not among `reproductions` are left as they are.

    Raises:
        RunError: the folder cannot be written.
    """
    make_folder(output / "runs")
    write_text(output / LIBRARY, get_plotlyjs())
    for run in _runs(reproductions):
        write_text(output / "runs" / f"{run.folder.name}.json", _record(run))
    for one in reproductions:
        html = render("experiment.html", library=LIBRARY, **_page(one))
        write_text(output / page_name(one), html)
    write_text(output / "index.html", render("site.html", charts=False, **_index(reproductions)))
    return output / "index.html"


def page_name(reproduction: Reproduction) -> str:
    """The file of an experiment's page."""
    return reproduction.experiment.name.replace("/", "-") + ".html"


def _page(one: Reproduction) -> dict[str, Any]:
    rows = lines.rows(one)
    return {
        "title": one.experiment.title,
        "experiment": one.experiment,
        "profile": one.profile,
        "progress": lines.progress(one),
        "verdicts": one.verdicts(),
        "measures": lines.measures(one),
        "rows": rows,
        "panels": list(dict.fromkeys(row.line.key.panel for row in rows)),
        "has_paper": any(row.line.paper is not None for row in rows),
        "has_bptt": any(row.from_bptt != lines.NOTHING for row in rows),
        "trivial": lines.trivial(one),
        "figures": line_figures.figures(one),
        "deviations": one.experiment.deviations(one.profile),
        "environment": provenance.environment(_runs([one])),
    }


def _index(reproductions: Sequence[Reproduction]) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [
        {
            "experiment": one.experiment,
            "profile": one.profile,
            "page": page_name(one),
            "progress": lines.progress(one),
            "words": Counter(verdict.word for _, verdict in one.verdicts()),
        }
        for one in reproductions
    ]
    papers = {
        title: [entry for entry in entries if entry["experiment"].name.startswith(f"{name}/")]
        for name, title in PAPERS.items()
    }
    return {
        "title": "Two papers, reproduced",
        "papers": {title: found for title, found in papers.items() if found},
        "words": ("holds", "does not hold", "untested at this size"),
    }


def _runs(reproductions: Sequence[Reproduction]) -> list[RunRecord]:
    found = {
        run.folder.name: run
        for one in reproductions
        for result in one.lines
        for _, run in (*result.runs, *result.tried)
        if run is not None
    }
    return list(found.values())


def _record(run: RunRecord) -> str:
    parts = ("status", "message", "config", "environment", "result", "epochs")
    return json.dumps({name: getattr(run, name) for name in parts}, indent=1)
