"""Both papers' tables and figures: all there, well formed, and decided by the numbers alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest

from timelocal.errors import ArgumentError
from timelocal.experiments.beyond import memory
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.claims import (
    Measured,
    above,
    at_most,
    fewer_errors,
    no_worse,
    on_par,
    reaches,
    stays_below,
    verdicts,
    within,
)
from timelocal.experiments.config import KINDS, TrainConfig
from timelocal.experiments.experiment import PROFILES, Claim, Key, Numbers, ProfileName, Verdict
from timelocal.experiments.papers import dfa as dfa_paper

NAMES = {
    "dfa/table1",
    "dfa/figure2",
    "dfa/appendix-b",
    *(f"perturbation/figure{n}" for n in (*range(4, 15),)),
    "perturbation/table1",
    "perturbation/table2",
    "perturbation/noise",
    "perturbation/decorrelation",
    "perturbation/gradients",
    *(
        f"beyond/{name}"
        for name in (
            "gap",
            "gap-alignment",
            "gap-costs",
            "meet-classes",
            "meet-forecasts",
            "gated-classes",
            "gated-streams",
            "spiking",
            "rewards-match",
            "rewards-copying",
            "forward-only",
            "adding",
            "copying-delays",
            "mackey-glass",
            "permuted-mnist",
            "permuted-mnist-slow",
            "permuted-mnist-wide",
            "permuted-mnist-128",
            "delays",
            "feedback",
            "immediate",
            "sparse",
            "stationary",
            "weather-blocks",
        )
    ),
}

A, B = Key("task", "A", "as corrected"), Key("task", "B", "true BPTT")


def test_every_table_and_figure_is_there() -> None:
    assert set(EXPERIMENTS) == NAMES
    assert all(name == one.name for name, one in EXPERIMENTS.items())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", sorted(NAMES))
def test_lines_are_well_formed(name: str, profile: ProfileName) -> None:
    lines = EXPERIMENTS[name].lines(profile)
    keys = [line.key for line in lines]
    assert len(set(keys)) == len(keys) > 0
    for line in lines:
        assert line.seeds
        if line.search is not None:
            choices = list(itertools.product(*line.search.grid.values()))
            assert len(choices) == len(set(choices)) > 0
    # Figure 8 is about correlation, the costs are costs, an alignment is with BPTT itself; everything else
    # stands beside true BPTT, or, where sequences are too long for it, beside the same cell with its
    # recurrence frozen.
    beside = {"dfa/appendix-b", "perturbation/figure8", "beyond/gap-alignment"}
    yardsticks = {"true BPTT", "recurrence frozen"}
    assert name in beside or any(key.column in yardsticks for key in keys)


def decide(
    claims: Sequence[Claim],
    numbers: Numbers,
    floors: Mapping[str, Mapping[int, float]] | None = None,
    higher_is_better: bool = True,
) -> list[Verdict]:
    """The verdicts of claims that all speak of the same numbers, whatever measure they name."""
    measured = Measured(numbers, floors or {}, higher_is_better)
    named = {"first", *(claim.measure or "first" for claim in claims)}
    return verdicts(claims, dict.fromkeys(named, measured), "first")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_claims_speak_of_lines_that_exist(name: str) -> None:
    """At the paper's size or at the laptop's: what is too dear at the paper's is left out there."""
    experiment = EXPERIMENTS[name]
    lines = [*experiment.lines("laptop"), *experiment.lines("paper")]
    numbers = {line.key: dict.fromkeys(range(5), 1.0) for line in lines}
    for verdict in decide(experiment.claims, numbers):
        assert verdict.word != "untested at this size"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_nothing_is_decided_by_a_quick_look(name: str) -> None:
    experiment = EXPERIMENTS[name]
    numbers = {line.key: dict.fromkeys(line.seeds, 1.0) for line in experiment.lines("quick")}
    for verdict in decide(experiment.claims, numbers):
        assert verdict.word == "untested at this size"


def papers_numbers(**changed: float) -> dict[Key, dict[int, float]]:
    """The paper's own Table 1 as if it were ours; the RNN on Strawberry, which it leaves out, made up."""
    table = {key: value.mean / 100 for key, value in dfa_paper.TABLE_1.items()}
    table |= {("strawberry", "RNN", "DFA"): 0.69, ("strawberry", "RNN", "BPTT"): 0.80}
    numbers = {}
    for (dataset, name, label), mean in table.items():
        column = "true BPTT" if label == "BPTT" else "as corrected"
        key = Key(f"{dataset} · {name}", label, column)  # type: ignore[arg-type]
        numbers[key] = dict.fromkeys(range(10), changed.get(f"{dataset}-{name}-{label}", mean))
    return numbers


