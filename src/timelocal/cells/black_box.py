"""A layer that only runs forward: hardware, a simulator, a cell with no derivative.

It implements `scan`, which runs a whole sequence however it likes and reports what it measured. Rules
that perturb (NP, WP, ANP) train it; rules that need a derivative refuse it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NoReturn

from torch import Tensor

from timelocal.cells.cell import (
    Cell,
    CellWeights,
    LayerTrajectory,
    LocalJacobian,
    ReducedJacobian,
    StepBuffers,
    Trace,
)
from timelocal.errors import UnsupportedError
from timelocal.typing import State


class BlackBox(Cell):
    """A cell with one node a unit, whose inside is nobody's business.

    Subclass it, give it a `name` and a `scan`, and make a network with `timelocal.black_box`. The weights
    it is run with are ordinary parameters, `weight_ih` (h, i), `weight_hh` (h, h) and two biases (h,): what
    it makes of them is its own affair.

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
    >>> loss = tl.ANP(network, sigma=0.1)(torch.randn(8, 20, 2), torch.randn(8, 20, 1))
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

        node_noise (t, b, h) is to be added to the pre-activations; a thing that cannot be given noise may
        leave it, and be trained by `ANP(clean=False)` on the noise it has.
        """

    def report(self, inputs: Tensor, states: State, measured: Tensor) -> LayerTrajectory:
        """What a run leaves behind.

        states: (h,) or more, each (t + 1, b, h), the initial one first; the first of them is what the
        readout and the recurrent weights read. measured (t, b, h): the pre-activations, with all noise.
        """
        return LayerTrajectory(inputs, states, states[0][1:], measured)

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        """What was measured, whoever made the noise."""
        assert before.auxiliary is not None
        assert after.auxiliary is not None
        return after.auxiliary - before.auxiliary

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> NoReturn:
        raise NotImplementedError("a black box runs whole sequences: it has a scan")

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        self._refuse()

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        self._refuse()

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        self._refuse()

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedError(
            f"{self.name}: got a rule that needs a derivative, expected one that only runs forward: this "
            "layer is a black box. Use ANP, NP or WP."
        )
