"""`check_cell` passes right cells and fails each kind of wrong one, for the right reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import timelocal as tl
from timelocal import cells
from timelocal.cells import (
    SURROGATES,
    ALIFCell,
    BlackBox,
    Cell,
    GRUResetAfter,
    GRUResetBefore,
    LIFCell,
    LSTMCell,
    RNNCell,
    outer_sum,
)
from timelocal.kernels import native
from timelocal.testing import check_cell, reference
from timelocal.testing.measure import Device

BUILT_IN = [cell for cell in cells.CELLS.values() if not issubclass(cell, BlackBox)]


@pytest.mark.parametrize("cell", [*BUILT_IN, lambda: RNNCell(2.5)])
def test_built_in_cells_pass(cell: Callable[[], Cell]) -> None:
    report = check_cell(cell())
    assert report.failures == ()
    names = [row.name for row in report.rows]
    assert len(set(names)) == len(names) > 90
    assert {"⟨u, J·v⟩ = ⟨Jᵀ·u, v⟩", "Jᵀ·v, with D", "gradient of weight_ih, no biases"} <= set(
        names
    )


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("detach", [True, False])
def test_surrogates_are_held_to_autograd_and_to_a_smooth_twin(surrogate: str, detach: bool) -> None:
    cell = ALIFCell(surrogate=surrogate, detach_reset=detach, dampening=0.7, sharpness=0.8)
    names = {row.name for row in check_cell(cell).rows}
    assert {
        "Jᵀ·v",
        "J·v, smooth twin",
        "trace 'leak' of the Jacobian, smooth twin, with D",
    } <= names


class TooSteep(LIFCell):
    """Its slope is another one than that of the surrogate."""

    def local_jacobian(self, trajectory):
        return tuple(2 * own for own in super().local_jacobian(trajectory))


class NotReset(LIFCell):
    """No spike takes anything from the membrane, going back."""

    def backward_step(self, weights, jacobian, signals):
        delta, (carried, *others) = super().backward_step(weights, jacobian, signals)
        return delta, (carried + self.threshold * delta, *others)


class TracesWithoutAdaptation(ALIFCell):
    def reduced_jacobian(self, weights, jacobian, trace):
        rows = super().reduced_jacobian(weights, jacobian, trace)
        return ((*rows[0][:3], None), *rows[1:])


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (TooSteep(), r"gradient of weight_ih +\|.*NO"),
        (NotReset(detach_reset=False), r"Jᵀ·v +\|.*NO"),
        (TracesWithoutAdaptation(), r"trace 'diagonal' of the Jacobian, smooth twin +\|.*NO"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_wrong_spiking_cells_fail(cell: Cell, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_cell(cell)


@pytest.mark.parametrize("cell", [cell for cell in BUILT_IN if cell in native._CODES])
def test_they_pass_without_their_kernels(cell: type[Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "handles", lambda *_: False)
    assert check_cell(cell).failures == ()


def test_a_cell_without_equations_is_held_to_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cell as a stranger: no equations are known of it."""
    monkeypatch.setattr("timelocal.testing.cell_contract._KNOWN", ())
    report = check_cell(RNNCell())
    assert report.failures == ()
    (row,) = [row for row in report.rows if row.name == "gradient of weight_hh"]
    assert "1e-06" in row.measured
    assert not any("equations" in row.name for row in report.rows)
    with_equations = check_cell(
        RNNCell(), equations=lambda parameters, x, s: reference.step(RNNCell(), parameters, x, s)
    )
    assert any("equations" in row.name for row in with_equations.rows)


def test_the_report_is_a_table_of_all_that_was_measured() -> None:
    lines = str(check_cell(RNNCell)).splitlines()
    assert lines[0] == "RNNCell(tau=1.0)"
    assert [part.strip() for part in lines[1].split("|")] == ["property", "measured", "ok"]
    assert len({line.index("|") for line in lines[1:2] + lines[3:]}) == 1
    assert all(line.endswith("yes") for line in lines[3:])


def test_what_is_no_cell_with_derivatives_is_refused() -> None:
    with pytest.raises(tl.UnsupportedError, match=r"Device.*black box"):
        check_cell(Device())
    with pytest.raises(tl.ArgumentError, match=r"got a str.*AutogradCell"):
        check_cell("gru")  # type: ignore[arg-type]


# --- wrong cells -------------------------------------------------------------------------------


