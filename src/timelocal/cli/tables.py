"""The tables of `timelocal list` and `timelocal data list`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from timelocal import data, plugins
from timelocal.errors import TimelocalError
from timelocal.experiments.build import find_rule
from timelocal.experiments.origins import BUILT_IN, described
from timelocal.files import printable
from timelocal.rules import RULES, RuleSpec
from timelocal.studies.store import RunRecord


def datasets_table() -> Table:
    """Name, size and title of every dataset."""
    table = Table(title="datasets")
    for name in ("name", "sequences × steps × features", "classes", "what"):
        table.add_column(name)
    for name in data.names():
        card = data.card(name)
        size = " × ".join(f"{n:,}" for n in card.shape)
        table.add_row(name, size, str(len(card.classes)) if card.classes else "–", card.title)
    return table


def rules_table() -> Table:
    """What every rule does and declares of itself."""
    table = Table(title="rules")
    table.add_column("name")
    table.add_column("what it does, and declares of itself")
    for name, rule in RULES.items():
        table.add_row(name, _declared(rule.spec))
    return table


def _declared(spec: RuleSpec) -> str:
    declared = (
        "gradient: biased"
        if spec.target == "oracle"
        else f"gradient: {spec.estimates}, of {spec.target}",
        "online" if spec.online else "whole sequences",
        "weight transport" if spec.weight_transport else "no weight transport",
    )
    return escape(spec.summary) + "\n[dim]" + "; ".join(declared) + "[/dim]"


def plugins_table(*kinds: plugins.What) -> Table | None:
    """What installed packages add, of these kinds or of all, and where it is from; None for nothing.

    What cannot be loaded is told in its row.
    """
    table = Table(title="from installed packages")
    for name in ("kind", "name", "what it is", "from"):
        table.add_column(name, overflow="fold")
    for what in kinds or BUILT_IN:
        for one in plugins.installed(what, BUILT_IN[what]):
            table.add_row(
                what, escape(one.name), _told(what, one), escape(f"{one.package}\n{one.value}")
            )
    return table if table.rows else None


def _told(what: plugins.What, one: plugins.Installed) -> str:
    if one.refused:
        return f"[red]{escape(one.refused)}[/red]"
    try:
        if what == "rule":
            return _declared(find_rule(one.name).spec)
        return escape(described(what, one.name)["summary"])
    except TimelocalError as error:
        return f"[red]{escape(str(error))}[/red]"


def plain(text: str) -> str:
    """Text from a file or a folder's name, of which nothing is markup or a command to the terminal."""
    return escape(printable(text))


def runs_table(records: Sequence[RunRecord]) -> Table:
    """Status and test result of every run, and what is wrong with its folder."""
    table = Table(title="runs")
    for name in ("folder", "status", "epochs", "test", "remarks"):
        table.add_column(name, overflow="fold")
    for record in records:
        last = (record.result or {}).get("last") or {}
        test = last.get("test_accuracy", last.get("test_loss"))
        table.add_row(
            plain(record.folder.name),
            record.status,
            str(len(record.epochs)),
            "–" if test is None else f"{test:.4f}",
            plain("; ".join(filter(None, (record.message, *record.problems)))),
        )
    return table
