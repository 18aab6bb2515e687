"""Decorrelation: its law against the matrices written out, its paths against each other, its effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import timelocal as tl
from oracles import Setting, assert_bptt_exact, close, exactly
from timelocal import kernels
from timelocal.cells import CellWeights, GRUResetBefore
from timelocal.kernels import native, torch_scan
from timelocal.network import Network
from timelocal.rules import Batch, ForwardPass, forward_pass, readout_gradients
from timelocal.testing import CELLS, Case, ContractReport, check_case, reference
from timelocal.typing import Gradients, Memory


def drawn(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


# --- the law --------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("norm", [None, "preserve"])
def test_a_step_is_that_of_the_matrices_written_out(rows: int, norm: str | None) -> None:
    matrix, features = drawn(7, 7), drawn(rows, 7, seed=1)
    correlation = sum(torch.outer(h, h) - torch.diag(h**2) for h in features) / rows
    moved = matrix - 0.3 * correlation @ matrix
    if norm == "preserve":
        moved = moved * (matrix.norm(dim=1) / moved.norm(dim=1))[:, None]
    close(matrix + tl.Decorrelation(0.3, norm).step(matrix, features), moved)


def test_a_row_of_zeros_stays() -> None:
    matrix = drawn(3, 3)
    matrix[1] = 0
    features = drawn(5, 3) @ matrix.t()
    assert not tl.Decorrelation(0.1, "preserve").step(matrix, features)[1].any()


def test_the_size_of_what_leaves_falls_by_what_the_docstring_says() -> None:
    matrix, states = drawn(5, 5), drawn(30, 5, seed=1)

    def size(d: Tensor) -> Tensor:
        return (states @ d.t()).square().sum(1).mean()

    features = states @ matrix.t()
    correlation = features.t() @ features / 30
    expected = -2e-9 * correlation.fill_diagonal_(0).square().sum()
    found = size(matrix + tl.Decorrelation(1e-9).step(matrix, features)) - size(matrix)
    close(found, expected, rtol=1e-4)


def test_few_states_cost_what_their_rows_cost() -> None:
    """With few states of many units no correlation matrix is multiplied: O(n h²)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        tl.Decorrelation(0.1).step(torch.eye(64), torch.zeros(4, 64))
    assert counter.get_total_flops() == 2 * 2 * 4 * 64 * 64


@pytest.mark.parametrize("rows", [1, 2, 5, 50])
def test_the_loss_is_the_mean_square_below_the_diagonal(rows: int) -> None:
    features = drawn(rows, 6)
    covariance = np.cov(features.numpy(), rowvar=False, ddof=0)
    below = covariance[np.tril_indices(6, -1)]
    close(tl.decorrelation_loss(features), torch.tensor((below**2).mean()))


def test_the_loss_of_one_unit_is_zero_and_axes_are_taken_together() -> None:
    assert tl.decorrelation_loss(drawn(5, 1)) == 0
    features = drawn(4, 3, 6)
    close(tl.decorrelation_loss(features), tl.decorrelation_loss(features.flatten(0, 1)))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("fast", "decorrelate: lr"), (-1.0, "decorrelate: lr"), (float("nan"), "decorrelate: lr"),
        (float("inf"), "decorrelate: lr"), (True, "decorrelate: lr"),
    ],
)  # fmt: skip
def test_wrong_learning_rates(given: object, named: str) -> None:
    with pytest.raises(tl.ArgumentError, match=named):
        tl.RNN(2, 3, 1, decorrelate=given)


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(tl.ArgumentError, match=r"(?s)lr: got -1.*norm: got 'keep'"):
        tl.Decorrelation(-1, "keep")


# --- in a network ----------------------------------------------------------------------------


def test_it_starts_as_the_network_it_decorrelates() -> None:
    inputs = torch.rand(3, 5, 2)
    exactly(tl.GRU(2, 8, 3, decorrelate=0.1)(inputs), tl.GRU(2, 8, 3)(inputs))


