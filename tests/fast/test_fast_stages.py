"""A stream in four native stages makes the steps that the loop makes, whatever they are made of."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import NETWORKS
from timelocal import fast, kernels
from timelocal.fast import optimizers

pytestmark = pytest.mark.skipif(
    kernels.describe()["path"] != "native", reason="no native kernel is active"
)

RULES = {
    "dfa": partial(tl.DFA),
    "dfa leak": partial(tl.DFA, trace="leak"),
    "dfa exact": partial(tl.DFA, feedback="exact"),
    "dfa symmetric": partial(tl.DFA, feedback="symmetric"),
    "rflo": partial(tl.RFLO),
    "eprop": partial(tl.EProp),
    "snap1": partial(tl.SnAp1),
    "tbptt": partial(tl.TBPTT, k=1),
    "np": partial(tl.NP, sigma=0.1),
    "np to go": partial(tl.NP, sigma=0.1, credit="to_go"),
    "np many": partial(tl.NP, sigma=0.1, directions=3, antithetic=True, credit="trace(0.8)"),
    "np one step": partial(tl.NP, sigma=0.1, carry=False, reward="batch"),
    "anp": partial(tl.ANP, sigma=0.1),
    "anp by layer": partial(tl.ANP, sigma=0.1, norm="layer", directions=2, credit="trace(0.5)"),
    "np orthogonal": partial(tl.NP, sigma=0.1, noise="orthogonal", directions=5),
    "anp orthogonal": partial(tl.ANP, sigma=0.1, noise="orthogonal", directions=130, carry=False),
    "wp": partial(tl.WP, sigma=0.1),
    "wp many": partial(tl.WP, sigma=0.1, directions=2, antithetic=True),
}
TRACED = {"dfa leak", "rflo", "eprop", "snap1"}
LOSSES = {
    "mse": tl.losses.MSE(),
    "bce": tl.losses.BCE(),
    "cross-entropy": tl.losses.CrossEntropy(),
    "smoothed": tl.losses.CrossEntropy(0.1, torch.tensor([1.0, 3.0, 0.5])),
}
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05),
    "decay": partial(torch.optim.SGD, lr=0.05, weight_decay=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "nesterov": partial(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.01, betas=(0.8, 0.99), weight_decay=0.01),
    "fused adam": partial(torch.optim.Adam, lr=0.01, fused=True),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.01, weight_decay=0.01),
}
INPUTS, HIDDEN, OUTPUTS = 4, 9, 3


def data(loss: str, batch: int, steps: int, masked: bool = False) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    shape = (batch, steps)
    inputs = torch.randn(*shape, INPUTS, generator=draw, dtype=torch.float64)
    if loss == "mse":
        targets = torch.randn(*shape, OUTPUTS, generator=draw, dtype=torch.float64)
    elif loss == "bce":
        targets = torch.rand(*shape, OUTPUTS, generator=draw, dtype=torch.float64)
    else:
        targets = torch.randint(OUTPUTS, shape, generator=draw)
    mask = torch.rand(shape, generator=draw) * (torch.rand(shape, generator=draw) > 0.4)
    return (inputs, targets, mask) if masked else (inputs, targets)


def a_stream(
    rule: str,
    cell: str,
    loss: str = "mse",
    optimizer: str = "sgd",
    layers: int = 1,
    batch: int = 2,
    bias: bool = True,
    clip: float | None = None,
    decorrelate: tl.Decorrelation | None = None,
    dtype: torch.dtype = torch.float64,
) -> tl.Stream:
    network = NETWORKS[cell](
        INPUTS, HIDDEN, OUTPUTS, num_layers=layers, bias=bias, decorrelate=decorrelate, seed=1
    ).to(dtype)
    made = RULES[rule](network, loss=LOSSES[loss], at="every")
    return tl.Stream(made, OPTIMIZERS[optimizer](made.parameters()), batch, clip=clip)


def kept(stream: tl.Stream) -> dict[str, Tensor]:
    """All that a stream moves: parameters, states and traces, and the optimizer's moments."""
    found = dict(stream.rule.network.state_dict()) | stream.state_dict()
    for index, state in stream.optimizer.state_dict()["state"].items():
        found |= {f"{index}.{name}": value for name, value in state.items()}
    return {name: value.clone() for name, value in found.items() if isinstance(value, Tensor)}


