"""docs/reliability.md has the figures of the records in results/reliability."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from test_attack_calls import FAMILIES
from test_attack_streams import KINDS

from pages import check_says

ROOT = Path(__file__).parents[2]
CALLS_OF = {
    "constructors": "constructors of networks, cells, rules, losses",
    "data": "`timelocal.data`: sequences, splits, metrics, sources",
    "tools": "analysis, seeds, contracts, models, tables, configurations, the command",
    "networks": "networks",
    "rules, streams, fit": "rules, streams and `fit`",
    "altered networks and losses": "the same, with altered networks and losses",
}
FILES = (
    "checkpoint.json",
    "last-*.safetensors",
    "best-*.safetensors",
    "config.json",
    "environment.json",
    "history.json",
    "result.json",
    "timing.json",
    "status.json",
    "runs.parquet",
)


def table(head: str, rows: list[list[str]]) -> str:
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])


def calls(found: dict[str, Any]) -> str:
    columns = ("made", "refused", "accepted", "faults")
    return table(
        "| calls of | made | refused | accepted | faults |\n|---|--:|--:|--:|--:|",
        [
            [CALLS_OF[family], *(f"{found[family][column]:,}" for column in columns)]
            for family in FAMILIES
        ],
    )


def files(flips: dict[str, Any], cuts: dict[str, Any]) -> str:
    rows = []
    for attack, found in (("one flipped bit", flips), ("truncated at every byte", cuts)):
        named = {re.sub(r"-\d+\.", "-*.", name): own for name, own in found.items()}
        assert sorted(named) == sorted(FILES)
        for file in FILES:
            counts = named[file]
            assert counts.keys() <= {"reported", "harmless", "silent"}
            outcomes = [counts.get(one, 0) for one in ("reported", "harmless", "silent")]
            rows.append([attack, f"`{file}`", *(f"{one:,}" for one in (sum(outcomes), *outcomes))])
            attack = ""
    return table(
        "| attack | file | tried | reported | harmless | silent |\n|---|---|--:|--:|--:|--:|",
        rows,
    ).replace("|  |", "| |")


def streams(found: dict[str, Any]) -> str:
    rows = []
    for kind in KINDS:
        steps, *kib = found[kind].values()
        rows.append([kind, f"{steps:,}", *(f"{one / 1024:.1f}" for one in kib)])
    return table(
        "| stream | steps | MiB after 2,000 | MiB at the end |\n|---|--:|--:|--:|",
        rows,
    )


def test_the_page_has_the_figures_of_the_records() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    paths = sorted((ROOT / "results" / "reliability").glob("*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    assert all(record["failed"] == [] for record in records)
    attacks: dict[str, Any] = {}
    for record in records:
        assert not attacks.keys() & record["attacks"].keys()
        attacks |= record["attacks"]
    assert calls(attacks["public calls"]) in page
    assert files(attacks["flipped bits"], attacks["truncations"]) in page
    assert streams(attacks["streams"]) in page
    (kills,) = attacks["kills"].values()
    writes = attacks["writes that fail"].values()
    (number,) = {sum(counts.values()) for counts in writes}
    assert all(counts["reported"] == number for counts in writes)
    (made_with,) = {
        f"timelocal {facts['timelocal']}, torch {facts['packages']['torch'].partition('+')[0]} and "
        f"the {facts['kernels']['instruction set']} kernels"
        for facts in (record["environment"] for record in records)
    }
    said = (
        f"made with {made_with}",
        f"after {kills['kills']} kills, the final bytes were the same as without a kill "
        f"({kills['resumed']} of the runs resumed",
        f"Each of the {number} writes of a run was made to fail (disk full, read-only, "
        f"input/output error, folder gone): {number * len(writes)} failures, each of them reported",
    )
    check_says(page, said)
