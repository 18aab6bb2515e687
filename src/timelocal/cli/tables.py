"""The tables of `timelocal list` and `timelocal data list`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from timelocal import data, plugins
from timelocal.cli.terminal import table as listing
from timelocal.errors import TimelocalError
from timelocal.experiments.origins import BUILT_IN, described
from timelocal.model.build import find_rule
from timelocal.rules import RULES, RuleSpec
from timelocal.studies.store import RunRecord


def datasets_table() -> Table:
    """Name, size and title of every dataset."""
    columns = ("name", "sequences × steps × features", "classes", "what")
    table = listing(*columns, title="data sets")
    for name in data.names():
        card = data.card(name)
        size = " × ".join(f"{n:,}" for n in card.shape)
        table.add_row(name, size, str(len(card.classes)) if card.classes else "–", card.title)
    return table


def rules_table() -> Table:
    """What every rule does and declares of itself."""
    table = listing("name", "what it does and declares", title="rules")
    for name, rule in RULES.items():
        table.add_row(name, _declared(rule.spec))
    return table


def _declared(spec: RuleSpec) -> Text:
    declared = (
        "gradient: biased"
        if spec.target == "oracle"
        else f"gradient: {spec.estimates}, of {spec.target}",
        "online" if spec.online else "whole sequences",
        "weight transport" if spec.weight_transport else "no weight transport",
    )
    return Text.assemble(f"{spec.summary}\n", ("; ".join(declared), "dim"))


def plugins_table(*kinds: plugins.What) -> Table | None:
    """What installed packages add, of these kinds or of all, and where it is from; None for nothing.

    What cannot be loaded is told in its row.
    """
    table = listing("kind", "name", "what it is", "from", title="from installed packages")
    for what in kinds or BUILT_IN:
        for one in plugins.installed(what, BUILT_IN[what]):
            table.add_row(what, one.name, _told(what, one), f"{one.package}\n{one.value}")
    return table if table.rows else None


def _told(what: plugins.What, one: plugins.Installed) -> Text | str:
    if one.refused:
        return Text(one.refused, "red")
    try:
        if what == "rule":
            return _declared(find_rule(one.name).spec)
        return described(what, one.name)["summary"]
    except TimelocalError as error:
        return Text(str(error), "red")


def runs_table(records: Sequence[RunRecord]) -> Table:
    """Status and test result of every run, and what is wrong with its folder."""
    table = listing("folder", "status", "epochs", "test", "remarks", title="runs")
    for record in records:
        last = (record.result or {}).get("last") or {}
        test = last.get("test_accuracy", last.get("test_loss"))
        table.add_row(
            record.folder.name,
            record.status,
            str(len(record.epochs)),
            "–" if test is None else f"{test:.4f}",
            "; ".join(filter(None, (record.message, *record.problems))),
        )
    return table
