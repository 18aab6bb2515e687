"""The call of one tanh layer makes the steps that the loop makes; what it cannot do it leaves alone."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.testing import assert_close

import timelocal as tl
from covering import covering
from timelocal import fast, kernels
from timelocal.fast import stream as fast_stream
from timelocal.fast.tanh_layer import NATIVE, run_tanh_layer

pytestmark = pytest.mark.skipif(
    kernels.describe()["path"] != "native", reason="no native kernel is active"
)

RULES = {
    "np": tl.NP,
    "anp": tl.ANP,
    "wp": tl.WP,
    "tbptt": tl.TBPTT,
    "dfa": tl.DFA,
    "rflo": tl.RFLO,
    "np-authors-code": tl.NPAuthorsCode,
    "anp-authors-code": tl.ANPAuthorsCode,
    "wp-authors-code": tl.WPAuthorsCode,
}
LR = 0.02


def network(decorrelate=None, **options):
    torch.manual_seed(0)
    made = tl.RNN(2, 9, output_size=3, decorrelate=decorrelate, **options)
    return made.double()


def data(steps=18, batch=4):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, steps, 2, generator=generator, dtype=torch.float64)
    return inputs, torch.randn(batch, steps, 3, generator=generator, dtype=torch.float64)


def plain(net):
    return torch.optim.SGD(net.parameters(), lr=LR)


def learn(rule, chunks, batch=4):
    """Losses and outputs, then all that learns and is carried."""
    stream = tl.Stream(rule, plain(rule.network), batch)
    losses, outputs = zip(*(stream.run(x, y) for x, y in chunks), strict=True)
    made = {"losses": torch.cat(losses), "outputs": torch.cat(outputs, 1)}
    return {**made, **rule.network.state_dict(), **stream.state_dict()}


def native(rule, optimizer, inputs, targets):
    """What the native call gives for the first chunk of a stream of the rule's."""
    stream = tl.Stream(rule, optimizer, len(inputs))
    chunk = inputs.transpose(0, 1), targets.transpose(0, 1)
    return run_tanh_layer(rule, optimizer, stream.memory, *chunk, stream.key, stream.steps)


def perturbed(net, rule=tl.NP, **options):
    return rule(net, **{"loss": "mse", "sigma": 0.01, **options})


def test_every_rule_in_the_table_is_compared():
    assert set(RULES.values()) == set(NATIVE)


@pytest.mark.parametrize(
    ("name", "decorrelate", "tau"),
    covering(
        product(RULES, (None, 0.01, tl.Decorrelation(0.01, norm="preserve")), (1.0, 2.0)),
        pairs=True,
    ),
)
def test_a_native_run_is_the_loop(monkeypatch, name, decorrelate, tau):
    inputs, targets = data()
    native_net = network(decorrelate, tau=tau)
    loop_net = copy.deepcopy(native_net)
    calls = []

    def watched(*args):
        calls.append(run_tanh_layer(*args))
        return calls[-1]

    monkeypatch.setattr(fast_stream, "run_tanh_layer", watched)
    chunks = [(inputs[:, :9], targets[:, :9]), (inputs[:, 9:], targets[:, 9:])]
    options = {"loss": "mse", "trace": "leak"} if name == "dfa" else {"loss": "mse"}
    options |= {"sigma": 0.05} if RULES[name].spec.draws else {}
    found = learn(RULES[name](native_net, **options), chunks)
    by_the_loop = [None] if name == "wp-authors-code" else []  # its first step is another one
    assert [None if made is None else "native" for made in calls] == [
        *by_the_loop,
        "native",
        "native",
    ]
    monkeypatch.setattr(fast.NativeStream, "run", lambda *_: None)
    expected = learn(RULES[name](loop_net, **options), [(inputs, targets)])
    assert_close(found, expected, atol=1e-9, rtol=1e-9)
    assert found["losses"].shape == (18,)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("decorrelate", [None, 0.01])
