"""The benchmark's page: one table, in the style of the other reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timelocal.files import make_folder, write_text
from timelocal.report.page import render

NAMES = {
    "scan": "forward scan",
    "dfa": "DFA",
    "bptt": "BPTT",
    "torch": "torch.nn BPTT",
    "jax": "JAX BPTT",
}


def write_bench_page(record: Mapping[str, Any], output: Path) -> Path:
    """Write the page for what `timelocal bench` measured; returns `output`."""
    results = record["results"]
    present = [name for name in NAMES if any(name in r["milliseconds"] for r in results)]
    make_folder(output.parent)
    write_text(
        output,
        render(
            "bench.html",
            charts=False,
            title="How fast: timelocal, torch.nn and JAX",
            results=results,
            names={name: NAMES[name] for name in present},
            environment=_flat(record["environment"]),
            repeats=record["repeats"],
        ),
    )
    return output


def _flat(facts: Mapping[str, Any]) -> dict[str, object]:
    """Nested facts as one list: "kernels: path" and the like."""
    flat: dict[str, object] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}: {key}": item for key, item in value.items()}
        else:
            flat[name.replace("_", " ")] = value
    return flat
