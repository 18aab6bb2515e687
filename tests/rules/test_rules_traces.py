"""Temporal traces: each against Jacobians by autograd, and where they must meet RTRL and BPTT."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import assume, example, given, settings
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import Setting, close, exactly, settings_drawn, still_stream
from timelocal import kernels
from timelocal.cells import Cell, CellWeights, LayerTrajectory, LSTMCell
from timelocal.kernels import torch_scan
from timelocal.rules import eligibility, tbptt
from timelocal.testing import CELLS, Case, reference

TRACES = ("leak", "diagonal")
WIDEST = Setting(
    Case("lstm", layers=3, bidirectional=True, readout="mlp", at="every", mask=True, seed=5),
    "weighted",
    (5, 1, 3),
)
LAST = Setting(Case("gru-reset-before", layers=2, bidirectional=True), "mse", (5, 1, 3))


def assert_traced(setting: Setting, trace: str, **options: object) -> None:
    """DFA with a trace = traces of one sequence carried forward, every Jacobian by autograd."""
    network, batch = setting.network(), setting.batch()
    rule = setting.rule(tl.DFA, network, trace=trace, **options)
    found = rule.estimate(*batch[:3], mask=batch[3])
    wanted = reference.traced(
        network, rule.feedback_matrix, trace, setting.loss, setting.case.at, *batch
    )
    close(found.gradients, wanted)


def assert_truncated(setting: Setting, k: int) -> None:
    """TBPTT(k) = autograd through windows of k steps."""
    network, batch = setting.network(), setting.batch()
    found = setting.rule(tl.TBPTT, network, k=k).estimate(*batch[:3], mask=batch[3])
    wanted = reference.tbptt(network, k, setting.loss, setting.case.at, *batch)
    close(found.gradients, wanted)


@pytest.mark.parametrize("trace", TRACES)
@settings(max_examples=20)
@given(setting=settings_drawn(max_layers=2, max_sequences=2, max_steps=5))
@example(setting=WIDEST)
@example(setting=LAST)
def test_a_trace_is_its_jacobian(trace: str, setting: Setting) -> None:
    assert_traced(setting, trace)


@pytest.mark.parametrize("k", [1, 2, 3, 9])
@settings(max_examples=15)
@given(setting=settings_drawn(max_layers=3, max_sequences=3, max_steps=5))
@example(setting=Setting(Case("lstm", layers=2, at="every", mask=True), "weighted", (5, 1, 3)))
@example(setting=Setting(Case("gru", layers=2), "mse", (5, 1, 3)))
def test_a_window_is_autograd_through_it(k: int, setting: Setting) -> None:
    assume(not setting.case.bidirectional)
    assert_truncated(setting, k)


@settings(max_examples=25)
@given(settings_drawn(max_layers=3, max_sequences=3, max_steps=5))
@example(Setting(Case("lstm", layers=3, at="every", mask=True), "weighted", (5, 1, 3)))
def test_real_time_recurrent_learning_is_backpropagation(setting: Setting) -> None:
    assume(not setting.case.bidirectional)
    network, batch = setting.network(), setting.batch()
    rtrl, bptt, whole = (
        setting.rule(kind, network, **options).estimate(*batch[:3], mask=batch[3])
        for kind, options in ((tl.RTRL, {}), (tl.BPTT, {}), (tl.TBPTT, {"k": setting.case.steps}))
    )
    close(rtrl.gradients, bptt.gradients)
    close(whole.gradients, bptt.gradients)


def gradients(rule: tl.Rule, case: Case) -> dict[str, Tensor]:
    inputs, targets, lengths, mask = case.batch()
    return rule.estimate(inputs, targets, lengths, mask=mask).gradients


@pytest.mark.parametrize(("cell", "at"), covering(product(CELLS, ("last", "every"))))
class TestWhereTheyMeet:
    def test_rflo_is_rtrl_without_recurrent_weights(self, cell: str, at: str) -> None:
        case = Case(cell, at=at, unequal=True, mask=True)
        network = case.network()
        torch.nn.init.zeros_(network.recurrent.weight_hh_l0)
        rflo = gradients(tl.RFLO(network, at=at, feedback="symmetric"), case)
        close(rflo, gradients(tl.RTRL(network, at=at), case))

    def test_eprop_is_rtrl_with_diagonal_weights(self, cell: str, at: str) -> None:
        case = Case(cell, at=at, unequal=True, mask=True)
        network = case.network()
        weight = network.recurrent.weight_hh_l0
        with torch.no_grad():
            weight.mul_(torch.eye(4, dtype=weight.dtype).repeat(len(weight) // 4, 1))
        eprop = tl.EProp(network, at=at, feedback="symmetric")
        close(gradients(eprop, case), gradients(tl.RTRL(network, at=at), case))
        rflo = gradients(tl.RFLO(network, at=at, feedback="symmetric"), case)
        assert not torch.allclose(
            rflo["recurrent.weight_ih_l0"],
            gradients(eprop, case)["recurrent.weight_ih_l0"],
            rtol=1e-3,
        )

    def test_rflo_and_eprop_are_dfa_with_a_trace(self, cell: str, at: str) -> None:
        case = Case(cell, at=at, layers=2, bidirectional=True)
        for kind, trace in ((tl.RFLO, "leak"), (tl.EProp, "diagonal")):
            network = case.network()
            rule, dfa = kind(network, at=at), tl.DFA(network, at=at, trace=trace)
            dfa.load_state_dict(rule.state_dict())
            exactly(gradients(rule, case), gradients(dfa, case))

    def test_a_trace_of_one_step_is_none(self, cell: str, at: str) -> None:
        case = Case(cell, at=at, steps=1)
        network = case.network()
        plain = gradients(tl.DFA(network, at=at), case)
        for trace in TRACES:
            close(gradients(tl.DFA(network, at=at, trace=trace), case), plain)


def test_the_leak_of_a_gru_is_a_product_of_its_update_gates() -> None:
    """With a final loss G_t = F e ⊙ Π_{s>t} z_s: what plain DFA gets, reweighed."""
    case = Case("gru")
    network = case.network()
    rule = tl.DFA(network, trace="leak")
    inputs, targets, _, _ = case.batch()
    own = network.scan(inputs).layers[0][0]
    update = own.gates.chunk(3, -1)[1]
    products = torch.cat((update[1:].flip(0).cumprod(0).flip(0), torch.ones_like(update[:1])))
    e = (network.readout(own.hidden[-1]).softmax(-1) - torch.eye(3)[targets]).detach() / 3
    signal = (e @ rule.feedback_matrix().t()) * products
    weights = network.recurrent.weights(0, 0)
    wanted = torch_scan.credit(network.cell, weights, own, signal)
    close(gradients(rule, case)["recurrent.weight_hh_l0"], wanted.hh)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("trace", TRACES)
def test_one_matrix_per_parameter(cell: str, trace: str) -> None:
    """Each gate's block of each parameter is that of a rule with its F for all."""
    case = Case(cell, at="every", unequal=True, bidirectional=True, sequences=2, steps=3)
    network = case.network()
    rule = tl.DFA(network, at="every", trace=trace, feedback_per="parameter")
    found = gradients(rule, case)
    gates = len(network.cell.gate_names)
    batch = (case.loss_function(), "every", *case.batch())
    for kind in network.recurrent.parameter_kinds:
        for gate in range(gates):

            def feedback(layer: int, direction: int, kind: str = kind, gate: int = gate) -> Tensor:
                return rule.feedback_matrix(layer, direction, kind)[gate]

            wanted = reference.traced(network, feedback, trace, *batch)
            for suffix in ("_l0", "_l0_reverse"):
                name = f"recurrent.{kind}{suffix}"
                close(found[name].chunk(gates)[gate], wanted[name].chunk(gates)[gate])


