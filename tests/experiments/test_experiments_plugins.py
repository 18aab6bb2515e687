"""Configurations and runs with rules, cells and data sets from outside the package."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from plugin_files import CELL, DATA, RULE, in_folder, module, package
from timelocal import data
from timelocal.errors import ArgumentError
from timelocal.experiments.config import TrainConfig, default_task
from timelocal.experiments.environment import environment
from timelocal.experiments.origins import ChangedPluginWarning, changes, foreign, origins
from timelocal.experiments.run import run
from timelocal.experiments.trial import from_json, name_of
from timelocal.model.build import find_cell, rule_defaults
from timelocal.studies.engines import InProcess, Processes
from timelocal.studies.packing import pack, rename, unpack
from timelocal.studies.store import read, runs
from timelocal.studies.study import run_study


@pytest.fixture(autouse=True)
def _imports_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """In a folder with `mine.py`; what a test imports goes with it."""
    module(tmp_path, "mine", RULE, CELL, DATA)
    with in_folder(tmp_path, monkeypatch):
        yield


def forget() -> None:
    """As in a new process: the module is imported again."""
    sys.modules.pop("mine", None)
    from timelocal.experiments.trial import _checked

    _checked.cache_clear()


def config(**values: object) -> TrainConfig:
    values = {
        "rule": "mine:Rule",
        "cell": "mine:Cell",
        "hidden": 4,
        "epochs": 1,
        "batch": 100,
    } | values
    return TrainConfig(**values)


def test_all_three_train_together(tmp_path: Path) -> None:
    chosen = config(dataset="mine:pulses", epochs=3, lr=0.03)
    folder = run(chosen, tmp_path / "runs")
    record = read(folder)
    assert record.status == "finished"
    assert record.result is not None
    assert record.result["last"]["test_accuracy"] > 0.9
    assert record.config["rule"] == "mine:Rule"  # the names as they were given
    recorded = record.environment["plugins"]
    assert {what: own["name"] for what, own in recorded.items()} == {
        "rule": "mine:Rule", "cell": "mine:Cell", "dataset": "mine:pulses",
    }  # fmt: skip
    assert len({own["sha256"] for own in recorded.values()}) == 1  # one file
    assert recorded["rule"]["summary"] == "within its own step"
    assert recorded["rule"]["references"] == ["A. Stranger. My rule. 2026."]
    assert "--rule mine:Rule --hidden 4" in record.environment["command"]


def test_built_in_runs_record_no_plugins(tmp_path: Path) -> None:
    folder = run(TrainConfig(hidden=4, epochs=1, batch=400), tmp_path / "runs")
    assert "plugins" not in read(folder).environment
    assert "plugins" not in environment()


def test_folder_names_are_safe_and_apart() -> None:
    name = config(dataset="mine:pulses").folder_name()
    assert re.fullmatch(r"mine\.pulses-mine\.Cell-mine\.Rule-s0-[0-9a-f]{8}", name)
    assert (
        len({config(rule=rule).folder_name() for rule in ("mine:Rule", "timelocal:BPTT", "bptt")})
        == 3
    )


@pytest.mark.slow
def test_it_is_the_same_on_every_engine(tmp_path: Path) -> None:
    trials = [config(seed=seed, dataset="mine:pulses") for seed in range(2)]
    losses = []
    for name, engine in (("here", InProcess()), ("processes", Processes(2))):
        forget()
        records = run_study(trials, tmp_path / name, engine=engine)
        assert [record.status for record in records] == ["finished"] * 2
        losses.append([record.epochs[-1]["test_loss"] for record in records])
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_process_that_cannot_import_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = config(dataset="mine:pulses")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    sys.path.remove(str(tmp_path))  # it is imported already, here and nowhere else
    with pytest.raises(
        ArgumentError, match=r"(?s)in a separate process.*No module named 'mine'\. Change to"
    ):
        run_study([chosen], tmp_path / "runs", engine=Processes(1))


def test_the_rules_own_arguments_are_options(tmp_path: Path) -> None:
    source = """
    def __init__(self, network, *, sharpness=1, way="up", hook=print, **options):
        super().__init__(network, **options)
        self.sharpness = sharpness
