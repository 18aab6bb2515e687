"""Leaky integrate-and-fire neurons: all-or-none spikes, and a surrogate in place of their derivative.

    a_t = V x_t + W z_{t-1} + b               the node: the input current
    v_t = α v_{t-1} + a_t − θ z_{t-1}         the membrane, reset by subtraction
    z_t = 1 if v_t > θ else 0                 ∂z_t/∂v_t ≈ ψ_t = (γ/θ) S(k (v_t − θ)/θ)
    f_t = κ f_{t-1} + (1 − κ) z_t             the features: what the readout and the layer above see

States: (z, v, f). The recurrent weights read the spikes z. Perturbation rules never use ψ.
"""

from __future__ import annotations

import copy
import inspect
import math
from typing import ClassVar

import torch
from torch import Tensor

from timelocal.arguments import as_real, flag_problem
from timelocal.cells.cell import (
    Cell,
    LayerTrajectory,
    LocalJacobian,
    Outer,
    ReducedJacobian,
    StepBuffers,
    Trace,
    outer_sum,
)
from timelocal.cells.surrogates import SURROGATES
from timelocal.cells.weights import CellWeights
from timelocal.errors import Problem, described, raise_problems, unknown_name
from timelocal.typing import State


class LIFCell(Cell):
    """A layer of leaky integrate-and-fire neurons.

    membrane, readout_decay: α and κ, in [0, 1). threshold: θ. surrogate: S, of `SURROGATES`, with dampening γ
    and sharpness k. detach_reset: whether to block the derivative through − θ z_{t-1}, as in the e-prop
    paper.
    rate, rate_strength: f* and c of `activity`; None for no penalty.
    """

    name = "lif"
    label = "LIF"
    gate_names = ("a",)
    state_names: ClassVar[tuple[str, ...]] = ("z", "v", "f")
    pseudo_derivatives = True
    graded = False
    """Whether the output is graded, as `differentiable` makes it."""
    adaptation = 0.0
    adaptation_decay = 0.0
    """β and ρ of a cell with a fourth state, the adaptation of its threshold (cells/alif.py)."""

    def __init__(
        self,
        membrane: float = 0.9,
        threshold: float = 1.0,
        readout_decay: float = 0.8,
        surrogate: str = "triangular",
        dampening: float = 0.3,
        sharpness: float = 1.0,
        detach_reset: bool = True,
        rate: float | None = None,
        rate_strength: float = 1.0,
    ) -> None:
        raise_problems(
            [
                *(
                    fraction_problem(name, value)
                    for name, value in (("membrane", membrane), ("readout_decay", readout_decay))
                ),
                *(
                    positive_problem(name, value)
                    for name, value in (
                        ("threshold", threshold),
                        ("dampening", dampening),
                        ("sharpness", sharpness),
                        ("rate_strength", rate_strength),
                    )
                ),
                unknown_name("surrogate", surrogate, SURROGATES),
                flag_problem("detach_reset", detach_reset),
                None
                if rate is None or 0 <= as_real(rate) <= 1
                else Problem("rate", described(rate), "spikes per step, in [0, 1], or None"),
            ]
        )
        self.membrane, self.threshold = as_real(membrane), as_real(threshold)
        self.readout_decay = as_real(readout_decay)
        self.surrogate = surrogate
        self.dampening, self.sharpness = as_real(dampening), as_real(sharpness)
        self.detach_reset = bool(detach_reset)
        self.rate = None if rate is None else as_real(rate)
        self.rate_strength = as_real(rate_strength)
        self.penalised = rate is not None

    # --- parameters and features ------------------------------------------------------------

    def initialise(
        self, name: str, parameter: Tensor, hidden_size: int, generator: torch.Generator
    ) -> None:
        """Weights from N(0, 1/n) with n inputs, as in the code of the e-prop paper; zero biases."""
        if name.startswith("bias"):
            parameter.zero_()
        else:
            parameter.normal_(0, 1 / math.sqrt(parameter.shape[1]), generator=generator)

    def features(self, states: State) -> Tensor:
        return states[2]

    def features_signal(self, states: State, signal: Tensor) -> State:
        zero = torch.zeros_like(signal)
        return zero, zero, signal, *(zero for _ in states[3:])

    def features_tangent(self, states: State, tangents: State) -> Tensor:
        return tangents[2]

    def activity(self, states: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """(c/2) Σ_j (f_j − f*)², f_j the mean of z_j over all n valid steps; c (f_j − f*) / n at each z_j."""
        assert self.rate is not None
        spikes, *others = states
        valid = spikes.new_ones(spikes.shape[:2]) if valid is None else valid.to(spikes.dtype)
        share = (valid / valid.sum()).unsqueeze(-1)
        off = (spikes * share).sum((0, 1)) - self.rate
        penalty = off.square().sum() * (self.rate_strength / 2)
        signal = (self.rate_strength * off) * share
        return penalty, (signal, *(torch.zeros_like(signal) for _ in others))

    # --- the forward step -------------------------------------------------------------------

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> None:
        spikes, potential, seen, *adapted = state
        new_spikes, new_potential, new_seen, *new_adapted = out.states
        torch.addmm(drive, spikes, weights.hh.t(), out=out.gates)
        torch.add(out.gates, potential, alpha=self.membrane, out=new_potential)
        new_potential.sub_(spikes, alpha=self.threshold)
        for before, after in zip(adapted, new_adapted, strict=True):
            torch.add(spikes, before, alpha=self.adaptation_decay, out=after)
        new_spikes.copy_(self._emitted(self._distance(out.states)))
        torch.lerp(new_spikes, seen, self.readout_decay, out=new_seen)

    def _distance(self, states: State) -> Tensor:
        """u: how far the membrane is above its threshold, in units of θ."""
        _, potential, _, *adapted = states
        above = potential - self.threshold
        for own in adapted:
            above = torch.sub(above, own, alpha=self.adaptation)
        return above / self.threshold

    def _emitted(self, distance: Tensor) -> Tensor:
        if not self.graded:
            return (distance > 0).to(distance.dtype)
        primitive = SURROGATES[self.surrogate].primitive
        return primitive(distance * self.sharpness) * (self.dampening / self.sharpness)

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        from_inputs = (after.inputs - before.inputs) @ weights.ih.t()
        from_spikes = (after.previous - before.previous) @ weights.hh.t()
        return from_spikes.add_(from_inputs).add_(noise)

    # --- the derivatives of one step --------------------------------------------------------

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """ψ_t."""
        after = tuple(state[1:] for state in trajectory.states)
        shape = SURROGATES[self.surrogate].shape
        slope = shape(self._distance(after) * self.sharpness)
        return (slope * (self.dampening / self.threshold),)

    @property
    def _reset(self) -> float:
        """−∂v_t/∂z_{t-1} with the node held."""
        return 0.0 if self.detach_reset else self.threshold

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        return signal * jacobian[0]

    def node_signal_of_states(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> Tensor:
        at_spikes, at_potential, at_seen, *_ = signals
        at_spikes = torch.add(at_spikes, at_seen, alpha=1 - self.readout_decay)
        return torch.addcmul(at_potential, at_spikes, jacobian[0])

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        at_spikes, at_potential, at_seen, *at_adapted = signals
        at_spikes = torch.add(at_spikes, at_seen, alpha=1 - self.readout_decay)
        through = at_spikes * jacobian[0]
        delta = at_potential + through
        carried = torch.sub(delta @ weights.hh, delta, alpha=self._reset)
        adapted = [torch.sub(own, through, alpha=self.adaptation) for own in at_adapted]
        for own in adapted:
            carried = carried + own
        return delta, (
            carried,
            delta * self.membrane,
            at_seen * self.readout_decay,
            *(own * self.adaptation_decay for own in adapted),
        )

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        spikes, potential, seen, *adapted = tangents
        nodes = spikes @ weights.hh.t()
        nodes = nodes if node_tangent is None else nodes + node_tangent
        moved = torch.add(nodes, potential, alpha=self.membrane).sub_(spikes, alpha=self._reset)
        thresholds = [torch.add(spikes, own, alpha=self.adaptation_decay) for own in adapted]
        above = moved
        for own in thresholds:
            above = torch.sub(above, own, alpha=self.adaptation)
        emitted = above * jacobian[0]
        return emitted, moved, torch.lerp(emitted, seen, self.readout_decay), *thresholds

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        """The rows of v and of the adaptation; those of z and f follow through ψ."""
        (slope,) = jacobian
        by_spike: Tensor | float = -self._reset
        if trace == "diagonal":
            by_spike = weights.hh.diagonal() - self._reset
        potential: list[Tensor | float] = [by_spike, self.membrane, 0.0]
        rows, above = [potential], list(potential)
        if len(self.state_names) > len(potential):
            potential.append(0.0)
            rows.append([1.0, 0.0, 0.0, self.adaptation_decay])
            above = [own - self.adaptation * kept for own, kept in zip(*rows, strict=True)]
        emitted = [_factor(own, slope) for own in above]
        emitted = [None if own is None else own * slope for own in emitted]
        seen = [None if own is None else own * (1 - self.readout_decay) for own in emitted]
        seen[2] = _factor(self.readout_decay, slope)
        first, *others = (tuple(_factor(own, slope) for own in row) for row in rows)
        return tuple(emitted), first, tuple(seen), *others

    def gradient_hh(
        self, trajectory: LayerTrajectory, delta: Tensor, outer: Outer = outer_sum
    ) -> Tensor:
        return outer(delta, trajectory.previous)

    def differentiable(self) -> Cell:
        """The same cell with output γ/k ∫S(k u), whose derivative is the surrogate; reset not detached."""
        twin = copy.copy(self)
        twin.graded, twin.detach_reset = True, False
        return twin

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({told})"


def _factor(value: Tensor | float, like: Tensor) -> Tensor | None:
    """An entry of the Jacobian (…, h); None for a zero."""
    if isinstance(value, Tensor):
        return value.expand_as(like)
    return torch.full_like(like, value) if value else None


def fraction_problem(name: str, value: object) -> Problem | None:
    """A problem unless this is a fraction kept from step to step."""
    return (
        None if 0 <= as_real(value) < 1 else Problem(name, described(value), "a number in [0, 1)")
    )


def positive_problem(name: str, value: object) -> Problem | None:
    """A problem unless this is a positive number."""
    return (
        None
        if 0 < as_real(value) < math.inf
        else Problem(name, described(value), "a positive number")
    )
