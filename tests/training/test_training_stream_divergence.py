"""A stream refuses the step that diverges, natively or not, and is as it was before it."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import timelocal as tl
from covering import covering
from timelocal.errors import DivergedError

ONLINE = [name for name, rule in tl.RULES.items() if rule.spec.online]
OPTIMIZERS = {
    "sgd": lambda own: torch.optim.SGD(own, lr=0.01),
    "momentum": lambda own: torch.optim.SGD(own, lr=0.01, momentum=0.9),
    "adam": lambda own: torch.optim.Adam(own, lr=0.01),
    "rmsprop": lambda own: torch.optim.RMSprop(own, lr=0.01),
}
STEPS, BAD = 12, 9
"""Of a chunk: long enough for the call that copies the matrices."""


def stream_of(
    name: str, cell: str = "RNN", optimizer: str = "sgd", looped: bool = False, **options: object
) -> tl.Stream:
    rule = tl.RULES[name](getattr(tl, cell)(2, 6, 2, **options), loss="mse", at="every")
    made = OPTIMIZERS[optimizer](rule.parameters())
    if looped:  # what is called at every step is never passed over
        made.register_step_post_hook(lambda *_: None)
    stream = tl.Stream(rule, made, 3)
    stream.run(*data())
    return stream


def data(bad: float | None = None) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, STEPS, 2, generator=draw), torch.randn(3, STEPS, 2, generator=draw)
    if bad is not None:
        y[1, BAD, 0] = bad
    return x, y


def state(stream: tl.Stream) -> object:
    parts = (stream.rule.state_dict(), stream.optimizer.state_dict(), stream.state_dict())
    return copy.deepcopy(parts)


def same(a: object, b: object) -> None:
    assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "looped", "decorrelate"),
    covering(
        product(ONLINE, (False, True), (None, 0.01)),
        lambda name, looped, law: ((name, looped), (looped, law)),
    ),
)
def test_a_step_is_refused_and_nothing_has_moved(name, looped, decorrelate):
    stream = stream_of(name, looped=looped, decorrelate=decorrelate)
    before = state(stream)
    x, y = data(3e38)
    with pytest.raises(DivergedError, match=f"not finite at step {STEPS + 1}.*learning rate"):
        stream.step(x[:, BAD], y[:, BAD])
    same(state(stream), before)
    with pytest.raises(DivergedError):
        stream.run(x[:, BAD:], y[:, BAD:])
    same(state(stream), before)
    assert stream.step(x[:, 0], y[:, 0]).loss.isfinite()


@pytest.mark.parametrize(
    ("name", "cell", "looped"),
    covering(
        product(ONLINE, ("RNN", "GRU", "LSTM"), (False, True)),
        lambda name, cell, looped: ((name, looped), (cell, looped)),
    ),
)
def test_the_steps_of_a_chunk_before_it_are_made(name, cell, looped):
    stream, other = (stream_of(name, cell, looped=looped) for _ in range(2))
    x, y = data(3e38)
    with pytest.raises(DivergedError, match=f"step {STEPS + BAD + 1},"):
        stream.run(x, y)
    other.run(x[:, :BAD], y[:, :BAD])
    assert stream.steps == STEPS + BAD
    same(state(stream), state(other))
    mask = torch.ones(3, STEPS)
    with pytest.raises(DivergedError):
        stream.run(x, y, mask=mask)
    mask[1, BAD] = 0  # a target that does not count may be anything
    assert stream.run(x, y, mask=mask).loss.isfinite().all()


@pytest.mark.parametrize(
    ("optimizer", "looped", "bad"),
    covering(product(OPTIMIZERS, (False, True), (1e19, 1.8e19, 3e19)), pairs=True),
)
def test_moments_stay_finite_where_the_squared_gradient_would_not(optimizer, looped, bad):
    """From some 2e19 on losses are infinite; below, Adam's second moment would be, for good."""
    stream = stream_of("dfa", "GRU", optimizer, looped)
    x, y = data(bad)
    before = state(stream)
    try:
        stream.step(x[:, BAD], y[:, BAD])
    except DivergedError:
        same(state(stream), before)
    weights, moments, memory = state(stream)
    kept = [own for one in moments["state"].values() for own in one.values()]
    for own in (*weights.values(), *kept, *memory.values()):
        assert not isinstance(own, Tensor) or own.isfinite().all()


