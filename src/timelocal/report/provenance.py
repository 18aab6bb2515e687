"""Where the numbers come from: settings, environment, commands, references."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timelocal.report.tables import Section, flatten
from timelocal.rules import RULES
from timelocal.studies.store import RunRecord

_SEED = re.compile(r"--seeds (\d+),(?= |$)")
"""The seed of a command that makes one run."""


@dataclass(frozen=True)
class Settings:
    """The settings all groups of a section share, and those in which they differ."""

    common: Mapping[str, str]
    differing: Sequence[str]


def settings(section: Section) -> Settings:
    """Split a section's settings; its dataset, and the cell and rule of each group, are known."""
    tables = [
        {
            key: value
            for key, value in group.settings.items()
            if key not in ("dataset", "cell", "rule")
        }
        for group in section.groups
    ]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    common = {
        key: tables[0][key]
        for key in keys
        if all(table.get(key) == tables[0].get(key) for table in tables) and key in tables[0]
    }
    return Settings(common, [key for key in keys if key not in common])


def environment(runs: Sequence[RunRecord]) -> dict[str, str]:
    """The machines and libraries recorded by the runs; if they differ, the number of runs for each."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        for key, value in flatten(run.environment).items():
            if key not in {"command", "recorded_command", "started"} and not key.startswith(
                ("plugins.", "earlier_plugins")
            ):
                seen[key][value] += 1
    return {key: _counted(values) for key, values in seen.items()} | dates(runs)


def dates(runs: Sequence[RunRecord]) -> dict[str, str]:
    """From when to when runs were started, and how many do not say."""
    days = sorted(
        str(run.environment["started"])[:10] for run in runs if "started" in run.environment
    )
    if not days:
        return {"started": "not recorded"} if runs else {}
    span = " to ".join(dict.fromkeys([days[0], days[-1]]))
    silent = len(runs) - len(days)
    return {"started": span + (f" ({silent} runs do not say)" if silent else "")}


def hours(runs: Sequence[RunRecord]) -> str:
    """The sum of the times that the runs recorded, and how many did not; "" if none did."""
    seconds = [run.result.get("seconds") for run in runs if run.result]
    known = [float(value) for value in seconds if value is not None]
    if not known:
        return ""
    total, silent = sum(known) / 3600, len(runs) - len(known)
    told = f"{total:.1f}" if total >= 1 else f"{total:.2g}"
    return f"{told} hours" + (f" ({silent} did not record it)" if silent else "")


def commands(runs: Sequence[RunRecord]) -> list[str]:
    """The command lines that make the runs again, each once: one for runs that differ in the seed alone."""
    return merged(run.environment.get("command") or "" for run in runs)


def merged(commands: Iterable[str]) -> list[str]:
    """One command for those that differ in the seed alone.

    >>> merged(["timelocal train --seeds 0, --threads 1", "timelocal train --seeds 1, --threads 1"])
    ['timelocal train --seeds 0,1 --threads 1']
    """
    seeds: dict[tuple[str, ...], dict[str, None]] = {}
    for command in commands:
        words = _SEED.split(command)
        if words != [""]:
            seeds.setdefault((words[0], *words[2:]), {}).update(dict.fromkeys(words[1:2]))
    return [
        f"{start}--seeds {','.join(found)}{',' * (len(found) == 1)}{rest[0]}" if rest else start
        for (start, *rest), found in seeds.items()
    ]


@dataclass(frozen=True)
class Plugin:
    """A rule, cell or data set from outside this package, as runs recorded it."""

    what: str
    name: str
    summary: str
    package: str
    source: str
    runs: int
    note: str


def plugins(runs: Sequence[RunRecord]) -> list[Plugin]:
    """The rules, cells and data sets from outside this package, with one row for each hash of a source."""
    counts: Counter[tuple[str, ...]] = Counter()
    for run in runs:
        earlier = run.environment.get("earlier_plugins") or ()
        for what, own in _plugins(run):
            hashes = {one.get(what, {}).get("sha256") for one in earlier} - {own.get("sha256")}
            note = "it changed before these runs ended" if hashes else ""
            known = [own.get(key) or "" for key in ("name", "summary", "distribution", "version")]
            source = f"{own.get('file') or 'no file'} {str(own.get('sha256') or '')[:12]}".strip()
            counts[(what, *map(str, known), source, note)] += 1
    return [
        Plugin(what, name, summary, f"{package} {version}".strip(), source, count, note)
        for (what, name, summary, package, version, source, note), count in sorted(counts.items())
    ]


def references(rules: Sequence[str], runs: Sequence[RunRecord] = ()) -> list[str]:
    """The bibliography of the rules used, each work once, in the order of the rules.

    And of the plug-ins that the runs recorded.
    """
    works = [work for rule in rules if rule in RULES for work in RULES[rule].spec.references]
    for run in runs:
        works += [str(work) for _, own in _plugins(run) for work in own.get("references") or ()]
    return list(dict.fromkeys(works))


def _plugins(run: RunRecord) -> list[tuple[str, Mapping[str, Any]]]:
    """Kind and record of each plug-in of a run; a record that is none is passed over."""
    found = run.environment.get("plugins")
    items = found.items() if isinstance(found, Mapping) else ()
    return [(what, own) for what, own in items if isinstance(own, Mapping)]


def _counted(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return ", ".join(f"{value} ({count} runs)" for value, count in values.most_common())