# --- learned feedback --------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["last", "every"])
@pytest.mark.parametrize("rule", [tl.DFA, tl.RFLO, tl.EProp])
def test_kolen_pollack_feedback_converges_to_the_readout(at: str, rule: type[tl.Rule]) -> None:
    """With SGD of the same rate and decay, F − W_outᵀ shrinks by exactly 1 − lr · decay each time."""
    case = Case("gru", at=at, bidirectional=True)
    network = case.network()
    options = {"feedback_lr": 0.5, "feedback_decay": 0.1}
    learner = rule(network, at=at, feedback="kolen_pollack", **options)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, weight_decay=0.1)
    inputs, targets, _, _ = case.batch()

    def difference() -> Tensor:
        matrices = [learner.feedback_matrix(0, direction) for direction in range(2)]
        return torch.cat(matrices) - network.readout.weight.detach().t()

    start = difference()
    assert (start.abs() > 1e-3).all()
    for _ in range(40):
        optimizer.zero_grad()
        learner(inputs, targets).backward()
        optimizer.step()
    close(difference(), start * (1 - 0.5 * 0.1) ** 40)


def test_an_estimate_leaves_learned_feedback_alone() -> None:
    case = Case("rnn")
    rule = tl.DFA(case.network(), feedback="kolen_pollack")
    before = rule.feedback_matrix().clone()
    inputs, targets, _, _ = case.batch()
    found = rule.estimate(inputs, targets)
    rule.evaluate(inputs, targets)
    exactly(rule.feedback_matrix(), before)
    assert list(found.local_updates) == ["feedback_l0"]
    rule.accumulate(found)
    exactly(rule.feedback_matrix(), before + found.local_updates["feedback_l0"])


