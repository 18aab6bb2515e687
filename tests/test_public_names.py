"""What the package offers by name: a name that comes, goes or changes its home does so on purpose."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import timelocal as tl
from timelocal import deprecated

PUBLIC = {
    "timelocal": """
        ALIF ANP BPTT DFA GRU LIF LRU LSTM NP RFLO RNN RTRL RTU RULES TBPTT UORO WP
        ANPAuthorsCode ArgumentError AutogradCell BlackBox Cell DFAAuthorsCode DataError Decorrelation
        DivergedError EProp Estimate Evaluation FeedbackAlignment IndRNN MinGRU MinLSTM MissingExtraError
        Model NPAuthorsCode Network Rule RuleSpec RunError SnAp1 SparseRTRL
        Stream TimelocalError Trajectory
        UnsupportedError WPAuthorsCode WeightMirror black_box data decorrelation_loss fit from_cell from_torch
        load losses save to_torch
    """,
    "timelocal.rules": """
        ANP BPTT DFA NP RFLO RTRL RULES TBPTT UORO WP
        ANPAuthorsCode Batch CarriedRule DFAAuthorsCode EProp Estimate Evaluation FeedbackAlignment
        ForwardPass NPAuthorsCode Rule RuleSpec SnAp1 SparseRTRL WPAuthorsCode WeightMirror
        arrange arrange_entries check_batch draw_key estimate_batch estimate_from evaluate_batch forward_pass
        make_batch no_states own_precision packed readout_gradients readout_signal unpacked update_locally
        weight_problem
    """,
    "timelocal.training": "History Learned Stream TensorBoard fit load_weights",
    "timelocal.data": """
        Card Dataset Sequences Split adding_sequences cache_dir card collate copying_sequences
        delayed_match_sequences floors load locate mackey_glass_streams minibatches moments names read
        read_frame selective_copying_sequences split standardize
    """,
    "timelocal.testing": """
        CELLS CHECKS Case CellReport ContractReport Finding MEASURES ORACLES Oracle batch_of cases
        check_black_box check_case check_cell check_rule reference
    """,
    "timelocal.studies.engines": "Engine InProcess Outcome Processes RayEngine SlurmEngine",
    "timelocal.errors": """
        ArgumentError BusyError DataError DivergedError MissingExtraError Problem ReadingWarning RunError
        TimelocalError UnsupportedError did_you_mean printable raise_problems unknown_name warn
    """,
}
"""Change this list together with the CHANGELOG; for a name that goes, see `timelocal.deprecated`."""


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names(module: str) -> None:
    found = importlib.import_module(module)
    assert sorted(found.__all__) == sorted(PUBLIC[module].split())
    assert len(set(found.__all__)) == len(found.__all__)
    for name in found.__all__:
        assert getattr(found, name) is not None


def for_type_checkers() -> dict[str, object]:
    """What editors and type checkers are told that the names of `timelocal` are."""
    tree = ast.parse(Path(tl.__file__).read_text())
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    scope: dict[str, object] = {}
    exec(compile(ast.Module(block.body, []), "names", "exec"), scope)
    del scope["__builtins__"]
    return scope


def test_a_name_is_at_run_time_what_type_checkers_are_told() -> None:
    told = for_type_checkers()
    assert sorted(told) == sorted(tl.__all__)
    for name, value in told.items():
        assert getattr(tl, name) is value, name


def test_the_names_are_listed_and_can_be_taken_all_at_once() -> None:
    assert set(tl.__all__) <= set(dir(tl))
    scope: dict[str, object] = {}
    exec("from timelocal import *", scope)
    assert set(tl.__all__) <= set(scope)


@pytest.mark.slow
def test_submodules_are_there_without_an_import_of_their_own() -> None:
    code = "import timelocal as tl; print(tl.rules.DFA is tl.DFA, tl.testing.check_rule.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True check_rule\n"
    assert isinstance(tl.kernels, types.ModuleType)


def test_classes_and_networks_are_pickled() -> None:
    assert pickle.loads(pickle.dumps(tl.DFA)) is tl.DFA
    network = pickle.loads(pickle.dumps(tl.RNN(2, 3, 1)))
    assert isinstance(network, tl.Network)


@pytest.mark.parametrize("name", ["no_such_name", "_private", "__wrapped__"])
def test_other_names_are_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(tl, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from timelocal import {name}")


def test_a_renamed_name_still_works_and_tells_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(deprecated.RENAMED, "timelocal.OldDFA", "timelocal.rules.DFA")
    with pytest.warns(
        DeprecationWarning, match=r"OldDFA is now called timelocal\.rules\.DFA"
    ) as told:
        assert tl.OldDFA is tl.DFA
    assert told[0].filename == __file__  # the line of the user, not of the mechanism
    with pytest.warns(DeprecationWarning, match="OldDFA") as told:
        from timelocal import OldDFA
    assert OldDFA is tl.DFA
    assert {one.filename for one in told} == {__file__}


@pytest.mark.parametrize(("old", "new"), deprecated.RENAMED.items())
def test_every_old_name_leads_to_its_new_one(old: str, new: str) -> None:
    module, _, name = old.rpartition(".")
    home, _, new_name = new.rpartition(".")
    owner = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=re.escape(new)):
        assert getattr(owner, name) is getattr(importlib.import_module(home), new_name)
    assert name not in owner.__all__
