"""Outputs before the target is known: `predict`, then `learn`, or no target at all."""

from __future__ import annotations

import copy
from functools import partial
from itertools import product

import pytest
import torch
from streams import (
    ADAM,
    BATCH,
    HIDDEN,
    INPUTS,
    OUTPUTS,
    RULES,
    a_stream,
    assert_same,
    moved,
    take_path,
)
from streams import steps as data
from torch.testing import assert_close

import timelocal as tl
from covering import covering
from timelocal.errors import ArgumentError


@pytest.mark.parametrize(("rule", "cell"), covering(product(RULES, (tl.RNN, tl.GRU, tl.LSTM))))
def test_predict_and_learn_are_a_step(rule, cell, path):
    whole, parts = (a_stream(rule, cell) for _ in range(2))
    for x, y in zip(*data(5), strict=True):
        wanted, predicted = whole.step(x, y), parts.predict(x)
        learned = parts.learn(y)
        assert torch.equal(learned.loss, wanted.loss)
        assert torch.equal(learned.outputs, wanted.outputs)
        assert_close(predicted, learned.outputs, rtol=1e-12, atol=1e-12)
    assert_same(moved(parts), moved(whole))


@pytest.mark.parametrize("rule", RULES)
def test_peeking_gives_what_predict_will_and_moves_nothing(rule, path):
    peeked, plain = (a_stream(rule) for _ in range(2))
    for x, y in zip(*data(4), strict=True):
        peeked.peek(x + 1)
        seen = peeked.peek(x)
        assert torch.equal(seen, plain.predict(x))
        peeked.step(x, y)
        plain.learn(y)
    assert_same(moved(peeked), moved(plain))


@pytest.mark.parametrize("missing", ["hold", "skip"])
def test_peeking_at_missing_inputs_moves_nothing(missing, path):
    rule = tl.DFA(tl.RNN(INPUTS, HIDDEN, OUTPUTS).double())
    stream = tl.Stream(rule, torch.optim.Adam(rule.parameters()), BATCH, missing=missing)
    x = data(1)[0][0].clone()
    x[0, 0] = torch.nan
    before = {name: own.clone() for name, own in stream.state_dict().items()}
    seen = stream.peek(x)
    assert_same(stream.state_dict(), before)
    assert torch.equal(seen.nan_to_num(), stream.predict(x).nan_to_num())


def test_every_online_rule_is_among_these():
    online = {rule for rule in tl.RULES.values() if rule.spec.online}
    assert {made.func if isinstance(made, partial) else made for made in RULES.values()} == online


@pytest.mark.parametrize("rule", RULES)
def test_a_step_without_a_target_is_one_in_which_nothing_counts(rule, path):
    masked, unlabelled = (a_stream(rule) for _ in range(2))
    nothing = torch.zeros(BATCH, dtype=torch.bool)
    for t, (x, y) in enumerate(zip(*data(6), strict=True)):
        masked.step(x, y, mask=nothing if t % 2 else None)
        unlabelled.predict(x)
        if t % 2 == 0:
            unlabelled.learn(y)
    assert unlabelled.steps == 5  # the last one is settled by what looks at it
    assert_same(moved(unlabelled), moved(masked))
    assert unlabelled.steps == 6


SETTLES = {
    "predict": lambda stream, x, y: stream.predict(x),
    "step": lambda stream, x, y: stream.step(x, y),
    "run": lambda stream, x, y: stream.run(x[:, None], y[:, None]),
    "state_dict": lambda stream, x, y: stream.state_dict(),
    "reset": lambda stream, x, y: stream.reset(torch.tensor([0])),
}


@pytest.mark.parametrize("what", SETTLES)
def test_whatever_follows_finds_the_predicted_step_made(what, path):
    (x, z), (y, w) = data(2)
    predicted, masked = (a_stream("np-many") for _ in range(2))
    predicted.predict(x)
    masked.step(x, y, mask=torch.zeros(BATCH))
    for stream in (predicted, masked):
        SETTLES[what](stream, z, w)
    if what != "predict":
        with pytest.raises(
            ArgumentError, match="expected a predicted step that was not yet learned from"
        ):
            predicted.learn(y)
    assert_same(moved(predicted), moved(masked))


