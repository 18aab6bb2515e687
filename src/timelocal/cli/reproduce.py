"""`timelocal reproduce`: a table or figure of a paper, its runs and its page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from timelocal.cli.options import Address, DataDir, EngineName, Slurm, Workers
from timelocal.cli.terminal import say, show

if TYPE_CHECKING:
    from timelocal.errors import Problem
    from timelocal.experiments.experiment import Experiment
    from timelocal.studies.engines import Engine

OPTUNA_TRIALS = 20


def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="dfa/table1, perturbation/figure5, …; dfa or perturbation for a paper; gap, adding, …; all."
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="How large: quick (minutes), laptop (hours) or paper.")
    ] = "laptop",
    show_list: Annotated[
        bool,
        typer.Option("--list", help="List every table and figure with the claims of its paper."),
    ] = False,
    engine: EngineName = "processes",
    workers: Workers = None,
    address: Address = None,
    slurm: Slurm = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop a run that takes longer (processes, ray, slurm).")
    ] = None,
    megabytes: Annotated[
        float | None,
        typer.Option(help="Stop a run that needs more memory (processes, ray, slurm)."),
    ] = None,
    search: Annotated[
        str, typer.Option(help="How hyperparameters are chosen: grid, or optuna on the same space.")
    ] = "grid",
    search_trials: Annotated[
        int, typer.Option(help="Candidates that each optuna search tries.")
    ] = OPTUNA_TRIALS,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Make the pages from the existing runs only.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the numbers as one Markdown page.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Also write figures (SVG, PDF), LaTeX tables, a CSV and BibTeX there."),
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the pages.")] = Path(
        "reproduction"
    ),
) -> None:
    """Run what is missing of an experiment and write its page. Finished runs are not repeated."""
    from timelocal.experiments.catalogue import EXPERIMENTS
    from timelocal.experiments.experiment import PROFILES

    if show_list or not names:
        _list(EXPERIMENTS.values())
        return
    from timelocal.errors import Problem, raise_problems, unknown_name
    from timelocal.report.exports import export_reproductions
    from timelocal.report.markdown import write_markdown
    from timelocal.report.site import write_site
    from timelocal.studies.limits import Limits
    from timelocal.studies.reproduce import collect
    from timelocal.studies.reproduce import reproduce as do_reproduce

    if engine in OLD_ENGINES:
        say(f"--engine {engine} is now called {OLD_ENGINES[engine]}", err=True)
        engine = OLD_ENGINES[engine]
    chosen, problems = _chosen(names, EXPERIMENTS)
    problems += [
        unknown_name("profile", profile, PROFILES),
        unknown_name("engine", engine, ENGINES),
        unknown_name("search", search, ("grid", "optuna")),
        None if search_trials > 0 else Problem("--search-trials", search_trials, "1 or more"),
    ]
    raise_problems(problems)
    size = next(one for one in PROFILES if one == profile)
    store = out / "runs"
    optuna = search_trials if search == "optuna" else None
    if report_only:
        found = collect(chosen, size, store, optuna=optuna)
    else:
        found = do_reproduce(
            chosen,
            size,
            store,
            engine=engine_named(engine, workers, address, slurm),
            data_dir=data_dir,
            limits=Limits(seconds, megabytes),
            optuna=optuna,
            tell=lambda line: say(line, err=True),
        )
    for one in found:
        for claim, verdict in one.verdicts():
            say(f"{one.experiment.name}: {verdict.word}: {claim.text}")
    if markdown is not None:
        write_markdown(found, markdown)
    if figures is not None:
        say(f"for print: {export_reproductions(found, figures)}")
    say(f"pages: {write_site(found, out / 'site')}")


ENGINES = ("in-process", "processes", "ray", "slurm")
OLD_ENGINES = {"joblib": "processes"}
"""Names of the previous release, and their replacements."""


def engine_named(
    name: str, workers: int | None, address: str | None, slurm: Sequence[str] | None = None
) -> Engine:
    """The engine of this name, which must be known. slurm: NAME=VALUE, arguments of `SlurmEngine`."""
    from timelocal.cli.rule_options import rule_options
    from timelocal.errors import Problem, raise_problems
    from timelocal.studies import engines

    if slurm and name != "slurm":
        raise_problems([Problem("--slurm", slurm[0], "none", "It is for --engine slurm.")])
    if name == "slurm":
        options: dict[str, Any] = rule_options(slurm or [])
        return engines.SlurmEngine(**{"workers": workers} | options)
    if name == "ray":
        return engines.RayEngine(address)
    return engines.Processes(workers) if name == "processes" else engines.InProcess()


def _chosen(
    names: list[str], experiments: Mapping[str, Experiment]
) -> tuple[list[Experiment], list[Problem | None]]:
    """The experiments that names and papers refer to, each once."""
    from timelocal.errors import unknown_name

    problems: list[Problem | None] = []
    chosen: dict[str, Experiment] = {}
    papers = sorted({name.split("/")[0] for name in experiments})
    short = {name.removeprefix("beyond/"): one for name, one in experiments.items()}
    known = {**short, **experiments}
    for name in names:
        if name == "all" or name in papers:
            chosen |= {
                key: one for key, one in experiments.items() if name in ("all", key.split("/")[0])
            }
        elif name in known:
            chosen[known[name].name] = known[name]
        else:
            problems.append(unknown_name("experiment", name, [*known, *papers, "all"]))
    return list(chosen.values()), problems


def _list(experiments: Iterable[Experiment]) -> None:
    from rich.text import Text

    for one in experiments:
        show(Text.assemble((one.name, "bold"), f"  {one.title}"))
        show(*(f"    {claim.text}" for claim in one.claims))