class Right(tl.AutogradCell):
    """h = (1 − z) h₋ + z tanh(W h₋ + V x + b), with its own vector of gates."""

    name, gate_names = "right", ("a", "z")
    biases = ("bias",)

    def parameter_shapes(self, i, h):
        return {"weight_ih": (2 * h, i), "weight_hh": (2 * h, h), "bias": (2 * h,)}

    def nodes(self, w, x, states):
        nodes = x @ w.weight_ih.t() + states[0] @ w.weight_hh.t()
        return nodes if w.bias is None else nodes + w.bias

    def update(self, nodes, states):
        a, z = nodes.chunk(2, -1)
        return (torch.lerp(states[0], a.tanh(), z.sigmoid()),)


class SeesOtherRows(Right):
    def update(self, nodes, states):
        return super().update(nodes + nodes.mean(0), states)


class Draws(Right):
    def nodes(self, w, x, states):
        return super().nodes(w, x, states) * (1 + torch.rand(()) / 100)


class Remembers(Right):
    """Keeps something of its own from call to call."""

    count = 0

    def update(self, nodes, states):
        self.count += 1
        return (super().update(nodes, states)[0] + 0.1 * self.count,)


class WritesIntoItsInputs(Right):
    def nodes(self, w, x, states):
        return super().nodes(w, x.mul_(1.01), states)


class IdleParameter(Right):
    def parameter_shapes(self, i, h):
        return {**super().parameter_shapes(i, h), "nobody": (h,)}


class DoublePrecisionOnly(Right):
    def update(self, nodes, states):
        return super().update(nodes + torch.linspace(0, 1, nodes.shape[-1]).double(), states)


class OnTheProcessorOnly(Right):
    def update(self, nodes, states):
        return super().update(nodes + torch.linspace(0, 1, nodes.shape[-1]).to(nodes.dtype), states)


class Explodes(Right):
    def update(self, nodes, states):
        return (states[0] / 0,)


class NotLocal(Right):
    """Declares that nodes act on their own unit only; they do not."""

    def update(self, nodes, states):
        return (super().update(nodes, states)[0].softmax(-1),)


class NotElementwise(Right):
    elementwise = True


class WrongNodeSignal(Right):
    def node_signal_of_states(self, weights, jacobian, signals):
        return 1.001 * super().node_signal_of_states(weights, jacobian, signals)


class ForgetsTheLeak(Right):
    def backward_step(self, weights, jacobian, signals):
        delta, _ = super().backward_step(weights, jacobian, signals)
        return delta, (weights.carried_back(delta @ weights.weight_hh),)


class ForgetsD(Right):
    def backward_step(self, weights, jacobian, signals):
        delta, carried = super().backward_step(weights, jacobian, signals)
        through = delta @ weights.weight_hh
        return delta, (carried[0] - weights.carried_back(through) + through,)


class WrongForwardDerivative(Right):
    def jvp_step(self, weights, jacobian, tangents, node_tangent=None):
        (moved,) = super().jvp_step(weights, jacobian, tangents, node_tangent)
        return (-moved,)


class DeafToTheNodes(Right):
    def jvp_step(self, weights, jacobian, tangents, node_tangent=None):
        return super().jvp_step(weights, jacobian, tangents)


class WrongLeak(Right):
    def reduced_jacobian(self, weights, jacobian, trace):
        return super().reduced_jacobian(weights, jacobian, "diagonal")


class WrongDiagonal(Right):
    def reduced_jacobian(self, weights, jacobian, trace):
        return super().reduced_jacobian(weights, jacobian, "leak")


class NoGradient(Right):
    def gradients(self, weights, trajectory, delta):
        found = super().gradients(weights, trajectory, delta)
        return self.weights({**self._named(found), "weight_hh": torch.zeros_like(found[1])})


class MissingGradient(Right):
    def gradients(self, weights, trajectory, delta):
        found = self._named(super().gradients(weights, trajectory, delta))
        del found["weight_ih"]
        return self.weights(found)


class WrongTerms(Right):
    def gradient(self, weights, name, trajectory, delta, outer=outer_sum):
        return super().gradient(weights, name, trajectory, delta, outer) * 2


class WrongSignalBelow(Right):
    def input_signal(self, weights, trajectory, delta):
        return torch.zeros_like(trajectory.inputs)


