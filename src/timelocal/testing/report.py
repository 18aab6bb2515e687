"""The results of a contract, as a plain-text table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

_WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """One declared property: what was declared, what was measured, and whether they agree.

    details: one line for each measured case, or for each failure.
    """

    name: str
    declared: str
    measured: str
    ok: bool
    details: tuple[str, ...] = ()


@dataclass
class ContractReport:
    """Measured properties, number of checks, refusals and failures. `str` gives a table.

    held: how many pairs of a case and a check passed. refused: reasons, by case. findings: the measured
    properties. failures: by the name of a check, one text for each case that failed it.
    """

    whose: str = ""
    held: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    failures: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures and all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.whose or 'contract'}: {'holds' if self.ok else 'BROKEN'}", ""]
        if self.findings:
            rows = [("property", "declared", "measured", "ok")]
            rows += [(f.name, f.declared, f.measured, _mark(f.ok)) for f in self.findings]
            lines += [*_table(rows), ""]
        for finding in self.findings:
            if finding.details:
                lines += [f"{finding.name}:", *_indented(finding.details), ""]
        if self.held or self.failures:
            failed = sum(map(len, self.failures.values()))
            lines += [f"checks: {self.held} held, {failed} failed"]
        for name, texts in self.failures.items():
            others = f" (and on {len(texts) - 1} other cases)" if len(texts) > 1 else ""
            lines += _indented([f"✗ {name} {texts[0]}{others}"])
        if self.refused:
            lines += [f"refused: {len(self.refused)} cases"]
            cases: dict[str, list[str]] = {}
            for case, reason in self.refused.items():
                cases.setdefault(reason, []).append(case)
            for reason, told in cases.items():
                count = "1 case" if len(told) == 1 else f"{len(told)} cases"
                lines += _indented([f"{count}, such as {told[0]}: {reason}"])
        return "\n".join(lines).rstrip()


def _mark(ok: bool) -> str:
    return "✓" if ok else "✗"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell; the last but one is wrapped if lines get too long."""
    first, second, last = (max(len(row[column]) for row in rows) for column in (0, 1, -1))
    width = min(max(len(row[2]) for row in rows), max(20, _WIDTH - first - second - last - 6))
    lines = []
    for index, row in enumerate(rows):
        folded = textwrap.wrap(row[2], width) or [""]
        for place, part in enumerate(folded):
            cells = (row[0], row[1], part, row[3]) if place == 0 else ("", "", part, "")
            line = "  ".join(
                cell.ljust(size)
                for cell, size in zip(cells, (first, second, width, last), strict=True)
            )
            lines.append(line.rstrip())
        if index == 0:
            lines.append("  ".join("─" * size for size in (first, second, width, last)))
    return lines


def _indented(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in textwrap.indent(text, "  ").splitlines()]