# --- streams -----------------------------------------------------------------------------------

ONLINE: dict[str, Callable[[tl.Network], tl.Rule]] = {
    "dfa": lambda network: tl.DFA(network, at="every"),
    "dfa-leak": lambda network: tl.DFA(network, at="every", trace="leak", feedback_per="parameter"),
    "dfa-learned": lambda network: tl.DFA(
        network, at="every", trace="diagonal", feedback="kolen_pollack"
    ),
    "rflo": lambda network: tl.RFLO(network, at="every"),
    "eprop": lambda network: tl.EProp(network, at="every"),
    "rtrl": lambda network: tl.RTRL(network, at="every"),
    "tbptt1": lambda network: tl.TBPTT(network, 1, at="every"),
    "tbptt3": lambda network: tl.TBPTT(network, 3, at="every"),
    "tbptt9": lambda network: tl.TBPTT(network, 9, at="every"),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["tbptt3", "rtrl", "eprop", "dfa-learned"])
def test_a_stream_of_a_network_that_decorrelates(name: str, cell: str) -> None:
    """What is remembered of D h too; D itself stays as it is in eval mode."""
    if not streams(name, cell):
        return
    layers = 1 if name == "dfa-learned" else 2
    case = Case(cell, layers=layers, at="every", steps=6, decorrelate=True)
    network = case.network().eval()
    inputs, targets, _, _ = case.batch()
    rule = ONLINE[name](network)
    rule.feedback_lr = 0.0
    whole = rule.estimate(inputs, targets).gradients
    steps = run(still_stream(rule, 3), inputs, targets)
    close({key: sum(one[key] for one in steps) / 6 for key in whole}, whole)
    if name == "tbptt3":
        batch = (case.loss_function(), "every", inputs, targets)
        close(whole, reference.tbptt(network, 3, *batch))


def test_learned_feedback_reaches_the_states_as_the_readout_does() -> None:
    """Where F = W_outᵀ, through D as symmetric feedback goes."""
    case = Case("gru", at="every", decorrelate=True)
    network = case.network()
    rule = tl.EProp(network, at="every", feedback="kolen_pollack")
    rule.feedback_l0.copy_(network.readout.weight.detach().t())
    inputs, targets, _, _ = case.batch()
    symmetric = tl.EProp(network, at="every", feedback="symmetric").estimate(inputs, targets)
    close(rule.estimate(inputs, targets).gradients, symmetric.gradients)


