"""Targets that come steps later: the update of then, applied now."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from streams import BATCH, HIDDEN, INPUTS, OUTPUTS, RULES, a_stream, assert_same, moved
from streams import steps as data
from torch.testing import assert_close

import timelocal as tl
from timelocal.errors import ArgumentError, UnsupportedError

LR = 0.1
sgd = partial(torch.optim.SGD, lr=LR)


def weights(stream: tl.Stream) -> dict[str, torch.Tensor]:
    return {name: own.detach().clone() for name, own in stream.rule.network.named_parameters()}


def as_it_stands(stream: tl.Stream, rule: str) -> tl.Stream:
    """Another stream, with the weights, states and traces that this one has now."""
    other = a_stream(rule, optimizer=sgd)
    other.rule.load_state_dict(stream.rule.state_dict())
    state = stream.state_dict()
    other.load_state_dict({name: own for name, own in state.items() if "late." not in name})
    return other


@pytest.mark.parametrize("rule", RULES)
def test_a_late_update_is_made_from_what_was_then_and_applied_now(rule):
    stream = a_stream(rule, optimizer=sgd, max_delay=3)
    x, y = data(7)
    for t in range(3):
        stream.step(x[t], y[t])
    then = []
    for t in range(3, 6):
        then.append(as_it_stands(stream, rule))
        stream.predict(x[t])
        if t == 3:
            stream.learn(y[t])  # weights move between the steps whose targets are late
    stream.predict(x[6])
    for delay, t in ((1, 5), (2, 4)):
        before, steps = weights(stream), stream.steps
        learned = stream.learn(y[t], delay=delay)
        wanted = then[t - 3].step(x[t], y[t], gradients=True)
        assert_close(learned.loss, wanted.loss)
        assert_close(learned.outputs, wanted.outputs)
        for name, own in weights(stream).items():
            assert_close(own, before[name] - LR * wanted.gradients[name], msg=f"{delay} {name}")
        assert stream.steps == (7 if delay == 1 else steps)  # the predicted step is made, once
    assert_close(stream.learn(y[6]).loss.isfinite(), torch.tensor(True))


def test_the_last_step_is_learned_from_as_it_was_made_though_a_late_update_came_between():
    stream = a_stream(optimizer=sgd, max_delay=1)
    (x0, x1), (y0, y1) = data(2)
    stream.predict(x0)
    then = as_it_stands(stream, "dfa")
    outputs = stream.predict(x1)
    stream.learn(y0, delay=1)
    assert_close(stream.learn(y1).outputs, outputs)
    assert_close(then.step(x1, y1).outputs, outputs)


def test_states_move_on_while_targets_are_waited_for():
    stream, masked = a_stream("eprop", max_delay=4), a_stream("eprop")
    for x, y in zip(*data(5), strict=True):
        stream.predict(x)
        masked.step(x, y, mask=torch.zeros(BATCH))
    state, wanted = stream.state_dict(), masked.state_dict()
    for name in wanted:
        assert torch.equal(state[name], wanted[name]), name


@pytest.mark.parametrize("max_delay", [0, 2])
def test_without_delay_nothing_is_late(max_delay):
    plain, able = a_stream("np"), a_stream("np", max_delay=max_delay)
    x, y = data(8)
    for t in range(3):
        plain.step(x[t], y[t])
        able.predict(x[t])
        able.learn(y[t], delay=0)
    for stream in (plain, able):
        stream.run(x[3:].transpose(0, 1), y[3:].transpose(0, 1))
    assert_same(moved(able), moved(plain))


def test_each_step_is_learned_from_once():
    stream = a_stream(max_delay=2)
    x, y = data(6)
    stream.predict(x[0])
    stream.predict(x[1])
    stream.learn(y[0], delay=1)
    before = moved(stream)
    stream = a_stream(max_delay=2)
    stream.predict(x[0])
    stream.predict(x[1])
    stream.learn(y[0], delay=1)
    for delay, told in (
        (1, "delay: got 1, expected a predicted step that was not yet learned from"),
        (2, "delay: got 2, expected a predicted step"),
        (
            3,
            r"delay: got 3, expected a number of steps between 0 and max_delay=2. Create the stream",
        ),
        (-1, "delay: got -1, expected a number of steps between 0 and"),
        (True, "delay: got True"),
    ):
        with pytest.raises(ArgumentError, match=told):
            stream.learn(y[0], delay=delay)
    with pytest.raises(ArgumentError, match="targets: got shape"):
        stream.learn(y[0, :, 0], delay=0)
    assert_same(moved(stream), before)
    stream.learn(y[1])
    stream.step(x[2], y[2])
    stream.run(x[3:5].transpose(0, 1), y[3:5].transpose(0, 1))
    stream.predict(x[5])
    for delay in (1, 2):
        with pytest.raises(ArgumentError, match=f"delay: got {delay}, expected a predicted step"):
            stream.learn(y[4], delay=delay)
    stream.learn(y[5])


def test_a_refused_late_target_leaves_the_predicted_step_as_it_was():
    whole, late = a_stream(max_delay=1), a_stream(max_delay=1)
    (x0, x1), (y0, y1) = data(2)
    for stream in (whole, late):
        stream.predict(x0)
        stream.predict(x1)
    with pytest.raises(ArgumentError, match="targets: got NaN"):
        late.learn(torch.full_like(y0, torch.nan), delay=1)
    for stream in (whole, late):
        stream.learn(y1)
        stream.learn(y0, delay=1)
    assert_same(moved(whole), moved(late))


@pytest.mark.parametrize(
    ("network", "options", "told"),
    [
        (
            tl.RNN(INPUTS, HIDDEN, OUTPUTS, decorrelate=0.1),
            {},
            "max_delay: got 1 with the rule 'dfa'",
        ),
        (tl.RNN(INPUTS, HIDDEN, OUTPUTS), {"feedback": "kolen_pollack"}, "the rule 'dfa'"),
    ],
)
def test_what_learns_by_a_law_of_its_own_cannot_learn_late(network, options, told):
    rule = tl.DFA(network, loss="mse", **options)
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    with pytest.raises(UnsupportedError, match=told):
        tl.Stream(rule, optimizer, max_delay=1)
    tl.Stream(rule, optimizer)


@pytest.mark.parametrize("wrong", [-1, 1.5, True, None])
def test_a_wrong_delay_is_told(wrong):
    with pytest.raises(ArgumentError, match=r"max_delay: got .*, expected a number of steps"):
        a_stream(max_delay=wrong)


def test_a_network_that_has_changed_since_is_told():
    stream = a_stream(max_delay=1)
    (x0, x1), (y0, _) = data(2)
    stream.predict(x0)
    stream.predict(x1)
    stream.rule.network.readout = torch.nn.Linear(HIDDEN, OUTPUTS + 1).double()
    with pytest.raises(ArgumentError, match=r"readout.weight: got \(3, 7\) now, expected \(2, 7\)"):
        stream.learn(y0, delay=1)


def test_dropout_of_a_late_step_is_the_one_it_was_made_with():
    def made():
        network = tl.GRU(INPUTS, HIDDEN, OUTPUTS, num_layers=2, dropout=0.5, seed=1).double()
        rule = tl.DFA(network, loss="mse")
        return tl.Stream(rule, sgd(rule.parameters()), BATCH, max_delay=1)

    (x0, x1), (y0, y1) = data(2)
    late, whole = made(), made()
    outputs = late.predict(x0)
    late.predict(x1)
    assert_close(late.learn(y0, delay=1).outputs, outputs)
    whole.predict(x0)
    whole.predict(x1)
    assert torch.equal(late.learn(y1).outputs, whole.learn(y1).outputs)  # and the next one its own


def test_no_more_steps_are_kept_than_may_be_asked_for():
    stream = a_stream("eprop", max_delay=2)
    for x in data(20)[0]:
        stream.predict(x)
        assert len(stream._waiting) == 3
    assert len({name for name in stream.state_dict() if name.endswith(".inputs")}) == 3


@pytest.mark.parametrize("rule", ["eprop", "wp", "uoro"])
def test_steps_that_wait_are_kept_with_the_stream(rule):
    x, y = data(6)
    stream = a_stream(rule, max_delay=3)
    for t in range(4):
        stream.predict(x[t])
        if t == 1:
            stream.learn(y[t])
    state = stream.state_dict()
    again = a_stream(rule, max_delay=3)
    again.rule.load_state_dict(stream.rule.state_dict())
    again.optimizer.load_state_dict(copy.deepcopy(stream.optimizer.state_dict()))
    again.load_state_dict(state)
    for one in (stream, again):
        one.learn(y[2], delay=1)
        with pytest.raises(ArgumentError, match="delay: got 2"):
            one.learn(y[1], delay=2)
        one.predict(x[4])
        one.learn(y[3], delay=1)
        one.learn(y[4])
    assert_same(moved(again), moved(stream))
    with pytest.raises(ArgumentError, match=r"state: got a step that has been waiting .* 3 steps"):
        a_stream(rule, max_delay=1).load_state_dict(state)
    del state["late.0.inputs"]
    with pytest.raises(ArgumentError, match=r"'late\.0\.inputs': got nothing"):
        again.load_state_dict(state)