@pytest.mark.parametrize("name", ["tbptt", "dfa", "rflo"])
def test_cross_entropy_is_that_of_the_loop(monkeypatch, name, decorrelate, smoothing):
    inputs, _ = data()
    classes = torch.randint(3, inputs.shape[:2], generator=torch.Generator().manual_seed(2))
    rule = RULES[name](
        network(decorrelate, tau=2.0),
        **({"trace": "leak"} if name == "dfa" else {}),
        loss=tl.losses.CrossEntropy(label_smoothing=smoothing),
    )
    twin = copy.deepcopy(rule)
    calls = []
    monkeypatch.setattr(
        fast_stream,
        "run_tanh_layer",
        lambda *args: calls.append(run_tanh_layer(*args)) or calls[-1],
    )
    found = learn(rule, [(inputs, classes)])
    assert calls[0] is not None
    monkeypatch.setattr(fast.NativeStream, "run", lambda *_: None)
    assert_close(found, learn(twin, [(inputs, classes)]), atol=1e-9, rtol=1e-9)


REFUSED = {
    "momentum": (lambda net: torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9), {}, {}),
    "decay": (lambda net: torch.optim.SGD(net.parameters(), lr=LR, weight_decay=0.1), {}, {}),
    "adam": (lambda net: torch.optim.Adam(net.parameters()), {}, {}),
    "a part": (lambda net: torch.optim.SGD(net.recurrent.parameters(), lr=LR), {}, {}),
    "two rates": (
        lambda net: torch.optim.SGD(
            [
                {"params": net.recurrent.parameters(), "lr": 0.1},
                {"params": net.readout.parameters(), "lr": 0.2},
            ]
        ),
        {},
        {},
    ),
    "antithetic": (plain, {"antithetic": True}, {}),
    "directions": (plain, {"directions": 2}, {}),
    "one reward": (plain, {"reward": "batch", "carry": False}, {}),
    "layers": (plain, {}, {"num_layers": 2}),
    "loss": (plain, {"loss": "bce"}, {}),
    "classes": (plain, {"loss": "cross_entropy"}, {}),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_the_native_call_cannot_do_is_left_to_the_loop(why):
    optimizer, options, shape = REFUSED[why]
    net = network(**shape)
    rule = tl.NP(net, **{"loss": "mse", **options})
    inputs, targets = data(3)
    targets = targets.argmax(-1) if why == "classes" else targets.sigmoid()
    assert native(rule, optimizer(net), inputs, targets) is None
    assert tl.Stream(rule, optimizer(net), 4).run(inputs, targets).loss.shape == (3,)


def test_a_rule_made_of_another_is_left_to_the_loop():
    class Louder(tl.NP):
        def directions_of_credit(self, runs):
            return super().directions_of_credit(runs)

    net = network()
    inputs, targets = data(3)
    assert native(perturbed(net), plain(net), inputs, targets) is not None
    assert native(perturbed(net, Louder), plain(net), inputs, targets) is None
    assert native(perturbed(net, tl.ANP, clean=False), plain(net), inputs, targets) is None


def test_wrong_tensors_are_refused_as_the_loop_refuses_them():
    net = network()
    stream = tl.Stream(perturbed(net), plain(net), 4)
    inputs, targets = data(3)
    with pytest.raises(tl.ArgumentError, match="targets"):
        stream.run(inputs, targets[..., :1])
    with pytest.raises(tl.ArgumentError, match="inputs: got 3 sequences, expected 4"):
        stream.run(inputs[:3], targets[:3])
    assert stream.steps == 0


def test_hooks_of_the_optimizer_are_called_at_every_step():
    net = network().float()
    inputs, targets = (tensor.float() for tensor in data())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    calls = []
    for register in (optimizer.register_step_pre_hook, optimizer.register_step_post_hook):
        handle = register(lambda *_: calls.append(1))
        tl.Stream(perturbed(net), optimizer, 4).run(inputs, targets)
        assert len(calls) == inputs.shape[1]
        calls.clear()
        handle.remove()
    handle = register_optimizer_step_post_hook(lambda *_: calls.append(1))
    try:
        tl.Stream(perturbed(net), optimizer, 4).run(inputs, targets)
        assert len(calls) == inputs.shape[1]
    finally:
        handle.remove()
    calls.clear()
    assert native(perturbed(net), optimizer, inputs, targets) is not None
    assert calls == []


@pytest.mark.filterwarnings("error")
def test_a_scheduler_may_follow_a_chunk():
    net = network().float()
    inputs, targets = (tensor.float() for tensor in data())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    assert native(perturbed(net), optimizer, inputs, targets) is not None
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
