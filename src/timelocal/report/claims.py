"""Every claim of both papers and every question beyond them on one page, with what the runs say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from timelocal.experiments.beyond import memory, weather
from timelocal.experiments.experiment import WORDS, Claim, Experiment, Verdict
from timelocal.files import make_folder, write_text
from timelocal.report import lines
from timelocal.report.citations import PAPERS
from timelocal.report.markdown import written
from timelocal.report.site import paper_of
from timelocal.studies.reproduce import collect
from timelocal.studies.reproduction import Reproduction


class Place(NamedTuple):
    """Where an experiment stands: the page in `docs/` that tells of it, and its folder in `results/`."""

    page: str
    records: str


PLACES = {
    "dfa": Place("reproduction", "reproduction"),
    "perturbation": Place("reproduction", "reproduction"),
    "beyond/gap": Place("gap", "beyond"),
    "beyond/feedback": Place("feedback", "beyond"),
    "beyond/meet-forecasts": Place("meet", "meet"),
    "beyond/rewards-match": Place("rewards", "rewards"),
    "beyond/immediate": Place("published", "published"),
    "beyond/stationary": Place("published", "published"),
    **{one.name: Place("memory", "memory") for one in (*memory.EXPERIMENTS, *weather.EXPERIMENTS)},
}
"""By the name of an experiment, or by the first part of it. Those that are not here have no runs yet."""

NOT_RUN = "not run"

_INTRODUCTION = """\
Made by `timelocal claims` from the committed records, by the same tests as the pages that the titles lead to:
exact sign-flip tests of differences paired by seed, corrected by Holm's procedure over the claims of an
experiment, at the level 0.05. A claim holds if each of its comparisons does. Of several comparisons the one
that decided is shown: the least clear of those that all have to be right, or the clearest against the claim.
Its numbers are means over seeds; *n* counts the seeds that both lines have. The laptop's size and the paper's
are those of `--profile laptop` and `--profile paper`; "not run" says that no comparison can be made yet.

The command of an experiment repeats all its runs. `timelocal runs results/beyond/runs` lists the records of a
study with their settings; the site that `timelocal reproduce NAME --report-only --out results/beyond` writes
leads from a number to its runs, each with the command that makes it again.
"""


@dataclass(frozen=True)
class Decided:
    """An experiment at the laptop's size, and its verdicts there and at the paper's."""

    laptop: Reproduction
    place: Place | None
    claims: tuple[tuple[Claim, Verdict, Verdict], ...]

    @property
    def experiment(self) -> Experiment:
        """The experiment itself."""
        return self.laptop.experiment


def decided(experiments: Iterable[Experiment], results: Path) -> Iterator[Decided]:
    """The claims of every experiment that has any, from the records in the folder `results`."""
    for one in experiments:
        if not one.claims:
            continue
        place = PLACES.get(one.name) or PLACES.get(one.name.split("/")[0])
        store = results / (place.records if place else "none") / "runs"
        (laptop,) = collect([one], "laptop", store)
        paper = laptop
        if one.lines("paper") != one.lines("laptop"):
            (paper,) = collect([one], "paper", store)
        both = zip(laptop.verdicts(), paper.verdicts(), strict=True)
        claims = ((claim, _told(here), _told(there)) for (claim, here), (_, there) in both)
        yield Decided(laptop, place, tuple(claims))


def _told(verdict: Verdict) -> Verdict:
    """A verdict that says "not run" where there is nothing to compare."""
    untested = verdict.summary == "untested at this size" and not verdict.tests
    return replace(verdict, word=NOT_RUN) if untested else verdict


def why(verdict: Verdict) -> str:
    """One line: the comparison that decided, its seeds and the p-value, or what is missing.

    >>> why(Verdict("untested at this size", "", lacking=("fewer than 3 finished seeds of A",)))
    'fewer than 3 finished seeds of A'
    """
    if verdict.word == NOT_RUN:
        return lines.NOTHING
    against = verdict.summary == "does not hold"
    tests = sorted(verdict.tests, key=lambda one: one.p_contrary if against else -one.p)
    told = [f"{tests[0].told}; n = {tests[0].n}"] if tests else []
    if len(tests) > 1:
        told.append(
            f"the {'clearest against it' if against else 'least clear'} of {len(tests)} comparisons"
        )
    told += [] if verdict.p is None else [f"p = {verdict.p:.2g}"]
    return "; ".join([*told, *verdict.lacking])


def write_claims(found: Sequence[Decided], output: Path) -> Path:
    """Write the page of all claims; links lead to pages and records as they lie in this repository.

    Raises:
        RunError: it cannot be written.
    """
    make_folder(output.parent)
    parts = ["# Every claim, and what the runs say", "", _INTRODUCTION, *_counts(found)]
    for paper in PAPERS.values():
        here = [one for one in found if paper_of(one.laptop) is paper]
        if here:
            parts += [f"## {paper.title}", ""]
            parts += [f"{paper.citation} <{paper.address}>", ""] if paper.citation else []
            parts += [line for one in here for line in _section(one)]
    write_text(output, "\n".join(parts))
    return output


def _counts(found: Sequence[Decided]) -> list[str]:
    """How many claims of each paper, and of the questions beyond, have which verdict at the laptop's size."""
    words = (*WORDS, NOT_RUN)
    table = []
    for paper in PAPERS.values():
        counts = Counter(
            verdict.summary
            for one in found
            if paper_of(one.laptop) is paper
            for _, verdict, _ in one.claims
        )
        if counts:
            table.append([paper.title, *(str(counts[word]) for word in words)])
    return [*written(["at the laptop's size", *words], table), ""]


def _section(one: Decided) -> list[str]:
    name, title = one.experiment.name, one.experiment.title
    done, asked = lines.progress(one.laptop)
    records = ""
    if one.place is not None:
        title = f"[{title}]({one.place.page}.md#{lines.anchor(name)})"
        folder = f"results/{one.place.records}"
        records = f", records in [`{folder}`](../{folder}/README.md)"
    table = [
        [claim.text, f"**{here.word}**", there.word, why(here)] for claim, here, there in one.claims
    ]
    return [
        f"### {title}",
        "",
        f"`{one.laptop.command}`: {done} of {asked} runs done{records}.",
        "",
        *written(["claim", "laptop's size", "paper's size", "why, at the laptop's size"], table),
        "",
    ]
