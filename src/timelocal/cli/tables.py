"""The tables of `timelocal list` and `timelocal data list`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from timelocal import data
from timelocal.rules import RULES
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
        spec = rule.spec
        declared = (
            "gradient: biased"
            if spec.target == "oracle"
            else f"gradient: {spec.estimates}, of {spec.target}",
            "online" if spec.online else "whole sequences",
            "weight transport" if spec.weight_transport else "no weight transport",
        )
        table.add_row(name, spec.summary + "\n[dim]" + "; ".join(declared) + "[/dim]")
    return table


def runs_table(records: Sequence[RunRecord]) -> Table:
    """Status and test result of every run, and what is wrong with its folder."""
    table = Table(title="runs")
    for name in ("folder", "status", "epochs", "test", "remarks"):
        table.add_column(name, overflow="fold")
    for record in records:
        last = (record.result or {}).get("last", {})
        test = last.get("test_accuracy", last.get("test_loss"))
        table.add_row(
            record.folder.name,
            record.status,
            str(len(record.epochs)),
            "–" if test is None else f"{test:.4f}",
            "; ".join(filter(None, (record.message, *record.problems))),
        )
    return table
