"""The benchmark's page, one table in the style of the other reports, and tables in texts next to records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timelocal.files import is_there, make_folder, read_json, write_text
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


_TABLE = re.compile(r"(<!-- bars of (\S+\.json) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str, folder: Path) -> str:
    """A Markdown text in which every marked place is filled with the bars of a record in `folder`.

    A place begins with `<!-- bars of NAME.json -->` and ends with `<!-- end -->`, each on a line of its own;
    that of a record which is missing stays as it is.
    """

    def table(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if not is_there(folder / name):
            return found[0]
        return begin + bars_table(read_json(folder / name)) + end

    return _TABLE.sub(table, text)


def bars_table(record: Mapping[str, Any]) -> str:
    """The bars of a record of `timelocal bench` as Markdown, and on what they were measured."""
    facts, path = record["environment"], record["kernels"]
    on = f"{facts['processor']}, {path.get('instruction set', path['path'])}"
    rows = [
        f"| {bar['what']} | {bar['measured']:.2f} | {bar['bar']} | {'✓' if bar['met'] else '✗'} |"
        for bar in record["bars"]
    ]
    head = [
        f"{on}, threads: {record['threads']}; medians of {record['repeats']} interleaved samples.",
        "",
        "| | measured | goal | |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, *_memory_rows(record), ""])


def _memory_rows(record: Mapping[str, Any]) -> list[str]:
    """The bytes of a stream's step, where a record has them, in Markdown."""
    rows = []
    for name, moved in record.get("memory", {}).items():
        streaming = moved.get("streaming, GB/s")
        numbers = record["microseconds"][name]["stream"], moved["bytes"] / 1024, moved["GB/s"]
        told = "–" if streaming is None else f"{streaming:.0f}"
        rows.append(f"| {name} | {numbers[0]:.2f} | {numbers[1]:.0f} | {numbers[2]:.1f} | {told} |")
    if not rows:
        return []
    head = "| a step of a stream | µs | KiB read or written | GB/s | negating as many bytes, GB/s |"
    return ["", head, "|---|---|---|---|---|", *rows]


def _flat(facts: Mapping[str, Any]) -> dict[str, object]:
    """Nested facts as one list: "kernels: path" and the like."""
    flat: dict[str, object] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}: {key}": item for key, item in value.items()}
        else:
            flat[name.replace("_", " ")] = value
    return flat
