"""The rows of a reproduction's page: a line's numbers, the paper's, BPTT's, and the runs behind them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup, escape

from timelocal.analysis.statistics import Difference, Summary, paired_difference, summarize
from timelocal.experiments.command import command_of, is_training
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import Column, Key, Line
from timelocal.report.words import number
from timelocal.studies.measures import MEASURES, Measure, trivial_scores, value
from timelocal.studies.reproduction import LineResult, Reproduction
from timelocal.studies.search import mean_measure, rank
from timelocal.studies.store import RunRecord

NOTHING = "–"


@dataclass(frozen=True)
class RunRow:
    """One run of a line: its seed, what it measured, how it ended, and the command that repeats it."""

    seed: int
    name: str
    values: tuple[str, ...]
    status: str
    message: str
    command: str
    there: bool


@dataclass(frozen=True)
class LineRow:
    """One line of a table, with everything that the page says about it."""

    anchor: str
    line: Line
    settings: str
    cells: tuple[str, ...]
    """Every measure as mean ± sd, "–" without a finished run."""
    best: tuple[bool, ...]
    """For every measure, whether the mean of this line is the best of the panel."""
    interval: str
    extent: str
    stability: str
    stable: bool
    paper: str
    from_paper: str
    from_bptt: str
    from_frozen: str
    chosen: str
    searched_for: str
    tried: tuple[tuple[str, RunRow], ...]
    """The choices that a search tried, best first, with the run of each."""
    finals: tuple[tuple[str, RunRow], ...]
    """The best of these, run in full, if the search decided among them by full runs."""
    runs: tuple[RunRow, ...]


@dataclass(frozen=True)
class TrivialRow:
    """The score of a predictor that learns nothing over time, and the runs whose records contain it."""

    anchor: str
    panel: str
    label: str
    score: str
    runs: tuple[RunRow, ...]


def measures(reproduction: Reproduction) -> list[Measure]:
    """The measures of an experiment, the main one first."""
    return [MEASURES[name] for name in reproduction.experiment.measures]


def titled(measure: Measure) -> str:
    """The title of a measure with its unit, which never stands alone on a line."""
    return f"{measure.title}\u00a0({measure.unit.strip()})" if measure.unit else measure.title


def rows(reproduction: Reproduction) -> list[LineRow]:
    """A row for every line, in the order of the experiment."""
    main = reproduction.experiment.measures[0]
    beside: dict[tuple[str, Column], Mapping[int, float]] = {}
    for one in reproduction.lines:  # plain BPTT comes before DBPTT
        beside.setdefault((one.line.key.panel, one.line.key.column), one.values(main))
    best = {name: _best(reproduction, name) for name in reproduction.experiment.measures}
    return [
        _row(
            one,
            reproduction,
            beside.get((one.line.key.panel, "true BPTT"), {}),
            beside.get((one.line.key.panel, "recurrence frozen"), {}),
            tuple(one.line.key in keys for keys in best.values()),
        )
        for one in reproduction.lines
    ]


def _best(reproduction: Reproduction, name: str) -> set[Key]:
    """The lines with the best mean of their panel; the authors' code, often on other data, is left out."""
    best = max if MEASURES[name].higher_is_better else min
    means: dict[str, dict[Key, float]] = {}
    for one in reproduction.lines:
        values = one.values(name)
        if values and one.line.key.column != "as in the authors' code":
            means.setdefault(one.line.key.panel, {})[one.line.key] = fmean(values.values())
    return {
        key
        for panel in means.values()
        for key, mean in panel.items()
        if mean == best(panel.values())
    }


def anchor(*words: str) -> str:
    """The name of a place on a page.

    >>> anchor("weather-48h", "NP, local", "as in the authors' code")
    'weather-48h-np-local-as-in-the-authors-code'
    """
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower().replace("'", "")).strip("-")


_Score = tuple[float, TrainConfig, RunRecord]


def trivial(reproduction: Reproduction) -> list[TrivialRow]:
    """The scores of the trivial predictors in the main measure, averaged over seeds.

    One row per panel and predictor, and per number of hidden units if the scores depend on it.
    """
    main = reproduction.experiment.measures[0]
    found: dict[tuple[str, str], dict[int, dict[int, _Score]]] = {}
    for one in reproduction.lines:
        if one.line.key.column == "as in the authors' code":
            continue  # some of these use other data
        for config, run in one.runs:
            for name, score in trivial_scores(run, main).items():
                if run is not None:
                    sizes = found.setdefault((one.line.key.panel, name.replace("_", " ")), {})
                    by_seed = sizes.setdefault(config.hidden, {})
                    by_seed.setdefault(config.seed, (score, config, run))
    rows = []
    for (panel, name), sizes in found.items():
        seen: dict[int, set[float]] = {}
        for by_seed in sizes.values():
            for seed, (score, _, _) in by_seed.items():
                seen.setdefault(seed, set()).add(score)
        if all(len(scores) == 1 for scores in seen.values()):
            merged = {seed: one for by_seed in sizes.values() for seed, one in by_seed.items()}
            rows.append(_trivial_row(panel, name, merged, reproduction))
            continue
        for hidden, by_seed in sorted(sizes.items()):
            label = f"{name}, {hidden} units"
            rows.append(_trivial_row(panel, label, by_seed, reproduction))
    return rows