def test_a_prediction_moves_nothing_yet(path):
    stream = a_stream("np-many")
    x, y = data(3)
    for t in range(2):
        stream.step(x[t], y[t])
    before = moved(stream)
    memory = {name: one.clone() for name, one in stream.memory.items()}
    stream.predict(x[2])
    assert_same(stream.memory, memory)
    weights = {f"rule.{name}": one for name, one in stream.rule.state_dict().items()}
    assert_same(weights, {name: before[name] for name in weights})


def test_the_inputs_may_be_overwritten_after_a_prediction(path):
    whole, parts = (a_stream() for _ in range(2))
    (x,), (y,) = data(1)
    whole.step(x, y)
    entering = x.clone()
    parts.predict(entering)
    entering.fill_(9.0)
    parts.learn(y)
    assert_same(moved(parts), moved(whole))


class _Counting(torch.nn.Linear):
    """A readout with a running sum of its own."""

    def __init__(self):
        super().__init__(HIDDEN, OUTPUTS)
        self.register_buffer("read", torch.zeros(()))

    def forward(self, features):
        if self.training:
            self.read += 1
        return super().forward(features)


@pytest.mark.parametrize("training", [True, False])
def test_chance_between_layers_and_in_a_readout_is_drawn_once(training):
    def made():
        torch.manual_seed(3)
        readout = torch.nn.Sequential(torch.nn.Dropout(0.5), _Counting()).double()
        network = tl.GRU(INPUTS, HIDDEN, OUTPUTS, num_layers=2, dropout=0.5, seed=1).double()
        network.readout = readout
        rule = tl.DFA(network, loss="mse").train(training)
        return tl.Stream(rule, torch.optim.Adam(rule.parameters(), lr=0.1), BATCH)

    whole, parts = made(), made()
    inputs, targets = data(5)
    torch.manual_seed(5)
    wanted = [whole.step(x, y) for x, y in zip(inputs, targets, strict=True)]
    torch.manual_seed(5)
    for x, y, expected in zip(inputs, targets, wanted, strict=True):
        predicted = parts.predict(x)
        found = parts.learn(y)
        assert_close(predicted, found.outputs)
        assert torch.equal(found.outputs, expected.outputs)
    assert_same(moved(parts), moved(whole))
    assert parts.rule.network.readout[1].read == 5 * training


@pytest.mark.parametrize("loss", ["cross_entropy", lambda y, t: (y - t["y"]).square().sum(-1)])
def test_a_step_without_a_target_asks_for_no_loss(loss, path):
    stream = a_stream(loss=loss)
    before = {name: one.clone() for name, one in stream.rule.state_dict().items()}
    for x in data(3)[0]:
        stream.predict(x)
    assert stream.state_dict()["states"].any()
    assert_same(dict(stream.rule.state_dict()), before)


def test_time_first_networks_predict_as_others():
    stream, other = a_stream(), a_stream()
    other.rule.network.batch_first = False
    for x, y in zip(*data(3), strict=True):
        assert torch.equal(stream.predict(x), other.predict(x))
        assert torch.equal(stream.learn(y).outputs, other.learn(y).outputs)


def test_nothing_to_learn_from_is_told():
    stream = a_stream()
    (x,), (y,) = data(1)
    with pytest.raises(
        ArgumentError, match="expected a predicted step that was not yet learned from"
    ):
        stream.learn(y)
    stream.predict(x)
    stream.learn(y)
    with pytest.raises(
        ArgumentError, match="expected a predicted step that was not yet learned from"
    ):
        stream.learn(y)
    assert stream.steps == 1