def streams(name: str, cell: str) -> bool:
    """A reset gate in front of the matrix has no local traces."""
    return cell != "gru-reset-before" or name in ("dfa", "rtrl", "tbptt1", "tbptt3", "tbptt9")


CAN = [(name, cell) for name in ONLINE for cell in CELLS if streams(name, cell)]


def run(stream: tl.Stream, inputs: Tensor, targets: Tensor) -> list[dict[str, Tensor]]:
    pairs = zip(inputs.unbind(1), targets.unbind(1), strict=True)
    return [stream.step(x, y, gradients=True).gradients for x, y in pairs]


@pytest.mark.parametrize(("name", "cell"), CAN)
def test_a_stream_adds_up_to_the_whole_sequence(name: str, cell: str) -> None:
    layers = 1 if "learned" in name or name == "tbptt1" else 2
    case = Case(cell, layers=layers, at="every", steps=6)
    inputs, targets, _, _ = case.batch()
    network = case.network()
    whole = ONLINE[name](network).estimate(inputs, targets).gradients
    steps = run(still_stream(ONLINE[name](network), 3), inputs, targets)
    if "learned" in name:  # its F has moved on after the first step
        return
    close({key: sum(one[key] for one in steps) / 6 for key in whole}, whole)


@pytest.mark.parametrize(("name", "cell"), covering(CAN))
class TestAStream:
    def case(self, cell: str) -> Case:
        return Case(cell, layers=1, at="every", steps=6)

    def test_begins_again_after_a_reset(self, name: str, cell: str) -> None:
        """Of some rows too: they are then as in a new stream, and the others go on."""
        case = self.case(cell)
        inputs, targets, _, _ = case.batch()
        network = case.network()
        stream = still_stream(ONLINE[name](network), 3)
        run(stream, inputs, targets)
        going_on = copy.deepcopy(stream.memory)
        stream.reset(torch.tensor([True, False, False]))
        fresh = still_stream(ONLINE[name](network), 3)
        assert stream.memory.keys() == fresh.memory.keys()
        for key, kept in stream.memory.items():
            exactly(kept[0], fresh.memory[key][0])
            exactly(kept[1:], going_on[key][1:])
        if "learned" in name:
            return
        only = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
        for t in range(4):
            here, there = (
                one.step(inputs[:, t], targets[:, t], mask=only, gradients=True)
                for one in (stream, fresh)
            )
            close(here.gradients, there.gradients)

    def test_goes_on_where_it_was_saved(self, name: str, cell: str) -> None:
        case = self.case(cell)
        inputs, targets, _, _ = case.batch()
        network = case.network()
        one, other = ONLINE[name](network), ONLINE[name](network)
        stream = still_stream(one, 3)
        run(stream, inputs[:, :3], targets[:, :3])
        again = still_stream(other, 3)
        again.load_state_dict(copy.deepcopy(stream.state_dict()))
        other.load_state_dict(copy.deepcopy(one.state_dict()))
        exactly(
            run(again, inputs[:, 3:], targets[:, 3:]), run(stream, inputs[:, 3:], targets[:, 3:])
        )
        assert again.steps == 6


