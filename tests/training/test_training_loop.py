"""What `fit` does, apart from saving."""

from __future__ import annotations

import copy
import itertools
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import timelocal as tl
from timelocal.data import Sequences
from timelocal.training import loop


def test_it_learns_and_tells_how(problem):
    network = tl.RNN(3, 32, 2)
    history = tl.fit(
        tl.DFA(network),
        torch.optim.Adam(network.parameters(), lr=0.01),
        problem.train,
        problem.validation,
        test=problem.test,
        epochs=30,
        batch_size=16,
    )
    assert history.status == "finished"
    assert [record["epoch"] for record in history.epochs] == list(range(1, 31))
    scores = {f"{p}_{s}" for p in ("train", "validation", "test") for s in ("loss", "accuracy")}
    assert all(record.keys() == {"epoch", *scores} for record in history.epochs)
    assert history.last["train_loss"] < 0.6 * history.epochs[0]["train_loss"]
    assert history.last["test_accuracy"] >= 0.8
    assert len(history.seconds) == 30
    assert history.steps_per_epoch == 3


class Scaled(torch.nn.Module):
    """A readout whose parameters get one gradient between them, and one that repeats itself."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = torch.nn.Parameter(torch.randn(2, 4, generator=generator))
        self.d = torch.nn.Parameter(torch.randn(2, 4, generator=generator))
        self.p = torch.nn.Parameter(torch.zeros(3))

    def forward(self, features):
        return features @ (self.w + self.d).t() * (1 + self.p.sum())


def test_gradients_are_each_parameter_s_own(problem):
    def made():
        recurrent = tl.RNN(3, 4, 2, seed=1).recurrent
        network = tl.Network(recurrent, Scaled())
        return network, tl.BPTT(network), torch.optim.SGD(network.parameters(), lr=1.0)

    network, rule, optimizer = made()
    tl.fit(
        rule, optimizer, problem.train, epochs=1, batch_size=len(problem.train.inputs), clip=1e-2
    )
    by_hand, rule, optimizer = made()
    rule(problem.train.inputs, problem.train.targets).backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1e-2)
    optimizer.step()
    for found, wanted in zip(network.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, wanted)


def test_what_is_frozen_stays_whatever_gradient_it_has_left(problem):
    network = tl.RNN(3, 4, 2)
    rule, optimizer = tl.DFA(network), torch.optim.SGD(network.parameters(), lr=0.1)
    rule(problem.train.inputs, problem.train.targets).backward()
    frozen = network.recurrent.weight_hh_l0.requires_grad_(False)
    before = frozen.clone()
    tl.fit(rule, optimizer, problem.train, epochs=2, batch_size=4)
    assert torch.equal(frozen, before)


def test_the_same_call_gives_the_same_bits(train):
    first, second = train(3), train(3)
    assert first.history.epochs == second.history.epochs
    torch.testing.assert_close(
        first.network.state_dict(), second.network.state_dict(), rtol=0, atol=0
    )


def test_the_seed_decides_the_order(train):
    assert train(2, seed=0).history.epochs != train(2, seed=1).history.epochs


def test_one_epoch_is_one_step_per_minibatch(problem):
    """The loop against the same steps written out by hand."""
    by_hand, fitted = tl.RNN(3, 4, 2), tl.RNN(3, 4, 2)
    rule = tl.BPTT(by_hand)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.5)
    losses = []
    order = tl.seeding.generator(7, "batches", 1)
    for batch in tl.data.minibatches(problem.train, 16, order):
        optimizer.zero_grad()
        loss = rule(batch.inputs, batch.targets)
        loss.backward()
        losses.append((loss.item(), len(batch)))
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 0.1)
        optimizer.step()
    history = tl.fit(
        tl.BPTT(fitted),
        torch.optim.SGD(fitted.parameters(), lr=0.5),
        problem.train,
        epochs=1,
        batch_size=16,
        seed=7,
        clip=0.1,
    )
    torch.testing.assert_close(by_hand.state_dict(), fitted.state_dict(), rtol=0, atol=0)
    mean = sum(loss * n for loss, n in losses) / sum(n for _, n in losses)
    assert math.isclose(history.last["train_loss"], mean, rel_tol=1e-12)


def test_evaluation_is_a_mean_over_the_whole_part(train, problem):
    trained = train(2)
    whole = trained.rule.evaluate(problem.test.inputs, problem.test.targets)
    assert math.isclose(trained.history.last["test_loss"], float(whole.loss), rel_tol=1e-6)
    assert math.isclose(trained.history.last["test_accuracy"], float(whole.accuracy))


def test_best_is_the_first_of_the_best_validation_epochs(train):
    history = train(10).history
    accuracies = [record["validation_accuracy"] for record in history.epochs]
    assert history.best["epoch"] == 1 + accuracies.index(max(accuracies))
    again = train(history.best["epoch"])
    torch.testing.assert_close(history.best_weights, again.network.state_dict(), rtol=0, atol=0)


def test_regression_is_selected_by_loss(problem):
    network = tl.RNN(3, 8, 3)
    targets = problem.train.inputs.cumsum(1)
    history = tl.fit(
        tl.BPTT(network, loss="mse", at="every"),
        torch.optim.Adam(network.parameters(), lr=0.05),
        (problem.train.inputs, targets),
        (problem.train.inputs, targets),
        epochs=15,
        batch_size=8,
    )
    losses = [record["validation_loss"] for record in history.epochs]
    assert history.last.keys() == {"epoch", "train_loss", "validation_loss"}
    assert history.best["epoch"] == 1 + losses.index(min(losses))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("at", "whole"), [("last", True), ("mean", True), ("ramp", True), ("every", False)]
)
def test_a_network_with_time_first_learns_the_same(problem, at, whole):
    """fit's data are batch first, whatever the network takes."""
    targets = problem.train.targets
    if not whole:
        targets = (problem.train.inputs[..., 0] > 0).long()
    lengths = torch.arange(40) % 5 + 1
    found = []
    for batch_first in (True, False):
        torch.manual_seed(0)
        gru = torch.nn.GRU(3, 8, batch_first=batch_first)
        network = tl.from_torch(gru, torch.nn.Linear(8, 2))
        history = tl.fit(
            tl.DFA(network, at=at),
            torch.optim.Adam(network.parameters(), lr=0.01),
            (problem.train.inputs, targets, lengths),
            epochs=3,
            batch_size=16,
        )
        found.append(history.epochs)
    assert found[0] == found[1]


