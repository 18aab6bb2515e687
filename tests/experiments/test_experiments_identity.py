"""A run is named by what was chosen: what comes later renames nothing, a changed default is noticed."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model
from typer.testing import CliRunner

from timelocal.cli.app import app
from timelocal.errors import ArgumentError, UnsupportedError
from timelocal.experiments import config as config_module
from timelocal.experiments import environment
from timelocal.experiments.catalogue import EXPERIMENTS
from timelocal.experiments.command import command_of, known_command
from timelocal.experiments.config import (
    DEFAULTS_VERSION,
    KINDS,
    CostConfig,
    ForecastConfig,
    TrainConfig,
)
from timelocal.experiments.cost import measure_cost
from timelocal.experiments.run import run
from timelocal.experiments.trial import Trial, from_json, name_of
from timelocal.model.build import rule_defaults
from timelocal.rules import RULES
from timelocal.studies.packed import PackedRun, read_packed

DEFAULTS = Path(__file__).with_name("defaults.json")
COMMITTED = Path(__file__).parents[2] / "results" / "reproduction" / "runs.parquet"


def defaults_now() -> dict[str, Any]:
    """Every default that a run's name leaves out."""
    fields = {
        name: "of the rule"
        if name == "rule_options"
        else one.get_default(call_default_factory=True)
        for kind in (ForecastConfig, CostConfig)
        for name, one in kind.model_fields.items()
    }
    options = {
        rule: {k: v for k, v in rule_defaults(rule).items() if k not in ("loss", "at", "seed")}
        for rule in RULES
    }
    return json.loads(json.dumps({"fields": fields, "rule options": options}))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: json.dumps(value)}
    return found


def complaints(recorded: dict[str, Any], version: int, now: dict[str, Any]) -> list[str]:
    """What is to be done about the defaults of now; nothing if `defaults.json` has them for this version."""
    ours = flat(recorded["versions"].get(str(version), {}))
    if not ours:
        return [f"Add the defaults of version {version} to {DEFAULTS.name}; keep the older ones."]
    now = flat(now)
    changed = [name for name in ours if ours[name] != now.get(name)]
    new = [name for name in now if name not in ours]
    return [
        *(f"{name} is not what it was: raise DEFAULTS_VERSION." for name in changed),
        *(f"{name} is new: add it to {DEFAULTS.name}, the version stays." for name in new),
    ]


def test_a_changed_default_raises_the_version() -> None:
    recorded = json.loads(DEFAULTS.read_text())
    assert complaints(recorded, DEFAULTS_VERSION, defaults_now()) == []
    assert sorted(recorded["versions"]) == [str(n + 1) for n in range(DEFAULTS_VERSION)]


def test_and_that_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = json.loads(DEFAULTS.read_text())
    for name in flat(defaults_now()):
        changed = defaults_now()
        *folders, last = name.split(".")
        inner = changed
        for folder in folders:
            inner = inner[folder]
        inner[last] = "something else"
        (complaint,) = complaints(recorded, DEFAULTS_VERSION, changed)
        assert complaint.startswith(f"{name} is not what it was: raise DEFAULTS_VERSION")
        del inner[last]
        assert complaints(recorded, DEFAULTS_VERSION, changed)
        assert complaints(recorded, DEFAULTS_VERSION + 1, changed)
    # in the code itself
    options = RULES["anp"].__init__.__kwdefaults__
    monkeypatch.setitem(options, "sigma", 2 * options["sigma"])
    (complaint,) = complaints(recorded, DEFAULTS_VERSION, defaults_now())
    assert "rule options.anp.sigma" in complaint


def test_another_version_is_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = TrainConfig(epochs=3).folder_name()
    monkeypatch.setattr(config_module, "DEFAULTS_VERSION", DEFAULTS_VERSION + 1)
    assert TrainConfig(epochs=3).folder_name() != before


def test_what_comes_later_renames_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"cell": "rnn", "rule": "anp", "rule_options": {"sigma": 0.5}, "epochs": 3}
    config = TrainConfig(**given)
    for kind in KINDS.values():
        later = create_model("Later", __base__=kind, novelty=(bool, False), strength=(float, 1.0))
        assert later(**given).sha256() == kind(**given).sha256()
        assert later(**given, novelty=True).sha256() != kind(**given).sha256()
    monkeypatch.setattr(
        config_module, "rule_defaults", lambda rule: {**rule_defaults(rule), "novelty": 0.1}
    )
    monkeypatch.setattr(config_module, "make_rule", lambda *_: None)
    later = TrainConfig(**given)
    assert later.rule_options["novelty"] == 0.1  # the record holds it
    assert later.sha256() == config.sha256()
    given["rule_options"] = {"sigma": 0.5, "novelty": 0.2}
    assert TrainConfig(**given).sha256() != config.sha256()


@pytest.mark.slow
def test_what_is_chosen_leads_back_to_the_whole() -> None:
    trials: list[Trial] = [
        TrainConfig(),
        TrainConfig(seed=3, rule_options={"feedback": "sign", "trace": "leak"}, cell="rnn"),
        TrainConfig(cell="rnn", rule="dfa-authors-code", rule_options={"quirks": ["frobenius"]}),
        CostConfig(),
        CostConfig(repeats=2, lr=0.5),
        ForecastConfig(),
        ForecastConfig(members=2),
        *(line.config for one in EXPERIMENTS.values() for line in one.lines("quick")),
    ]
    for trial in trials:
        for values in (
            trial.chosen(),
            trial.model_dump(mode="json"),
            json.loads(trial.canonical()),
        ):
            again = from_json(values)
            assert type(again) is type(trial)
            assert again == trial
            assert again.folder_name() == trial.folder_name() == name_of(values, "none")
        assert trial.model_dump().keys() == type(trial).model_fields.keys()
        assert trial.rule_options.keys() == rule_defaults(trial.rule).keys() - {
            "loss",
            "at",
            "seed",
        }
    assert TrainConfig().chosen() == {}
    assert CostConfig().chosen() == {"measures": "cost"}
    assert ForecastConfig().chosen() == {"measures": "forecast"}
    assert len({trial.folder_name() for trial in trials[:7]}) == 7


