"""The reproductions as one page of Markdown, from the same rows as the site."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from timelocal.report import lines
from timelocal.studies.reproduction import Reproduction
from timelocal.training.files import make_folder, write_text

_INTRODUCTION = """\
# Both papers, reproduced

Made by `timelocal reproduce` from runs whose records are committed beside their tables. Every value is the
mean ± standard deviation over seeds, with the 95 % t-interval of the mean in brackets; only finished runs
count, and how many did not finish stands beside. A claim is decided by the rule that stands with it, and only
with three finished seeds of every line it speaks of.
"""


def write_markdown(reproductions: Sequence[Reproduction], output: Path) -> Path:
    """Write the page; experiments of which nothing is run are only named.

    Raises:
        RunError: it cannot be written.
    """
    make_folder(output.parent)
    begun = [one for one in reproductions if lines.progress(one)[0]]
    rest = [one.experiment.name for one in reproductions if one not in begun]
    parts = [_INTRODUCTION, *map(_section, begun)]
    if rest:
        parts.append(f"## Not run yet\n\n{', '.join(f'`{name}`' for name in rest)}.\n")
    write_text(output, "\n".join(parts))
    return output


def _section(one: Reproduction) -> str:
    experiment, measures = one.experiment, lines.measures(one)
    done, asked = lines.progress(one)
    verdicts = [
        f"- **{verdict.word}**: {claim.text} *Rule: {claim.rule}. {verdict.because}.*"
        for claim, verdict in one.verdicts()
    ]
    head = [
        "",
        "rule",
        "column",
        *(m.title + (f" ({m.unit.strip()})" if m.unit else "") for m in measures),
    ]
    head += ["95 % interval", "the paper", "difference to true BPTT", "finished", "chosen"]
    table = [head, ["---"] * len(head)]
    for row in lines.rows(one):
        key = row.line.key
        told = (row.interval or "–", row.paper, row.from_bptt, row.stability, row.chosen or "–")
        table.append([*key, *row.cells, *told])
    floors = [
        f"- {panel}: " + ", ".join(f"{name} {score}" for name, score in names.items())
        for panel, names in lines.trivial(one).items()
    ]
    return "\n".join(
        [
            f"## {experiment.title}",
            "",
            f"{experiment.question} Profile {one.profile}, {done} of {asked} runs done:",
            f"`timelocal reproduce {experiment.name} --profile {one.profile}`",
            "",
            *verdicts,
            "",
            *("| " + " | ".join(cells) + " |" for cells in table),
            "",
            *(["Without learning over time:", "", *floors, ""] if floors else []),
            "Deviations from the paper:",
            "",
            *(f"- {text}" for text in experiment.deviations(one.profile)),
            "",
        ]
    )