def test_arrays_and_lists_are_welcome(problem):
    network = tl.RNN(3, 4, 2)
    history = tl.fit(
        tl.DFA(network),
        torch.optim.SGD(network.parameters(), lr=0.1),
        (problem.train.inputs.double().numpy(), problem.train.targets.numpy().astype(np.int32)),
        (problem.test.inputs.tolist(), problem.test.targets.tolist(), [5] * 20),
        epochs=1,
        batch_size=20,
    )
    assert history.status == "finished"


@pytest.mark.parametrize("rule", [tl.DFA, tl.BPTT])
def test_a_loss_that_explodes_stops_the_run(problem, rule):
    network = tl.RNN(3, 4, 2)
    inputs = problem.train.inputs
    history = tl.fit(
        rule(network, loss="mse"),
        torch.optim.SGD(network.parameters(), lr=1e6),
        (inputs, inputs[:, -1, :2]),
        epochs=50,
        batch_size=10,
    )
    assert history.status == "diverged"
    assert "in epoch" in history.message
    assert all(bool(p.isfinite().all()) for p in network.parameters())
    assert all(math.isfinite(value) for record in history.epochs for value in record.values())


class _Poison(torch.optim.SGD):
    """Breaks a weight that saturates a tanh: the loss stays finite."""

    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            next(iter(self.param_groups[0]["params"])).fill_(math.inf)