class WrongTangentAbove(Right):
    def input_tangent(self, weights, trajectory, tangent):
        return torch.zeros_like(trajectory.gates)


class WrongChange(Right):
    def node_change(self, weights, before, after, noise):
        return super().node_change(weights, before, after, noise) * 0.9


class NoChangeByStates(Right):
    def node_change(self, weights, before, after, noise):
        return noise + (after.inputs - before.inputs) @ weights.weight_ih.t()


WRONG: dict[type[Right], tuple[str, ...]] = {
    SeesOtherRows: ("sequences do not see each other",),
    Draws: ("deterministic",),
    Remembers: ("deterministic",),
    WritesIntoItsInputs: ("arguments not written to",),
    IdleParameter: ("parameters that move the states",),
    DoublePrecisionOnly: ("types and devices",),
    OnTheProcessorOnly: ("types and devices",),
    Explodes: ("finite",),
    NotLocal: ("acts locally: nodes on other units",),
    NotElementwise: ("element-wise: ∂ by other units", "trace 'diagonal' of the Jacobian"),
    WrongNodeSignal: ("signal at the nodes",),
    ForgetsTheLeak: ("Jᵀ·v", "gradient of weight_ih"),
    ForgetsD: ("Jᵀ·v, with D",),
    WrongForwardDerivative: ("J·v", "⟨u, J·v⟩ = ⟨Jᵀ·u, v⟩"),
    DeafToTheNodes: ("J·v with a tangent of the nodes",),
    WrongLeak: ("trace 'leak' of the Jacobian",),
    WrongDiagonal: ("trace 'diagonal' of the Jacobian",),
    NoGradient: ("gradient of weight_hh",),
    MissingGradient: ("gradient of weight_ih",),
    WrongTerms: ("sum of its terms, weight_ih",),
    WrongSignalBelow: ("signal at the inputs",),
    WrongTangentAbove: ("J·v with the inputs moved",),
    WrongChange: ("measured change by noise on a gate",),
    NoChangeByStates: ("measured change of the nodes",),
}


def failed(cell: Cell) -> dict[str, str]:
    """The rows of the table that say NO, by name."""
    with pytest.raises(AssertionError, match="properties fail") as raised:
        check_cell(cell)
    rows = [line.split("|") for line in str(raised.value).splitlines() if line.endswith("| NO")]
    assert rows
    return {row[0].strip(): row[1].strip() for row in rows}


def test_the_right_one_passes() -> None:
    assert check_cell(Right()).failures == ()


@pytest.mark.slow
@pytest.mark.parametrize("cell", WRONG)
def test_wrong_cells_fail_where_they_are_wrong(cell: type[Right]) -> None:
    rows = failed(cell())
    for name in WRONG[cell]:
        assert name in rows
    if cell in (WrongNodeSignal, WrongForwardDerivative, WrongTerms, WrongLeak, WrongSignalBelow):
        assert "Jᵀ·v" not in rows  # and not elsewhere
        assert "sequences do not see each other" not in rows
    if cell is ForgetsD:
        assert "Jᵀ·v" not in rows


@pytest.mark.parametrize(
    ("kind", "method", "row"),
    [
        (RNNCell, "node_signal", "signal at the nodes"),
        (GRUResetAfter, "backward_step", "Jᵀ·v"),
        (GRUResetBefore, "jvp_step", "J·v"),
        (LSTMCell, "reduced_jacobian", "trace 'diagonal' of the Jacobian"),
        (GRUResetAfter, "recurrent_signal", "gradient of weight_hh"),
        (GRUResetBefore, "node_change", "measured change by noise on a gate"),
        (LSTMCell, "input_signal", "signal at the inputs"),
        (GRUResetAfter, "input_tangent", "J·v with the inputs moved"),
    ],
)
def test_hand_written_derivatives_that_are_off_by_a_little_fail(
    kind: type[Cell], method: str, row: str
) -> None:
    right = getattr(kind, method)

    def scaled(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(map(scaled, value))
        return value * 1.0001 if isinstance(value, Tensor) else value

    wrong = type(kind.__name__, (kind,), {method: lambda *args: scaled(right(*args))})
    assert row in failed(wrong())


def test_a_step_that_is_not_its_equations_fails() -> None:
    class Off(RNNCell):
        def step(self, weights, drive, state, out):
            super().step(weights, drive * 1.0001, state, out)

    assert "step = its equations" in failed(Off())
