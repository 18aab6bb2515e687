"""Guesses: one function says which name was meant, wherever a name is taken."""

from __future__ import annotations

import pytest

import timelocal as tl
from timelocal import data, plugins
from timelocal.errors import ArgumentError, did_you_mean, unknown_name
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.losses import LOSSES
from timelocal.model.build import CELLS, OPTIMIZERS

KNOWN = {
    "cell": CELLS,
    "dataset": data.names(),
    "experiment": EXPERIMENTS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "rule": tl.RULES,
    "verb": ("list", "train", "runs", "report"),
}


@pytest.mark.parametrize(
    ("what", "given", "meant"),
    [
        ("rule", "DFA", ["dfa"]),
        ("rule", "E-prop", ["eprop"]),
        ("rule", "dfaa", ["dfa"]),
        ("rule", "np_author", ["np-authors-code"]),
        ("rule", "node perturbation", ["np"]),
        ("rule", "backprop", ["bptt"]),
        ("dataset", "ECG200", ["ecg200"]),
        ("dataset", "ecg", ["ecg200"]),
        ("dataset", "COPYING", ["copying"]),
        ("dataset", "MNIST", ["permuted-mnist", "row-mnist", "sequential-mnist"]),
        ("dataset", "minst", ["permuted-mnist", "row-mnist", "sequential-mnist"]),
        ("dataset", "Mackey Glass", ["mackey-glass"]),
        ("dataset", "weather", ["weather-1h", "weather-24h", "weather-48h"]),
        ("cell", "gur", ["gru"]),
        ("cell", "LTSM", ["lstm"]),
        ("optimizer", "adamm", ["adam"]),
        ("experiment", "figure6", ["perturbation/figure6"]),
        ("experiment", "Fig6", ["perturbation/figure6"]),
        ("experiment", "table1", ["dfa/table1", "perturbation/table1"]),
        ("loss", "ce", ["cross_entropy"]),
        ("loss", "CrossEntropyLoss", ["cross_entropy"]),
        ("loss", "nll", ["cross_entropy"]),
        ("loss", "xent", ["cross_entropy"]),
        ("loss", "l2", ["mse"]),
        ("loss", "BCEWithLogits", ["bce"]),
        ("verb", "TRAIN", ["train"]),
        ("verb", "trian", ["train"]),
        ("dataset", "iris", []),
        ("dataset", "mushroom", []),
        ("rule", "x", []),
        ("rule", "", []),
        ("rule", "--", []),
        ("rule", "tpu", []),
        ("loss", "mae", []),
        ("loss", "l1", []),
        ("loss", 5, []),
    ],
)
def test_guesses(what: str, given: object, meant: list[str]) -> None:
    expected = f"Did you mean {' or '.join(map(repr, meant))}?" if meant else ""
    assert did_you_mean(given, KNOWN[what]) == expected
    problem = unknown_name(what, given, KNOWN[what])
    assert problem is not None
    assert problem.remedy == expected


def test_none_is_the_word_for_it() -> None:
    with pytest.raises(ArgumentError, match=r"trace: got None.*Did you mean 'none'\?"):
        tl.DFA(tl.GRU(2, 4, 3), trace=None)
    with pytest.raises(ArgumentError, match=r"feedback: got None.*'uniform'$"):
        tl.DFA(tl.GRU(2, 4, 3), feedback=None)


def test_the_option_with_one_name_is_guessed_too() -> None:
    with pytest.raises(ArgumentError, match=r"Did you mean 'frobenius'\?"):
        tl.DFA(tl.GRU(2, 4, 3), normalize="Frobenius")


def test_a_loss_that_is_not_here_is_a_function() -> None:
    with pytest.raises(ArgumentError, match=r"'mae'.*a function of \(outputs, targets\)"):
        tl.BPTT(tl.GRU(2, 4, 3), loss="mae")
    with pytest.raises(ArgumentError, match="Did you mean 'cross_entropy'"):
        tl.BPTT(tl.GRU(2, 4, 3), loss="CE")


def test_a_name_in_a_module_is_guessed() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'Fraction'"):
        plugins.find("rule", "fractions:fraction", {})