def test_matrices_are_buffers_and_not_parameters() -> None:
    network = tl.LSTM(2, 4, 3, num_layers=2, bidirectional=True, decorrelate=1e-3)
    names = [name for name in network.state_dict() if "decorrelation" in name]
    assert names == [f"recurrent.decorrelation_l{n}{d}" for n in (0, 1) for d in ("", "_reverse")]
    assert not any("decorrelation" in name for name, _ in network.named_parameters())
    assert {buffer.dtype for buffer in network.double().buffers()} == {torch.float64}
    assert network.recurrent.decorrelate == tl.Decorrelation(1e-3)
    assert "decorrelate=Decorrelation(lr=0.001, norm=None)" in repr(network)


def test_modules_of_torch_may_be_decorrelated_but_not_made_of_such_a_network() -> None:
    gru, head = nn.GRU(3, 8), nn.Linear(8, 2)
    network = tl.from_torch(gru, head, decorrelate=tl.Decorrelation(1e-3, "preserve"))
    assert network.recurrent.weight_hh_l0 is gru.weight_hh_l0
    exactly(network.recurrent.decorrelation_l0, torch.eye(8))
    assert "decorrelation_l0" not in gru.state_dict()
    with pytest.raises(tl.UnsupportedError, match="Use the timelocal network"):
        tl.to_torch(network)


def test_what_leaves_is_decorrelated_and_what_is_carried_is_not() -> None:
    case = Case("gru", decorrelate=True, layers=2, unequal=True)
    network, (inputs, _, lengths, _) = case.network(), case.batch()
    ran = network.scan(inputs, lengths)
    d = network.recurrent.decorrelation_l1
    final = ran.final_states()[-1]
    close(ran.last(), final @ d.t())
    close(ran.outputs[0], ran.layers[1][0].hidden[0] @ d.t())
    close(ran.layers[1][0].inputs[0], ran.layers[0][0].features[0])
    close(network.features(inputs, lengths), ran.last())


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_in_two_parts_is_the_sequence(cell: str) -> None:
    case = Case(cell, decorrelate=True, at="every", layers=2)
    network, (inputs, *_) = case.network(), case.batch()
    whole, first = network.scan(inputs), network.scan(inputs[:, :2])
    second = network.scan(inputs[:, 2:], initial=first.final_states())
    close(torch.cat((first.outputs, second.outputs)), whole.outputs)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("at", ["last", "every"])
def test_with_one_step_and_symmetric_feedback_dfa_is_bptt(cell: str, at: str) -> None:
    """Feedback that follows the readout follows it through D."""
    case = Case(cell, bidirectional=True, at=at, steps=1, decorrelate=True)
    network, (inputs, targets, *_) = case.network(), case.batch()
    dfa = tl.DFA(network, at=at, feedback="symmetric").estimate(inputs, targets)
    close(dfa.gradients, tl.BPTT(network, at=at).estimate(inputs, targets).gradients)


@pytest.mark.parametrize("cell", ["rnn", "leaky", "gru-reset-before"])
def test_the_authors_code_without_quirks_is_dfa(cell: str) -> None:
    case = Case(cell, decorrelate=True)
    network, (inputs, targets, *_) = case.network(), case.batch()
    code = tl.DFAAuthorsCode(network, quirks=()).estimate(inputs, targets)
    close(code.gradients, tl.DFA(network).estimate(inputs, targets).gradients)


@pytest.mark.parametrize("kind", [tl.BPTT, tl.DFA])
def test_a_step_counts_valid_steps_only_and_preserves_norms(kind: type[tl.Rule]) -> None:
    case = Case("lstm", layers=2, bidirectional=True, unequal=True, decorrelate=True)
    network, (inputs, targets, lengths, _) = case.network(), case.batch()
    network.recurrent.decorrelate = tl.Decorrelation(0.2, "preserve")
    found = kind(network).estimate(inputs, targets, lengths).local_updates
    close(found, reference.decorrelation_steps(network, inputs, lengths))


def test_the_diagnostic_is_the_mean_loss_of_the_layers() -> None:
    case = Case("rnn", layers=2, unequal=True, decorrelate=True)
    network, (inputs, targets, lengths, _) = case.network(), case.batch()
    found = tl.DFA(network).estimate(inputs, targets, lengths).diagnostics
    losses = []
    for layer in range(2):
        rows = []
        for b, steps in enumerate(lengths):
            hidden, _ = reference.run(network, inputs[b, :steps])
            rows += [reference.decorrelation(network, layer, 0) @ h for h in hidden[layer][0]]
        losses.append(tl.decorrelation_loss(torch.stack(rows).detach()))
    close(found, {"decorrelation_loss": (losses[0] + losses[1]) / 2})
    assert tl.DFA(tl.RNN(2, 4, 3).double()).estimate(inputs, targets, lengths).diagnostics == {}