def test_weights_that_are_not_finite_stop_the_run(problem):
    network = tl.RNN(3, 4, 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = _Poison(network.parameters(), lr=0.1)
    history = tl.fit(tl.DFA(network), optimizer, problem.train, epochs=3, batch_size=40)
    assert (history.status, history.message) == (
        "diverged",
        "a weight is not finite after epoch 1",
    )
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_the_bar_is_drawn_on_the_error_stream_and_only_when_asked(train, capsys):
    train(2)
    assert capsys.readouterr() == ("", "")
    train(2, progress=True)
    assert capsys.readouterr().out == ""


def test_a_bar_shows_loss_accuracy_and_speed():
    from timelocal.training import progress

    with progress.progress_bar(epochs=2, done=0, steps_per_epoch=3) as show:
        show(1, 0.5, 0.25)
        show(1, 0.5, None)


def _call(problem, **changes):
    network = tl.RNN(3, 4, 2)
    arguments = {
        "rule": tl.DFA(network),
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.1),
        "train": problem.train,
        "epochs": 1,
        "batch_size": 4,
        **changes,
    }
    return tl.fit(**arguments)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, ["epochs", "0", "at least 1"]),
        ({"epochs": True}, ["epochs"]),
        ({"batch_size": 2.5, "clip": -1}, ["2 problems", "batch_size", "2.5", "clip"]),
        ({"clip": math.nan}, ["clip"]),
        ({"rule": torch.nn.Linear(1, 1)}, ["rule", "Linear", "tl.DFA(network)"]),
        ({"optimizer": "adam"}, ["optimizer", "torch.optim"]),
        (
            {"optimizer": torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1.0)},
            ["none of the parameters", "rule.parameters()"],
        ),
        ({"train": torch.zeros(3, 2, 3)}, ["train", "Tensor", "(inputs, targets)"]),
        ({"train": (torch.zeros(3, 2, 3), torch.zeros(4))}, ["train: targets", "(4,)"]),
        ({"train": (torch.zeros(3, 3), torch.zeros(3))}, ["train: inputs", "unsqueeze"]),
        ({"train": (torch.zeros(0, 2, 3), torch.zeros(0).long())}, ["train", "at least one"]),
        ({"test": ([[[1.0]]], ["cat"])}, ["test: targets", "Encode labels as integers"]),
        ({"train": (torch.zeros(3, 2, 7), torch.zeros(3).long())}, ["7", "3"]),
        ({"train": (torch.zeros(3, 2, 3), torch.tensor([0, 1, 9]))}, ["9"]),
    ],
)
def test_mistakes_are_told(problem, changes, words):
    with pytest.raises(tl.ArgumentError) as raised:
        _call(problem, **changes)
    assert all(word in str(raised.value) for word in words), raised.value


