"""The docs site: `make docs` builds it into build/docs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent

API = {
    "timelocal": "Networks, rules and loops",
    "timelocal.rules": "What the author of a rule needs",
    "timelocal.network": "Networks from the inside",
    "timelocal.cells": "Cells",
    "timelocal.losses": "Losses",
    "timelocal.feedback": "Feedback matrices",
    "timelocal.data": "Data",
    "timelocal.training": "Training",
    "timelocal.integrations.sklearn": "Estimators for scikit-learn",
    "timelocal.integrations.river": "Estimators for river",
    "timelocal.testing": "Oracles and contracts",
    "timelocal.analysis.statistics": "Statistics for few seeds",
    "timelocal.fast": "Native loops",
    "timelocal.studies.engines": "Engines of studies",
    "timelocal.report": "Reports",
    "timelocal.errors": "Errors",
}
"""The modules of the reference and their titles; a name is described where it comes first."""

ELSEWHERE = ("timelocal.integrations.aeon", "timelocal.integrations.sktime")
"""Modules that need a library outside of `timelocal[all]`, so the docs cannot import them.

docs/estimators.md describes them.
"""


def public_names(module: ModuleType) -> list[str]:
    """The public names of a module: its `__all__`, else the functions and classes that it defines."""
    return getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def described(path: str, value: object) -> list[str]:
    """The directive for one public name; a mapping tells its keys."""
    if isinstance(value, type):
        others = [name for name in dir(value) if re.fullmatch("set_.*_request", name)]
        left_out = [f"   :exclude-members: {', '.join(others)}"] if others else []
        return [f".. autoclass:: {path}", "   :members:", "   :show-inheritance:", *left_out]
    if callable(value):
        return [f".. autofunction:: {path}"]
    keys = ", ".join(f"``{key}``" for key in value) if isinstance(value, Mapping) else ""
    return [f".. py:data:: {path}", "", f"   By name: {keys}." if keys else ""]


def reference_pages() -> dict[str, str]:
    """The pages of the reference by their names: every public name once, with its docstring."""
    pages: dict[str, str] = {}
    seen: set[int] = set()
    for path, title in API.items():
        module = import_module(path)
        named = [(name, getattr(module, name)) for name in sorted(public_names(module))]
        own = [
            (name, value)
            for name, value in named
            if not isinstance(value, ModuleType) and id(value) not in seen
        ]
        seen |= {id(value) for _, value in own}
        lines = [title, "=" * len(title), "", f".. currentmodule:: {path}", ""]
        for name, value in own:
            lines += [*described(f"{path}.{name}", value), ""]
        pages[path] = "\n".join(lines)
    listed = "\n".join(f"   {path}" for path in pages)
    contents = f".. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    elsewhere = " and ".join(f"``{path}``" for path in ELSEWHERE)
    rest = f"{elsewhere} are described in :doc:`/estimators`.\n"
    pages["index"] = f"Reference\n=========\n\n{contents}\n{rest}"
    return pages


def as_written(
    app: object, what: str, name: str, obj: object, options: object, lines: list
) -> None:
    """Docstrings are plain text with `code` in backticks: the rest of reStructuredText is escaped."""
    example = False
    for n, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if example or line.startswith(".. "):
            continue
        parts = re.split(r"(``?[^`]+``?)", line)
        parts[::2] = [re.sub(r"(?<!\\)([*|]|_(?!\w))", r"\\\1", part) for part in parts[::2]]
        text = "".join(parts)
        before = lines[n - 1] if n else ""
        alone = not before.strip() or before.startswith("    | ")
        if alone and re.match(r"    [^\s:>.*-]", text):  # a formula keeps its lines
            text = f"    | {text[4:]}"
        lines[n] = text


def setup(app: object) -> None:
    """Write the reference's pages and have docstrings read as they are written."""
    folder = HERE / "api"
    folder.mkdir(exist_ok=True)
    for name, text in reference_pages().items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    app.connect("autodoc-process-docstring", as_written)  # type: ignore[attr-defined]


project = "timelocal"
author = "The timelocal authors"
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "timelocal"
html_show_sphinx = False
html_show_copyright = False
templates_path: list[str] = []
exclude_patterns = ["_build", "api/.*"]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Pages that are made from records have HTML anchors, which `tests/site_links.py` looks for in the built site,
# and name records that are outside of it.
nitpick_ignore_regex = [
    ("myst", r"(dfa|perturbation|beyond)-[a-z0-9-]+"),
    ("myst", r".*/results/[a-z-]+/README"),
]
suppress_warnings = ["myst.header", "toc.not_included"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
