"""Whatever is wrong with a command line: one message that begins with `error:`, code 2, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from timelocal.cli.rule_options import rule_options
from timelocal.errors import ArgumentError
from timelocal.model.build import rule_defaults

HUGE = str(10**30)
MISUSES: dict[str, list[str]] = {
    "demo extra": ["extra"],
    "demo --out /dev/null": ["/dev/null"],
    "train --rule DFA": ["Did you mean 'dfa'?"],
    "train --dataset ECG200": ["Did you mean 'ecg200'?"],
    "train --dataset :": ["module:name"],
    "train --dataset os:path": ["a function that returns a timelocal.data.Dataset"],
    "train --cell os:getcwd": ["a subclass of timelocal.Cell"],
    "train --rule builtins:dict": ["Subclass timelocal.Rule"],
    "train --HIDDEN 3": ["Did you mean '--hidden'?", "train --help"],
    "train --lr": ["--lr"],
    "train --lr 1e-400": ["lr: got 0.0"],
    "train --lr 1e400": ["lr: got inf"],
    "train --tau nan --cell rnn": ["tau: got nan"],
    "train --workers 0": ["--workers"],
    "train --out /dev/null": ["/dev/null"],
    "train --option normalize=Frobenius": ["Did you mean 'frobenius'?"],
    "train --option trace=null": ["Did you mean 'none'?"],
    "train --option feedback=[[1]]": ["rule_options: feedback", "a list of strings"],
    f"train --seeds {HUGE}": ["--seeds", "10,000"],
    f"train --seeds {HUGE},": ["--seeds", "10^18"],
    f"train --seeds {'9' * 5000}": ["--seeds"],
    f"train --hidden {HUGE}": ["hidden", "less than or equal to"],
    f"train --layers {HUGE}": ["layers", "less than or equal to"],
    f"train --epochs {HUGE}": ["epochs", "less than or equal to"],
    f"train --batch {HUGE}": ["batch", "less than or equal to"],
    f"train --threads {HUGE}": ["threads", "less than or equal to"],
    "train --online": ["online: got True for the data set 'digits-rows'", "'mackey-glass'"],
    "report /dev/null": ["/dev/null"],
    "report nowhere": ["nowhere"],
    "runs nowhere": ["nowhere"],
    "runs . --status FINISHED": ["Did you mean 'finished'?"],
    "list extra": ["extra"],
    "pack nowhere": ["nowhere"],
    "pack /dev/null --unpack": ["/dev/null"],
    "doctor extra": ["extra"],
    "bench --shape x": ["--shape"],
    "bench --cell GRU": ["Did you mean 'gru'?"],
    f"bench --threads -{HUGE}": ["--threads"],
    "reproduce figure6": ["Did you mean 'perturbation/figure6'?"],
    "reproduce table1": ["Did you mean 'dfa/table1' or 'perturbation/table1'?"],
    "reproduce dfa --profile QUICK": ["Did you mean 'quick'?"],
    "reproduce dfa --search-trials 0": ["--search-trials"],
    "reproduce dfa/table1 --profile quick --seconds nan": ["seconds: got nan"],
    "data show ECG200": ["Did you mean 'ecg200'?"],
    "data show ecg200 --seed -1": ["seed"],
    "data fetch os:path": ["os:path"],
    "data lst": ["no command 'lst'. Did you mean 'list'?", "data --help"],
    "TRAIN": ["no command 'TRAIN'. Did you mean 'train'?"],
    "[/x]": ["no command '[/x]'. See"],
    "--nope": ["--nope"],
}


@pytest.mark.parametrize("line", MISUSES, ids=lambda line: line[:40])
def test_misuses(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*line.split())
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert not [word for word in MISUSES[line] if word not in result.stderr], result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_no_guess_where_no_name_is_near(call) -> None:
    assert "Did you mean" not in call("data", "show", "iris").stderr


def test_a_file_that_cannot_be_used_is_no_traceback(call, monkeypatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "somewhere\x1b")

    monkeypatch.setattr("timelocal.cli.doctor.facts", refuse)
    result = call("doctor")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: somewhere\\x1b: No space left on device\n",
    )


def test_a_filter_that_finds_nothing_says_which_name_was_meant(train, call, tmp_path: Path) -> None:
    train("--epochs", 1, "--out", tmp_path)
    told = call("runs", tmp_path, "--rule", "DFA")
    assert told.exit_code == 0
    assert told.stderr == "no run of the rule 'DFA'. Did you mean 'dfa'?\n"
    assert call("runs", tmp_path, "--rule", "dfa").stderr == ""


@pytest.mark.parametrize(
    ("rule", "pair", "value"),
    [
        ("np", "antithetic=True", True),
        ("np", "antithetic=FALSE", False),
        ("np", "antithetic=yes", True),
        ("np", "antithetic=off", False),
        ("np", "sigma=.01", 0.01),
        ("np", "sigma=1.", 1.0),
        ("np", "sigma=1e-3", 1e-3),
        ("np", "directions=+3", 3),
        ("np", "directions=1_000", 1000),
        ("dfa", "normalize=None", None),
        ("dfa", "normalize=none", None),
        ("dfa", "normalize=NULL", None),
        ("dfa", "normalize=~", None),
        ("dfa", "normalize='frobenius'", "frobenius"),
        ("dfa", 'normalize="frobenius"', "frobenius"),
        ("dfa", "trace=none", "none"),
        ("dfa", "feedback=yes", "yes"),
        ("dfa-authors-code", "quirks=['frobenius']", ["frobenius"]),
        ("dfa-authors-code", "quirks=('frobenius',)", ["frobenius"]),
        ("dfa-authors-code", "quirks=[]", []),
        ("np", "sigma={'a': 1}", "{'a': 1}"),
        ("np", "sigma=" + "[" * 10_000, "[" * 10_000),
        ("np", "sigma=" + "9" * 5000, "9" * 5000),
    ],
)
def test_values_in_the_words_of_python_json_and_yaml(rule: str, pair: str, value: object) -> None:
    name = pair.partition("=")[0]
    found = rule_options([pair], rule_defaults(rule))[name]
    assert found == value
    assert type(found) is type(value)


def test_a_flag_is_read_as_an_option_is(train, tmp_path: Path) -> None:
    for flags in (("--normalize", "none"), ("--option", "normalize=None"), ()):
        assert train("--epochs", 1, "--out", tmp_path, *flags).exit_code == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_options_need_no_rule() -> None:
    assert rule_options(["normalize=None", "x=true"]) == {"normalize": None, "x": True}
    with pytest.raises(ArgumentError, match="NAME=VALUE"):
        rule_options(["=3"])