# --- the native path --------------------------------------------------------------------------


@pytest.mark.skipif(
    not native.handles(GRUResetBefore(), torch.zeros(1)), reason="no native kernel here"
)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 6])  # fewer rows than units, and more
def test_the_active_path_is_the_twin(cell: str, steps: int) -> None:
    case = Case(cell, decorrelate=True, steps=steps, sequences=3)
    network, inputs = case.network(), case.batch()[0].transpose(0, 1)
    kind, weights = network.cell, network.recurrent.weights(0, 0)
    initial = tuple(drawn(3, 4, seed=s) for s in range(len(kind.state_names)))
    signal, lengths = drawn(steps, 3, 4, seed=5), torch.tensor([1, steps, 1])
    runs = []
    with torch.no_grad():
        for path in (kernels, torch_scan):
            past = path.scan(kind, weights, inputs, initial)
            deltas, carried = path.backward_scan(kind, weights, past, signal, initial)
            runs.append(
                {
                    "past": (*past.states, past.gates, past.auxiliary, past.seen),
                    "backward": (deltas, *carried),
                    "signals": path.node_signals(kind, weights, past, signal, lengths),
                    "gradients": path.weight_gradients(kind, weights, past, deltas)[:4],
                    "credit": path.credit(kind, weights, past, signal, lengths)[:4],
                }
            )
    close(runs[0], runs[1])


def test_the_native_path_runs_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Case("gru", decorrelate=True).network().recurrent.weights(0, 0)
    many, few = torch.zeros(2, 2, 2), torch.zeros(1, 3, 2)
    monkeypatch.setattr("timelocal.kernels.native.handles", lambda *_: True)
    cell = Case("gru").network().cell
    assert kernels._path(cell, weights, many) is native
    assert kernels._path(cell, weights, few) is torch_scan
    assert kernels._path(GRUResetBefore(), weights, many) is torch_scan
    plain = weights._replace(decorrelation=None)
    assert kernels._path(GRUResetBefore(), plain, few) is native


# --- negative controls --------------------------------------------------------------------------


def back_without_d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CellWeights, "carried_back", lambda self, signal: signal)


def readout_without_d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "signal_at_states", lambda self, signal, layer: signal)


def weights_without_d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "timelocal.cells.LayerTrajectory.recurrent_input", property(lambda self: self.previous)
    )


@cache
def held(cell: str) -> Setting:
    """A setting that passes while nothing is broken: once for all the ways to break it."""
    setting = Setting(Case(cell, at="every", decorrelate=True), lengths=(5, 2, 4))
    assert_bptt_exact(setting)
    check_case(tl.BPTT, setting.case, ContractReport())
    return setting


@pytest.mark.parametrize("break_it", [back_without_d, readout_without_d, weights_without_d])
@pytest.mark.parametrize("cell", CELLS)
def test_a_forgotten_d_is_seen(
    cell: str,
    break_it: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("timelocal.kernels.native.handles", lambda *_: False)
    setting = held(cell)
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        assert_bptt_exact(setting)
    with pytest.raises(AssertionError):
        check_case(tl.BPTT, setting.case, ContractReport())


def test_a_fold_that_forgets_the_chain_rule_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    if not native.handles(GRUResetBefore(), torch.zeros(1)):
        pytest.skip("no native kernel here")
    setting = Setting(Case("lstm", at="every", decorrelate=True))
    right = native.named_gradients
    monkeypatch.setattr(
        native, "named_gradients", lambda made, w: right(made, w._replace(decorrelation=None))
    )
    with pytest.raises(AssertionError):
        assert_bptt_exact(setting)


# --- in training ----------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [None, "preserve"])
def test_training_decorrelates(norm: str | None) -> None:
    """Units driven by two common signals: D takes the correlation away; only "preserve" keeps the gain."""
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 15, 2, generator=g)
    law = tl.Decorrelation(2.0, norm)
    network = tl.RNN(2, 8, 1, decorrelate=law)
    rule = tl.DFA(network, loss="mse")
    losses = []
    for _ in range(200):
        estimate = rule.estimate(inputs, torch.zeros(20, 1))
        rule.accumulate(estimate)  # no optimizer: nothing learns but D
        losses.append(float(estimate.diagnostics["decorrelation_loss"]))
    matrix = network.recurrent.decorrelation_l0
    norms = torch.linalg.vector_norm(matrix, dim=1)
    assert losses[-1] < losses[0] / 10
    if norm == "preserve":
        close(norms, torch.ones(8), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [tl.BPTT, tl.DFA])
