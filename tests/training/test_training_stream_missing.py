"""Inputs in which values are missing: told, held, or their sequences left out."""

from __future__ import annotations

import copy
from functools import partial
from itertools import product

import pytest
import torch
from streams import (
    BATCH,
    HIDDEN,
    INPUTS,
    OUTPUTS,
    RULES,
    a_stream,
    assert_same,
    moved,
)
from streams import steps as data
from torch.testing import assert_close

import timelocal as tl
from covering import covering
from timelocal.errors import ArgumentError

NAN = torch.nan


def first(values: torch.Tensor) -> torch.Tensor:
    return values.transpose(0, 1)


def learn(stream: tl.Stream, way: str, x: torch.Tensor, y: torch.Tensor) -> tl.training.Learned:
    """Steps (t, b, …): losses and outputs (t, b, o), in one of three ways."""
    if way == "run":
        found = stream.run(first(x), first(y))
        return tl.training.Learned(found.loss, first(found.outputs))
    made = []
    for each, target in zip(x, y, strict=True):
        if way == "step":
            made.append(stream.step(each, target))
        else:
            outputs = stream.predict(each)
            made.append(stream.learn(target))
            assert_close(outputs, made[-1].outputs, equal_nan=True)
    losses, outputs = map(torch.stack, zip(*made, strict=True))
    return tl.training.Learned(losses, outputs)


WAYS = ["run", "step", "learn"]


@pytest.mark.parametrize("seen_before", [0, 3])
@pytest.mark.parametrize("way", WAYS)
def test_by_default_they_are_told_with_their_place(way, seen_before, path):
    stream = a_stream()
    x, y = data(6)
    for t in range(seen_before):
        stream.step(x[t], y[t])
    before = moved(stream)
    x[3, 1, 2] = x[3, 2, 0] = x[4, 0, 0] = NAN
    place = {"run": "step 0 of the chunk", "step": f"step {seen_before} of the stream"}
    others = 2 if way == "run" else 1
    told = (
        f"inputs: got NaN at {place.get(way, place['step'])}, row 1, channel 2, and {others} more"
    )
    with pytest.raises(ArgumentError, match=told):
        learn(stream, way, x[3:], y[3:])
    assert_same(moved(stream), before)


def test_all_that_is_wrong_is_told_at_once():
    x, y = data(1)
    x[0, 0, 0] = y[0, 0, 0] = NAN
    for way in ("run", "step"):
        with pytest.raises(
            ArgumentError, match=r"2 problems:(.|\n)*targets: got NaN(.|\n)*inputs: got NaN at"
        ):
            learn(a_stream(), way, x, y)


@pytest.mark.parametrize("missing", ["raise", "hold", "skip"])
@pytest.mark.parametrize("way", WAYS)
def test_infinite_values_are_not_missing(missing, way):
    x, y = data(3)
    x[1, 0, 0] = torch.inf
    x[2, 1, 1] = NAN
    stream = a_stream(missing=missing)
    with pytest.raises(ArgumentError, match="inputs: got NaN or infinite values"):
        learn(stream, way, x, y)


@pytest.mark.parametrize("wrong", ["drop", None, True])
def test_unknown_ways_are_told(wrong):
    with pytest.raises(
        ArgumentError, match=r"missing: got .*, expected one of 'hold', 'raise', 'skip'"
    ):
        a_stream(missing=wrong)


# --- hold --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(7,), (2, 5), (1,) * 7])
@pytest.mark.parametrize("way", WAYS)
def test_hold_takes_the_last_known_value_of_a_sequence_and_channel(way, chunks, path):
    x, y = data(7)
    filled = x.clone()
    x[0, 0, 1] = NAN  # none is known before
    filled[0, 0, 1] = 0.0
    x[2:5, 1, 2] = NAN  # for some steps, across chunks
    filled[2:5, 1, 2] = filled[1, 1, 2]
    x[4, 2] = NAN  # all of a row
    filled[4, 2] = filled[3, 2]
    held, plain = a_stream("np-many", missing="hold"), a_stream("np-many")
    for part, whole, targets in zip(
        x.split(chunks), filled.split(chunks), y.split(chunks), strict=True
    ):
        assert_same(
            learn(held, way, part, targets)._asdict(), learn(plain, way, whole, targets)._asdict()
        )
    state = moved(held)
    assert torch.equal(state.pop("stream.held"), filled[-1])
    assert_same(state, moved(plain))


def test_what_is_held_is_kept_and_reset_by_row():
    (x, z), (y, w) = data(2)
    stream = a_stream(missing="hold")
    stream.step(x, y)
    state = stream.state_dict()
    again = a_stream(missing="hold")
    again.rule.load_state_dict(stream.rule.state_dict())
    again.optimizer.load_state_dict(copy.deepcopy(stream.optimizer.state_dict()))
    again.load_state_dict(state)
    z[0, 0] = z[1, 1] = NAN
    for one in (stream, again):
        one.reset(torch.tensor([1]))
        one.step(z, w)
    assert_same(moved(again), moved(stream))
    assert stream._door.held[0, 0] == x[0, 0]
    assert stream._door.held[1, 1] == 0
    with pytest.raises(ArgumentError, match="'held': got nothing"):
        again.load_state_dict(a_stream().state_dict())