@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize("name", ["dfa", "tbptt", "rflo", "rtrl"])
def test_a_learning_rate_that_explodes_leaves_finite_weights(name, looped):
    stream = stream_of(name, looped=looped)
    for group in stream.optimizer.param_groups:
        group["lr"] = 1e6
    x, y = data()
    many = (x.repeat(1, 4, 1), y.repeat(1, 4, 1))
    with pytest.raises(DivergedError):
        stream.run(*many)
    for own in (*stream.rule.state_dict().values(), *stream.memory.values()):
        assert not own.is_floating_point() or own.isfinite().all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fit_online_says_diverged_and_restores(optimizer):
    rule = tl.DFA(tl.RNN(2, 6, 2), loss="mse", at="every")
    before = copy.deepcopy(rule.network.state_dict())
    x, y = data(3e38)
    made = OPTIMIZERS[optimizer](rule.parameters())
    history = tl.fit(rule, made, (x, y), epochs=3, batch_size=3, online=True)
    assert history.status == "diverged"
    assert (
        history.message
        == f"the train loss or its gradient is not finite in epoch 1, step {BAD + 1}"
    )
    same(rule.network.state_dict(), before)


def test_a_gradient_beyond_float16_is_refused():
    """The loss is float32's and finite, the gradient is not."""
    rule = tl.DFA(tl.RNN(2, 6, 1, dtype=torch.float16), loss="mse", at="every")
    stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=1e-4), 3)
    before, x = state(stream), torch.full((3, 2), 60000.0).half()
    with pytest.raises(DivergedError):
        stream.step(x, torch.full((3, 1), 60000.0).half())
    same(state(stream), before)


@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize("delay", [0, 1])
def test_a_label_is_refused_and_another_one_may_be_learned(looped, delay):
    rule = tl.DFA(tl.GRU(2, 6, 2), loss="mse", at="every")
    optimizer = OPTIMIZERS["adam"](rule.parameters())
    if looped:
        optimizer.register_step_post_hook(lambda *_: None)
    stream = tl.Stream(rule, optimizer, 3, max_delay=1)
    x, y = data()
    stream.step(x[:, 0], y[:, 0])
    for t in range(1 + delay):
        stream.predict(x[:, 1 + t])
    weights = copy.deepcopy((rule.state_dict(), optimizer.state_dict()))
    with pytest.raises(DivergedError):
        stream.learn(torch.full((3, 2), 3e38), delay=delay)
    same((rule.state_dict(), optimizer.state_dict()), weights)
    assert stream.learn(y[:, 1], delay=delay).loss.isfinite()


@pytest.mark.parametrize("looped", [False, True])
def test_what_fills_missing_inputs_is_that_of_the_last_step_made(looped):
    """And rows that are gone do not take the others' steps with them."""
    streams = []
    x, y = data(3e38)
    x[0, BAD - 2 :] = torch.nan
    for missing in ("hold", "skip"):
        for end in (STEPS, BAD):
            rule = tl.DFA(tl.GRU(2, 6, 2), loss="mse", at="every")
            optimizer = OPTIMIZERS["momentum"](rule.parameters())
            if looped:
                optimizer.register_step_post_hook(lambda *_: None)
            stream = tl.Stream(rule, optimizer, 3, missing=missing)
            try:
                stream.run(x[:, :end], y[:, :end])
            except DivergedError:
                assert end == STEPS
            else:
                assert end == BAD
            streams.append(stream)
        broken, whole = streams[-2:]
        assert broken.steps == whole.steps == BAD
        same(broken.memory, whole.memory)
        same(broken.rule.state_dict(), whole.rule.state_dict())
    broken, whole = streams[:2]  # they hold
    with pytest.raises(DivergedError):
        broken.step(x[:, BAD].nan_to_num(7.0), y[:, BAD])
    gone = torch.full((3, 2), torch.nan)
    same(broken.step(gone, y[:, 0]), whole.step(gone, y[:, 0]))