@pytest.mark.parametrize("name", ["dfa", "eprop", "rtrl", "tbptt3"])
def test_a_stream_through_dropout_drops(name: str) -> None:
    case = Case("gru", layers=2, dropout=0.5, at="every")
    network = case.network()
    inputs, targets, _, _ = case.batch()
    one = run(still_stream(ONLINE[name](network), 3), inputs, targets)
    exactly(one, run(still_stream(ONLINE[name](network), 3), inputs, targets))
    network.eval()
    other = run(still_stream(ONLINE[name](network), 3), inputs, targets)
    assert not torch.allclose(one[-1]["readout.weight"], other[-1]["readout.weight"])


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: tl.RTRL(tl.GRU(2, 400, 3), at="every").estimate(*batch_of(10)),
            r"GiB.*Use .*EProp",
        ),
        (lambda: still_stream(tl.RTRL(tl.LSTM(2, 600, 3)), 1), r"GiB.*Use .*TBPTT"),
        (lambda: tl.RTRL(tl.RNN(2, 4, 3, bidirectional=True)), "Use DFA or BPTT"),
        (lambda: tl.TBPTT(tl.RNN(2, 4, 3, bidirectional=True), 3), "Use DFA or BPTT"),
        (
            lambda: still_stream(tl.EProp(tl.RNN(2, 4, 3, bidirectional=True)), 1),
            "Use whole sequences",
        ),
        (
            lambda: still_stream(tl.EProp(tl.GRU(2, 4, 3, reset_after=False)), 1),
            "Use reset_after=True",
        ),
        (lambda: fit_online(tl.DFA(tl.RNN(2, 4, 3)), *batch_of(1)), "Use at='every'"),
        (lambda: tl.DFA(tl.RNN(2, 4, 3, num_layers=2), feedback="kolen_pollack"), "Use feedback="),
    ],
)
def test_what_cannot_be_done_says_what_can(make: Callable[[], object], told: str) -> None:
    with pytest.raises(tl.UnsupportedError, match=told):
        make()


def fit_online(rule: tl.Rule, inputs: Tensor, targets: Tensor) -> tl.History:
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
    part = (inputs, targets[:, -1] if rule.at == "last" else targets)
    return tl.fit(rule, optimizer, part, epochs=1, batch_size=1, online=True)


@pytest.mark.parametrize("name", ["dfa", "rflo", "rtrl", "tbptt3"])
def test_a_stream_takes_the_loss_at_every_step_wherever_the_rule_has_it(name: str) -> None:
    case = Case("leaky", at="every")
    network = case.network()
    inputs, targets, _, _ = case.batch()
    last, every = ONLINE[name](network), ONLINE[name](network)
    last.at = "last"
    exactly(
        run(still_stream(last, 3), inputs, targets), run(still_stream(every, 3), inputs, targets)
    )


def batch_of(sequences: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(sequences, 2, 2), torch.zeros(sequences, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: tl.TBPTT(tl.RNN(2, 4, 3), 0), "k: got 0, expected an integer of at least 1"),
        (lambda: tl.DFA(tl.RNN(2, 4, 3), trace="diagnoal"), "Did you mean 'diagonal'"),
        (lambda: tl.RFLO(tl.RNN(2, 4, 3), feedback_lr=-1), "feedback_lr: got -1"),
        (
            lambda: tl.EProp(tl.RNN(2, 4, 3), feedback="kolenpollack"),
            "Did you mean 'kolen_pollack'",
        ),
    ],
)
def test_wrong_arguments_are_told(make: Callable[[], object], told: str) -> None:
    with pytest.raises(tl.ArgumentError, match=told):
        make()


# --- break it and see ----------------------------------------------------------------------------


def must_fail(oracle: Callable[[], None], break_it: Callable[[], None]) -> None:
    oracle()
    break_it()
    with pytest.raises(AssertionError):
        oracle()


