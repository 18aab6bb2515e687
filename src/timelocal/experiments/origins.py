"""Where the rule, the cell and the data set of a run come from, if not from this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timelocal import data, plugins
from timelocal.cells import CELLS
from timelocal.data.own_files import digest
from timelocal.data.reading import is_file
from timelocal.data.registry import ENTRIES
from timelocal.experiments.config import TrainConfig
from timelocal.model.build import find_cell, find_rule
from timelocal.rules import RULES

BUILT_IN: dict[plugins.What, Mapping[str, Any]] = {
    "rule": RULES,
    "cell": CELLS,
    "dataset": ENTRIES,
}
"""What comes with this package, by name."""


class ChangedPluginWarning(UserWarning):
    """The source of a plug-in is not what it was when a run began."""


def foreign(config: Mapping[str, Any]) -> dict[plugins.What, str]:
    """The names in a configuration that are not built in. Nothing is imported.

    >>> foreign({"rule": "mine:Rule", "cell": "rnn", "dataset": "digits-rows"})
    {'rule': 'mine:Rule'}
    """
    names = {what: str(config.get(what, "")) for what in BUILT_IN}
    return {what: name for what, name in names.items() if name and name not in BUILT_IN[what]}


def origins(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """`plugins.origin` of each foreign name of a configuration, and how it is `described`."""
    found: dict[str, dict[str, Any]] = {}
    files: dict[str, str] = {"dataset": config.dataset, "test": config.test or ""}
    for role, name in files.items():
        if name not in ENTRIES and is_file(name):
            found[role] = _file_origin(name)
    for what, name in foreign(config.model_dump()).items():
        if what in found:
            continue
        known = plugins.origin(what, name, plugins.find(what, name, BUILT_IN[what]))
        found[what] = {**known, **described(what, name)}
    return found


def _file_origin(name: str) -> dict[str, Any]:
    """As `plugins.origin`, of a file of one's own."""
    return {
        "name": name,
        "module": None,
        "file": Path(name).name,
        "sha256": digest(name),
        "distribution": None,
        "version": None,
        "summary": "own data",
        "references": [],
    }


def described(what: plugins.What, name: str) -> dict[str, Any]:
    """A `summary` of one line, and bibliography lines as `references`."""
    if what == "rule":
        spec = find_rule(name).spec
        return {"summary": spec.summary, "references": list(spec.references)}
    if what == "dataset":
        card = data.card(name)
        return {"summary": card.title, "references": list(card.citation)}
    lines = (type(find_cell(name)()).__doc__ or "").strip().splitlines()
    return {"summary": lines[0] if lines else "", "references": []}


def changes(config: TrainConfig, environment: Mapping[str, Any]) -> list[str]:
    """A sentence for each plug-in whose source has changed since a run recorded its `environment`."""
    found = environment.get("plugins")
    recorded = found if isinstance(found, Mapping) else {}
    told = []
    for what, now in origins(config).items() if recorded else ():
        then = recorded.get(what)
        then = then if isinstance(then, Mapping) else {}
        if then.get("sha256") == now["sha256"]:
            continue
        told.append(
            f"{what} {now['name']}: {now['file']} has changed since the run {config.folder_name()} began "
            f"(sha256 {_short(then.get('sha256'))} then, {_short(now['sha256'])} now). To repeat the run "
            "with the new source only, delete its folder."
        )
    return told


def _short(digest: object) -> str:
    return f"{digest[:8]}…" if isinstance(digest, str) else "unknown"