def words(claims: Sequence[Claim], numbers: Numbers) -> list[str]:
    return [verdict.word for verdict in decide(claims, numbers)]


def test_the_papers_own_numbers_bear_out_what_it_says() -> None:
    assert words(dfa_paper.CLAIMS, papers_numbers()) == ["holds"] * len(dfa_paper.CLAIMS)


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"libras-GRU-DFA": 0.60}, (0, 1)),  # in both measures
        ({"ecg200-RNN-BPTT": 0.70}, (2,)),
        ({"ecg200-GRU-BPTT": 0.95}, (3,)),
        ({"row-mnist-GRU-DFA": 0.96}, (4,)),
        ({"strawberry-RNN-DFA": 0.90, "strawberry-RNN-BPTT": 0.95}, (5,)),
    ],
)
def test_other_numbers_break_the_claim_they_concern(
    changed: Mapping[str, float], broken: tuple[int, ...]
) -> None:
    numbers = range(len(dfa_paper.CLAIMS))
    expected = ["does not hold" if number in broken else "holds" for number in numbers]
    assert words(dfa_paper.CLAIMS, papers_numbers(**changed)) == expected


NOISE = (0.04, -0.03, 0.02, -0.02, 0.01, -0.01, 0.0, -0.01)


@pytest.mark.parametrize(
    ("claim", "ours", "theirs", "word"),
    [
        (at_most("", [(A, B)], 1.15), 1.1, 1.0, "holds"),
        (at_most("", [(A, B)], 1.15), 1.2, 1.0, "does not hold"),
        (above("", [(A, B)], 1.15), 1.2, 1.0, "holds"),
        (above("", [(A, B)], 1.15), 1.1, 1.0, "does not hold"),
        (above("", [(A, B)]), 1.0, 1.0, "cannot be decided with 8 seeds"),
        (within("", [(A, B)], 1.15), 1.0, 1.1, "holds"),
        (within("", [(A, B)], 1.15), 1.0, 1.2, "does not hold"),
        (within("", [(A, B)], 1.15), 1.2, 1.0, "does not hold"),
        (on_par("", [(A, B)], 0.06), 1.0, 1.03, "holds"),
        (on_par("", [(A, B)], 0.06), 1.0, 1.09, "does not hold"),
        (on_par("", [(A, B)], 0.06), 1.09, 1.0, "does not hold"),
        (no_worse("", [(A, B)], 0.06), 1.0, 1.03, "holds"),
        (no_worse("", [(A, B)], 0.06), 1.2, 1.0, "holds"),
        (no_worse("", [(A, B)], 0.06), 1.0, 1.09, "does not hold"),
        (reaches("", [(A, 1.0), (B, 0.5)]), 1.0, 0.5, "holds"),
        (reaches("", [(A, 1.0), (B, 0.5)]), 1.0, 0.4, "does not hold"),
    ],
)
def test_how_numbers_decide(claim: Claim, ours: float, theirs: float, word: str) -> None:
    # paired by seed: what both lines share does not count
    numbers = {
        A: {seed: ours + noise / 2 for seed, noise in enumerate(NOISE)},
        B: dict.fromkeys(range(8), theirs),
    }
    (verdict,) = decide([claim], numbers)
    assert verdict.word == word
    assert "A on task" in verdict.because


def test_equal_lines_of_a_large_spread_decide_nothing() -> None:
    spread = (0.5, -0.4, 0.3, -0.3, 0.2, -0.25, 0.1, -0.1, 0.05)
    numbers = {
        A: {seed: 0.6 + one for seed, one in enumerate(spread)},
        B: {seed: 0.6 + one for seed, one in enumerate(reversed(spread))},
    }
    claims = [above("", [(A, B)]), no_worse("", [(A, B)], 0.02), on_par("", [(A, B)])]
    for verdict in decide(claims, numbers):
        assert verdict.word == "cannot be decided with 9 seeds"
        assert verdict.summary == "cannot be decided"


def test_what_is_compared_is_paired_by_seed() -> None:
    theirs = {seed: 0.1 * seed for seed in range(8)}  # their own spread does not count
    ours = {seed: value + 0.01 for seed, value in theirs.items()}
    assert words([above("", [(A, B)])], {A: ours, B: theirs}) == ["holds"]
    shuffled = dict(zip(ours, [*ours.values()][::-1], strict=True))
    assert words([above("", [(A, B)])], {A: shuffled, B: theirs})[0].startswith("cannot be decided")