# --- skip --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "way"), covering(product(RULES, WAYS)))
def test_skip_of_one_sequence_is_the_stream_without_these_steps(rule, way, path):
    x, y = data(9, batch_size=1)
    there = torch.tensor([0, 1, 1, 0, 0, 1, 1, 0, 1], dtype=torch.bool)
    gaps, plain = x.clone(), a_stream(rule, batch_size=1)
    gaps[~there, 0, 1] = NAN
    y[~there] = NAN  # nobody asks for a target there
    skipping = a_stream(rule, batch_size=1, missing="skip")
    found, wanted = learn(skipping, way, gaps, y), learn(plain, way, x[there], y[there])
    assert torch.equal(found.loss[there], wanted.loss)
    assert torch.equal(found.outputs[there], wanted.outputs)
    assert not found.loss[~there].any()
    assert found.outputs[~there].isnan().all()
    assert_same(moved(skipping), moved(plain))
    assert skipping.steps == 5


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_are_missing_stay_where_they_are_and_teach_nothing(rule, path):
    stream = a_stream(rule, missing="skip", optimizer=partial(torch.optim.SGD, lr=0.1))
    inputs, targets = data(4)
    for x, y in zip(inputs[:3], targets[:3], strict=True):
        stream.step(x, y)
    there = torch.tensor([0, 2])
    alone = a_stream(rule, batch_size=2, optimizer=partial(torch.optim.SGD, lr=0.1))
    alone.rule.load_state_dict(stream.rule.state_dict())
    state = stream.state_dict()
    alone.load_state_dict(
        {name: own[there] if name in stream.memory else own for name, own in state.items()}
    )
    x, y = inputs[3], targets[3]
    wanted = alone.step(x[there], y[there], mask=torch.ones(2))
    x[1, 0] = y[1, 1] = NAN
    found = stream.step(x, y, mask=torch.ones(BATCH))
    assert_close(found.loss, wanted.loss)
    assert_close(found.outputs[there], wanted.outputs)
    assert found.outputs[1].isnan().all()
    assert_close(dict(stream.rule.state_dict()), dict(alone.rule.state_dict()))
    for name, own in stream.memory.items():
        assert torch.equal(own[1], state[name][1]), name
        assert_close(own[there], alone.memory[name])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rule", ["eprop", "np-many", "wp", "rtrl"])
def test_a_chunk_with_missing_rows_is_its_steps(rule, masked, path):
    x, y = data(12)
    gone = torch.rand(12, BATCH, generator=torch.Generator().manual_seed(3)) < 0.3
    gone[4] = True
    x[gone] = NAN
    mask = torch.rand(12, BATCH, generator=torch.Generator().manual_seed(4)) if masked else None
    chunk, steps = (a_stream(rule, missing="skip") for _ in range(2))
    found = chunk.run(first(x), first(y), mask=None if mask is None else first(mask))
    apart = [
        steps.step(x[t], y[t], mask=None if mask is None else mask[t], gradients=t == 6)
        for t in range(12)
    ]
    assert_close(found.loss, torch.stack([one.loss for one in apart]))
    outputs = torch.stack([one.outputs for one in apart], 1)
    assert_close(found.outputs, outputs, equal_nan=True)
    assert torch.equal(outputs.isnan().all(-1), first(gone))
    assert_close(moved(chunk), moved(steps))


def test_d_learns_nothing_from_rows_that_are_missing():
    def made(batch_size):
        network = tl.RNN(INPUTS, HIDDEN, OUTPUTS, decorrelate=0.1, seed=1).double()
        rule = tl.DFA(network, loss="mse")
        return tl.Stream(
            rule, torch.optim.SGD(rule.parameters(), lr=0.1), batch_size, missing="skip"
        )

    (x,), (y,) = data(1)
    some, alone = made(BATCH), made(2)
    alone.step(x[1:], y[1:])
    x[0] = NAN
    some.step(x, y)
    assert_close(dict(some.rule.state_dict()), dict(alone.rule.state_dict()))


def test_a_step_in_which_all_is_missing_is_none(path):
    stream = a_stream("np-many", missing="skip", max_delay=1)
    inputs, targets = data(3)
    stream.step(inputs[0], targets[0])
    before = moved(stream)
    nothing = torch.full_like(inputs[1], NAN)
    estimate = stream.step(nothing, targets[1], gradients=True)
    assert not any(own.any() for own in estimate.gradients.values())
    assert stream.predict(nothing).isnan().all()
    assert stream.predict(nothing).isnan().all()
    for delay in (1, 0):
        learned = stream.learn(targets[1], delay=delay)
        assert learned.loss == 0
        assert learned.outputs.isnan().all()
    assert_same(moved(stream), before)


def test_late_targets_of_rows_that_were_there():
    inputs, targets = data(2)
    sgd = partial(torch.optim.SGD, lr=0.1)
    late, now = (a_stream("eprop", missing="skip", max_delay=d, optimizer=sgd) for d in (1, 0))
    inputs[0, 1] = NAN
    now.step(inputs[0], targets[0])
    late.predict(inputs[0])
    late.predict(inputs[1])
    late.learn(targets[0], delay=1)
    assert_close(dict(late.rule.state_dict()), dict(now.rule.state_dict()))


def test_what_is_held_in_inference_mode_can_be_reset_outside(path):
    stream = a_stream(missing="hold")
    with torch.inference_mode():
        stream.predict(data(1)[0][0])
    stream.reset()
    assert not any(carried.any() for carried in stream.memory.values())
