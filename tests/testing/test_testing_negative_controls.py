"""Break the library once in each way and see the oracles fail: an oracle that cannot is no oracle."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

import timelocal as tl
from covering import covering
from oracles import (
    Setting,
    assert_bptt_exact,
    assert_dfa_is_its_surrogate,
    assert_dfa_per_parameter_is_its_surrogate,
)
from timelocal import kernels
from timelocal.cells import Cell, CellWeights, GRUResetBefore, LayerTrajectory
from timelocal.kernels import torch_scan
from timelocal.network import Network
from timelocal.rules.batch import Batch
from timelocal.testing import CELLS, Case, ContractReport, check_case

GATES = {"rnn": 1, "leaky": 1, "gru": 3, "gru-reset-before": 3, "lstm": 4}


@pytest.fixture(autouse=True)
def plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken here is the cells' own mathematics: the native kernels have another copy of it."""
    monkeypatch.setattr("timelocal.kernels.native.handles", lambda *_: False)


def setting_of(cell: str, **options: object) -> Setting:
    return Setting(Case(cell, at="every", **options), lengths=(5, 2, 4))


def contract_of_bptt(setting: Setting) -> None:
    check_case(tl.BPTT, setting.case, ContractReport())


BPTT_ORACLES = (assert_bptt_exact, contract_of_bptt)
DFA_ORACLES = (assert_dfa_is_its_surrogate, assert_dfa_per_parameter_is_its_surrogate)


@cache
def holds(oracle: Callable[[Setting], None], setting: Setting) -> None:
    """Nothing is broken yet: once for all the ways to break it."""
    oracle(setting)


def must_fail(
    setting: Setting, oracles: tuple[Callable[[Setting], None], ...], break_it: Callable[[], None]
) -> None:
    for oracle in oracles:
        holds(oracle, setting)
    break_it()
    for oracle in oracles:
        with pytest.raises(AssertionError):
            oracle(setting)


@pytest.mark.parametrize(
    ("cell", "gate", "factor"),
    covering(  # flipped or dropped
        (
            (cell, gate, factor)
            for cell in CELLS
            for gate in range(GATES[cell])
            for factor in (-1, 0)
        ),
        lambda cell, gate, factor: ((cell, gate), factor),
    ),
)
class TestAGateSignal:
    def spoil(self, delta: Tensor, gate: int, gates: int, factor: float) -> Tensor:
        blocks = list(delta.chunk(gates, -1))
        blocks[gate] = blocks[gate] * factor
        return torch.cat(blocks, -1)

    def test_in_dfa(
        self, cell: str, gate: int, factor: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kind = type(Case(cell).network().cell)
        right = kind.node_signal

        def wrong(self_: Cell, *args: object) -> Tensor:
            return self.spoil(right(self_, *args), gate, GATES[cell], factor)

        must_fail(
            setting_of(cell), DFA_ORACLES, lambda: monkeypatch.setattr(kind, "node_signal", wrong)
        )

    def test_in_bptt(
        self, cell: str, gate: int, factor: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kind = type(Case(cell).network().cell)
        right = kind.backward_step

        def wrong(self_: Cell, *args: object) -> tuple[Tensor, object]:
            delta, carried = right(self_, *args)
            return self.spoil(delta, gate, GATES[cell], factor), carried

        must_fail(
            setting_of(cell),
            BPTT_ORACLES,
            lambda: monkeypatch.setattr(kind, "backward_step", wrong),
        )


@pytest.mark.parametrize("cell", CELLS)
class TestEveryCell:
    def test_time_shifted_by_one(self, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def present(self_: LayerTrajectory) -> Tensor:
            return self_.states[0][1:]

        def break_it() -> None:
            monkeypatch.setattr(LayerTrajectory, "recurrent_input", property(present))
            monkeypatch.setattr(LayerTrajectory, "previous", property(present))

        must_fail(setting_of(cell), BPTT_ORACLES + DFA_ORACLES, break_it)

    def test_frozen_recurrent_weights(self, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
        kind = type(Case(cell).network().cell)
        right = kind.gradient_hh

        def nothing(self_: Cell, *args: object) -> Tensor:
            return torch.zeros_like(right(self_, *args))

        must_fail(
            setting_of(cell),
            BPTT_ORACLES + DFA_ORACLES,
            lambda: monkeypatch.setattr(kind, "gradient_hh", nothing),
        )

    def test_transposed_recurrent_weights(self, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
        right = torch_scan.backward_scan

        def wrong(cell_: Cell, weights: CellWeights, *args: object) -> object:
            return right(cell_, transposed(weights), *args)

        must_fail(
            setting_of(cell),
            BPTT_ORACLES,
            lambda: monkeypatch.setattr(torch_scan, "backward_scan", wrong),
        )

    def test_gradients_a_thousand_times_too_large(
        self, cell: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = Cell.gradient

        def wrong(*args: object) -> Tensor:
            return right(*args) * 1000

        must_fail(
            setting_of(cell),
            BPTT_ORACLES + DFA_ORACLES,
            lambda: monkeypatch.setattr(Cell, "gradient", wrong),
        )


def transposed(weights: CellWeights) -> CellWeights:
    blocks = weights.hh.split(weights.hh.shape[1])
    return weights._replace(hh=torch.cat([block.t() for block in blocks]))


def test_transposed_candidate_in_dfa(monkeypatch: pytest.MonkeyPatch) -> None:
    right = GRUResetBefore.node_signal

    def wrong(cell: Cell, weights: CellWeights, *args: object) -> Tensor:
        return right(cell, transposed(weights), *args)

    must_fail(
        setting_of("gru-reset-before"),
        DFA_ORACLES,
        lambda: monkeypatch.setattr(GRUResetBefore, "node_signal", wrong),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_a_sum_where_a_mean_belongs(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, right_head = Batch.scale_errors, kernels.head

    def wrong(batch: Batch, errors: Tensor) -> Tensor:
        return right(batch, errors) * batch.denominator

    def wrong_head(*arguments: object) -> kernels.Head:
        found = right_head(*arguments)
        return found._replace(errors=found.errors * len(found.errors))

    def break_it() -> None:
        monkeypatch.setattr(Batch, "scale_errors", wrong)
        monkeypatch.setattr(kernels, "head", wrong_head)

    must_fail(setting_of(cell), BPTT_ORACLES + DFA_ORACLES, break_it)


def test_a_backward_direction_that_runs_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_it() -> None:
        for place in ("network.network", "rules.feedback_rule", "rules.bptt"):
            monkeypatch.setattr(f"timelocal.{place}.flip", lambda values, _: values)

    setting = setting_of("gru", bidirectional=True)
    must_fail(setting, BPTT_ORACLES + DFA_ORACLES[:1], break_it)


def test_padding_that_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN comes through then, and is told from the finite truth."""
    must_fail(
        setting_of("lstm"),
        (assert_bptt_exact, assert_dfa_is_its_surrogate),
        lambda: monkeypatch.setattr("timelocal.network.network.masked", lambda values, _: values),
    )


def test_a_dropout_mask_forgotten_on_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("gru", layers=2, dropout=0.5, at="every")
    check_case(tl.BPTT, case, ContractReport())
    right = Network.unroll

    def forgetful(*args: object, **options: object) -> tl.Trajectory:
        ran = right(*args, **options)
        object.__setattr__(ran, "dropout", tuple(None for _ in ran.dropout))
        return ran

    monkeypatch.setattr(Network, "unroll", forgetful)
    with pytest.raises(AssertionError):
        check_case(tl.BPTT, case, ContractReport())