@pytest.mark.parametrize("written", [1, 1.0])
def test_whole_numbers_and_others_are_one_choice(written: float) -> None:
    config = TrainConfig(rule="anp", rule_options={"sigma": written}, lr=written)
    assert config.chosen() == {"rule": "anp", "rule_options": {"sigma": 1.0}, "lr": 1.0}
    assert '"sigma":1.0' in config.canonical()


@pytest.mark.slow
def test_a_record_names_the_command_that_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/drive.py", "a b"])
    config = TrainConfig(cell="rnn", hidden=4, epochs=1, batch=512)
    made = json.loads((run(config, tmp_path) / "environment.json").read_text())
    assert made["command"] == command_of(config)
    assert made["recorded_command"] == "drive.py 'a b'"
    assert {"path", "instruction set"} <= made["kernels"].keys()
    assert made["timelocal"]
    assert "recorded_command" not in environment.environment()
    given = {"dataset": "copying", "loss": "mse", "at": "every", "cell": "rnn", "hidden": 4}
    cost = CostConfig(**given, rule="bptt", batch=1, repeats=1)
    made = json.loads((measure_cost(cost, tmp_path) / "environment.json").read_text())
    assert made["command"] == "drive.py 'a b'"  # no command line measures just this
    assert known_command(cost) is None
    line = EXPERIMENTS["perturbation/figure10"].lines("quick")[0].config
    line = line.model_copy(update={"seed": 3})
    assert command_of(line) == "timelocal reproduce perturbation/figure10 --profile quick"
    with pytest.raises(UnsupportedError, match="timelocal reproduce"):
        command_of(cost)


@cache
def committed() -> dict[str, PackedRun]:
    found = dict(read_packed(COMMITTED))
    assert len(found) >= 2404
    return found


def test_every_committed_name_is_that_of_its_configuration() -> None:
    runs = committed()
    for name, run_ in runs.items():
        trial = from_json(run_.parts["config"])
        assert trial.folder_name() == name
        recorded, now = run_.parts["config"], trial.model_dump(mode="json")
        assert recorded["rule_options"].items() <= now.pop("rule_options").items()
        assert {k: v for k, v in recorded.items() if k != "rule_options"}.items() <= now.items()
    former = [run_.formerly for run_ in runs.values() if run_.formerly]
    assert len(former) >= 2404
    assert len(set(former)) == len(former)


def parsed(command: str, monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The runs that a `timelocal train` line asks for."""
    asked: list[TrainConfig] = []

    def only_told(configs: list[TrainConfig], *_: object) -> list[object]:
        asked.extend(configs)
        return []

    monkeypatch.setattr("timelocal.cli.summary.do_runs", only_told)
    monkeypatch.setattr("timelocal.cli.summary.print_summary", lambda _: None)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    return asked


def test_the_command_says_all_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"threads": 2, "layers": 2, "clip": 0.5, "stratified": True, "standardize": True}
    others |= {"decorrelate": 0.1, "decorrelate_norm": "preserve", "alignment": True, "seed": 3}
    config = TrainConfig(**others, cell="lstm", optimizer="sgd", rule_options={"trace": "diagonal"})
    assert parsed(command_of(config), monkeypatch) == [config]
    stepwise = {"dataset": "copying", "loss": "mse", "at": "every", "online": True}
    leaky = TrainConfig(**stepwise, cell="rnn", tau=4.0, rule="rflo", lr=3e-05)
    assert parsed(command_of(leaky), monkeypatch) == [leaky]
    for again in (
        TrainConfig(at="mean"),
        TrainConfig(**stepwise | {"at": "ramp", "online": False}),
    ):
        assert parsed(command_of(again), monkeypatch) == [again]
    with pytest.raises(ArgumentError, match="at: got 'mean', expected 'every' or 'ramp'"):
        TrainConfig(**stepwise | {"at": "mean", "online": False})


@pytest.mark.parametrize("step", [300, pytest.param(1, marks=pytest.mark.slow)])
def test_every_committed_command_makes_that_very_run(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"train": 0, "reproduce": 0}
    for name, run_ in list(committed().items())[::step]:
        told = run_.parts["environment"]
        assert told["recorded_command"]
        _, verb, *rest = shlex.split(told["command"])
        counts[verb] += 1
        if verb == "train":
            (config,) = parsed(told["command"], monkeypatch)
            assert config.folder_name() == name
        else:
            (line, _, profile) = rest
            lines = EXPERIMENTS[line].lines(profile)
            seeds = {with_seed.folder_name() for one in lines for with_seed in _seeded(one)}
            assert name in seeds
    assert counts["train"] > 2000 // step
    assert step > 1 or counts["reproduce"] >= 33


def _seeded(line: Any) -> list[Trial]:
    return [from_json({**line.config.model_dump(), "seed": seed}) for seed in line.seeds]