def by_the_loop(stream: tl.Stream, inputs: Tensor, targets: Tensor, mask: Tensor | None = None):
    """Step by step in Python, which gives whole estimates."""
    losses = [
        stream.step(x, y, mask=counts, gradients=True).loss
        for x, y, counts in zip(
            inputs.unbind(1),
            targets.unbind(1),
            [None] * inputs.shape[1] if mask is None else mask.unbind(1),
            strict=True,
        )
    ]
    return torch.stack(losses)


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps each native call that was made did; 0 for one that was refused."""
    calls: list[int] = []
    own = fast.NativeStream.run

    def watched(self, memory, inputs, *rest):
        found = own(self, memory, inputs, *rest)
        calls.append(0 if found is None else len(inputs))
        return found

    monkeypatch.setattr(fast.NativeStream, "run", watched)
    return calls


def alike(one: dict[str, Tensor], other: dict[str, Tensor], **tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance
        )


DRAWN = {
    "rule": st.sampled_from(sorted(RULES)),
    "cell": st.sampled_from(sorted(NETWORKS)),
    "loss": st.sampled_from(sorted(LOSSES)),
    "layers": st.integers(1, 3),
    "batch": st.integers(1, 5),
    "masked": st.booleans(),
    "bias": st.booleans(),
    "clip": st.sampled_from([None, 0.01, 1.0]),
    "decorrelate": st.sampled_from(
        [None, tl.Decorrelation(0.1), tl.Decorrelation(0.1, norm="preserve")]
    ),
}


def both_ways(
    rule, cell, loss, optimizer, layers, batch, masked, bias, clip, decorrelate, dtype
) -> tuple[tuple[Tensor, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]] | None:
    """Losses and all that has moved, by the stages and by the loop; None of what has no stages."""
    if (cell == "gru-reset-before" and rule in TRACED) or (rule == "dfa symmetric" and layers > 1):
        return None
    native, loop = (
        a_stream(rule, cell, loss, optimizer, layers, batch, bias, clip, decorrelate, dtype)
        for _ in range(2)
    )
    inputs, targets, *mask = (
        own.to(dtype) if own.is_floating_point() else own for own in data(loss, batch, 7, masked)
    )
    counts = mask[0] if mask else None
    with pytest.MonkeyPatch.context() as patch:
        calls = calls_of(patch)
        losses = native.run(inputs, targets, mask=counts).loss
    assert calls[-1] >= 4  # but for the optimizer's own first step that counts
    return (losses, kept(native)), (by_the_loop(loop, inputs, targets, counts), kept(loop))


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(**DRAWN, optimizer=st.sampled_from(sorted(OPTIMIZERS)))
@example(
    rule="snap1",
    cell="lstm",
    loss="smoothed",
    optimizer="adamw",
    layers=2,
    batch=3,
    masked=True,
    bias=True,
    clip=0.1,
    decorrelate=tl.Decorrelation(0.1),
)
@example(
    rule="eprop",
    cell="gru",
    loss="cross-entropy",
    optimizer="adam",
    layers=1,
    batch=1,
    masked=False,
    bias=True,
    clip=None,
    decorrelate=tl.Decorrelation(0.1, "preserve"),
)
@example(
    rule="wp many",
    cell="gru-reset-before",
    loss="bce",
    optimizer="rmsprop",
    layers=2,
    batch=2,
    masked=True,
    bias=False,
    clip=0.1,
    decorrelate=tl.Decorrelation(0.1),
)
@example(
    rule="anp by layer",
    cell="leaky",
    loss="mse",
    optimizer="nesterov",
    layers=2,
    batch=2,
    masked=True,
    bias=True,
    clip=None,
    decorrelate=tl.Decorrelation(0.1),
)
@example(
    rule="anp orthogonal",
    cell="gru",
    loss="mse",
    optimizer="adam",
    layers=2,
    batch=2,
    masked=True,
    bias=True,
    clip=0.1,
    decorrelate=None,
)
@example(
    rule="dfa exact",
    cell="gru-reset-before",
    loss="mse",
    optimizer="sgd",
    layers=2,
    batch=2,
    masked=True,
    bias=True,
    clip=None,
    decorrelate=tl.Decorrelation(0.1),
)
@example(
    rule="dfa symmetric",
    cell="gru",
    loss="mse",
    optimizer="sgd",
    layers=1,
    batch=2,
    masked=True,
    bias=True,
    clip=None,
    decorrelate=tl.Decorrelation(0.1),
)
def test_native_stages_are_the_loop(
    rule, cell, loss, optimizer, layers, batch, masked, bias, clip, decorrelate
):
    made = both_ways(
        rule, cell, loss, optimizer, layers, batch, masked, bias, clip, decorrelate, torch.float64
    )
    if made is not None:
        (losses, native), (expected, loop) = made
        torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-11)
        alike(native, loop, rtol=1e-7, atol=1e-9)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(**DRAWN, optimizer=st.sampled_from(["decay", "momentum", "nesterov"]))
def test_native_stages_are_the_loop_in_single_precision(**drawn):
    """By optimizers that do not divide by the gradient: of one near zero rounding decides the sign."""
    made = both_ways(**drawn, dtype=torch.float32)
    if made is not None:
        (losses, native), (expected, loop) = made
        torch.testing.assert_close(losses, expected, rtol=1e-3, atol=1e-4)
        alike(native, loop, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("rule", "cell"), covering(product(("dfa", "np", "anp", "wp", "tbptt"), NETWORKS))
)
def test_single_precision_is_near_double(rule, cell):
    exact, single = a_stream(rule, cell, optimizer="adam"), a_stream(rule, cell, optimizer="adam")
    single.rule.float()
    single = tl.Stream(single.rule, OPTIMIZERS["adam"](single.rule.parameters()), 2)
    single.key = exact.key
    inputs, targets = data("mse", 2, 12)
    expected = exact.run(inputs, targets)
    found = single.run(inputs.float(), targets.float())
    torch.testing.assert_close(found.outputs.double(), expected.outputs, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(found.loss.double(), expected.loss, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_result_does_not_depend_on_threads_or_chunks(rule):
    """So large that two threads share it."""
    found = []
    for threads, chunks in ((1, (5,)), (2, (2, 1, 2))):
        law = 0.01 if rule in ("dfa exact", "eprop", "np many") else None
        layers = 2 if rule != "dfa symmetric" else 1
        network = tl.GRU(40, 330, 17, num_layers=layers, decorrelate=law, seed=1)
        made = RULES[rule](network, loss="mse", at="every")
        clip = 0.1 if rule in ("dfa", "eprop", "wp") else None
        stream = tl.Stream(made, torch.optim.Adam(made.parameters(), lr=1e-3), 2, clip=clip)
        draw = torch.Generator().manual_seed(2)
        inputs, targets = (torch.randn(2, 5, n, generator=draw) for n in (40, 17))
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        stream.run(
            inputs[:, :1], targets[:, :1]
        )  # the optimizer's own first step is torch's affair
        torch.set_num_threads(threads)
        try:
            parts = zip(inputs.split(chunks, 1), targets.split(chunks, 1), strict=True)
            outputs = torch.cat([stream.run(x, y).outputs for x, y in parts], 1)
        finally:
            torch.set_num_threads(before)
        found.append({**kept(stream), "outputs": outputs})
    one, other = found
    for name, value in one.items():
        if not name.startswith("0.") or "step" in name:
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize(
    ("rule", "optimizer"), covering(product(("dfa", "eprop", "np to go", "wp"), OPTIMIZERS))
)
def test_where_nothing_counts_no_weight_and_no_moment_moves(rule, optimizer):
    stream = a_stream(rule, "gru", optimizer=optimizer)
    inputs, targets = data("mse", 2, 6)
    stream.run(inputs, targets)
    before = kept(stream)
    stream.run(inputs, targets, mask=torch.zeros(2, 6, dtype=torch.bool))
    after = kept(stream)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    carried = {"steps", *stream.memory}
    assert moved <= carried
    assert moved & set(stream.memory)


def test_frozen_parameters_and_those_of_no_group_stay(monkeypatch):
    stream = a_stream("dfa", "gru")
    network = stream.rule.network
    network.recurrent.weight_ih_l0.requires_grad_(False)
    optimizer = torch.optim.SGD([network.recurrent.weight_hh_l0, network.readout.weight], lr=0.1)
    stream = tl.Stream(stream.rule, optimizer, 2)
    before, calls = copy.deepcopy(network.state_dict()), calls_of(monkeypatch)
    stream.run(*data("mse", 2, 5))
    assert calls == [5]
    moved = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == {"recurrent.weight_hh_l0", "readout.weight"}


def test_groups_have_rates_of_their_own_and_a_scheduler_is_heard():
    found = []
    for run in (lambda stream, *rows: stream.run(*rows), by_the_loop):
        stream = a_stream("dfa", "lstm")
        network = stream.rule.network
        groups = [
            {"params": network.recurrent.parameters(), "lr": 0.01},
            {"params": network.readout.parameters(), "lr": 0.1, "weight_decay": 0.1},
        ]
        stream = tl.Stream(stream.rule, torch.optim.AdamW(groups), 2)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(stream.optimizer, 0.5)
        for seed in range(3):
            rows = data("mse", 2, 4)
            run(stream, rows[0] + seed, rows[1])
            scheduler.step()
        found.append(kept(stream))
    alike(*found, rtol=1e-9, atol=1e-11)


def test_what_lies_elsewhere_now_is_found_there(monkeypatch):
    """Weights, moments and feedback may be replaced between any two steps."""
    inputs, targets = data("mse", 2, 12)

    def replace(stream: tl.Stream) -> None:
        network = stream.rule.network
        state = {name: 0.5 * value for name, value in network.state_dict().items()}
        network.load_state_dict(state, assign=True)
        stream.rule.feedback_l0 = stream.rule.feedback_l0.neg()
        stream.optimizer.param_groups[0]["params"] = list(network.parameters())
        stream.optimizer.state.clear()

    streams = [a_stream("dfa", "gru", optimizer="adam") for _ in range(2)]
    for stream, run in zip(streams, (tl.Stream.run, by_the_loop), strict=True):
        run(stream, inputs[:, :6], targets[:, :6])
        replace(stream)
        run(stream, inputs[:, 6:], targets[:, 6:])
    alike(*map(kept, streams), rtol=1e-9, atol=1e-11)


def set_data(parameter: Tensor, change) -> None:
    parameter.data = change(parameter.data)


CHANGES = {
    "where a weight lies": lambda s: set_data(
        s.rule.network.readout.weight, lambda w: w.clone() + 1
    ),
    "how a weight lies": lambda s: set_data(
        s.rule.network.readout.weight, lambda w: w.t().clone().t()
    ),
    "a weight frozen": lambda s: s.rule.network.recurrent.weight_hh_l0.requires_grad_(False),
    "a moment": lambda s: s.optimizer.state[s.rule.network.readout.weight].update(
        exp_avg=torch.ones(3, 9, dtype=torch.float64)
    ),
    "a learning rate": lambda s: s.optimizer.param_groups[0].update(lr=0.5),
    "an option": lambda s: s.optimizer.param_groups[0].update(weight_decay=0.3),
    "a feedback": lambda s: s.rule.feedback_matrix(0).neg_(),
    "a hook": lambda s: s.rule.network.readout.register_forward_hook(lambda *_: None),
    "a loss": lambda s: setattr(s.rule, "loss", tl.losses.BCE()),
    "states": lambda s: s.memory.update(states=torch.ones_like(s.memory["states"])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_single_steps_follow_what_changes_between_them(change):
    streams = [a_stream("dfa", "gru", optimizer="adam") for _ in range(2)]
    inputs, targets = data("bce", 2, 8)
    for stream, gradients in zip(streams, (False, True), strict=True):
        for t in range(8):
            if t == 5:
                with torch.no_grad():
                    CHANGES[change](stream)
            stream.step(inputs[:, t], targets[:, t], gradients=gradients)
    alike(*map(kept, streams), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_of_a_stream_goes_on_by_itself(copied):
    stream = a_stream("eprop", "gru", optimizer="adam")
    inputs, targets = data("mse", 2, 6)
    stream.run(inputs, targets)
    other, before = copied(stream), kept(stream)
    expected = other.run(inputs, targets)
    assert all(torch.equal(value, before[name]) for name, value in kept(stream).items())
    torch.testing.assert_close(stream.run(inputs, targets), expected, rtol=0, atol=0)


def test_a_readout_may_grow_in_mid_stream():
    stream = a_stream("tbptt", "gru")
    inputs, targets = data("mse", 2, 4)
    stream.run(inputs, targets)
    network = stream.rule.network
    network.readout = torch.nn.Linear(HIDDEN, OUTPUTS + 1).double()
    stream.optimizer.param_groups[0]["params"] = list(network.parameters())
    wider = torch.cat((targets, targets[..., :1]), -1)
    assert stream.run(inputs, wider).outputs.shape == (2, 4, OUTPUTS + 1)


@pytest.mark.parametrize(
    "why", ["amsgrad", "maximize", "hook", "other", "decorrelation", "readout", "loss", "rule"]
)
def test_what_the_stages_cannot_do_is_left_to_the_loop(why, monkeypatch):
    law = tl.Decorrelation(0.01, sync=True)  # which waits for other ranks
    network = tl.GRU(INPUTS, HIDDEN, OUTPUTS, decorrelate=law if why == "decorrelation" else None)
    if why == "readout":
        network.readout = torch.nn.Sequential(torch.nn.Linear(HIDDEN, OUTPUTS))
    kind = type("Other", (tl.DFA,), {}) if why == "rule" else tl.DFA
    loss = (lambda y, t: (y - t).abs().sum(-1)) if why == "loss" else "mse"
    rule = kind(network, loss=loss)
    options = {why: True} if why in ("amsgrad", "maximize") else {}
    optimizer = torch.optim.Adam(rule.parameters(), **options)
    if why == "hook":
        optimizer.register_step_post_hook(lambda *_: None)
    if why == "other":
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    stream = tl.Stream(rule, optimizer, 2)
    calls = calls_of(monkeypatch)
    inputs, targets = (rows.float() for rows in data("mse", 2, 4))
    assert stream.run(inputs, targets).loss.isfinite().all()
    assert set(calls) == {0}


def test_autograd_hears_that_weights_have_changed():
    """A backward pass through a weight that has moved since is refused, as after any in-place change."""
    stream = a_stream("dfa", "gru")
    weight = stream.rule.network.readout.weight
    kept_for_later = (weight * weight).sum()
    stream.run(*data("mse", 2, 5))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept_for_later.backward()


def test_a_state_that_was_taken_stays_what_it_was():
    stream = a_stream("eprop", "lstm")
    inputs, targets = data("mse", 2, 6)
    stream.run(inputs, targets)
    taken = stream.state_dict()
    before = {name: value.clone() for name, value in taken.items()}
    stream.run(inputs, targets)
    assert all(torch.equal(value, before[name]) for name, value in taken.items())


def test_every_row_of_the_tables_is_compared():
    from timelocal.fast import optimizers, stages
    from timelocal.rules import staged

    compared = {made.func for made in RULES.values()}
    elementwise = {tl.RTRL}  # on those cells alone: `test_fast_elementwise.py`
    assert set(stages.CREDITS) == compared | elementwise
    assert set(optimizers.NATIVE) == {made.func for made in OPTIMIZERS.values()}
    assert {type(loss) for loss in LOSSES.values()} == set(staged.LOSSES)


@pytest.mark.parametrize(("name", "value"), [("exp_avg", torch.zeros(1)), ("step", torch.zeros(2))])
def test_moments_of_another_shape_are_not_taken(name: str, value: torch.Tensor) -> None:
    weight = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = torch.optim.Adam([weight])
    weight.grad = torch.ones(3, 2)
    optimizer.step()
    state, group = optimizer.state[weight], optimizer.param_groups[0]
    native = optimizers.native_of(optimizer, [weight])
    assert native is not None
    assert optimizers.moments(native, group, state, weight) is not None
    assert optimizers.moments(native, group, {**state, name: value}, weight) is None