def test_claims_of_a_page_are_corrected_for_how_many_they_are() -> None:
    """Six seeds give one claim p = 1/64, and of eight claims Holm asks for 0.05/8 of the first."""
    numbers = {A: dict.fromkeys(range(6), 2.0), B: dict.fromkeys(range(6), 1.0)}
    claim = above("", [(A, B)])
    (alone,) = decide([claim], numbers)
    assert (alone.word, alone.p) == ("holds", 1 / 64)
    for verdict in decide([claim] * 8, numbers):
        assert verdict.word == "cannot be decided with 6 seeds"
        assert verdict.p == 8 / 64
        assert verdict.because.endswith("at least 8 seeds are needed")
        assert [test.power for test in verdict.tests] == ["never"]


def test_a_claim_needs_all_its_comparisons_and_one_refutes_it() -> None:
    seeds = range(8)
    numbers = {A: dict.fromkeys(seeds, 2.0), B: dict.fromkeys(seeds, 1.0)}
    (verdict,) = decide([above("", [(A, B), (B, A)])], numbers)
    assert (verdict.word, verdict.p) == ("does not hold", 2 / 256)  # either could have been it
    assert "B on task 1, A on task 2 (not so)" in verdict.because


def test_a_claim_may_spare_comparisons() -> None:
    """At least two of three: the second smallest p counts twice; two wrong ones refute it."""
    seeds = range(8)
    c = Key("task", "C", "as corrected")

    def below(*levels: float) -> Verdict:
        numbers = {
            key: dict.fromkeys(seeds, level) for key, level in zip((A, B, c), levels, strict=True)
        }
        (found,) = decide([stays_below("", [(key, 1.0) for key in (A, B, c)], 2)], numbers)
        return found

    assert (below(0.9, 0.9, 0.9).word, below(0.9, 0.9, 0.9).p) == ("holds", 2 / 256)
    assert (below(0.9, 1.1, 0.9).word, below(0.9, 1.1, 0.9).p) == ("holds", 2 / 256)
    assert below(0.9, 1.1, 1.1).word == "does not hold"
    assert below(0.9, 1.1, 1.0).word == "cannot be decided with 8 seeds"
    assert "at least 2 of 3 means" in stays_below("", [(A, 1.0), (B, 1.0), (c, 1.0)], 2).rule


def test_lines_at_the_floor_have_learned_nothing() -> None:
    seeds = range(9)
    noise = dict(enumerate((0.002, -0.002, 0.001, -0.001, 0.003, -0.003, 0.001, -0.001, 0.0)))
    numbers = {A: {s: 0.65 + noise[s] for s in seeds}, B: dict.fromkeys(seeds, 0.5)}
    floors = {"task": dict.fromkeys(seeds, 0.65)}
    claims = [above("", [(A, B)]), above("", [(B, A)])]
    for verdict in decide(claims, numbers, floors):
        assert verdict.word == "nothing learned"
        assert "on task" in verdict.because
    # a loss: smaller is better
    assert words(claims[:1], numbers) == ["holds"]
    better = decide(claims[:1], numbers, floors, higher_is_better=False)
    assert [verdict.word for verdict in better] == ["holds"]  # 0.5 is below the floor of 0.65
    # another panel's comparisons still refute
    other = Key("other", "A", "as corrected"), Key("other", "B", "true BPTT")
    numbers |= {other[0]: dict.fromkeys(seeds, 0.1), other[1]: dict.fromkeys(seeds, 0.9)}
    (verdict,) = decide([above("", [(A, B), other])], numbers, floors)
    assert verdict.word == "does not hold"


def test_how_fast_lines_learn_that_learned_nothing_is_not_compared() -> None:
    """A measure without a floor goes by that of the first: here 1 is reached without learning."""
    seeds = range(9)
    times = Measured({A: dict.fromkeys(seeds, 3.0), B: dict.fromkeys(seeds, 9.0)}, {}, False)
    floors = {"task": dict.fromkeys(seeds, 1.0)}
    claims = [at_most("", [(A, B)], 1.0, "time")]
    for loss, word in ((1.0, "nothing learned"), (0.5, "holds")):
        losses = Measured(
            {A: dict.fromkeys(seeds, 1.0), B: dict.fromkeys(seeds, loss)}, floors, False
        )
        (verdict,) = verdicts(claims, {"loss": losses, "time": times}, "loss")
        assert verdict.word == word


