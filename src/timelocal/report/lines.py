"""From a reproduction to the rows of its page: a line's numbers, the paper's, BPTT's, and its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from timelocal.analysis.statistics import Difference, Summary, paired_difference, summarize
from timelocal.experiments.command import command_of
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.papers.experiment import Line
from timelocal.report.words import number
from timelocal.studies.measures import MEASURES, Measure, value
from timelocal.studies.reproduction import LineResult, Reproduction
from timelocal.studies.store import RunRecord

NOTHING = "–"


@dataclass(frozen=True)
class RunRow:
    """One run of a line: its seed, what it measured, how it ended, and how to make it again."""

    seed: int
    name: str
    values: tuple[str, ...]
    status: str
    message: str
    command: str
    there: bool


@dataclass(frozen=True)
class LineRow:
    """One line of a table, with all that is said of it."""

    anchor: str
    line: Line
    config: TrainConfig
    cells: tuple[str, ...]
    """Every measure as mean ± sd, "–" without a finished run."""
    interval: str
    extent: str
    stability: str
    stable: bool
    paper: str
    from_paper: str
    from_bptt: str
    chosen: str
    tried: tuple[tuple[str, str], ...]
    runs: tuple[RunRow, ...]


def measures(reproduction: Reproduction) -> list[Measure]:
    """The measures of an experiment, the main one first."""
    return [MEASURES[name] for name in reproduction.experiment.measures]


def rows(reproduction: Reproduction) -> list[LineRow]:
    """A row for every line, in the order of the experiment."""
    main = reproduction.experiment.measures[0]
    bptt = {
        one.line.key.panel: one.values(main)
        for one in reproduction.lines
        if one.line.key.column == "true BPTT"
    }
    return [
        _row(f"line{index}", one, reproduction, bptt.get(one.line.key.panel, {}))
        for index, one in enumerate(reproduction.lines)
    ]


def trivial(reproduction: Reproduction) -> dict[str, dict[str, str]]:
    """By panel, what the trivial predictors of its data reach in the main measure, mean over seeds."""
    main = reproduction.experiment.measures[0]
    if main not in {"accuracy", "last_accuracy", "test_loss"}:
        return {}
    measure = MEASURES[main]
    found: dict[str, dict[str, dict[int, float]]] = {}
    for one in reproduction.lines:
        if one.line.key.column == "as in the authors' code":
            continue  # on other data, some of them
        for _, run in one.runs:
            if run is not None and run.result is not None:
                for name, score in (run.result.get("trivial") or {}).items():
                    panel = found.setdefault(one.line.key.panel, {})
                    panel.setdefault(name.replace("_", " "), {})[int(run.result["seed"])] = score
    return {
        panel: {name: _number(measure, fmean(scores.values())) for name, scores in names.items()}
        for panel, names in found.items()
    }


def progress(reproduction: Reproduction) -> tuple[int, int]:
    """Runs that have come to an end, and all that the experiment asks for."""
    ended = {"finished", "diverged", "failed", "stopped"}
    done = sum(
        run is not None and run.status in ended for one in reproduction.lines for _, run in one.runs
    )
    return done, sum(len(one.line.seeds) for one in reproduction.lines)


def _row(
    anchor: str, one: LineResult, reproduction: Reproduction, bptt: Mapping[int, float]
) -> LineRow:
    names = reproduction.experiment.measures
    main, measure = names[0], MEASURES[names[0]]
    ours = one.values(main)
    summary = summarize(list(ours.values())) if ours else None
    paper, from_paper = NOTHING, NOTHING
    if one.line.paper is not None:
        mean, sd = one.line.paper
        paper = f"{mean:g}" + ("" if sd is None else f" ± {sd:g}")
        if summary is not None:
            from_paper = number(measure.scale * summary.mean - mean, measure.digits, signed=True)
    shared = ours.keys() & bptt.keys()
    compared = one.line.key.column != "true BPTT" and shared
    return LineRow(
        anchor=anchor,
        line=one.line,
        config=one.chosen or one.line.config,
        cells=tuple(_spread(MEASURES[name], one.values(name)) for name in names),
        interval=_interval(measure, summary),
        extent=_extent(measure, ours),
        stability=_stability(one),
        stable=len(ours) == len(one.line.seeds),
        paper=paper,
        from_paper=from_paper,
        from_bptt=_difference(measure, paired_difference(ours, bptt)) if compared else NOTHING,
        chosen=_chosen(one),
        tried=_tried(one),
        runs=tuple(_run(config, run, names) for config, run in one.runs),
    )


def _number(measure: Measure, found: float, signed: bool = False) -> str:
    scaled = measure.scale * found
    if scaled and abs(scaled) < 10.0**-measure.digits:
        return f"{scaled:{'+' if signed else ''}.2e}".replace("-", "−")
    return number(scaled, measure.digits, signed=signed)


def _spread(measure: Measure, found: Mapping[int, float]) -> str:
    if not found:
        return NOTHING
    summary = summarize(list(found.values()))
    text = _number(measure, summary.mean)
    return text if summary.sd is None else f"{text} ± {_number(measure, summary.sd)}"


def _interval(measure: Measure, summary: Summary | None) -> str:
    if summary is None or summary.interval is None:
        return ""
    low, high = (_number(measure, end) for end in summary.interval)
    return f"[{low}, {high}]"


def _extent(measure: Measure, found: Mapping[int, float]) -> str:
    if len(found) < 2:
        return ""
    return f"{_number(measure, min(found.values()))} to {_number(measure, max(found.values()))}"


def _stability(one: LineResult) -> str:
    """ "5 of 5", or "3 of 5; 1 diverged, 1 not run yet"."""
    wanted = len(one.line.seeds)
    counts = Counter("not run yet" if run is None else run.status for _, run in one.runs)
    counts["not run yet"] += wanted - len(one.runs)
    done = counts.pop("finished", 0)
    others = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{done} of {wanted}" + (f"; {others}" if others else "")


def _difference(measure: Measure, difference: Difference) -> str:
    text = _number(measure, difference.summary.mean, signed=True)
    if difference.summary.interval is None or difference.p is None:
        return text
    return f"{text} (p = {difference.p:.3g})"


def _chosen(one: LineResult) -> str:
    if one.line.search is None:
        return ""
    if one.chosen is None:
        return "search not done yet"
    return _choice(one.line, one.chosen)


def _choice(line: Line, config: TrainConfig) -> str:
    assert line.search is not None
    found = []
    for name in line.search.grid:
        option = name.removeprefix("rule_options.")
        chosen = config.rule_options.get(option) if option != name else getattr(config, name)
        found.append(f"{option} {chosen if chosen is not None else 'none'}")
    return ", ".join(found)


def _tried(one: LineResult) -> tuple[tuple[str, str], ...]:
    """What a search tried, the best first; what is not run yet last."""
    if one.line.search is None:
        return ()
    measure = MEASURES[one.line.search.measure]
    scored = [
        (
            _choice(one.line, config),
            None if run is None else value(run, one.line.search.measure),
            run,
        )
        for config, run in one.tried
    ]
    sign = -1.0 if measure.higher_is_better else 1.0
    scored.sort(key=lambda item: (item[1] is None, sign * (item[1] or 0.0)))
    return tuple((choice, _said(measure, found, run)) for choice, found, run in scored)


def _said(measure: Measure, found: float | None, run: RunRecord | None) -> str:
    if found is not None:
        return _number(measure, found) + measure.unit
    return "not run yet" if run is None else run.status


def _run(config: TrainConfig, run: RunRecord | None, names: tuple[str, ...]) -> RunRow:
    found = [None if run is None else value(run, name) for name in names]
    return RunRow(
        config.seed,
        config.folder_name(),
        tuple(
            NOTHING if one is None else _number(MEASURES[name], one)
            for name, one in zip(names, found, strict=True)
        ),
        "not run yet" if run is None else run.status,
        "" if run is None else run.message,
        command_of(config),
        run is not None,
    )
