"""The reproductions as one page of Markdown, from the same rows as the site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from timelocal.experiments.experiment import WORDS, Verdict
from timelocal.files import make_folder, write_text
from timelocal.report import distance, lines, provenance
from timelocal.report.citations import PAPERS
from timelocal.report.lines import LineRow, TrivialRow
from timelocal.report.overview import LEVELS, overview
from timelocal.report.site import missing_runs, paper_of, runs_of
from timelocal.report.words import number
from timelocal.studies.reproduction import Reproduction

_INTRODUCTION = """\
Made by `timelocal reproduce` from runs whose records are committed beside their tables. Every value is the
mean ± standard deviation over seeds, with the 95 % t-interval of the mean in brackets; only finished runs
count, and how many did not finish stands beside. Differences to true BPTT are paired by seed; p is from the
exact two-sided sign-flip test. The site that the same command writes leads from every number to its runs.

A claim is one or more one-sided comparisons, each by the exact sign-flip test of differences paired by seed.
It holds if all of them do; one that is the other way round refutes it. "On par" is two such tests, with the
margin that the rule states. p is corrected for all claims of an experiment by Holm's procedure, and 0.05
decides. Where no line is better than a predictor that learns nothing (persistence, the majority class), by
Student's one-sided test, nothing is compared. The table under the claims has the mean excess of every
comparison (above 0 where it is right), and from which excess on such a test sees it in four of five studies,
at its strictest level; "never" with too few seeds for that level.
"""


_OVERVIEW = (
    "Tasks are made comparable by the skill score: 0 is the best predictor that learns nothing, 1 is without",
    "error. The interquartile mean is that of the middle half of all runs; its interval resamples the seeds",
    "of every task. The profile is the share of runs that reach a score, every task counting the same.",
    "",
)


def write_markdown(reproductions: Sequence[Reproduction], output: Path) -> Path:
    """Write the page, and in `figures/` beside it its pictures; experiments without runs are only named.

    Raises:
        MissingExtraError: there is a picture to draw, and matplotlib is not installed.
        RunError: it cannot be written.
    """
    make_folder(output.parent)
    order = list(PAPERS.values())
    begun = [one for one in reproductions if lines.progress(one)[0]]
    begun.sort(key=lambda one: order.index(paper_of(one)))
    rest = [one.experiment.name for one in reproductions if one not in begun]
    parts = [
        f"# {_title(reproductions)}\n",
        *_pictures(begun, output),
        _INTRODUCTION,
        _contents(begun),
        _overview(begun),
        *map(_section, begun),
    ]
    if rest:
        parts.append(f"## Not run yet\n\n{', '.join(f'`{name}`' for name in rest)}.\n")
    parts.append(_provenance(reproductions))
    write_text(output, "\n".join(parts))
    return output


def _pictures(begun: Sequence[Reproduction], output: Path) -> list[str]:
    """Accuracies against costs, of every experiment whose costs are here, too."""
    told = []
    for one, costs in distance.pairs(begun):
        name = f"figures/{_anchor(one)}.svg"
        if distance.draw(one, costs, output.parent / name) is not None:
            told.append(
                f"![{one.experiment.title}: measured against the time of an update]({name})\n\n"
                "Means over seeds with their 95 % intervals against the time of one update. Hollow: the "
                "recurrence stays as it was initialised, and only the readout learns. Dashed: the best "
                "predictor that learns nothing over time.\n"
            )
    return told


def _title(reproductions: Sequence[Reproduction]) -> str:
    """The name of the page: of an experiment alone, its costs aside, or of what they are from."""
    costs = [costs for _, costs in distance.pairs(reproductions)]
    alone = [one for one in reproductions if one not in costs]
    if len(alone) == 1:
        return alone[0].experiment.title
    if any(paper_of(one).citation for one in reproductions):
        return "Both papers, reproduced"
    return "Beyond the papers"


def _anchor(one: Reproduction) -> str:
    return lines.anchor(one.experiment.name)


def _contents(begun: Sequence[Reproduction]) -> str:
    """Every item with a link to its section, what the numbers say of its claims, and how far it is."""
    told = []
    for paper in PAPERS.values():
        here = [one for one in begun if paper_of(one) is paper]
        told += [f"**{paper.title}**", ""] if here else []
        for one in here:
            words = Counter(verdict.summary for _, verdict in one.verdicts())
            done, asked = lines.progress(one)
            said = [f"{word} {words[word]}" for word in WORDS if words[word]]
            told.append(
                f"- [{one.experiment.title}](#{_anchor(one)}): "
                + "; ".join([*([", ".join(said)] if said else []), f"{done} of {asked} runs done"])
            )
        told += [""] if here else []
    return "\n".join(["## Contents", "", *told]) if told else ""


def _overview(begun: Sequence[Reproduction]) -> str:
    """Every rule over the tasks of a paper, for papers that have more tasks than one."""
    told = []
    for paper in PAPERS.values():
        found = overview([one for one in begun if paper_of(one) is paper])
        if len(found.tasks) < 2:
            continue
        levels = [f"reach {level:g}" for level in LEVELS]
        head = ["rule", "column", "tasks", "runs", "interquartile mean", "95 % interval", *levels]
        table = [
            [
                row.label,
                row.column,
                str(row.tasks),
                str(row.runs),
                number(row.interquartile_mean, 2),
                "[{}, {}]".format(*(number(end, 2) for end in row.interval)),
                *(f"{share:.0%}".replace("%", " %") for share in row.profile),
            ]
            for row in found.rows
        ]
        told += [
            f"**{paper.title}**, over {', '.join(found.tasks)}",
            "",
            *written(head, table),
            "",
        ]
    return "\n".join(["## Overview", "", *_OVERVIEW, *told]) if told else ""


def _section(one: Reproduction) -> str:
    experiment, rows, floors = one.experiment, lines.rows(one), lines.trivial(one)
    done, asked = lines.progress(one)
    decided = one.verdicts()
    verdicts = [
        f"{index}. **{verdict.word}**: {claim.text} *Rule: {claim.rule}. {verdict.because}.*"
        for index, (claim, verdict) in enumerate(decided, 1)
    ]
    panels = list(dict.fromkeys(row.line.key.panel for row in rows))
    told = [
        f'<a id="{_anchor(one)}"></a>',
        "",
        f"## {experiment.title}",
        "",
        f"{experiment.question} Profile {one.profile}, {done} of {asked} runs done:",
        "",
        f"    {one.command}",
        "",
    ]
    if verdicts:
        who = "What the paper says" if paper_of(one).citation else "What is claimed"
        told += [f"{who}, and what these runs say:", "", *verdicts, ""]
        told += [*_tests([verdict for _, verdict in decided]), ""]
    for panel in panels:
        told += [f"### {panel}", ""] if len(panels) > 1 else [f"On {panel}:", ""]
        here = [row for row in rows if row.line.key.panel == panel]
        told += [*_table(one, here, [floor for floor in floors if floor.panel == panel]), ""]
        told += _unfinished(here)
    if any(row.line.paper is not None for row in rows):
        told += [f"The paper: {paper_of(one).printed}", ""]
    deviations = [f"- {text}" for text in experiment.deviations(one.profile)]
    head = "Deviations from the paper:" if paper_of(one).citation else "How it was done:"
    return "\n".join([*told, head, "", *deviations, ""])


def _tests(verdicts: Sequence[Verdict]) -> list[str]:
    """Every comparison of the claims, and what it can see."""
    head = ["claim", "comparison", "seeds", "excess", "p of this test", "seen from"]
    table = [
        [str(index), test.told, str(test.n), test.spread, test.chance, test.power]
        for index, verdict in enumerate(verdicts, 1)
        for test in verdict.tests
    ]
    return written(head, table) if table else []


def written(head: Sequence[str], table: Sequence[Sequence[str]]) -> list[str]:
    """A table, line by line."""
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *table)]


def _table(one: Reproduction, rows: Sequence[LineRow], floors: Sequence[TrivialRow]) -> list[str]:
    """The lines of a panel, then the trivial predictors; columns that say nothing are left out."""
    titles = [lines.titled(measure) for measure in lines.measures(one)]
    chosen = "settings" if one.experiment.view == "settings" else "chosen"
    head = ["rule", "column", *titles, "95 % interval", "the paper", "difference to true BPTT"]
    head += ["difference to the recurrence frozen"]
    head += ["finished", chosen]
    table = []
    for row in rows:
        finished = row.stability if row.stable else f"**{row.stability}**"
        last = row.settings if one.experiment.view == "settings" else row.chosen
        told = [*row.cells, row.interval, row.paper, row.from_bptt, row.from_frozen, finished, last]
        table.append([row.line.key.label, row.line.key.column, *told])
    for floor in floors:
        blank = [""] * (len(head) - 3)
        table.append(
            [f"*{floor.label}*", "*no learning over time*", floor.score, *blank][: len(head)]
        )
    kept = [
        index
        for index in range(len(head))
        if index < 3 or any(line[index] not in ("", lines.NOTHING) for line in table)
    ]
    shown = [[line[index] or lines.NOTHING for index in kept] for line in table]
    return written([head[index] for index in kept], shown)


def _unfinished(rows: Sequence[LineRow]) -> list[str]:
    """Every line that is not whole, in words."""
    told = []
    for row in rows:
        if row.stable:
            continue
        done, _, rest = row.stability.partition("; ")
        why = rest if row.runs else "the search before it is not done"
        told.append(f"{row.line.key.label} {row.line.key.column} ({done} seeds: {why})")
    return [f"Not finished: {'; '.join(told)}.", ""] if told else []


def _provenance(reproductions: Sequence[Reproduction]) -> str:
    found = runs_of(reproductions)
    counts = Counter(run.status for run in found).most_common()
    told = [f"{count} {status}" for status, count in counts]
    missing = len(missing_runs(reproductions))
    told += [f"{missing} not run yet"] if missing else []
    environment = [f"- {key}: {value}" for key, value in provenance.environment(found).items()]
    cited = {paper_of(one).citation: paper_of(one).address for one in reproductions}
    references = [f"- {citation} <{address}>" for citation, address in cited.items() if citation]
    parts = [
        "## Runs and environment",
        "",
        f"Runs, those of the searches included: {', '.join(told) or 'none'}.",
        "",
        *environment,
        "",
        *(["## References", "", *references, ""] if references else []),
    ]
    return "\n".join(parts)