@pytest.mark.parametrize("claim", [above("", [(A, B)]), reaches("", [(A, 1.0), (B, 0.5)])])
def test_too_few_seeds_decide_nothing(claim: Claim) -> None:
    numbers = {A: {0: 2.0, 1: 2.0, 2: 2.0}, B: {0: 1.0, 1: 1.0}}
    (verdict,) = decide([claim], numbers)
    assert verdict.word == "untested at this size"
    assert verdict.because.endswith("fewer than 3 finished seeds of B on task")


def test_lines_that_share_too_few_seeds_are_not_compared() -> None:
    numbers = {A: dict.fromkeys(range(5), 2.0), B: dict.fromkeys(range(3, 9), 1.0)}
    assert words([above("", [(A, B)])], numbers) == ["untested at this size"]


def test_one_that_does_not_hold_decides_whatever_is_missing() -> None:
    (verdict,) = decide([reaches("", [(A, 2.5), (B, 0.5)])], {A: dict.fromkeys(range(5), 2.0)})
    assert verdict.word == "does not hold"
    assert "(not so); fewer than 3 finished seeds of B on task" in verdict.because


def test_d_that_never_learns_is_not_no_d() -> None:
    """Figure 8 measures how correlated units are where D stays the identity: it has to be there."""
    learns_not, none = TrainConfig(decorrelate=0.0), TrainConfig()
    assert learns_not.model_dump()["decorrelate"] == 0.0
    assert learns_not.folder_name() != none.folder_name()
    assert none.model_dump()["decorrelate"] is None


def test_unknown_keys_are_refused() -> None:
    for kind in KINDS.values():
        with pytest.raises(ArgumentError, match="epoch"):
            kind(epoch=3)


def test_runs_of_table_1_keep_the_names_that_the_command_line_gives_them() -> None:
    lines = {line.key: line for line in EXPERIMENTS["dfa/table1"].lines("laptop")}
    bptt = lines[Key("libras · GRU", "BPTT", "true BPTT")].config
    given = {"dataset": "libras", "cell": "gru-reset-before", "rule": "bptt", "hidden": 512}
    assert bptt == TrainConfig(**given, lr=0.01, batch=10, epochs=900, clip=2.0)


def test_bptt_and_its_rivals_choose_from_the_same() -> None:
    """The same readout, places, rates, epochs and seeds on a data set, and as many candidates a cell."""
    experiment = EXPERIMENTS["beyond/gap"]
    for dataset in {line.key.panel for line in experiment.lines("laptop")}:
        lines = [line for line in experiment.lines("laptop") if line.key.panel == dataset]
        shared = ("hidden", "readout_hidden", "batch", "clip", "epochs", "optimizer", "layers")
        assert len({tuple(getattr(line.config, name) for name in shared) for line in lines}) == 1
        searches = [line.search for line in lines if line.search is not None]
        assert len(searches) == len(lines) == 11
        grids = {(one.grid["at"], one.grid["lr"], one.epochs, one.seeds) for one in searches}
        assert len(grids) == 1
        assert {len(one.grid.get("cell", "-")) for one in searches[:3]} == {2}
        frozen = [line for line in lines if line.config.frozen]
        assert [line.config.rule for line in frozen] == ["rtrl"]


@pytest.mark.parametrize("name", [f"beyond/{one.name}" for one in memory.TASKS])
def test_the_exact_rule_and_the_readout_alone_differ_in_nothing_else(name: str) -> None:
    exact, frozen, *bptt = EXPERIMENTS[name].lines("laptop")
    assert frozen.config == exact.config.model_copy(update={"frozen": True})
    assert exact.search == frozen.search
    for line in bptt:
        assert line.search == exact.search
        as_exact = {
            "cell": exact.config.cell,
            "cell_options": exact.config.cell_options,
            "layers": exact.config.layers,
            "rule": "rtrl",
        }
        assert line.config.model_copy(
            update=as_exact | {"rule_options": {}}
        ) == exact.config.model_copy(update={"rule_options": {}})


def test_bounds_and_shares_of_errors_are_decided_by_their_side() -> None:
    ours, theirs = dict.fromkeys(range(8), 0.9), dict.fromkeys(range(8), 0.8)
    numbers = {A: ours, B: theirs}
    right = [stays_below("", [(A, 0.91)]), fewer_errors("", [(A, B)], 0.6)]
    wrong = [stays_below("", [(A, 0.89)]), fewer_errors("", [(A, B)], 0.4)]
    assert [one.word for one in decide(right, numbers)] == ["holds"] * 2
    assert [one.word for one in decide(wrong, numbers)] == ["does not hold"] * 2