"""
    module(tmp_path, "options", RULE + source)
    module(tmp_path, "needs", RULE + source.replace("sharpness=1", "sharpness"))
    assert rule_defaults("options:Rule") == {
        "loss": "cross_entropy", "at": "last", "seed": 0, "sharpness": 1, "way": "up",
    }  # fmt: skip
    chosen = config(rule="options:Rule", rule_options={"sharpness": 3})
    assert chosen.rule_options == {"sharpness": 3, "way": "up"}
    with pytest.raises(ArgumentError, match="Did you mean 'sharpness'"):
        config(rule="options:Rule", rule_options={"sharpnes": 3})
    with pytest.raises(
        ArgumentError, match=r"rule 'needs:Rule': argument sharpness: got no default"
    ):
        config(rule="needs:Rule")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"rule": "mine:Cell"}, "the class Cell, expected a subclass of timelocal.Rule"),
        ({"rule": "timelocal:Rule"}, "a rule without a spec"),
        ({"rule": "mine:pulses"}, "a function, expected a subclass of timelocal.Rule"),
        ({"rule": "faults:Breaks"}, "which raised ZeroDivisionError: division by zero (/"),
        ({"cell": "torch.nn:GRU"}, "the class GRU, expected a subclass of timelocal.Cell, AutogradCell"),
        ({"cell": "mine:Rule"}, "the class Rule, expected a subclass of timelocal.Cell"),
        ({"cell": "mine:pulses"}, "a function that returns a Dataset, expected a subclass of timelocal.Cell"),
        ({"cell": "timelocal:AutogradCell"}, "raised TypeError: Can't instantiate abstract class"),
        ({"cell": "faults:Small"}, "only 3 units"),
        ({"dataset": "mine:Cell"}, "the class Cell, expected a function that returns a timelocal"),
        ({"dataset": "faults:nothing"}, "dataset 'faults:nothing': got a NoneType"),
        ({"dataset": "faults:raises"}, "which raised FileNotFoundError: pulses.csv (/"),
        ({"dataset": "faults:unfit"}, "card.shape: got (3, 2, 1), expected (3, 2, 2)"),
        ({"dataset": "faults:unfit"}, "targets: got (3,) torch.int64 from 0 to 2, expected (3,) torch.int64"),
        ({"dataset": "nowhere:x", "rule": "nowhere:y", "cell": "nowhere:z"}, "3 problems"),
        ({"rule": "mine:Rule", "layers": 2, "online": True}, "online"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_in_words(
    tmp_path: Path, fields: dict[str, object], text: str
) -> None:
    faults = """
class Breaks(Rule):
    def __init__(self, network, **options):
        1 / 0

class Small(Cell):
    def parameter_shapes(self, input_size, hidden_size):
        if hidden_size > 3: raise ValueError("only 3 units")
        return super().parameter_shapes(input_size, hidden_size)

def nothing(): pass

def raises(): raise FileNotFoundError("pulses.csv")

def unfit():
    card = Card("", "", (3, 2, 1), ("a", "b"), None, "", (), "")
    return Dataset("", torch.zeros(3, 2, 2), torch.arange(3), card)
"""
    module(tmp_path, "faults", RULE, CELL, DATA, faults)
    with pytest.raises(ArgumentError) as caught:
        config(**fields)
    assert text in str(caught.value)


def test_cells_may_be_instances_and_functions_and_black_boxes(tmp_path: Path) -> None:
    module(
        tmp_path,
        "cells",
        CELL,
        "one = Cell()",
        "def make(): return Cell()",
        "from timelocal.testing.measure import Device",
    )
    assert find_cell("cells:one")() is find_cell("cells:one")()
    for name in ("cells:one", "cells:make"):
        assert config(cell=name, rule="dfa").cell == name
    assert config(cell="cells:Device", rule="anp").cell == "cells:Device"
    with pytest.raises(ArgumentError, match="black box"):
        config(cell="cells:Device", rule="dfa")


def test_a_data_set_brings_its_card_and_its_task(tmp_path: Path) -> None:
    values = """
def values():
    inputs = torch.zeros(5, 4, 2)
    return Dataset("values", inputs, inputs.clone(), Card("v", "zeros", (5, 4, 2), None, None, "", (), ""))

def unequal():
    made = pulses()
    return Dataset("unequal", made.inputs, made.targets, made.card, torch.full((200,), 3))
"""
    module(tmp_path, "sets", DATA, values)
    assert default_task("sets:values") == {"loss": "mse", "at": "every"}
    assert default_task("sets:pulses") == {"loss": "cross_entropy", "at": "last"}
    assert default_task("no:such") == {"loss": "cross_entropy", "at": "last"}  # the config tells
    with pytest.raises(ArgumentError, match="loss: got 'cross_entropy', expected 'mse'"):
        config(dataset="sets:values")
    assert data.card("sets:pulses").class_counts == (100, 100)  # counted
    assert data.locate("sets:pulses") == "made by sets:pulses"
    loaded = data.load("sets:unequal")
    assert loaded.name == "sets:unequal"
    assert loaded.lengths is not None
    assert torch.equal(loaded.lengths, torch.full((200,), 3))
    assert data.floors("sets:values", data.split(data.load("sets:values"), 0)) == {}


def test_an_entry_of_its_own_is_told_where_the_data_lie(tmp_path: Path) -> None:
    source = """
