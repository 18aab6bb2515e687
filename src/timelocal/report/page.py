"""Assemble a report page: one self-contained HTML file that loads nothing from a network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from timelocal.errors import Problem, raise_problems
from timelocal.files import make_folder, strict, to_json, write_text
from timelocal.report import figures, provenance, runs, style, tables, words
from timelocal.studies.store import RunRecord


def write_report(run_folders: Sequence[Path], output: Path) -> Path:
    """Turn run folders into one self-contained HTML page.

    Args:
        run_folders: folders of runs, or folders that hold such folders at any depth.
        output: the file to write. Its folder is created if needed; an old file is replaced in one step
            when the new one is complete.

    Returns:
        `output`.

    Raises:
        ArgumentError: there is no readable run in any of the folders.
        RunError: `output` cannot be written.

    The page reports unreadable runs and runs that did not finish.

    >>> write_report([], Path("report.html"))
    Traceback (most recent call last):
    timelocal.errors.ArgumentError: run_folders: got no run, expected at least one...
    """
    found, problems = runs.load(run_folders)
    if not found:
        remedy = "Make runs with `timelocal train`"
        where = "; ".join(problems) or "no folder"
        raise_problems([Problem("run_folders", "no run", f"at least one ({where})", remedy)])
    html = render("report.html", **_content(found, problems))
    make_folder(output.parent)
    write_text(output, html)
    return output


def render(
    template: str,
    *,
    charts: bool = True,
    library: str | None = None,
    images: bool = False,
    **content: Any,
) -> str:
    """Fill in a template of this package; `base.html` gives every page its style and its script.

    charts: whether the page has charts. It then includes the plotting library (1.2 MB), unless `library`
    names a file next to the page that contains it.
    images: whether the page may show pictures from files next to it.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("timelocal.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "spread": words.spread,
        "interval": words.interval,
        "number": words.number,
        "cell": style.cell_label,
        "strict": strict,
        "merged": provenance.merged,
    }
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    return environment.get_template(template).render(
        plotly=Markup(plotly() if charts and library is None else ""),
        library=library,
        images=images,
        **content,
    )


def plotly() -> str:
    """The plotting library of the pages: plotly.js with scatter, bar and pie."""
    return (files("timelocal.report") / "plotly" / "plotly-basic.min.js").read_text("utf-8")


def _content(found: Sequence[RunRecord], problems: Sequence[str]) -> dict[str, Any]:
    sections = tables.sections(found)
    rules = sorted({group.rule for section in sections for group in section.groups})
    return {
        "title": words.title(sections),
        "run_count": len(found),
        "sections": [
            {
                "section": section,
                "findings": words.findings(section),
                "legend": figures.legend(section),
                "figures": figures.learning_curves(section),
                "predictions": figures.predictions(section),
                "measures": tables.measures(section),
                "settings": provenance.settings(section),
            }
            for section in sections
        ],
        "problems": problems,
        "unfinished": [run for run in found if not runs.finished(run)],
        "configurations": [
            (run.folder.name, to_json(run.config, indent=2, sort_keys=True)) for run in found
        ],
        "environment": provenance.environment(found),
        "commands": provenance.commands(found),
        "plugins": provenance.plugins(found),
        "references": provenance.references(rules, found),
    }