@pytest.mark.parametrize(
    ("cell", "trace", "at"),
    covering(
        product(CELLS, TRACES, ("last", "every")),
        lambda cell, trace, at: ((cell, trace), (trace, at)),
    ),
)
class TestABrokenTraceIsSeen:
    def oracle(self, cell: str, trace: str, at: str) -> Callable[[], None]:
        return lambda: assert_traced(Setting(Case(cell, at=at), lengths=(5, 2, 4)), trace)

    def break_it(
        self, cell: str, change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], None]:
        """Change what a trace keeps; the native kernels have another copy of it."""
        kind = type(Case(cell).network().cell)
        right = kind.reduced_jacobian

        def wrong(*args: object) -> object:
            found = right(*args)
            return tuple(tuple(f if f is None else change(f) for f in row) for row in found)

        def break_it() -> None:
            monkeypatch.setattr("timelocal.kernels.native.handles", lambda *_: False)
            monkeypatch.setattr(kind, "reduced_jacobian", wrong)

        return break_it

    def test_flipped(self, cell: str, trace: str, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if (cell, trace) == ("rnn", "leak"):  # nothing leaks
            return
        must_fail(self.oracle(cell, trace, at), self.break_it(cell, torch.neg, monkeypatch))

    def test_shifted_in_time(
        self, cell: str, trace: str, at: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if trace == "leak" and cell in ("rnn", "leaky"):  # nothing leaks, or the same at all times
            return

        def shifted(factor: Tensor) -> Tensor:
            return factor.roll(1, 0)

        must_fail(self.oracle(cell, trace, at), self.break_it(cell, shifted, monkeypatch))

    def test_frozen(self, cell: str, trace: str, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def frozen(
            cell_: Cell, weights: CellWeights, own: LayerTrajectory, deltas: Tensor
        ) -> CellWeights:
            found = torch_scan.weight_gradients(cell_, weights, own, deltas)
            return found._replace(hh=torch.zeros_like(found.hh))

        must_fail(
            self.oracle(cell, trace, at),
            lambda: monkeypatch.setattr(kernels, "weight_gradients", frozen),
        )


@pytest.mark.parametrize("at", ["last", "every"])
def test_a_cell_state_that_forgets_is_seen(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The LSTM's trace without what c_t carries on: h alone."""

    def wrong(cell: Cell, weights: CellWeights, jacobian: tuple, signals: tuple) -> Tensor:
        return cell.node_signal(weights, jacobian, signals[0])

    monkeypatch.setattr("timelocal.kernels.native.handles", lambda *_: False)
    must_fail(
        lambda: assert_traced(Setting(Case("lstm", at=at)), "leak"),
        lambda: monkeypatch.setattr(LSTMCell, "node_signal_of_states", wrong),
    )


@pytest.mark.parametrize(("cell", "at"), covering(product(CELLS, ("last", "every"))))
def test_a_window_one_step_too_long_is_seen(
    cell: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed, rounds = tbptt.last_steps, tbptt.truncated

    def break_it() -> None:
        monkeypatch.setattr(tbptt, "last_steps", lambda run, k: trimmed(run, k + 1))
        monkeypatch.setattr(tbptt, "truncated", lambda *args: rounds(*args[:-1], args[-1] + 1))

    must_fail(lambda: assert_truncated(Setting(Case(cell, at=at, layers=2)), 2), break_it)


@pytest.mark.parametrize(("name", "cell"), [pair for pair in CAN if "learned" not in pair[0]])
def test_a_stream_without_a_past_is_seen(
    name: str, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces, influences and windows that are lost at each step; states are kept."""
    if name in ("dfa", "tbptt1") or (cell == "rnn" and name in ("dfa-leak", "rflo")):
        return  # nothing else is kept

    def oracle() -> None:
        case = Case(cell, at="every")
        inputs, targets, _, _ = case.batch()
        network = case.network()
        whole = ONLINE[name](network).estimate(inputs, targets).gradients
        steps = run(still_stream(ONLINE[name](network), 3), inputs, targets)
        close({key: sum(one[key] for one in steps) / 5 for key in whole}, whole)

    def break_it() -> None:
        for kind in (tl.DFA, tl.RFLO, tl.EProp, tl.RTRL, tl.TBPTT):
            monkeypatch.setattr(kind, "advance", lost(kind.advance))

    must_fail(oracle, break_it)


def lost(right: Callable[..., object]) -> Callable[..., object]:
    def wrong(self: tl.Rule, memory: dict[str, Tensor], *args: object) -> object:
        forgotten = {k: v if k == "states" else torch.zeros_like(v) for k, v in memory.items()}
        return right(self, forgotten, *args)

    return wrong


def test_eligibility_reads_the_cell_of_its_layer() -> None:
    assert eligibility.trace_name("c", "weight_hh", 1) == "trace_c_weight_hh_l1"
