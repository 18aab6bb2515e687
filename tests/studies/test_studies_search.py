"""Searches: what is tried, what is chosen, and that Optuna goes on where it was."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from timelocal.errors import ArgumentError
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.experiment import Experiment, Key, Line, Search
from timelocal.experiments.trial import Trial
from timelocal.studies.engines import InProcess, Processes
from timelocal.studies.optuna_search import proposed
from timelocal.studies.reproduce import collect, reproduce
from timelocal.studies.search import (
    candidates,
    choices,
    choose,
    finalists,
    in_full,
    judged_in_full,
    score,
    with_choice,
    with_seed,
)
from timelocal.studies.store import Records, RunRecord

CONFIG = TrainConfig(cell="gru", hidden=4, batch=512, epochs=5)
GRID = {"lr": (0.1, 0.01), "rule_options.trace": ("none", "diagonal")}


def line(search: Search | None, seeds: tuple[int, ...] = (0, 1)) -> Line:
    return Line(Key("digits", "DFA", "as corrected"), CONFIG, seeds, search)


def records(made: Line, losses: dict[tuple[object, ...], float | str]) -> dict[str, RunRecord]:
    """Runs of a search with these validation losses, or these words as their status."""
    found = {}
    for choice, loss in losses.items():
        for trial in candidates(made, [choice]):
            finished = not isinstance(loss, str)
            found[trial.folder_name()] = RunRecord(
                Path(trial.folder_name()),
                "finished" if finished else str(loss),
                "",
                trial.model_dump(mode="json"),
                epochs=({"epoch": 1, "validation_loss": float(loss)},) if finished else (),
                result={"seed": trial.seed} if finished else None,
            )
    return found


def test_the_smallest_loss_wins_and_the_first_of_equals() -> None:
    made = line(Search(GRID, epochs=1))
    every = choices(made.search)
    assert every == list(itertools.product((0.1, 0.01), ("none", "diagonal")))
    losses = dict(zip(every, (0.5, 0.2, 0.2, 0.9), strict=True))
    chosen = choose(made, every, records(made, losses))
    assert chosen is not None
    assert (chosen.lr, chosen.rule_options["trace"]) == (0.1, "diagonal")
    assert chosen.epochs == 5  # those of the line, not of the search


def test_what_diverged_or_failed_is_out_and_what_is_missing_is_waited_for() -> None:
    made = line(Search(GRID, epochs=1))
    every = choices(made.search)
    losses = dict(zip(every, ("diverged", "failed", 0.7, "stopped"), strict=True))
    chosen = choose(made, every, records(made, losses))
    assert chosen is not None
    assert (chosen.lr, chosen.rule_options["trace"]) == (0.01, "none")
    assert choose(made, every, records(made, dict.fromkeys(every, "diverged"))) is None
    for status in ("running", "unknown"):
        waiting = records(made, losses | {every[0]: status})
        assert choose(made, every, waiting) is None
    assert choose(made, every, {}) is None


def test_a_damaged_run_decides_nothing() -> None:
    """It is not known how it ended: the search waits until it is made again."""
    made = line(Search(GRID, epochs=1))
    every = choices(made.search)
    losses = dict(zip(every, (0.5, "damaged", 0.2, 0.9), strict=True))
    assert choose(made, every, records(made, losses)) is None


def test_a_choice_that_diverges_in_the_long_run_is_passed_over() -> None:
    made = line(Search(GRID, epochs=1))
    every = choices(made.search)
    losses = dict(zip(every, (0.5, 0.2, 0.3, 0.9), strict=True))
    found: dict[str, RunRecord] = {**records(made, losses)}

    def long_run(choice: tuple[object, ...], seed: int, status: str) -> None:
        name = with_seed(with_choice(CONFIG, made.search, choice), seed).folder_name()
        found[name] = RunRecord(Path(name), status, "", {})

    def rates() -> tuple[object, ...]:
        chosen = choose(made, every, found)
        assert chosen is not None
        return chosen.lr, chosen.rule_options["trace"]

    long_run(every[1], 1, "diverged")  # not a seed of the search: one unstable run of five is shown
    assert rates() == every[1]
    assert judged_in_full(made, every, found) == []
    long_run(every[1], 0, "diverged")
    assert rates() == every[2]
    passed_over = [with_choice(CONFIG, made.search, every[n]) for n in (1, 2)]
    assert judged_in_full(made, every, found) == [
        run for one in passed_over for run in in_full(made, one)
    ]
    long_run(every[2], 0, "finished")
    assert rates() == every[2]
    for choice in every:
        long_run(choice, 0, "diverged")
    assert rates() == every[1]  # none is stable: the best one stands, and its runs say so


def test_the_best_of_the_finalists_in_full_is_taken() -> None:
    made = line(Search(GRID, epochs=1, finalists=2))
    every = choices(made.search)
    losses = dict(zip(every, (0.5, 0.2, 0.3, 0.9), strict=True))
    found: dict[str, RunRecord] = {**records(made, losses)}
    wanted = finalists(made, every, found)
    assert wanted is not None
    judged = [run for one in wanted for run in in_full(made, one)]
    assert judged_in_full(made, every, found) == judged
    assert wanted == [with_choice(CONFIG, made.search, one) for one in (every[1], every[2])]

    def ends(config: TrainConfig, loss: float | None) -> None:
        (trial,) = in_full(made, config)
        assert (trial.seed, trial.epochs) == (0, CONFIG.epochs)
        epochs = () if loss is None else ({"epoch": 5, "validation_loss": loss},)
        status = "diverged" if loss is None else "finished"
        found[trial.folder_name()] = RunRecord(Path(), status, "", {}, epochs=epochs)

    ends(wanted[0], 0.8)
    assert choose(made, every, found) is None  # the other one has not run
    ends(wanted[1], 0.1)
    assert choose(made, every, found) == wanted[1]
    ends(wanted[1], None)
    third = with_choice(CONFIG, made.search, every[0])
    assert finalists(made, every, found) == [wanted[0], third]
    assert judged_in_full(made, every, found) == [*judged, *in_full(made, third)]
    ends(third, 0.9)
    assert choose(made, every, found) == wanted[0]
    (fails,) = in_full(made, third)
    found[fails.folder_name()] = RunRecord(Path(), "failed", "", {})
    assert choose(made, every, found) == wanted[0]  # nothing more is to be waited for
    for choice in every:
        ends(with_choice(CONFIG, made.search, choice), None)
    assert choose(made, every, found) == wanted[0]  # none is stable: the first stands
    assert len(judged_in_full(made, every, found)) == len(every)  # and all of them tell why


def test_finalists_are_judged_by_the_mean_over_the_seeds_of_the_search() -> None:
    made = line(Search({"lr": (0.1, 0.01)}, 1, (0, 1), "validation_accuracy", finalists=2))
    found: dict[str, RunRecord] = {}

    def ends(trial: Trial, accuracy: float | None) -> None:
        best = {"best_validation": {"validation_accuracy": accuracy}}
        status = "diverged" if accuracy is None else "finished"
        found[trial.folder_name()] = RunRecord(Path(), status, "", {}, result=best)

    for trial in candidates(made, choices(made.search)):
        ends(trial, 0.5)
    first, second = finalists(made, choices(made.search), found) or []
    for config, accuracies in ((first, (0.9, 0.1)), (second, (0.6, 0.6))):
        for trial, accuracy in zip(in_full(made, config), accuracies, strict=True):
            assert choose(made, choices(made.search), found) is None
            ends(trial, accuracy)
    assert choose(made, choices(made.search), found) == second
    ends(in_full(made, second)[1], None)  # diverges with one of them: out
    assert choose(made, choices(made.search), found) == first


def test_accuracies_are_maximised_over_the_mean_of_the_seeds() -> None:
    made = line(Search({"lr": (0.1, 0.01)}, 1, (0, 1), "validation_accuracy"))
    found = {}
    for (lr,), pair in {(0.1,): (0.9, 0.1), (0.01,): (0.6, 0.6)}.items():
        for trial, accuracy in zip(candidates(made, [(lr,)]), pair, strict=True):
            found[trial.folder_name()] = RunRecord(
                Path(),
                "finished",
                "",
                {},
                result={"best_validation": {"validation_accuracy": accuracy}},
            )
    chosen = choose(made, choices(made.search), found)
    assert chosen is not None
    assert chosen.lr == 0.01


def test_no_search_and_a_search_of_one_choose_at_once() -> None:
    assert choose(line(None), [], {}) == CONFIG
    made = line(Search({"lr": (0.5,)}, epochs=1))
    chosen = choose(made, choices(made.search), {})
    assert chosen is not None
    assert chosen.lr == 0.5


def test_a_choice_is_checked_like_any_configuration() -> None:
    search = Search({"rule_options.trace": ("sideways",)}, epochs=1)
    with pytest.raises(ArgumentError, match="sideways"):
        with_choice(CONFIG, search, ("sideways",))


def test_optuna_goes_the_same_way_again_and_ends() -> None:
    made = line(Search({"lr": (0.1, 0.03, 0.01, 0.003), "hidden": (4, 8)}, epochs=1))
    losses: dict[tuple[object, ...], float | str] = {}
    path = []
    while True:
        tried, following = proposed(made, records(made, losses), 10)
        assert tried == list(dict.fromkeys(tried))
        if following is None:
            break
        path.append(following)
        losses[following] = abs(float(str(following[0])) - 0.01) + float(str(following[1]))
    assert len(path) == len(set(path)) <= 8
    # from nothing, and from any point of the way, it proposes the same
    known: dict[tuple[object, ...], float | str] = {}
    for choice in path:
        assert proposed(made, records(made, known), 10)[1] == choice
        known[choice] = losses[choice]
    best = min(losses, key=lambda choice: float(losses[choice]))
    chosen = choose(made, tried, records(made, losses))
    assert chosen is not None
    assert (chosen.lr, chosen.hidden) == best


@pytest.mark.slow
@pytest.mark.parametrize("optuna", [None, 3])
def test_an_experiment_is_searched_run_and_collected(tmp_path: Path, optuna: int | None) -> None:
    made = line(Search({"lr": (0.3, 0.003)}, epochs=1))
    values = CONFIG.model_dump() | {"rule": "bptt", "rule_options": {}}
    plain = Line(Key("digits", "BPTT", "true BPTT"), TrainConfig(**values), (0, 1))
    experiment = Experiment("made/up", "", "", "curves", ("accuracy",), lambda _: (made, plain))
    empty = collect([experiment], "quick", tmp_path, optuna=optuna)[0]
    assert [len(one.runs) for one in empty.lines] == [0, 2]
    assert (empty.lines[0].chosen, empty.lines[0].finals) == (None, ())
    (found,) = reproduce([experiment], "quick", tmp_path, engine=InProcess(), optuna=optuna)
    first, second = found.lines
    assert first.chosen is not None
    assert first.chosen.lr in (0.3, 0.003)
    assert set(first.values("accuracy")) == set(second.values("accuracy")) == {0, 1}
    scores = {choice: score(made, choice, Records(tmp_path)) for choice in choices(made.search)}
    known = {choice: one for choice, one in scores.items() if one is not None}
    assert first.chosen.lr == min(known, key=lambda choice: known[choice])[0]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")}
    again = reproduce([experiment], "quick", tmp_path, engine=InProcess(), optuna=optuna)
    assert again == [found]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")} == before


def test_what_turns_out_to_diverge_makes_room(tmp_path: Path) -> None:
    made = line(Search({"lr": (0.3, 0.003)}, epochs=1))
    experiment = Experiment("made/up", "", "", "curves", ("accuracy",), lambda _: (made,))
    (found,) = reproduce([experiment], "quick", tmp_path, engine=InProcess())
    first = found.lines[0].chosen
    assert first is not None
    status = tmp_path / with_seed(first, 0).folder_name() / "status.json"
    status.write_text('{"status": "diverged", "message": ""}')
    (found,) = reproduce([experiment], "quick", tmp_path, engine=InProcess())
    second = found.lines[0]
    assert second.chosen is not None
    assert second.chosen.lr != first.lr
    judged = [(config.lr, None if run is None else run.status) for config, run in second.finals]
    assert judged == [(first.lr, "diverged"), (second.chosen.lr, "finished")]
    assert set(second.values("accuracy")) == {0, 1}


@pytest.mark.slow
def test_everything_runs_in_the_quick_profile(tmp_path: Path, data_dir: Path) -> None:
    found = reproduce(
        list(EXPERIMENTS.values()), "quick", tmp_path, engine=Processes(), data_dir=data_dir
    )
    for one in found:
        for result in one.lines:
            assert result.runs, result.line.key
            for config, run in result.runs:
                assert run is not None, config
                assert run.status in {"finished", "diverged"}, (config, run.message)
        assert one.numbers(one.experiment.measures[0])
