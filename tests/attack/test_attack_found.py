"""What attacks have found once, each told by one clear error and leaving everything as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import timelocal as tl
from timelocal import seeding
from timelocal.analysis import alignment, statistics
from timelocal.data import trivial
from timelocal.experiments.config import TrainConfig
from timelocal.training import TensorBoard, load_weights


def a_stream(dtype: torch.dtype = torch.float32) -> tl.Stream:
    rule = tl.DFA(tl.GRU(2, 3, 2, dtype=dtype))
    stream = tl.Stream(rule, torch.optim.Adam(rule.parameters(), lr=0.01), 3)
    stream.step(torch.ones(3, 2, dtype=dtype), torch.tensor([0, 1, 1]))
    return stream


FOUND = {
    "values that are no numbers": lambda: statistics.summarize([object()]),
    "one number": lambda: statistics.sign_flip_p(3),
    "rows of numbers": lambda: statistics.summarize(torch.ones(3, 2)),
    "a list instead of values by seed": lambda: statistics.paired_difference([1.0], {0: 1.0}),
    "a rule that is none, to alignment": lambda: alignment.alignment(3, None, None),
    "a part that is none": lambda: alignment.watch(tl.DFA(tl.RNN(2, 3, 2)), "part"),
    "a rule that is none, to its contract": lambda: tl.testing.check_rule(3),
    "a split that is none": lambda: tl.data.floors("copying", 3),
    "a device without chance": lambda: seeding.generator(0, device="meta"),
    "a device that is none": lambda: seeding.generator(0, device="nowhere"),
    "which, a list": lambda: load_weights(".", ["best"]),
    "an object in a configuration": lambda: TrainConfig(tau=Unshowable()),
    "a folder that is no path": lambda: TensorBoard(3),
    "states in themselves": lambda: tl.RNN(2, 3, 2).scan(torch.ones(3, 4, 2), initial=in_itself()),
    "names of columns that are lists": lambda: tl.data.read("table.csv", features=[[1], [2]]),
    "a horizon of several": lambda: tl.data.read("table.csv", horizon=torch.ones(2)),
    "a word that is an array": lambda: tl.data.read("table.csv", missing=np.zeros(2)),
    "a decay that is no number": lambda: tl.DFA(
        tl.RNN(2, 3, 2), trace="stationary", decay=[Unshowable()] * 3
    ),
    "a cell that is none": lambda: saved_and_loaded(cell=Unshowable()),
    "a rule that is none": lambda: saved_and_loaded(rule="dfa"),
    "a loss that is none": lambda: saved_and_loaded(loss=3),
    "no path to save to": lambda: a_stream().save(b"\xff"),
    "a name that the system cannot write": lambda: a_stream().save("\ud800"),
    "an empty name": lambda: a_stream().save(""),
}


def saved_and_loaded(**parts: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tl.save(tl.DFA(tl.RNN(2, 3, 2)), f"{folder}/model")
        tl.load(f"{folder}/model", **parts)


def in_itself() -> list[object]:
    made: list[object] = []
    made.append(made)
    return made


class Unshowable:
    def __repr__(self) -> str:
        raise ZeroDivisionError("no representation")


@pytest.mark.parametrize("name", FOUND)
def test_is_told(name: str) -> None:
    with pytest.raises(tl.TimelocalError, match=r"got |cannot write"):
        FOUND[name]()


def test_statistics_take_what_numpy_reads() -> None:
    values = [0.5, 0.25, 0.125]
    for given in (np.array(values)[::-1], torch.tensor(values), tuple(values)):
        assert statistics.summarize(given).mean == pytest.approx(0.875 / 3)
        assert statistics.sign_flip_p(given) == 0.25
    by_seed = {np.int64(0): np.float32(1), 1: np.float64(2)}
    assert statistics.paired_difference(by_seed, {0: 0.5, 1: 0.5}).summary.mean == 1.0


def test_large_labels_take_no_memory_of_their_own_size() -> None:
    labels = torch.tensor([2**62, 5, 2**62])
    assert trivial.majority_class(labels, labels) == pytest.approx(2 / 3)
    assert trivial.majority_class(torch.tensor([3, 2]), torch.tensor([2, 3])) == 0.5


def test_an_array_beyond_memory_is_told_before_it_is_copied() -> None:
    inputs = np.broadcast_to(np.float32(1), (2**40, 4, 2))
    with pytest.raises(tl.ArgumentError, match="got sizes that take 65,536 GiB, expected less"):
        tl.data.Sequences(inputs, np.zeros(3))


def test_a_name_is_any_text() -> None:
    assert seeding.derive_seed(0, "\ud800") != seeding.derive_seed(0, "\ud801")


def test_a_stream_without_values_is_not_saved(tmp_path: Path) -> None:
    stream = a_stream()
    stream.rule.to("meta")
    with pytest.raises(tl.ArgumentError, match="a meta tensor, which has no values"):
        stream.save(tmp_path / "stream")
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_type_leaves_the_optimizer_as_it_was(tmp_path: Path) -> None:
    a_stream().save(tmp_path / "stream")
    stream = a_stream()
    stream.rule.double()  # what the optimizer keeps stays in float32
    before = [
        value.clone() for state in stream.optimizer.state.values() for value in state.values()
    ]
    with pytest.raises(tl.RunError, match="Nothing was changed"):
        stream.load(tmp_path / "stream")
    after = [value for state in stream.optimizer.state.values() for value in state.values()]
    for own, kept in zip(after, before, strict=True):
        assert own.dtype == kept.dtype
        assert torch.equal(own, kept)


def test_traces_of_a_bias_that_is_gone_are_told_before_the_first_step() -> None:
    rule = tl.NP(tl.RNN(2, 3, 2), credit="to_go")
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), 3)
    rule.network.readout.bias = None
    with pytest.raises(tl.ArgumentError, match="traces of the old one"):
        stream.run(torch.ones(3, 4, 2), torch.zeros(3, 4).long())
    assert stream.steps == 0


def test_inputs_with_a_graph_are_refused_before_anything_is_drawn() -> None:
    network = tl.GRU(2, 3, 2, num_layers=2, dropout=0.5)
    rule = tl.DFA(network, feedback_per="parameter")
    before = rule.get_extra_state()
    with pytest.raises(tl.UnsupportedError, match="feedback_per='parameter'"):
        rule(torch.ones(3, 4, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    assert torch.equal(rule.get_extra_state(), before)


@pytest.mark.parametrize("call", ["peek", "predict"])
def test_a_readout_that_no_longer_fits_is_told_before_a_prediction(call: str) -> None:
    stream = a_stream()
    stream.rule.network.readout = torch.nn.Linear(7, 2)
    with pytest.raises(tl.ArgumentError, match="readout: got one from"):
        getattr(stream, call)(torch.ones(3, 2))
    assert stream.steps == 1


@pytest.mark.parametrize("rule", [tl.FeedbackAlignment, tl.WeightMirror])
def test_a_deep_readout_in_place_of_a_linear_one_has_no_matrix_to_go_back_through(
    rule: type[tl.FeedbackAlignment],
) -> None:
    made = rule(tl.RNN(2, 3, 2))
    made.network.readout = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    for call in (
        made.feedback_matrices,
        lambda: made.estimate(torch.ones(3, 4, 2), torch.zeros(3).long()),
    ):
        with pytest.raises(tl.UnsupportedError, match=r"readout: got a Sequential.*Use DFA"):
            call()