@pytest.mark.parametrize(
    ("targets", "mask", "told"),
    [
        (torch.zeros(BATCH, dtype=torch.float64), None, "targets: got shape"),
        (torch.full((BATCH, OUTPUTS), torch.nan, dtype=torch.float64), None, "targets: got NaN"),
        (torch.zeros(BATCH, OUTPUTS, dtype=torch.float64), torch.ones(2), "mask: got shape"),
    ],
)
def test_refused_targets_leave_the_predicted_step_as_it_was(targets, mask, told, path):
    whole, parts = (a_stream() for _ in range(2))
    inputs, wanted = data(3)
    for x, y in zip(inputs, wanted, strict=True):
        whole.step(x, y)
        parts.predict(x)
        with pytest.raises(ArgumentError, match=told):
            parts.learn(targets, mask=mask)
        parts.learn(y)
    assert_same(moved(parts), moved(whole))


@pytest.mark.parametrize(
    ("loss", "wrong", "told"),
    [
        ("cross_entropy", torch.tensor([0, 1, OUTPUTS]), "labels between 0 and 2"),
        ("cross_entropy", torch.tensor([0, -1, 0]), "labels between -1 and 0"),
        (
            "mse",
            torch.full((BATCH, OUTPUTS), torch.inf, dtype=torch.float64),
            "targets: got NaN or",
        ),
        ("bce", torch.full((BATCH, OUTPUTS), 2.0, dtype=torch.float64), "values between 2 and 2"),
    ],
)
@pytest.mark.parametrize("way", ["step", "learn"])
def test_values_are_looked_at_in_every_step(loss, wrong, told, way, path):
    stream = a_stream(loss=loss)
    x, y = data(4)
    y = y.sigmoid() if loss == "bce" else y
    y = torch.zeros(4, BATCH, dtype=torch.int64) if loss == "cross_entropy" else y
    for t in range(3):
        stream.step(x[t], y[t])
    before = moved(stream)
    if way == "learn":
        stream.predict(x[3])
    with pytest.raises(ArgumentError, match=told):
        stream.step(x[3], wrong) if way == "step" else stream.learn(wrong)
    if way == "step":
        assert_same(moved(stream), before)
    for name in ("step", "predict"):
        infinite = torch.full_like(x[3], torch.inf)
        with pytest.raises(ArgumentError, match="inputs: got NaN or infinite values"):
            stream.step(infinite, y[3]) if name == "step" else stream.predict(infinite)


OPTIMIZERS = {
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": partial(torch.optim.Adam, lr=0.1, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.1, weight_decay=0.1),
    "adagrad": partial(torch.optim.Adagrad, lr=0.1, weight_decay=0.1),
    "amsgrad": partial(torch.optim.Adam, lr=0.1, amsgrad=True, weight_decay=0.1),
}
WITHOUT = {
    "step": lambda stream, x, y: stream.step(x, y, mask=torch.zeros(BATCH)),
    "run": lambda stream, x, y: stream.run(x[:, None], y[:, None], mask=torch.zeros(BATCH, 1)),
    "predict": lambda stream, x, y: stream.predict(x),
    "gradients": lambda stream, x, y: stream.step(x, y, mask=torch.zeros(BATCH), gradients=True),
}


@pytest.mark.parametrize(("optimizer", "way"), covering(product(OPTIMIZERS, WITHOUT)))
def test_where_nothing_counts_no_weight_and_no_moment_moves(optimizer, way, path):
    stream = a_stream("np-many", optimizer=OPTIMIZERS[optimizer])
    x, y = data(6)
    for t in range(3):
        stream.step(x[t], y[t])
    before = moved(stream)
    for t in range(3, 6):
        WITHOUT[way](stream, x[t], y[t])
    after = moved(stream)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    carried = {f"stream.{name}" for name in (*stream.memory, "steps")}
    assert changed == carried


def test_where_nothing_counts_a_feedback_that_learns_rests_as_the_weights_do():
    network = tl.RNN(INPUTS, HIDDEN, OUTPUTS).double()
    rule = tl.DFA(network, loss="mse", feedback="kolen_pollack")
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), BATCH)
    (x,), (y,) = data(1)
    before = rule.feedback_l0.clone()
    stream.step(x, y, mask=torch.zeros(BATCH))
    assert torch.equal(rule.feedback_l0, before)
    stream.step(x, y)
    assert not torch.equal(rule.feedback_l0, before)


