"""The gated recurrent unit (Cho et al. 2014), in its two forms.

    r, z = σ(V x_t + W h_{t-1} + b)                                     h = (1 − z) ⊙ n + z ⊙ h_{t-1}
    reset after:  n = tanh(V_n x_t + b_in + r ⊙ (W_n h_{t-1} + b_hn))   as torch.nn.GRU and cuDNN
    reset before: n = tanh(V_n x_t + b_in + W_n (r ⊙ h_{t-1}) + b_hn)   as in the DFA paper

The DFA paper calls n "c". Nodes: a_r, a_z, a_n in this order, torch's.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
from timelocal.cells.weights import CellWeights
from timelocal.typing import State


def _candidate_and_update(trajectory: LayerTrajectory) -> tuple[Tensor, Tensor, Tensor]:
    """∂h/∂a_n = (1 − z)(1 − n²), ∂h/∂a_z = (h_{t-1} − n) z (1 − z), and z itself."""
    _, update, candidate = trajectory.gates.chunk(3, -1)
    keep = 1 - update
    by_candidate = (candidate * candidate).neg_().add_(1).mul_(keep)
    by_update = (trajectory.previous - candidate).mul_(update).mul_(keep)
    return by_candidate, by_update, update


def _slope(gate: Tensor) -> Tensor:
    """σ'(a) from σ(a)."""
    return gate * (1 - gate)


def _of_gates(node_tangent: Tensor | None) -> tuple[Tensor | float, ...]:
    """The tangents of a_r, a_z and a_n; 0 where there are none."""
    return (0.0, 0.0, 0.0) if node_tangent is None else node_tangent.chunk(3, -1)


class GRUResetAfter(Cell):
    """The GRU of torch.nn and cuDNN. Auxiliary: W_n h_{t-1} + b_hn, which r gates."""

    name = "gru"
    label = "GRU"
    gate_names = ("r", "z", "n")
    has_auxiliary = True

    def drive_bias(self, weights: CellWeights) -> Tensor | None:
        if weights.b_ih is None or weights.b_hh is None:
            return None
        hidden = weights.hh.shape[1]
        bias = weights.b_ih + weights.b_hh
        bias[2 * hidden :] = weights.b_ih[2 * hidden :]  # b_hn is multiplied by the reset gate
        return bias

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> None:
        (previous,) = state
        assert out.auxiliary is not None
        size = previous.shape[-1]
        entering = weights.decorrelated(previous)
        gates, candidate = out.gates[:, : 2 * size], out.gates[:, 2 * size :]
        torch.addmm(drive[:, : 2 * size], entering, weights.hh[: 2 * size].t(), out=gates)
        gates.sigmoid_()
        candidate_weights = weights.hh[2 * size :].t()
        if weights.b_hh is None:
            torch.mm(entering, candidate_weights, out=out.auxiliary)
        else:
            torch.addmm(weights.b_hh[2 * size :], entering, candidate_weights, out=out.auxiliary)
        torch.addcmul(drive[:, 2 * size :], gates[:, :size], out.auxiliary, out=candidate)
        candidate.tanh_()
        torch.lerp(candidate, previous, gates[:, size:], out=out.states[0])

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        """The candidate sees W_n h_{t-1} + b_hn behind the reset gate: r' ⊙ (…)' − r ⊙ (…)."""
        assert before.auxiliary is not None
        assert after.auxiliary is not None
        change = super().node_change(weights, before, after, noise)
        reset, new_reset = (run.gates.chunk(3, -1)[0] for run in (before, after))
        gated = new_reset * after.auxiliary - reset * before.auxiliary
        size = gated.shape[-1]
        ungated = (after.recurrent_input - before.recurrent_input) @ weights.hh[2 * size :].t()
        change[..., 2 * size :] += gated - ungated
        return change

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """∂h/∂a_n, ∂h/∂a_z, ∂a_n/∂a_r = (W_n h_{t-1} + b_hn) r (1 − r), z, r."""
        assert trajectory.auxiliary is not None
        reset = trajectory.gates.chunk(3, -1)[0]
        by_candidate, by_update, update = _candidate_and_update(trajectory)
        return by_candidate, by_update, _slope(reset).mul_(trajectory.auxiliary), update, reset

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        """No weight appears here: DFA on this cell needs no weight transport at all."""
        by_candidate, by_update, by_reset, *_ = jacobian
        candidate = signal * by_candidate
        return torch.cat((candidate * by_reset, signal * by_update, candidate), -1)

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        (signal,) = signals
        *_, update, reset = jacobian
        delta = self.node_signal(weights, jacobian, signal)
        carried = weights.carried_back(_gate_candidate(delta, reset) @ weights.hh)
        return delta, (carried.addcmul_(signal, update),)

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        """ȧ_n = W_n D v behind the reset gate, plus the effect of the change of the reset gate."""
        (moved,) = tangents
        by_candidate, by_update, by_reset, update, reset = jacobian
        r, z, n = (weights.decorrelated(moved) @ weights.hh.t()).chunk(3, -1)
        own_r, own_z, own_n = _of_gates(node_tangent)
        candidate = reset * n + own_n + by_reset * (r + own_r)
        return (update * moved + by_update * (z + own_z) + by_candidate * candidate,)

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        by_candidate, by_update, by_reset, update, reset = jacobian
        if trace == "leak":
            return ((update,),)
        own_reset, own_update, own_candidate = weights.of_itself()
        kept = (by_reset * own_reset).addcmul_(reset, own_candidate).mul_(by_candidate)
        return ((kept.addcmul_(by_update, own_update).add_(update),),)

    def recurrent_signal(self, trajectory: LayerTrajectory, delta: Tensor) -> Tensor:
        return _gate_candidate(delta, trajectory.gates.chunk(3, -1)[0])