def test_the_history_has_its_curve_and_a_stopped_run_goes_on(
    kind: type[tl.Rule], tmp_path: Path
) -> None:
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 5, 2, generator=g)
    part = inputs, (inputs[:, 0, 0] > 0).long()

    def fit(epochs: int, folder: Path, lr: float = 0.1) -> tuple[Network, tl.training.History]:
        network = tl.GRU(2, 6, 2, decorrelate=lr)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        rule = kind(network)
        history = tl.fit(rule, optimizer, part, part, epochs=epochs, batch_size=5, folder=folder)
        return network, history

    fit(2, tmp_path / "stopped")
    stopped, one = fit(4, tmp_path / "stopped")
    whole, other = fit(4, tmp_path / "whole")
    assert one.epochs == other.epochs
    exactly(stopped.state_dict(), whole.state_dict())
    assert not torch.equal(whole.recurrent.decorrelation_l0, torch.eye(6))
    assert all(record["decorrelation_loss"] > 0 for record in one.epochs)
    with pytest.raises(tl.RunError):
        fit(6, tmp_path / "whole", lr=0.2)


def test_a_matrix_that_blows_up_is_a_divergence() -> None:
    inputs = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(0))
    network = tl.RNN(2, 6, 1, decorrelate=1e6)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    part = inputs, torch.zeros(6, 1)
    history = tl.fit(tl.DFA(network, loss="mse"), optimizer, part, epochs=30, batch_size=6)
    assert history.status == "diverged"


# --- in a stream -----------------------------------------------------------------------------


class OneStep(tl.Rule):
    """The exact gradient of each step, no further back, as a stream makes it."""

    spec = replace(tl.BPTT.spec, name="one-step", online=True)

    def compute(self, batch: Batch) -> object:
        raise NotImplementedError

    def begin(self, batch_size: int) -> Memory:
        return {"h": torch.zeros(batch_size, self.network.hidden_size, dtype=torch.float64)}

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        started = batch.starting_from(memory["h"][None])
        forward = forward_pass(self.network, self.loss, started, None)
        states = forward.trajectory.final_states()
        return forward, readout_gradients(self.network, forward), {"h": states[0]}


def standing_still(rule: tl.Rule, batch_size: int) -> tl.Stream:
    """A stream in which no weight moves: nothing learns but D."""
    return tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.0), batch_size)


def test_a_stream_makes_a_step_at_every_step() -> None:
    case = Case("rnn", at="every", loss="mse", decorrelate=True)
    network, (inputs, targets, *_) = case.network(), case.batch()
    other = case.network()
    stream = standing_still(OneStep(network, loss="mse"), case.sequences)
    law, h = other.recurrent.decorrelate, torch.zeros(3, 4, dtype=torch.float64)
    weights = other.recurrent.weights(0, 0)
    assert law is not None
    for x, y in zip(inputs.unbind(1), targets.unbind(1), strict=True):
        stream.step(x, y)
        with torch.no_grad():
            d = other.recurrent.decorrelation_l0
            h = torch.tanh(
                x @ weights.ih.t() + h @ d.t() @ weights.hh.t() + weights.b_ih + weights.b_hh
            )
            star = h @ d.t()
            correlation = star.t() @ star / 3
            d -= law.lr * (correlation - torch.diag(correlation.diag())) @ d
        close(network.recurrent.decorrelation_l0, d)
        close(stream.memory["h"], h)


def test_a_stream_in_eval_mode_makes_none() -> None:
    case = Case("rnn", at="every", loss="mse", decorrelate=True)
    network, (inputs, targets, *_) = case.network().eval(), case.batch()
    before = network.recurrent.decorrelation_l0.clone()
    standing_still(OneStep(network, loss="mse"), 3).step(inputs[:, 0], targets[:, 0])
    exactly(network.recurrent.decorrelation_l0, before)