def _trivial_row(
    panel: str, label: str, by_seed: Mapping[int, _Score], reproduction: Reproduction
) -> TrivialRow:
    measure = MEASURES[reproduction.experiment.measures[0]]
    return TrivialRow(
        anchor(panel, label),
        panel,
        label,
        _number(measure, fmean(score for score, _, _ in by_seed.values())),
        tuple(
            _run(config, run, (_number(measure, score),), reproduction)
            for _, (score, config, run) in sorted(by_seed.items())
        ),
    )


def with_links(text: str, rows: Sequence[LineRow]) -> Markup:
    """The text of a verdict, in which the name of every line is a link to its runs."""
    names: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.line.key.column == "as in the authors' code"):
        # claims mean the corrected lines; the authors' code is named only if there is no corrected line
        names.setdefault(f"{row.line.key.label} on {row.line.key.panel}", row.anchor)
    if not names:
        return escape(text)
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    parts = re.split(rf"(?<!\w)({known})(?![\w-])((?: [\d.e+-]+)?)", text)
    linked = [
        Markup('<a href="#{}">{}{}</a>').format(names[name], name, value)
        for name, value in zip(parts[1::3], parts[2::3], strict=True)
    ]
    plain = map(escape, parts[::3])
    return Markup("").join(
        piece for pair in zip(plain, [*linked, ""], strict=True) for piece in pair
    )


def progress(reproduction: Reproduction) -> tuple[int, int]:
    """The number of runs that have ended, and of all that the experiment asks for."""
    ended = {"finished", "diverged", "failed", "stopped"}
    done = sum(
        run is not None and run.status in ended for one in reproduction.lines for _, run in one.runs
    )
    return done, sum(len(one.line.seeds) for one in reproduction.lines)


def _row(
    one: LineResult,
    reproduction: Reproduction,
    bptt: Mapping[int, float],
    frozen: Mapping[int, float],
    best: tuple[bool, ...],
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

    def difference(column: Column, theirs: Mapping[int, float]) -> str:
        shared = ours.keys() & theirs.keys()
        if one.line.key.column == column or not shared:
            return NOTHING
        return _difference(measure, paired_difference(ours, theirs))

    return LineRow(
        anchor=anchor(*one.line.key),
        line=one.line,
        settings=_settings(one),
        cells=tuple(_spread(MEASURES[name], one.values(name)) for name in names),
        best=best,
        interval=_interval(measure, summary),
        extent=_extent(measure, ours),
        stability=_stability(one),
        stable=len(ours) == len(one.line.seeds),
        paper=paper,
        from_paper=from_paper,
        from_bptt=difference("true BPTT", bptt),
        from_frozen=difference("recurrence frozen", frozen),
        chosen=_chosen(one),
        searched_for=titled(MEASURES[one.line.search.measure]) if one.line.search else "",
        tried=_tried(one, reproduction),
        finals=_choices(one, one.finals, reproduction),
        runs=tuple(
            _run(config, run, tuple(_measured(name, run) for name in names), reproduction)
            for config, run in one.runs
        ),
    )


def _settings(one: LineResult) -> str:
    """How a line runs, in the words of its paper's tables; "not chosen yet" if a search has yet to do so."""
    config = one.chosen or one.line.config
    open_ = one.line.search.grid if one.line.search and one.chosen is None else ()
    told = {
        "hidden units": ("hidden", config.hidden),
        "batch": ("batch", config.batch),
        "epochs": ("epochs", config.epochs),
        f"{config.optimizer}, learning rate": ("lr", f"{config.lr:g}"),
        "σ": ("rule_options.sigma", config.rule_options.get("sigma")),
        "learning rate of D": (
            "decorrelate",
            None if config.decorrelate is None else f"{config.decorrelate:g}",
        ),
    }
    return ", ".join(
        f"{name} {'not chosen yet' if field in open_ else value}"
        for name, (field, value) in told.items()
        if value is not None
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
        field, _, option = name.partition(".")
        chosen = getattr(config, field)
        chosen = chosen.get(option) if option else chosen
        found.append(f"{option or field} {chosen if chosen is not None else 'none'}")
    return ", ".join(found)


def _tried(one: LineResult, reproduction: Reproduction) -> tuple[tuple[str, RunRow], ...]:
    """The runs of a search: those of the best choice, by its mean over seeds, first, missing ones last."""
    if one.line.search is None:
        return ()
    search, runs = one.line.search, defaultdict(list)
    for config, run in one.tried:
        runs[_choice(one.line, config)].append(run)
    ranks = {choice: rank(search, mean_measure(search, found)) for choice, found in runs.items()}
    ordered = sorted(one.tried, key=lambda tried: ranks[_choice(one.line, tried[0])])
    return _choices(one, ordered, reproduction)


def _choices(
    one: LineResult,
    runs: Sequence[tuple[TrainConfig, RunRecord | None]],
    reproduction: Reproduction,
) -> tuple[tuple[str, RunRow], ...]:
    """Runs with what the search chose for each, and with the measure that it compares."""
    if one.line.search is None:
        return ()
    name = one.line.search.measure
    return tuple(
        (_choice(one.line, config), _run(config, run, (_measured(name, run),), reproduction))
        for config, run in runs
    )


def _measured(name: str, run: RunRecord | None) -> str:
    found = None if run is None else value(run, name)
    return NOTHING if found is None else _number(MEASURES[name], found)


def _run(
    config: TrainConfig, run: RunRecord | None, values: tuple[str, ...], reproduction: Reproduction
) -> RunRow:
    return RunRow(
        config.seed,
        config.folder_name(),
        values,
        "not run yet" if run is None else run.status,
        "" if run is None else run.message,
        # only the command of their table or figure measures costs and forecasts
        command_of(config) if is_training(config) else reproduction.command,
        run is not None,
    )