def test_another_optimizer_in_mid_stream_makes_the_next_step():
    stream = a_stream()
    (x, z), (y, w) = data(2)
    stream.step(x, y)
    stream.optimizer = torch.optim.SGD(stream.rule.parameters(), lr=0.0)
    before = {name: one.clone() for name, one in stream.rule.state_dict().items()}
    stream.step(z, w)
    assert_same(dict(stream.rule.state_dict()), before)


def test_a_rule_that_carries_no_states_says_how_to_call_them():
    class Nameless(tl.TBPTT):
        def begin(self, batch_size):
            return {"mine": super().begin(batch_size)["states"]}

        def advance(self, memory, *rest):
            forward, gradients, after = super().advance({"states": memory["mine"]}, *rest)
            return forward, gradients, {"mine": after["states"]}

    rule = Nameless(tl.RNN(INPUTS, HIDDEN, OUTPUTS).double(), loss="mse")
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), BATCH)
    (x,), (y,) = data(1)
    stream.step(x, y)
    with pytest.raises(tl.UnsupportedError, match="expected 'states' among them"):
        stream.predict(x)


def test_a_rule_without_a_clean_run_predicts_without_its_noise(path):
    def made():
        rule = tl.ANP(
            tl.GRU(INPUTS, HIDDEN, OUTPUTS, seed=1).double(), loss="mse", clean=False, sigma=0.1
        )
        return tl.Stream(rule, torch.optim.Adam(rule.parameters(), lr=0.01), BATCH)

    whole, parts = made(), made()
    for x, y in zip(*data(3), strict=True):
        wanted, predicted, found = whole.step(x, y), parts.predict(x), parts.learn(y)
        assert torch.equal(found.outputs, wanted.outputs)
        assert not torch.equal(predicted, found.outputs)
    assert_same(moved(parts), moved(whole))


def _other_parameters(stream):
    network = stream.rule.network
    state = {name: 0.5 * value for name, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)


def _other_moments(stream):
    state = copy.deepcopy(stream.optimizer.state_dict())
    for kept in state["state"].values():
        kept["exp_avg"].neg_()
    stream.optimizer.load_state_dict(state)


def _one_other_moment(stream):
    kept = stream.optimizer.state[stream.rule.network.readout.weight]
    kept["exp_avg"] = -kept["exp_avg"]


def _other_data(stream):
    weight = stream.rule.network.recurrent.weight_hh_l0
    weight.data = 0.5 * weight.data


def _frozen(stream):
    stream.rule.network.recurrent.weight_hh_l0.requires_grad_(False)


def _wider_readout(stream):
    """More outputs in the same module, of which the old ones alone learn no more."""
    readout = stream.rule.network.readout
    readout.out_features = OUTPUTS + 1
    readout.weight = torch.nn.Parameter(torch.cat((readout.weight, readout.weight[:1])).detach())
    readout.bias = torch.nn.Parameter(torch.cat((readout.bias, readout.bias[:1])).detach())


def _faster(stream):
    stream.optimizer.param_groups[0]["lr"] = 0.2


SGD = partial(torch.optim.SGD, lr=0.1)
CHANGES = [
    (_other_parameters, SGD),
    (_other_parameters, ADAM),
    (_other_moments, ADAM),
    (_one_other_moment, ADAM),
    (_other_data, SGD),
    (_other_data, ADAM),
    (_frozen, SGD),
    (_wider_readout, SGD),
    (_faster, ADAM),
]


@pytest.mark.parametrize(("change", "optimizer"), CHANGES)
def test_what_changes_between_a_prediction_and_its_target_is_seen(change, optimizer, monkeypatch):
    found = []
    for path in ("native", "loop"):
        with monkeypatch.context() as patch:
            take_path(path, patch)
            stream = a_stream("tbptt", optimizer=optimizer)
            x, y = data(5)
            for t in range(3):
                stream.step(x[t], y[t])
            stream.predict(x[3])
            change(stream)
            y = y if change is not _wider_readout else torch.cat((y, y[..., :1]), -1)
            stream.learn(y[3])
            outputs = stream.step(x[4], y[4]).outputs
            found.append({**moved(stream), "outputs": outputs})
    assert_close(found[0], found[1], rtol=1e-9, atol=1e-11)