def _gate_candidate(delta: Tensor, reset: Tensor) -> Tensor:
    """(δ_r, δ_z, r ⊙ δ_n): the node signals as they meet weight_hh behind the reset gate."""
    gated = delta.clone()
    gated[..., -reset.shape[-1] :] *= reset
    return gated


class GRUResetBefore(Cell):
    """The GRU of the DFA paper. Auxiliary: r ⊙ h_{t-1}, the input of W_n."""

    name = "gru-reset-before"
    label = "GRU (reset before)"
    gate_names = ("r", "z", "n")
    has_auxiliary = True
    acts_locally = False  # the reset gate of one unit acts on all, through W_n

    def step(self, weights: CellWeights, drive: Tensor, state: State, out: StepBuffers) -> None:
        (previous,) = state
        assert out.auxiliary is not None
        size = previous.shape[-1]
        entering = weights.decorrelated(previous)
        gates, candidate = out.gates[:, : 2 * size], out.gates[:, 2 * size :]
        torch.addmm(drive[:, : 2 * size], entering, weights.hh[: 2 * size].t(), out=gates)
        gates.sigmoid_()
        torch.mul(gates[:, :size], entering, out=out.auxiliary)
        torch.addmm(drive[:, 2 * size :], out.auxiliary, weights.hh[2 * size :].t(), out=candidate)
        candidate.tanh_()
        torch.lerp(candidate, previous, gates[:, size:], out=out.states[0])

    def node_change(
        self,
        weights: CellWeights,
        before: LayerTrajectory,
        after: LayerTrajectory,
        noise: Tensor,
    ) -> Tensor:
        """The input of W_n is r ⊙ h_{t-1}, not h_{t-1}."""
        assert before.auxiliary is not None
        assert after.auxiliary is not None
        change = super().node_change(weights, before, after, noise)
        gated = after.auxiliary - before.auxiliary
        ungated = after.recurrent_input - before.recurrent_input
        size = gated.shape[-1]
        change[..., 2 * size :] += (gated - ungated) @ weights.hh[2 * size :].t()
        return change

    def local_jacobian(self, trajectory: LayerTrajectory) -> LocalJacobian:
        """∂h/∂a_n, ∂h/∂a_z, h_{t-1} r (1 − r), z, r; with D h_{t-1} if the layer decorrelates."""
        reset = trajectory.gates.chunk(3, -1)[0]
        by_candidate, by_update, update = _candidate_and_update(trajectory)
        return (
            by_candidate,
            by_update,
            _slope(reset).mul_(trajectory.recurrent_input),
            update,
            reset,
        )

    def node_signal(self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor) -> Tensor:
        """δ_r = (W_nᵀ δ_n) ⊙ h_{t-1} ⊙ r (1 − r): the one place where a weight is transposed."""
        return self._signals(weights, jacobian, signal)[0]

    def _signals(
        self, weights: CellWeights, jacobian: LocalJacobian, signal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """δ, and the signal W_nᵀ δ_n at r ⊙ h_{t-1}."""
        by_candidate, by_update, by_reset, *_ = jacobian
        candidate = signal * by_candidate
        gated = candidate @ weights.hh[2 * candidate.shape[-1] :]
        return torch.cat((gated * by_reset, signal * by_update, candidate), -1), gated

    def backward_step(
        self, weights: CellWeights, jacobian: LocalJacobian, signals: State
    ) -> tuple[Tensor, State]:
        (signal,) = signals
        *_, update, reset = jacobian
        size = signal.shape[-1]
        delta, gated = self._signals(weights, jacobian, signal)
        entering = torch.addmm(gated * reset, delta[:, : 2 * size], weights.hh[: 2 * size])
        return delta, (weights.carried_back(entering).addcmul_(signal, update),)

    def jvp_step(
        self,
        weights: CellWeights,
        jacobian: LocalJacobian,
        tangents: State,
        node_tangent: Tensor | None = None,
    ) -> State:
        """ȧ_n = W_n (r ⊙ D v + ṙ ⊙ D h_{t-1})."""
        (moved,) = tangents
        by_candidate, by_update, by_reset, update, reset = jacobian
        to_reset, to_update, to_candidate = weights.hh.chunk(3)
        entering = weights.decorrelated(moved)
        own_r, own_z, own_n = _of_gates(node_tangent)
        gated = reset * entering + by_reset * (entering @ to_reset.t() + own_r)
        candidate = gated @ to_candidate.t() + own_n
        z = entering @ to_update.t() + own_z
        return (update * moved + by_update * z + by_candidate * candidate,)

    def reduced_jacobian(
        self, weights: CellWeights, jacobian: LocalJacobian, trace: Trace
    ) -> ReducedJacobian:
        """A unit affects itself through its own reset gate, and through all others' reset gates and W_n."""
        by_candidate, by_update, by_reset, update, reset = jacobian
        if trace == "leak":
            return ((update,),)
        to_reset, _, to_candidate = weights.hh.chunk(3)
        _, own_update, own_candidate = weights.of_itself()
        kept = by_reset @ (to_candidate.t() * weights.carried_back(to_reset))
        if weights.decorrelation is None:
            kept.addcmul_(reset, own_candidate)
        else:  # each reset gate stands between D and W_n
            kept += reset @ (to_candidate.t() * weights.decorrelation)
        kept.mul_(by_candidate)
        return ((kept.addcmul_(by_update, own_update).add_(update),),)

    def gradient_hh(
        self, trajectory: LayerTrajectory, delta: Tensor, outer: Outer = outer_sum
    ) -> Tensor:
        assert trajectory.auxiliary is not None
        size = trajectory.auxiliary.shape[-1]
        gates, candidate = delta[..., : 2 * size], delta[..., 2 * size :]
        entered = outer(gates, trajectory.recurrent_input), outer(candidate, trajectory.auxiliary)
        return torch.cat(entered, -2)
