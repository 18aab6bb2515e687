"""What steers a run from epoch to epoch: schedules, patience, callbacks; and what is measured of it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import SWALR

import timelocal as tl
from timelocal.data import Sequences
from timelocal.training import load_weights

SGD = partial(torch.optim.SGD, momentum=0.9)

SCHEDULERS = {
    "StepLR": partial(schedules.StepLR, step_size=1, gamma=0.1),
    "MultiStepLR": partial(schedules.MultiStepLR, milestones=[1, 3]),
    "OneCycleLR": partial(schedules.OneCycleLR, max_lr=0.1, total_steps=4),
    "ReduceLROnPlateau": partial(
        schedules.ReduceLROnPlateau, patience=0, threshold=0.5, factor=0.5
    ),
    "CyclicLR": partial(schedules.CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=2),
    "LambdaLR": partial(schedules.LambdaLR, lr_lambda=lambda epoch: 0.5**epoch),
    "CosineAnnealingWarmRestarts": partial(schedules.CosineAnnealingWarmRestarts, T_0=2),
    "SequentialLR": lambda optimizer: schedules.SequentialLR(
        optimizer,
        [schedules.ConstantLR(optimizer), schedules.ExponentialLR(optimizer, 0.5)],
        [2],
    ),
    "ChainedScheduler": lambda optimizer: schedules.ChainedScheduler(
        [schedules.ConstantLR(optimizer), schedules.ExponentialLR(optimizer, 0.5)]
    ),
    "SWALR": partial(SWALR, swa_lr=0.1, anneal_epochs=3),
}


class Average:
    """A callback with a state: tensors, numbers and what JSON has no word for."""

    def __init__(self, network: tl.Network) -> None:
        self.network, self.best, self.seen = network, math.inf, np.zeros(2)
        self.weights = {name: p.detach().clone() for name, p in network.named_parameters()}

    def __call__(self, epoch, metrics):
        self.best = min(self.best, metrics["validation_loss"])
        self.seen += (1, epoch)
        for name, parameter in self.network.named_parameters():
            self.weights[name].lerp_(parameter.detach(), 0.5)

    def state_dict(self):
        return {"best": self.best, "weights": self.weights, "seen": self.seen, "pair": (1, None)}

    def load_state_dict(self, state):
        assert state["pair"] == (1, None)
        self.best, self.weights, self.seen = state["best"], state["weights"], state["seen"]


# --- schedules --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_goes_on_in_the_same_bits(train, contents, tmp_path, name):
    options = {"optimizer": SGD, "scheduler": SCHEDULERS[name]}
    whole = train(4, tmp_path / "whole", **options)
    for epochs in (1, 3, 4):
        parts = train(epochs, tmp_path / "parts", **options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert len({record["lr"] for record in whole.history.epochs}) > 1
    assert parts.history.epochs == whole.history.epochs
    assert parts.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]
    torch.testing.assert_close(
        parts.network.state_dict(), whole.network.state_dict(), rtol=0, atol=0
    )


def test_a_schedule_steps_once_an_epoch(train):
    lrs = [epoch["lr"] for epoch in train(3, scheduler=SCHEDULERS["StepLR"]).history.epochs]
    assert lrs == pytest.approx([1e-2, 1e-3, 1e-4], rel=1e-12)


def test_a_plateau_is_one_of_the_validation_loss_or_else_of_the_training_loss(problem):
    class Told(schedules.ReduceLROnPlateau):
        def step(self, metrics):
            told.append(metrics)
            super().step(metrics)

    for validation, name in ((problem.validation, "validation_loss"), (None, "train_loss")):
        told = []
        rule = tl.DFA(tl.RNN(3, 4, 2))
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        history = tl.fit(
            rule, optimizer, problem.train, validation, epochs=2, batch_size=16, scheduler=Told(optimizer)
        )  # fmt: skip
        assert told == [record[name] for record in history.epochs]


def test_the_same_objects_go_on_where_their_schedule_stands(problem, tmp_path):
    """In a notebook: fit again, with more epochs."""

    def objects():
        rule = tl.DFA(tl.RNN(3, 4, 2))
        optimizer = SGD(rule.parameters(), lr=0.1)
        return rule, optimizer, SCHEDULERS["StepLR"](optimizer)

    def fit(rule, optimizer, scheduler, epochs, folder):
        return tl.fit(
            rule, optimizer, problem.train, epochs=epochs, batch_size=16, folder=folder, scheduler=scheduler
        )  # fmt: skip

    whole = fit(*objects(), 4, tmp_path / "whole")
    same = objects()
    fit(*same, 2, tmp_path / "parts")
    assert fit(*same, 4, tmp_path / "parts").epochs == whole.epochs
    same[1].param_groups[0]["lr"] = 0.3
    with pytest.raises(tl.RunError, match="optimizer_groups"):
        fit(*same, 5, tmp_path / "parts")


def test_another_schedule_is_another_run(train, tmp_path):
    train(1, tmp_path, scheduler=SCHEDULERS["StepLR"])
    for other in (
        partial(schedules.StepLR, step_size=2, gamma=0.1),
        SCHEDULERS["MultiStepLR"],
        None,
    ):
        with pytest.raises(tl.RunError, match="scheduler"):
            train(2, tmp_path, scheduler=other)


def by_function(optimizer, base, inside):
    """A schedule whose state does not hold what it calls."""
    schedule = schedules.LambdaLR(optimizer, lambda epoch: base**epoch)
    if not inside:
        return schedule
    return schedules.SequentialLR(optimizer, [schedule, schedules.ConstantLR(optimizer)], [3])


@pytest.mark.parametrize("inside", [False, True])
def test_a_schedule_that_calls_another_function_is_another_run(train, tmp_path, inside):
    train(1, tmp_path, scheduler=partial(by_function, base=0.5, inside=inside))
    with pytest.raises(tl.RunError, match="scheduler"):
        train(2, tmp_path, scheduler=partial(by_function, base=0.1, inside=inside))
    train(2, tmp_path, scheduler=partial(by_function, base=0.5, inside=inside))


def test_a_rate_that_is_changed_by_hand_goes_on(problem, tmp_path):
    def fit(folder, epochs):
        rule = tl.DFA(tl.RNN(3, 4, 2))
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.1)

        def watch():
            group = optimizer.param_groups[0]
            group["lr"] *= 0.1
            group["betas"] = (group["betas"][0] * 0.9, 0.999)
            return {"rate": group["lr"]}

        history = tl.fit(
            rule, optimizer, problem.train, epochs=epochs, batch_size=16, folder=folder, watch=watch
        )
        return history, optimizer

    whole, one = fit(tmp_path / "whole", 4)
    fit(tmp_path / "parts", 2)
    parts, other = fit(tmp_path / "parts", 4)
    assert parts.epochs == whole.epochs
    assert [epoch["rate"] for epoch in whole.epochs] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])
    assert one.param_groups[0]["betas"] == other.param_groups[0]["betas"]
    assert isinstance(other.param_groups[0]["betas"], tuple)


def test_after_a_divergence_everything_is_as_after_the_last_good_epoch(problem):
    rule = tl.DFA(tl.RNN(3, 4, 2))
    optimizer = SGD(rule.parameters(), lr=0.1)
    scheduler = SCHEDULERS["StepLR"](optimizer)
    average = Average(rule.network)
    states = []

    def break_it(epoch, metrics):
        states.append((optimizer.param_groups[0]["lr"], scheduler.state_dict(), average.best))

    def poisoned(optimizer, args, kwargs):
        if len(states) == 2:
            average.best = -1.0
            optimizer.param_groups[0]["lr"] = math.nan

    optimizer.register_step_pre_hook(poisoned)
    history = tl.fit(
        rule,
        optimizer,
        problem.train,
        problem.validation,
        epochs=4,
        batch_size=16,
        scheduler=scheduler,
        callbacks=[average, break_it],
    )
    assert (history.status, len(history.epochs)) == ("diverged", 2)
    assert (
        optimizer.param_groups[0]["lr"],
        scheduler.state_dict(),
        average.best,
    ) == states[-1]


# --- patience and the best epoch --------------------------------------------------------------


def worse_and_worse(problem, folder=None, epochs=20, **options):
    """A run whose validation loss (of the opposite answers) rises soon."""
    validation = Sequences(problem.validation.inputs, 1 - problem.validation.targets)
    rule = tl.BPTT(tl.RNN(3, 8, 2, seed=3))
    optimizer = torch.optim.Adam(rule.parameters(), lr=0.02)
    history = tl.fit(
        rule, optimizer, problem.train, validation, epochs=epochs, batch_size=16, folder=folder, **options
    )  # fmt: skip
    return history, rule


def test_patience_stops_and_leaves_the_best_epoch(problem):
    history, rule = worse_and_worse(problem, patience=3)
    losses = [record["validation_loss"] for record in history.epochs]
    assert len(losses) == losses.index(min(losses)) + 1 + 3 < 20
    assert (history.status, history.message) == (
        "finished",
        "no lower validation loss for 3 epochs",
    )
    assert history.restored == history.best["epoch"]
    torch.testing.assert_close(rule.network.state_dict(), history.best_weights, rtol=0, atol=0)
    whole, _ = worse_and_worse(problem, epochs=len(losses))
    assert whole.epochs == history.epochs
    assert whole.restored is None


@pytest.mark.parametrize(
    ("options", "restored"),
    [({}, False), ({"restore_best": True}, True), ({"patience": 2, "restore_best": False}, False)],
)
def test_the_best_epoch_is_left_where_that_is_asked_for(problem, options, restored):
    history, rule = worse_and_worse(problem, epochs=6, **options)
    same = all(
        torch.equal(tensor, history.best_weights[name])
        for name, tensor in rule.network.state_dict().items()
    )
    assert same == restored == (history.restored is not None)


def test_patience_goes_on_in_the_same_bits_and_what_has_stopped_stays_so(
    problem, contents, tmp_path
):
    whole, rule = worse_and_worse(problem, tmp_path / "whole", patience=3)
    for epochs in (2, 4, 20, 20):
        parts, again = worse_and_worse(problem, tmp_path / "parts", epochs, patience=3)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert (parts.epochs, parts.restored) == (whole.epochs, whole.restored)
    assert parts.message == whole.message
    torch.testing.assert_close(
        again.network.state_dict(), rule.network.state_dict(), rtol=0, atol=0
    )
    longer, _ = worse_and_worse(problem, tmp_path / "parts", 20, patience=5)
    assert longer.epochs == worse_and_worse(problem, patience=5)[0].epochs
    last = load_weights(tmp_path / "parts", "last")
    assert not torch.equal(last["readout.weight"], longer.best_weights["readout.weight"])


def test_a_diverged_run_is_left_at_its_best_epoch_where_that_is_asked_for(problem):
    rule = tl.DFA(tl.RNN(3, 4, 2))
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)

    def explode(epoch, metrics):
        if epoch == 3:
            optimizer.param_groups[0]["lr"] = math.nan

    history = tl.fit(
        rule,
        optimizer,
        problem.train,
        problem.validation,
        epochs=9,
        batch_size=16,
        restore_best=True,
        callbacks=[explode],
    )
    assert (history.status, history.restored) == ("diverged", history.best["epoch"])
    torch.testing.assert_close(rule.network.state_dict(), history.best_weights, rtol=0, atol=0)


# --- callbacks --------------------------------------------------------------------------------


def test_a_callback_sees_every_epoch_and_may_stop(train, tmp_path):
    seen = []

    def stop(epoch, metrics):
        seen.append((epoch, dict(metrics)))
        metrics["train_loss"] = 7.0  # its own copy
        return np.bool_(epoch == 2)

    def others(epoch, metrics):
        return {"epoch": epoch}  # not True

    history = train(5, tmp_path, callbacks=[others, stop]).history
    assert seen == [(record["epoch"], record) for record in history.epochs]
    assert len(seen) == 2
    assert history.status == "finished"
    assert history.message.endswith("stop stopped the run after epoch 2")
    again = train(9, tmp_path, callbacks=[stop]).history
    assert (again.epochs, again.message) == (history.epochs, history.message)
    assert len(seen) == 2


def test_the_state_of_callbacks_goes_on_with_the_run(train, contents, tmp_path):
    def run(folder, epochs):
        network = tl.GRU(3, 8, 2, dropout=0.2, num_layers=2)
        average = Average(network)
        others = [lambda epoch, metrics: None, average]
        train(epochs, folder, network=network, callbacks=others)
        return average.state_dict()

    whole = run(tmp_path / "whole", 4)
    for epochs in (1, 3, 4):
        parts = run(tmp_path / "parts", epochs)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    np.testing.assert_array_equal(whole.pop("seen"), parts.pop("seen"))
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    with pytest.raises(tl.RunError, match="callbacks"):
        train(5, tmp_path / "parts")


def test_a_state_that_cannot_be_saved_is_told_before_the_first_epoch(problem):
    class Odd:
        def __call__(self, epoch, metrics): ...
        def state_dict(self):
            return {"file": object()}

        def load_state_dict(self, state): ...

    rule = tl.DFA(tl.RNN(3, 4, 2))
    before = rule.network.readout.weight.clone()
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    with pytest.raises(tl.UnsupportedError, match=r"Odd.0.file holds a object"):
        tl.fit(rule, optimizer, problem.train, epochs=1, batch_size=4, callbacks=[Odd()])
    assert torch.equal(before, rule.network.readout.weight)


def test_tensorboard_gets_a_curve_for_each_number(train, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = tl.training.TensorBoard(tmp_path / "events")
    history = train(3, callbacks=[callback]).history
    callback.close()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert set(events.Tags()["scalars"]) == history.last.keys() - {"epoch"}
    found = events.Scalars("validation_loss")
    assert [point.step for point in found] == [1, 2, 3]
    losses = [record["validation_loss"] for record in history.epochs]
    assert [point.value for point in found] == pytest.approx(losses)


def test_without_tensorboard_its_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("timelocal.optional.find_spec", lambda name: None)
    with pytest.raises(tl.MissingExtraError, match=r"timelocal\[tensorboard\]"):
        tl.training.TensorBoard(tmp_path)


# --- metrics ----------------------------------------------------------------------------------


def test_metrics_are_those_of_the_whole_part(train, problem):
    def recall(outputs, targets):
        return (outputs.argmax(-1) == targets)[targets == 1].double().mean()

    trained = train(2, metrics={"recall": recall, "entries": lambda o, t: np.int64(len(o))})
    for name in ("validation", "test"):
        part = getattr(problem, name)
        outputs = trained.rule.outputs(part.inputs)
        assert trained.history.last[f"{name}_recall"] == float(recall(outputs, part.targets))
        assert trained.history.last[f"{name}_entries"] == 20
    assert "train_recall" not in trained.history.last


@pytest.mark.parametrize("batch_first", [True, False])
def test_metrics_at_every_step_are_of_valid_entries(problem, batch_first):
    gru = torch.nn.GRU(3, 4, batch_first=batch_first)
    rule = tl.BPTT(tl.from_torch(gru, nn.Linear(4, 2)), at="every")
    inputs, count = torch.randn(300, 5, 3), 300  # more than one batch of the evaluation
    lengths = torch.arange(count) % 5 + 1
    targets = (inputs[..., 0] > 0).long()
    targets[torch.arange(5) >= lengths[:, None]] = -100
    found = {}

    def wrong(outputs, targets):
        found.update(outputs=outputs, targets=targets)
        return (outputs.argmax(-1) != targets).double().mean()

    history = tl.fit(
        rule,
        torch.optim.SGD(rule.parameters(), lr=0.1),
        (inputs, targets, lengths),
        (inputs, targets, lengths),
        epochs=1,
        batch_size=50,
        metrics={"wrong": wrong},
    )
    assert found["outputs"].shape == (int(lengths.sum()), 2)
    assert found["targets"].min() == 0
    assert history.last["validation_wrong"] == pytest.approx(
        1 - history.last["validation_accuracy"]
    )


def test_a_metric_that_is_no_number_is_told(train):
    with pytest.raises(tl.ArgumentError, match="metric 'all'"):
        train(1, metrics={"all": lambda outputs, targets: outputs})
    with pytest.raises(tl.ArgumentError, match="watch: 'name'"):
        train(1, watch=lambda: {"name": "text"})


# --- the last batch ---------------------------------------------------------------------------


def test_drop_last_leaves_out_the_smaller_batch(problem):
    seen = []

    class Seen(tl.BPTT):
        def recurrent_gradients(self, forward):
            seen.append(forward.batch.inputs.shape[1])
            return super().recurrent_gradients(forward)

    def fit(**options):
        seen.clear()
        rule = Seen(tl.RNN(3, 4, 2))
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        return tl.fit(rule, optimizer, problem.train, epochs=1, batch_size=16, **options)

    assert (fit(drop_last=True).steps_per_epoch, seen) == (2, [16, 16])
    assert (fit().steps_per_epoch, seen) == (3, [16, 16, 8])


def batch_normed(at="last"):
    torch.manual_seed(0)
    readout = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    return tl.DFA(tl.from_torch(nn.GRU(3, 8, batch_first=True), readout), at=at)


def test_a_batch_too_small_for_the_readout_is_told_before_the_first_epoch(problem):
    train = problem.train[torch.arange(33)]

    def fit(rule, part=train, **options):
        optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
        return tl.fit(rule, optimizer, part, epochs=1, **{"batch_size": 16} | options)

    rule = batch_normed()
    before = {name: tensor.clone() for name, tensor in rule.state_dict().items()}
    for options in ({}, {"batch_size": 1}, {"batch_size": 1, "drop_last": True}):
        with pytest.raises(tl.ArgumentError, match=r"train: got a last batch of one.*drop_last"):
            fit(rule, **options)
    torch.testing.assert_close(rule.state_dict(), before, rtol=0, atol=0)
    assert fit(rule, drop_last=True).steps_per_epoch == 2
    assert fit(batch_normed(), batch_size=11).steps_per_epoch == 3
    rule = batch_normed()
    rule.network.readout.eval()  # its statistics are frozen: one row is enough
    assert fit(rule).status == "finished"
    steps = Sequences(train.inputs, (train.inputs[..., 0] > 0).long())
    assert fit(batch_normed(at="every"), steps).status == "finished"  # five rows


def test_one_sequence_over_in_an_evaluation_is_told_where_it_needs_more(problem):
    rule = batch_normed()
    rule.network.readout[1] = nn.BatchNorm1d(8, track_running_stats=False)
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    many = problem.test[torch.arange(257) % 20]
    with pytest.raises(tl.ArgumentError, match=r"validation: got a last batch of one"):
        tl.fit(rule, optimizer, problem.train, many, epochs=1, batch_size=20)


# --- at the door ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheduler": "cosine"}, ["scheduler", "torch.optim.lr_scheduler"]),
        ({"patience": 0}, ["patience", "1 or more"]),
        ({"patience": True}, ["patience"]),
        ({"patience": 2}, ["patience", "validation part"]),
        ({"restore_best": True}, ["restore_best", "validation part"]),
        ({"restore_best": "yes"}, ["restore_best", "True, False or None"]),
        ({"callbacks": print}, ["callbacks", "a list"]),
        ({"callbacks": [print, 3]}, ["callbacks[1]", "int"]),
        ({"metrics": [print]}, ["metrics", "by name"]),
        ({"metrics": {"loss": print}}, ["metrics", "another name", "no validation and no test"]),
        ({"drop_last": 2}, ["drop_last"]),
        ({"drop_last": True, "batch_size": 64}, ["40 sequences", "batch_size=64"]),
        ({"device": "nowhere"}, ["device", "'nowhere'", "torch can use"]),
        ({"device": "meta"}, ["device", "'meta'"]),
        ({"patience": 0, "clip": -1}, ["2 problems"]),
    ],
)
def test_mistakes_are_told(problem, options, words):
    rule = tl.DFA(tl.RNN(3, 4, 2))
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    with pytest.raises(tl.ArgumentError) as raised:
        tl.fit(rule, optimizer, problem.train, **{"epochs": 1, "batch_size": 4} | options)
    assert all(word in str(raised.value) for word in words), raised.value


def test_a_schedule_of_something_else_is_told(problem):
    rule = tl.DFA(tl.RNN(3, 4, 2))
    optimizer, other = SGD(rule.parameters(), lr=0.1), SGD(rule.parameters(), lr=0.1)
    for scheduler, word in (
        (schedules.StepLR(other, 1), "another optimizer"),
        (schedules.OneCycleLR(optimizer, 0.1, total_steps=3), "total_steps=epochs"),
    ):
        with pytest.raises(tl.ArgumentError, match=word):
            tl.fit(rule, optimizer, problem.train, epochs=4, batch_size=4, scheduler=scheduler)


# --- devices ----------------------------------------------------------------------------------


def test_a_device_is_where_everything_goes(problem):
    """On the machine that has only one: nothing changes, not even the bits."""

    def fit(**options):
        rule = tl.DFA(tl.RNN(3, 4, 2))
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.1)
        return tl.fit(rule, optimizer, problem.train, epochs=2, batch_size=4, **options).epochs

    assert fit(device="cpu") == fit(device=torch.device("cpu")) == fit()


@pytest.mark.parametrize("place", ["cpu", "accelerator"])
def test_training_streaming_and_resuming_on_a_device(problem, tmp_path, place):
    if place == "accelerator" and not torch.accelerator.is_available():
        pytest.skip("needs an accelerator")
    here = torch.device("cpu")
    device = here if place == "cpu" else torch.accelerator.current_accelerator()

    def fit(epochs, folder):
        torch.manual_seed(0)
        readout = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 2))
        rule = tl.DFA(tl.from_torch(nn.GRU(3, 8, batch_first=True), readout))
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.01)
        history = tl.fit(
            rule,
            optimizer,
            problem.train,
            problem.validation,
            epochs=epochs,
            batch_size=16,
            folder=folder,
            scheduler=schedules.StepLR(optimizer, 1, 0.5),
            device=device,
        )
        assert {tensor.device.type for tensor in rule.parameters()} == {device.type}
        return history, rule

    whole, rule = fit(4, tmp_path / "whole")
    fit(2, tmp_path / "parts")
    parts, again = fit(4, tmp_path / "parts")
    assert parts.epochs == whole.epochs
    torch.testing.assert_close(again.state_dict(), rule.state_dict(), rtol=0, atol=0)

    rule = tl.TBPTT(tl.RNN(1, 8, 1), 1, loss="mse").to(device)
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1))
    inputs = torch.linspace(0, 30, 300, device=device).sin().view(1, -1, 1)
    losses = stream.run(inputs, 1 - inputs).loss
    assert losses[-30:].mean() < losses[:30].mean()