def test_data_that_cannot_be_learned_or_measured_are_told_before_anything_is_learned(problem):
    network = tl.RNN(3, 4, 2)
    before = copy.deepcopy(network.state_dict())
    bad = problem.train.inputs.clone()
    bad[-1, -1, -1] = math.nan
    with pytest.raises(tl.ArgumentError) as raised:
        tl.fit(
            tl.DFA(network),
            torch.optim.SGD(network.parameters(), lr=0.1),
            Sequences(bad, problem.train.targets),
            Sequences(problem.validation.inputs, problem.validation.targets + 1),
            test=problem.test,
            epochs=1,
            batch_size=4,
        )
    assert "train: inputs: got NaN or infinite values" in str(raised.value)
    assert "validation: targets: got labels between 1 and 2" in str(raised.value)
    assert "test" not in str(raised.value)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_what_cannot_stream_is_told_before_its_data(problem):
    network = tl.RNN(3, 4, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    part = Sequences(problem.train.inputs, torch.zeros(40, 5, 2))
    with pytest.raises(tl.UnsupportedError, match="learns online"):
        tl.fit(tl.BPTT(network, loss="mse"), optimizer, part, epochs=1, batch_size=4, online=True)


def test_an_optimizer_that_wants_a_closure_is_refused(problem):
    network = tl.RNN(3, 4, 2)
    optimizer = torch.optim.LBFGS(network.parameters())
    with pytest.raises(tl.ArgumentError, match="LBFGS"):
        tl.fit(tl.DFA(network), optimizer, problem.train, epochs=1, batch_size=4)


def test_sequences_are_taken_as_they_are(problem):
    part = Sequences(problem.train.inputs, problem.train.targets, torch.full((40,), 5))
    full = partial(_call, problem)
    assert full(train=part).epochs == full().epochs


@pytest.mark.parametrize("online", [False, True])
def test_seconds_are_all_of_an_epochs_and_step_seconds_those_of_one_update(monkeypatch, online):
    clock = itertools.count()  # a second from one look at it to the next
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    inputs = torch.randn(10, 4, 3, generator=torch.Generator().manual_seed(0))
    network = tl.RNN(3, 4, 2)
    history = tl.fit(
        tl.NP(network, loss="mse", at="every"),
        torch.optim.SGD(network.parameters(), lr=0.01),
        (inputs, inputs[..., :2]),
        epochs=2,
        batch_size=4,
        online=online,
    )
    assert history.seconds == [3.0, 3.0]  # three batches
    assert history.step_seconds == [0.25 if online else 1.0] * 2  # of four steps each


@pytest.mark.parametrize(
    "numbers",
    [
        {
            "epochs": np.int64(1),
            "batch_size": np.uint8(4),
            "seed": np.int32(0),
            "clip": np.float32(1),
        },
        {"epochs": 1, "batch_size": 4, "seed": 0, "clip": 1},
        {"online": np.False_, "progress": np.False_, "clip": np.longdouble(1)},
    ],
)
def test_numbers_are_numpys_too(problem, numbers):
    wanted = _call(problem, clip=1.0)
    assert _call(problem, **numbers).epochs == wanted.epochs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 10**30}, ["epochs", "from 1 to 2,147,483,647"]),
        ({"batch_size": 2**31}, ["batch_size", "from 1 to"]),
        ({"seed": -1, "clip": "1", "online": 2}, ["3 problems", "seed", "clip", "online"]),
        ({"progress": "yes", "watch": 3}, ["2 problems", "progress", "watch"]),
        ({"train": None}, ["train", "NoneType"]),
        ({"folder": 3}, ["folder: got 3"]),
        ({"train": (np.zeros((3, 2, 3)), np.array([-1.0, 1.0, 1.0]))}, ["np.unique"]),
        ({"train": (np.zeros((3, 2, 3)), np.array([-1, 1, 1]))}, ["between -1 and 1", "np.unique"]),
    ],
)
def test_more_mistakes_are_told(problem, changes, words):
    with pytest.raises(tl.ArgumentError) as raised:
        _call(problem, **changes)
    assert all(word in str(raised.value) for word in words), raised.value


def test_unequal_series_train_as_their_padded_form(problem):
    lengths = torch.arange(40) % 5 + 1
    inputs, targets = problem.train.inputs, problem.train.targets
    flipped = [x[:n].double().flip(0).numpy() for x, n in zip(inputs, lengths, strict=True)]
    series = [x[::-1] for x in flipped]
    labels = targets.tolist()
    padded = _call(problem, train=(inputs, targets, lengths))
    assert _call(problem, train=(series, labels)).epochs == padded.epochs
    items = Listed(list(zip(series, labels, strict=True)))
    assert _call(problem, train=items).epochs == padded.epochs


class Listed(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, n):
        return self.items[n]


def test_a_loader_is_read_once_and_trained_on_in_batches_of_fits_own(problem):
    data = torch.utils.data.TensorDataset(problem.train.inputs, problem.train.targets)
    loader = torch.utils.data.DataLoader(data, batch_size=7, shuffle=True)
    assert _call(problem, train=loader).epochs == _call(problem).epochs


def test_a_watch_that_returns_nothing_adds_nothing(problem):
    assert _call(problem, watch=lambda: None).epochs == _call(problem).epochs
