"""A layer that only runs forward: hardware, a simulator, a cell with no derivative.

It implements `scan`, which runs a whole sequence in any way and reports its measurements. It can be trained
by perturbation rules (NP, WP, ANP) and by `DFA(slope=...)`; rules that need a derivative refuse it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NoReturn

import torch
from torch import Tensor

from timelocal.cells.cell import (
    Cell,
    LayerTrajectory,
    LocalJacobian,
    ReducedJacobian,
    StepBuffers,
    Trace,
)
from timelocal.cells.weights import CellWeights
from timelocal.errors import ArgumentError, Problem, UnsupportedError, raise_problems
from timelocal.typing import State


class BlackBox(Cell):
    """A cell with one node per unit and an unknown interior.

    Subclass it, give it a `name` and a `scan`, and make a network with `timelocal.black_box`. The weights it
    is run with are ordinary parameters, `weight_ih` (h, i), `weight_hh` (h, h) and two biases (h,); it may
    use them in any way.

    >>> import torch, timelocal as tl
    >>> class Clipped(tl.BlackBox):
    ...     name = "clipped"
    ...     def scan(self, weights, inputs, initial, node_noise=None):
    ...         hidden, measured = [initial[0]], []
    ...         for t, drive in enumerate(self.drive(weights, inputs, node_noise)):
    ...             measured.append(drive + weights.decorrelated(hidden[-1]) @ weights.hh.t())
    ...             hidden.append(measured[-1].clamp(-1, 1))
    ...         return self.report(inputs, (torch.stack(hidden),), torch.stack(measured))
    >>> network = tl.black_box(Clipped(), 2, 16, output_size=1)
    >>> rule = tl.ANP(network, loss="mse", at="every", sigma=0.1)
    >>> rule(torch.randn(8, 20, 2), torch.randn(8, 20, 1)).backward()
    """

    gate_names = ("a",)
    has_auxiliary = True

    @abstractmethod
    def scan(
        self,
        weights: CellWeights,
        inputs: Tensor,
        initial: State,
        node_noise: Tensor | None = None,
    ) -> LayerTrajectory:
        """Run over inputs (t, b, i) from the initial state, and `report`.

        node_noise (t, b, h) must be added to the pre-activations. Hardware that cannot be given noise may
        ignore it, and be trained by `ANP(clean=False)` on its own noise.
        """

    def report(self, inputs: Tensor, states: State | Tensor, measured: Tensor) -> LayerTrajectory:
        """The record of a run.

        states: h or (h, …), each (t + 1, b, h), the initial one first; the first of them is read by the
        readout and the recurrent weights. measured (t, b, h): the pre-activations, with all noise.
        """
        given = states if isinstance(states, tuple | list) else (states,)
        if not given or not all(isinstance(state, Tensor) for state in given):
            got = ", ".join(type(state).__name__ for state in given) or "none"
            raise_problems([Problem(f"report of {self.name}: states", got, "one tensor or more")])
        return LayerTrajectory(inputs, tuple(given), given[0][1:], measured)

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        """The difference of the measurements, whatever the source of the noise."""
        assert before.auxiliary is not None
        assert after.auxiliary is not None
        return after.auxiliary - before.auxiliary

    def pre_activations(self, weights: CellWeights, trajectory: LayerTrajectory) -> Tensor:
        """The measurements."""
        assert trajectory.auxiliary is not None
        return trajectory.auxiliary

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> NoReturn:
        raise NotImplementedError("a black box only runs whole sequences, by its scan")

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        self.refuse("a derivative")

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        self.refuse("a derivative")

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        self.refuse("a derivative")

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        self.refuse("a derivative")

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        self.refuse("a derivative")

    def refuse(self, what: str) -> NoReturn:
        """Raise the `UnsupportedError` that names the rules for black boxes."""
        raise UnsupportedError(
            f"{self.name}: got {what}, expected a rule that needs no derivatives of the layer, which is a "
            "black box. Use ANP, NP or WP, or DFA with a slope of your choice."
        )


def check_report(cell: BlackBox, run: object, inputs: Tensor, initial: State) -> None:
    """Raise an `ArgumentError` for an impossible report of a scan, which is checked nowhere else.

    The numbers are not checked: if they are not finite, the loss shows it.
    """
    whose = f"scan of {cell.name}"
    if not isinstance(run, LayerTrajectory):
        remedy = "Return self.report(inputs, states, measured)."
        raise ArgumentError(
            str(Problem(whose, f"a {type(run).__name__}", "what `report` returns", remedy))
        )
    steps, (batch, hidden) = inputs.shape[0], initial[0].shape
    expected = {
        "states": ((steps + 1, batch, hidden), run.states),
        "measured": ((steps, batch, hidden), (run.auxiliary,)),
    }
    problems = []
    if len(run.states) != len(initial):
        names = ", ".join(cell.state_names)
        problems.append(
            Problem(f"{whose}: states", f"{len(run.states)} of them", f"{len(initial)}: {names}")
        )
    for name, (shape, found) in expected.items():
        wanted = _told(shape, inputs.dtype, inputs.device)
        for tensor in found:
            got = (
                _told(tuple(tensor.shape), tensor.dtype, tensor.device)
                if isinstance(tensor, Tensor)
                else f"a {type(tensor).__name__}"
            )
            if got != wanted:
                problems.append(Problem(f"{whose}: {name}", got, wanted))
    raise_problems(problems)


def _told(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> str:
    return f"a tensor {shape} of {dtype} on {device}"
