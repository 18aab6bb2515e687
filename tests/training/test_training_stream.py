"""A stream: kept and gone on with in any order, its arguments and states checked at the door."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch.testing import assert_close

import timelocal as tl
from timelocal.errors import ArgumentError


def made(dropout: float = 0.3) -> tuple[tl.Network, tl.Rule, torch.optim.Optimizer]:
    network = tl.GRU(2, 8, output_size=3, num_layers=2, dropout=dropout)
    rule = tl.DFA(network, loss="mse")
    return network, rule, torch.optim.SGD(rule.parameters(), lr=0.1)


def stream_of(rule: tl.Rule, batch_size: int = 4, lr: float = 0.0) -> tl.Stream:
    """A stream in which no weight moves, unless it is told how fast."""
    return tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=lr), batch_size)


def data(steps: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, steps, 2, generator=generator), torch.randn(
        4, steps, 3, generator=generator
    )


@pytest.mark.parametrize("stream_first", [True, False])
def test_a_stream_with_dropout_goes_on_in_the_same_bits(stream_first: bool) -> None:
    x, y = data()
    _, rule, optimizer = made()
    stream = tl.Stream(rule, optimizer, 4)
    stream.run(x[:, :3], y[:, :3])
    saved = copy.deepcopy((rule.state_dict(), stream.state_dict()))
    wanted = stream.run(x[:, 3:], y[:, 3:])
    _, rule, optimizer = made()
    again = tl.Stream(rule, optimizer, 4) if stream_first else None
    rule.load_state_dict(saved[0])
    again = again or tl.Stream(rule, optimizer, 4)
    again.load_state_dict(saved[1])
    assert_close(again.run(x[:, 3:], y[:, 3:]), wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("other", "batch", "word"),
    [
        (tl.RNN(2, 8, output_size=3), 5, "states"),
        (tl.RNN(2, 8, output_size=3, num_layers=2), 4, "states"),
        (tl.LSTM(2, 8, output_size=3), 4, "states"),
        (tl.RNN(2, 8, output_size=3).double(), 4, "float64"),
    ],
)
def test_the_state_of_another_stream_is_refused_and_nothing_changed(
    other: tl.Network, batch: int, word: str
) -> None:
    stream = stream_of(tl.DFA(tl.RNN(2, 8, output_size=3), loss="mse"))
    before = copy.deepcopy(stream.state_dict())
    theirs = tl.DFA(other, loss="mse")
    with pytest.raises(ArgumentError, match=word):
        stream.load_state_dict(stream_of(theirs, batch).state_dict())
    with pytest.raises(ArgumentError, match="'key': got nothing"):
        stream.load_state_dict({name: one for name, one in before.items() if name != "key"})
    assert_close(stream.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("inputs", "targets", "mask", "told"),
    [
        (torch.zeros(4, 2), None, None, "targets: got None"),
        (torch.zeros(4, 2), [[0.0] * 3] * 4, None, "targets: got a list"),
        (
            torch.zeros(4, 2),
            torch.zeros(4),
            None,
            r"targets: got shape \(4,\), expected shape \(4, 3\)",
        ),
        (torch.zeros(4, 2), torch.zeros(4, 3), [True] * 4, "mask: got a list"),
        (torch.zeros(4, 2), torch.zeros(4, 3), torch.ones(3), r"mask: got shape \(3,\)"),
        (
            torch.zeros(4, 3),
            torch.zeros(4, 3),
            None,
            r"inputs: got shape \(4, 3\), expected shape \(4, 2\)",
        ),
        (
            torch.zeros(3, 2),
            torch.zeros(3, 3),
            None,
            r"inputs: got shape \(3, 2\), expected shape \(4, 2\)",
        ),
    ],
)
def test_what_is_wrong_with_a_step_is_told_in_the_shapes_that_were_given(
    inputs, targets, mask, told
):
    stream = stream_of(made()[1])
    with pytest.raises(ArgumentError, match=told):
        stream.step(inputs, targets, mask=mask)
    assert stream.steps == 0


def test_an_optimizer_of_another_network_is_refused() -> None:
    _, rule, _ = made()
    before = rule.get_extra_state()
    with pytest.raises(ArgumentError, match="optimizer: got none of the parameters"):
        tl.Stream(rule, made()[2], 4)
    assert torch.equal(rule.get_extra_state(), before)  # no key was drawn


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])  # one call, and the loop
def test_a_chunk_is_its_steps_and_leaves_grad_as_it_was(optimizer) -> None:
    x, y = data(5)
    rules = [tl.TBPTT(tl.RNN(2, 8, output_size=3), 1, loss="mse") for _ in range(2)]
    chunk, steps = (tl.Stream(rule, optimizer(rule.parameters(), lr=0.1), 4) for rule in rules)
    for rule in rules:
        rule(x, y[:, -1]).backward()
    kept = {name: parameter.grad.clone() for name, parameter in rules[0].named_parameters()}
    found = chunk.run(x, y)
    apart = [steps.step(x[:, t], y[:, t]) for t in range(5)]
    assert_close(found.loss, torch.stack([one.loss for one in apart]))
    assert_close(found.outputs, torch.stack([one.outputs for one in apart], 1))
    assert_close(rules[0].state_dict(), rules[1].state_dict())
    for rule in rules:
        assert_close({name: p.grad for name, p in rule.named_parameters()}, kept, rtol=0, atol=0)
    frozen = tl.Stream(rules[0], torch.optim.SGD(rules[0].parameters(), lr=0.0), 4)
    estimate = frozen.step(x[:, 0], y[:, 0], gradients=True)
    assert {f"network.{name}" for name in estimate.gradients} == kept.keys()


@pytest.mark.parametrize("ones", [torch.ones(4, 12), torch.ones(4, 12, dtype=torch.bool)])
@pytest.mark.parametrize("cell", [tl.RNN, tl.GRU])  # the call of one tanh layer, and the stages
def test_a_mask_of_ones_is_none(cell, ones) -> None:
    x, y = data(12)
    rules = [tl.DFA(cell(2, 8, output_size=3, seed=1), loss="mse") for _ in range(2)]
    plain, masked = (tl.Stream(r, torch.optim.SGD(r.parameters(), lr=0.1), 4) for r in rules)
    assert_close(masked.run(x, y, mask=ones), plain.run(x, y), rtol=0, atol=0)
    assert_close(rules[1].state_dict(), rules[0].state_dict(), rtol=0, atol=0)


RULES = {
    "dfa": lambda network: tl.DFA(network, loss="mse"),
    "rflo": lambda network: tl.RFLO(network, loss="mse"),
    "rtrl": lambda network: tl.RTRL(network, loss="mse"),
    "snap1": lambda network: tl.SnAp1(network, loss="mse"),
    "uoro": lambda network: tl.UORO(network, loss="mse"),
    "tbptt": lambda network: tl.TBPTT(network, 3, loss="mse"),
    "np": lambda network: tl.NP(network, loss="mse", sigma=0.01),
    "anp-trace": lambda network: tl.ANP(network, loss="mse", sigma=0.01, credit="trace(0.9)"),
    "wp": lambda network: tl.WP(network, loss="mse", sigma=0.01),
}


@pytest.mark.parametrize("name", RULES)
def test_steps_without_a_target_move_states_and_traces_on(name: str) -> None:
    """With weights that stand still the steps that count make what they make of any stream."""
    x, y = (tensor.double() for tensor in data(8))
    network = tl.RNN(2, 8, output_size=3, tau=2.0).double()
    whole, sparse = (stream_of(RULES[name](network).double()) for _ in range(2))
    for t in range(8):
        with_target = t % 3 == 2
        counts = torch.full((4,), with_target)
        known = y[:, t] if with_target else torch.full_like(y[:, t], torch.nan)
        wanted = whole.step(x[:, t], y[:, t], gradients=True)
        found = sparse.step(x[:, t], known, mask=counts, gradients=True)
        if with_target and name != "anp-trace":
            assert_close(found.gradients, wanted.gradients, atol=1e-12, rtol=0)
        if not with_target:
            assert (found.loss, found.count) == (0, 0)
            assert all(not gradient.any() for gradient in found.gradients.values())
    for key, kept in whole.state_dict().items():
        assert_close(sparse.state_dict()[key], kept, atol=1e-12, rtol=0)


def test_a_chunk_with_a_mask_is_its_steps_and_weights_rest_where_nothing_counts() -> None:
    x, y = data(5)
    mask = torch.tensor([[1, 0, 1, 0, 1]] * 3 + [[0, 0, 1, 0, 0]], dtype=torch.bool)
    y = y.masked_fill(~mask[..., None], torch.nan)
    chunk, steps = (tl.RNN(2, 8, output_size=3) for _ in range(2))
    optimizers = [torch.optim.Adam(one.parameters(), lr=0.1) for one in (chunk, steps)]
    whole = tl.Stream(RULES["rflo"](chunk), optimizers[0], 4)
    losses = whole.run(x, y, mask=mask).loss
    stream, apart = tl.Stream(RULES["rflo"](steps), optimizers[1], 4), []
    for t in range(5):
        before = copy.deepcopy(steps.state_dict())
        apart.append(stream.step(x[:, t], y[:, t], mask=mask[:, t]).loss)
        if not mask[:, t].any():
            assert_close(steps.state_dict(), before, rtol=0, atol=0)
    assert_close(losses, torch.stack(apart), rtol=0, atol=0)
    assert_close(chunk.state_dict(), steps.state_dict(), rtol=0, atol=0)
    with pytest.raises(ArgumentError, match=r"mask: got shape \(4,\)"):
        whole.run(x, y, mask=mask[:, 0])


KINDS = {
    "dfa": tl.DFA,
    "rflo": tl.RFLO,
    "eprop": tl.EProp,
    "dfa, diagonal": lambda n, **k: tl.DFA(n, trace="diagonal", **k),
    "dfa, kolen_pollack": lambda n, **k: tl.DFA(n, feedback="kolen_pollack", **k),
    "dfa, one F a parameter": lambda n, **k: tl.DFA(n, feedback_per="parameter", **k),
}


@pytest.mark.parametrize(
    ("kind", "deep"),
    [
        (kind, deep)
        for kind in KINDS
        for deep in (False, True)
        if not (deep and kind == "dfa, kolen_pollack")  # its feedback follows a linear readout
    ],
)
def test_a_widened_readout_is_told_by_its_cause(kind: str, deep: bool) -> None:
    def readout(outputs: int) -> torch.nn.Module:
        linear = torch.nn.Linear(8, outputs)
        return torch.nn.Sequential(linear) if deep else linear

    network = tl.from_torch(torch.nn.RNN(2, 8, batch_first=True), readout(3))
    rule = KINDS[kind](network)
    stream = stream_of(rule)
    x, y = torch.zeros(4, 6, 2), torch.full((4, 6), 3)
    stream.step(x[:, 0], y[:, 0] - 1)
    before = copy.deepcopy((rule.state_dict(), stream.state_dict()))
    network.readout = readout(4)
    told = "a feedback with 3 outputs and a readout with 4.*create the rule and its optimizer again"
    for call in (lambda: stream.run(x, y), lambda: stream.step(x[:, 0], y[:, 0])):
        with pytest.raises(ArgumentError, match=told):
            call()
    with pytest.raises(ArgumentError, match=told):
        rule.estimate(x, y[:, 0])
    assert_close(stream.state_dict(), before[1], rtol=0, atol=0)


@pytest.mark.parametrize("kind", [tl.NP, tl.ANP, tl.WP, tl.RTRL, tl.UORO, lambda n: tl.TBPTT(n, 1)])
def test_a_widened_readout_goes_on_where_nothing_is_carried_of_it(kind) -> None:
    network = tl.RNN(2, 8, 3)
    stream = stream_of(kind(network))
    stream.step(torch.zeros(4, 2), torch.full((4,), 2))
    network.readout = torch.nn.Linear(8, 4)
    assert stream.step(torch.zeros(4, 2), torch.full((4,), 3)).outputs.shape == (4, 4)


def test_traces_of_a_readout_that_is_gone_are_told() -> None:
    network = tl.RNN(2, 8, 3)
    stream = stream_of(tl.NP(network, credit="to_go"))
    stream.step(torch.zeros(4, 2), torch.full((4,), 2))
    network.readout = torch.nn.Linear(8, 4)
    with pytest.raises(
        ArgumentError, match=r"traces of the old one.*Create the stream and its optimizer again"
    ):
        stream.step(torch.zeros(4, 2), torch.full((4,), 3))


@pytest.mark.parametrize(
    "rows", [torch.tensor([True, False, True, False]), [0, 2], slice(0, None, 2)]
)
def test_rows_are_reset_however_they_are_told(rows) -> None:
    x, y = data()
    stream = stream_of(made()[1])
    stream.run(x, y)
    kept = {name: carried.clone() for name, carried in stream.memory.items()}
    stream.reset(rows)
    for name, carried in stream.memory.items():
        assert not carried[[0, 2]].any()
        assert torch.equal(carried[[1, 3]], kept[name][[1, 3]])


@pytest.mark.parametrize("rows", [[4], torch.ones(3) > 0, "all", 1.5])
def test_rows_that_are_not_there_are_told_and_nothing_reset(rows) -> None:
    x, y = data()
    stream = stream_of(made()[1])
    stream.run(x, y)
    before = copy.deepcopy(stream.state_dict())
    with pytest.raises(ArgumentError, match="rows: got"):
        stream.reset(rows)
    assert_close(stream.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("state", [None, {}, {1: torch.zeros(1)}, torch.zeros(2), "generator"])
def test_what_is_no_state_is_told_and_nothing_changed(state) -> None:
    x, y = data()
    stream = stream_of(made()[1])
    stream.run(x, y)
    before = copy.deepcopy(stream.state_dict())
    if state == "generator":  # of the right form, but no generator's
        state = {**stream.state_dict(), "generator": torch.zeros(5056, dtype=torch.uint8)}
        state["steps"] = torch.tensor(77)
    with pytest.raises(ArgumentError, match="state"):
        stream.load_state_dict(state)
    assert_close(stream.state_dict(), before, rtol=0, atol=0)


def test_a_stream_that_is_refused_draws_nothing() -> None:
    rule = tl.WP(tl.RNN(2, 4, 3), redraw="sequence")
    before = rule.get_extra_state()
    with pytest.raises(tl.UnsupportedError):
        stream_of(rule)
    assert torch.equal(rule.get_extra_state(), before)


CELLS = {"rnn": tl.RNN, "gru": tl.GRU}
ONLINE = {"dfa": tl.DFA, "np": tl.NP, "tbptt": lambda n: tl.TBPTT(n, 1)}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ONLINE)
def test_a_weight_of_another_shape_is_never_read_past_its_end(cell: str, kind: str) -> None:
    network = CELLS[cell](2, 8, 3)
    stream = stream_of(ONLINE[kind](network))
    x, y = torch.zeros(4, 20, 2), torch.zeros(4, 20).long()
    stream.run(x, y)
    network.recurrent.weight_hh_l0 = torch.nn.Parameter(torch.zeros(2, 2))
    for call in (lambda: stream.step(x[:, 0], y[:, 0]), lambda: stream.run(x, y)):
        with pytest.raises(ArgumentError, match=r"weight_hh|weight_ih"):
            call()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["np", "tbptt"])
@pytest.mark.parametrize("change", ["wider", "no bias", "a bias"])
def test_a_readout_that_was_altered_in_place_is_read_as_it_is(
    cell: str, kind: str, change: str
) -> None:
    def prepared() -> tl.Stream:
        network = CELLS[cell](2, 8, 3)
        if change == "a bias":
            network.readout.bias = None
        stream = stream_of(ONLINE[kind](network))
        stream.run(x, y)
        rows = 50 if change == "wider" else 3
        weight = torch.linspace(-1, 1, rows * 8).view(rows, 8)
        bias = None if change == "no bias" else torch.linspace(0, 5, rows)
        network.readout.weight = torch.nn.Parameter(weight)
        network.readout.bias = None if bias is None else torch.nn.Parameter(bias)
        return stream

    x, y = torch.ones(4, 20, 2), torch.zeros(4, 20).long()
    labels = torch.full((4,), 40 if change == "wider" else 2)
    by_loop = prepared().step(x[:, 0], labels, gradients=True)
    found = prepared().step(x[:, 0], labels)
    assert_close(found.outputs, by_loop.outputs)
    assert_close(found.loss, by_loop.loss)


def test_traces_of_a_weight_that_is_gone_are_told() -> None:
    network = tl.RNN(2, 8, 3)
    stream = stream_of(tl.NP(network, credit="to_go"))
    stream.step(torch.zeros(4, 2), torch.full((4,), 2))
    network.readout.weight = torch.nn.Parameter(torch.zeros(1, 8))
    network.readout.bias = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(ArgumentError, match="traces of the old one"):
        stream.step(torch.zeros(4, 2), torch.zeros(4).long())


@pytest.mark.parametrize("form", ["sparse", "nested"])
@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_a_tensor_of_another_kind_than_the_one_before_is_told(form: str, name: str) -> None:
    stream = stream_of(made()[1])
    given = {"inputs": torch.zeros(4, 2), "targets": torch.zeros(4, 3)}
    stream.step(**given)
    with warnings.catch_warnings():  # torch calls nested tensors a prototype
        warnings.simplefilter("ignore")
        dense = given[name]
        given[name] = (
            dense.to_sparse() if form == "sparse" else torch.nested.nested_tensor([*dense])
        )
    with pytest.raises(ArgumentError, match=f"{name}: got a"):
        stream.step(**given)


@pytest.mark.parametrize("go_on", ["predict", "learn", "run", "state_dict"])
def test_traces_of_a_readout_that_is_gone_are_told_with_a_step_predicted(go_on: str) -> None:
    network = tl.RNN(2, 8, 3)
    stream = stream_of(tl.NP(network, credit="to_go"))
    x, y = torch.zeros(4, 2), torch.full((4,), 2)
    stream.run(x[:, None].repeat(1, 5, 1), y[:, None].repeat(1, 5))
    stream.predict(x)
    network.readout = torch.nn.Linear(8, 40)
    call = {
        "predict": lambda: stream.predict(x),
        "learn": lambda: stream.learn(y),
        "run": lambda: stream.run(x[:, None], y[:, None]),
        "state_dict": stream.state_dict,
    }
    with pytest.raises(ArgumentError, match="traces of the old one"):
        call[go_on]()


@pytest.mark.parametrize("change", ["directions", "memory", "dtype"])
@pytest.mark.parametrize("call", ["step", "run", "predict", "peek"])
def test_what_is_carried_is_never_read_past_its_end(change: str, call: str) -> None:
    """A native step looks at no size: what does not fit goes to the loop, which tells."""
    rule = tl.NP(tl.RNN(2, 8, 3))
    stream = stream_of(rule)
    x, y = torch.zeros(4, 2), torch.full((4,), 2)
    for _ in range(3):
        stream.step(x, y)
    if change == "directions":
        rule.directions = 50
    elif change == "memory":
        stream.memory = {name: own[:1] for name, own in stream.memory.items()}
    else:
        stream.memory = {name: own.half() for name, own in stream.memory.items()}
    given = {"step": (x, y), "run": (x[:, None], y[:, None])}.get(call, (x,))
    before = [own.clone() for own in (*stream.memory.values(), *rule.parameters())]
    with pytest.raises(ArgumentError, match="memory '"):
        getattr(stream, call)(*given)
    assert stream.steps == 3
    for own, kept in zip((*stream.memory.values(), *rule.parameters()), before, strict=True):
        assert torch.equal(own, kept)


@pytest.mark.parametrize("kind", ["np", "dfa"])
def test_a_rule_that_has_left_memory_makes_no_step(kind: str) -> None:
    rule = ONLINE[kind](tl.RNN(2, 8, 3))
    stream = stream_of(rule)
    x, y = torch.zeros(4, 2), torch.full((4,), 2)
    stream.run(x[:, None].repeat(1, 5, 1), y[:, None].repeat(1, 5))
    stream.predict(x)
    stream.predict(x)
    rule.to("meta")
    for call in (lambda: stream.predict(x), lambda: stream.learn(y)):
        with pytest.raises((ArgumentError, RuntimeError)):
            call()


@pytest.mark.parametrize("delay", [2**31, 10**30, -1, 1.0, True])
def test_a_delay_that_no_machine_could_hold_is_told(delay: object) -> None:
    rule = tl.NP(tl.RNN(2, 8, 3))
    with pytest.raises(ArgumentError, match="max_delay: got"):
        tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1), max_delay=delay)


@pytest.mark.parametrize("call", ["step", "learn"])
def test_a_step_like_the_last_one_is_checked_by_its_values_under_its_own_mask(call: str) -> None:
    rule = tl.DFA(tl.GRU(2, 8, output_size=3))
    stream, (x, _) = stream_of(rule, lr=0.1), data()
    counts, classes = torch.tensor([True, True, False, True]), torch.tensor([0, 1, 2, 0])

    def go(targets: torch.Tensor, mask: torch.Tensor | None) -> None:
        if call == "step":
            stream.step(x[:, 0], targets, mask=mask)
        else:
            stream.predict(x[:, 0])
            stream.learn(targets, mask=mask)

    for _ in range(3):
        go(classes, counts)
    go(torch.tensor([0, 1, -100, 0]), counts)  # it does not count
    for targets, mask, word in (
        (torch.tensor([0, -100, 2, 0]), counts, "targets"),
        (torch.tensor([0, 3, 2, 0]), counts, "targets"),
        (torch.tensor([0, 1, -100, 0]), counts.logical_not(), None),
        (torch.tensor([0, 1, -100, 0]), None, "targets"),
        (classes, counts[:3], "mask"),
        (classes, counts.int() - 1, "mask"),
        (classes, counts / 0.0, "mask"),
    ):
        go(classes, counts)
        before = copy.deepcopy(rule.network.state_dict())
        with pytest.raises(ArgumentError, match=word or "labels between -100"):
            go(targets, mask)
        assert_close(rule.network.state_dict(), before, rtol=0, atol=0)
    go(classes, 0.5 * counts)
    with pytest.raises(ArgumentError, match="mask"):
        go(classes, -0.5 * counts)
