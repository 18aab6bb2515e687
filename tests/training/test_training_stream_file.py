"""A stream in one file: saved, damaged, of another stream, and gone on with in the same bits."""

from __future__ import annotations

import os
import random
from functools import partial

import pytest
import torch
from safetensors.torch import load, save, save_file
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

import timelocal as tl
from timelocal.errors import ArgumentError, RunError, UnsupportedError

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.01, betas=(0.8, 0.9)),
    "adamw": partial(torch.optim.AdamW, lr=0.01),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.01),
    "adagrad": partial(torch.optim.Adagrad, lr=0.01),
}


def fed(stream: tl.Stream, count: int = 4, seed: int = 0) -> tl.Stream:
    x, y = data(count, seed=seed)
    stream.run(x[: count // 2].transpose(0, 1), y[: count // 2].transpose(0, 1))
    for each, target in zip(x[count // 2 :], y[count // 2 :], strict=True):
        stream.step(each, target)
    return stream


@pytest.mark.parametrize("rule", RULES)
def test_a_stream_goes_on_in_the_same_bits(rule, path, tmp_path):
    file = tmp_path / "stream.safetensors"
    stream = fed(a_stream(rule))
    stream.save(file)
    again = a_stream(rule, seed=9)
    again.load(str(file))
    assert_same(moved(again), moved(stream))
    assert_same(moved(fed(again, seed=1)), moved(fed(stream, seed=1)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("begun", [False, True])
def test_with_the_moments_and_settings_of_its_optimizer(optimizer, begun, path, tmp_path):
    def made(lr):
        stream = a_stream(seed=int(lr * 100))
        network = stream.rule.network
        groups = [
            {"params": list(network.readout.parameters()), "lr": lr},
            {"params": list(network.recurrent.parameters())},
        ]
        return tl.Stream(stream.rule, OPTIMIZERS[optimizer](groups), BATCH)

    stream = made(0.05)
    if begun:
        fed(stream)
    stream.optimizer.param_groups[1]["lr"] = 0.003  # a scheduler's doing
    stream.save(tmp_path / "a")
    again = fed(made(0.2), seed=3)
    again.load(tmp_path / "a")
    for one, other in zip(stream.optimizer.param_groups, again.optimizer.param_groups, strict=True):
        assert {**one, "params": 0} == {**other, "params": 0}
    assert_same(moved(fed(again, seed=1)), moved(fed(stream, seed=1)))


def test_with_what_is_held_what_is_waited_for_and_dropout(tmp_path):
    def made():
        network = tl.LSTM(INPUTS, HIDDEN, OUTPUTS, num_layers=2, dropout=0.3, seed=1).double()
        rule = tl.DFA(network, loss="mse")
        optimizer = torch.optim.Adam(rule.parameters(), lr=0.1)
        return tl.Stream(rule, optimizer, BATCH, max_delay=2, missing="hold")

    x, y = data(6)
    stream, again = made(), made()
    stream.step(x[0], y[0])
    stream.predict(x[1])
    stream.predict(x[2])
    stream.save(tmp_path / "a")
    again.load(tmp_path / "a")
    x[3, 0, 0] = torch.nan
    for one in (stream, again):
        one.predict(x[3])
        one.learn(y[1], delay=2)
        one.learn(y[3])
    assert_same(moved(again), moved(stream))


def test_saving_settles_a_predicted_step(tmp_path):
    stream, masked = a_stream(), a_stream()
    (x,), (y,) = data(1)
    stream.predict(x)
    stream.save(tmp_path / "a")
    masked.step(x, y, mask=torch.zeros(BATCH))
    again = a_stream()
    again.load(tmp_path / "a")
    assert_same(moved(again), moved(masked))


# --- what is refused, and leaves all as it was ----------------------------------------------------


def refused(stream: tl.Stream, file, told: str) -> None:
    """`file` is refused, and the stream is what it was, a predicted step too."""
    (x,), (y,) = data(1, seed=7)
    twin = a_stream()
    twin.rule.load_state_dict(stream.rule.state_dict())
    before = moved(stream)
    stream.predict(x)
    with pytest.raises(RunError, match=told):
        stream.load(file)
    stream.learn(y)  # the step is still there
    assert stream.steps == before["stream.steps"] + 1


def test_damage_anywhere_is_told(tmp_path):
    file = tmp_path / "a"
    fed(a_stream()).save(file)
    whole = file.read_bytes()
    stream = fed(a_stream(seed=2))
    before = moved(stream)
    for place in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(RunError, match="is damaged, or not a file written by"):
            stream.load(file)
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(RunError, match="is damaged, or not a file written by"):
            stream.load(file)
    assert_same(moved(stream), before)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"text", random.Random(0).randbytes(400), save({"a": torch.ones(2)})],
    ids=["empty", "JSON", "text", "noise", "tensors"],
)
def test_a_foreign_file_is_told(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    refused(a_stream(), tmp_path / "a", "is damaged, or not a file written by")


def test_what_is_not_there_or_no_path_is_told(tmp_path):
    stream = a_stream()
    with pytest.raises(RunError, match=r"cannot read .*nothing: No such file"):
        stream.load(tmp_path / "nothing")
    with pytest.raises(RunError, match="cannot write"):
        stream.save(tmp_path / "no folder" / "a")
    for call in (stream.load, stream.save):
        with pytest.raises(ArgumentError, match="path: got 3, expected a path"):
            call(3)


OTHERS = {
    "rule": (lambda: a_stream("tbptt"), "rule: got 'DFA', expected 'TBPTT', as in the file"),
    "cell": (lambda: a_stream(cell=tl.LSTM), "cell: got 'GRUResetAfter', expected 'LSTMCell'"),
    "loss": (lambda: a_stream(loss="bce"), "loss: got 'MSE', expected 'BCE'"),
    "optimizer": (
        lambda: a_stream(optimizer=OPTIMIZERS["sgd"]),
        "optimizer: got 'Adam', expected 'SGD'",
    ),
    "missing": (lambda: a_stream(missing="hold"), "missing: got 'raise', expected 'hold'"),
    "batch": (lambda: a_stream(batch_size=2), r"does not fit this stream \((.|\n)*state 'states'"),
    "delay": (lambda: waiting(), "does not fit this stream .state: got a step that"),
    "width": (lambda: wide(), r"does not fit this stream \((.|\n)*network.recurrent.weight_hh_l0"),
}


def waiting() -> tl.Stream:
    stream = a_stream(max_delay=1)
    stream.predict(data(1)[0][0])
    return stream


def wide() -> tl.Stream:
    rule = tl.DFA(tl.GRU(INPUTS, HIDDEN + 1, OUTPUTS).double(), loss="mse")
    return tl.Stream(rule, torch.optim.Adam(rule.parameters()), BATCH)


@pytest.mark.parametrize("what", OTHERS)
def test_the_file_of_another_stream_is_told(what, tmp_path):
    made, told = OTHERS[what]
    other = made()
    other.save(tmp_path / "a")
    refused(fed(a_stream()), tmp_path / "a", told)


def test_a_group_less_is_told(tmp_path):
    stream = a_stream()
    readout = torch.optim.Adam(stream.rule.network.readout.parameters())
    tl.Stream(stream.rule, readout, BATCH).save(tmp_path / "a")
    refused(a_stream(), tmp_path / "a", "groups: got")


def test_a_half_loaded_stream_is_put_back(tmp_path, monkeypatch):
    """Whatever goes wrong after the checks, nothing is left half changed."""
    fed(a_stream(seed=2)).save(tmp_path / "a")
    stream = fed(a_stream())
    before = moved(stream)
    own = stream.rule.load_state_dict

    def fails(state, *rest):
        monkeypatch.setattr(stream.rule, "load_state_dict", own)
        own({name: value for name, value in state.items() if "readout" not in name}, strict=False)
        raise RuntimeError("no more")

    monkeypatch.setattr(stream.rule, "load_state_dict", fails)
    with pytest.raises(RunError, match=r"does not fit this stream \(no more\)"):
        stream.load(tmp_path / "a")
    assert_same(moved(stream), before)


def test_a_file_is_there_whole_or_as_it_was(tmp_path, monkeypatch):
    stream = a_stream()
    stream.save(tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    fed(stream)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="No space left"):
            stream.save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == before
    assert os.listdir(tmp_path) == ["a"]
    stream.save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() != before


def test_the_file_is_plain_safetensors(tmp_path):
    stream = fed(a_stream())
    stream.save(tmp_path / "a")
    tensors = load((tmp_path / "a").read_bytes())
    weight = tensors["stream.rule.network.recurrent.weight_hh_l0"]
    assert torch.equal(weight, stream.rule.network.recurrent.weight_hh_l0)
    save_file(tensors, tmp_path / "b")  # written anew by others it is the same
    again = a_stream(seed=4)
    again.load(tmp_path / "b")
    assert_same(moved(again), moved(stream))


def test_an_optimizer_that_keeps_something_else_is_told(tmp_path):
    stream = fed(a_stream(optimizer=OPTIMIZERS["sgd"]))
    stream.optimizer.state[stream.rule.network.readout.weight]["odd"] = object()
    with pytest.raises(UnsupportedError, match="odd holds a object"):
        stream.save(tmp_path / "a")
    assert not os.listdir(tmp_path)