import numpy as np
from timelocal.data.dataset import no_floors

class FromFiles:
    card = Card("files", "from files", (3, 2, 1), None, None, "", (), "")
    floors = staticmethod(no_floors)
    def locate(self, data_dir): return None if data_dir is None else str(data_dir)
    def read(self, data_dir): return np.full((3, 2, 1), len(data_dir.name), "f"), np.zeros((3, 2, 1), "f")

entry = FromFiles()
"""
    module(tmp_path, "files", DATA, source)
    loaded = data.load("files:entry", tmp_path / "five5")
    assert float(loaded.inputs[0, 0, 0]) == 5
    assert data.locate("files:entry") is None


def test_a_finished_run_tells_of_a_source_that_has_changed(tmp_path: Path) -> None:
    chosen = config()
    folder = run(chosen, tmp_path / "runs")
    assert run(chosen, tmp_path / "runs") == folder  # nothing has changed, nothing is told
    module(tmp_path, "mine", RULE, CELL, DATA, "# another line")
    forget()
    with pytest.warns(ChangedPluginWarning) as told:
        run(config(), tmp_path / "runs")
    assert [str(one.message).split(":")[0] for one in told] == ["rule mine", "cell mine"]
    assert f"mine.py has changed since the run {folder.name} began" in str(told[0].message)
    assert "earlier_plugins" not in read(folder).environment  # it did not go on
    heard: list[str] = []
    run_study([config()], tmp_path / "runs", engine=InProcess(), tell=heard.append)
    assert sum("mine.py has changed" in line for line in heard) == 2


def test_a_run_that_goes_on_with_another_source_records_both(tmp_path: Path) -> None:
    store, chosen = tmp_path / "runs", config(epochs=2)
    folder = run(chosen, store)
    (folder / "status.json").write_text(json.dumps({"status": "running", "message": ""}))
    module(tmp_path, "mine", RULE, CELL, DATA, "# another line")
    forget()
    heard: list[str] = []
    run_study(
        [config(epochs=2)], store, engine=InProcess(), tell=heard.append
    )  # warns of nothing itself
    assert sum("mine.py has changed" in line for line in heard) == 2
    found = read(folder).environment
    (before,) = found["earlier_plugins"]
    assert before["rule"]["sha256"] != found["plugins"]["rule"]["sha256"]
    assert changes(config(epochs=2), found) == []


def test_reading_records_imports_nothing(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    folder = run(config(), store)
    loud = "from pathlib import Path\nPath('imported').touch()"
    module(tmp_path, "mine", loud, RULE, CELL, DATA)
    forget()
    recorded = json.loads((folder / "config.json").read_text())
    assert foreign(recorded) == {"rule": "mine:Rule", "cell": "mine:Cell"}
    assert name_of(recorded, "as it was") == "as it was"
    assert rename(store) == {}
    packed = pack(store).path
    assert len(runs(packed)) == 1
    unpack(packed, tmp_path / "back")
    (record,) = runs(tmp_path / "back")
    assert record.folder.name == folder.name
    assert record.environment["plugins"] == read(folder).environment["plugins"]
    assert not (tmp_path / "imported").exists()
    assert config().rule == "mine:Rule"
    assert (tmp_path / "imported").exists()  # it would have been seen


def test_trials_travel_as_text() -> None:
    chosen = config(dataset="mine:pulses")
    assert from_json(json.loads(chosen.canonical())) == chosen
    assert set(origins(chosen)) == {"rule", "cell", "dataset"}


def test_names_of_installed_packages_are_names_everywhere(tmp_path: Path) -> None:
    package(
        tmp_path / "site",
        "theirs",
        rules={"their-rule": "mine:Rule"},
        cells={"their-cell": "mine:Cell"},
        datasets={"theirs": "mine:pulses"},
    )
    sys.path[:0] = [str(tmp_path / "site"), str(tmp_path)]
    chosen = config(rule="their-rule", cell="their-cell", dataset="theirs")
    assert chosen.folder_name().startswith("theirs-their-cell-their-rule-s0-")
    (record,) = run_study([chosen], tmp_path / "runs", engine=Processes(1))
    assert record.status == "finished"
    assert record.environment["plugins"]["rule"]["distribution"] == "theirs"
