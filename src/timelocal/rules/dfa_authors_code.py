"""DFA as in the DFA paper's public code, for reproductions only: each deviation by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from timelocal import feedback
from timelocal.cells import GRUResetBefore, LayerTrajectory, RNNCell
from timelocal.errors import Problem, UnsupportedError, described, unknown_name
from timelocal.losses import Loss
from timelocal.network import Network
from timelocal.rules.batch import Batch
from timelocal.rules.dfa import DFA
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.feedback_rule import FeedbackRule, unit_norm
from timelocal.rules.forward import forward_pass, readout_gradients
from timelocal.seeding import generator
from timelocal.typing import Gradients, LossFunction, Place

QUIRKS = (
    "shifted-states",
    "reset-slope",
    "untransposed-candidate",
    "matrix-before-slope",
    "frozen-gate-biases",
    "feedback-per-matrix",
    "frobenius",
)


class DFAAuthorsCode(FeedbackRule):
    """DFA with the deviations of the DFA paper's public code, to measure their cost.

    Args:
        network: one layer, one direction, a tanh RNN or a GRU with `reset_after=False`.
        loss: as in `DFA`.
        at: "last", for sequences of equal length: that code supports nothing else.
        quirks: which deviations to make, out of
            "shifted-states": h_{t-2} in place of h_{t-1}, and h_T at step 1; in the tanh RNN the slope at
            h_{t-1} in place of that at h_t; "reset-slope": the update gate's slope is r (1 − r) in place of
            z (1 − z) (GRU); "untransposed-candidate": δ_r uses W_n in place of W_nᵀ (GRU);
            "matrix-before-slope": the candidate's own signal is W_n (G ⊙ (1 − z)) ⊙ (1 − n²), where no
            matrix belongs (GRU); the signal passed on to the reset gate is computed without it;
            "frozen-gate-biases": the biases of r and z get no update (GRU); "feedback-per-matrix": each
            gate's input and recurrent matrix has its own F, and its biases share that of the input matrix;
            "frobenius": each gate's block of each update of the recurrent layer is divided by its Frobenius
            norm.
        seed: of the feedback matrices; without "feedback-per-matrix" the same as `DFA`'s for the same seed.

    With no quirks this is `DFA`.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(3, 8, output_size=2)
    >>> rule = tl.DFAAuthorsCode(network, quirks=["shifted-states"])
    >>> rule(torch.rand(5, 6, 3), torch.tensor([0, 1, 0, 1, 0])).backward()
    """

    spec = RuleSpec(
        name="dfa-authors-code",
        summary="DFA with the mistakes of the paper's code, for reproductions",
        estimates="biased",
        target="oracle",
        online=False,
        autograd_free=True,
        weight_transport=False,
        references=DFA.spec.references[:1],
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        quirks: Collection[str] = QUIRKS,
        seed: int = 0,
    ) -> None:
        super().__init__(
            network,
            loss=loss,
            at=at,
            feedback="gaussian",
            feedback_per="layer",
            trace="none",
            normalize=None,
            feedback_lr=0.0,
            feedback_decay=0.0,
            sync=False,
            seed=seed,
            drawn_as=DFA.spec.name,
            problems=_quirk_problems(quirks),
        )
        if at != "last":
            raise UnsupportedError(
                f"at: got {at!r}, expected 'last', the only position that code supports. Use DFA."
            )
        if (
            network.num_layers > 1
            or network.directions > 1
            or type(network.cell) not in (RNNCell, GRUResetBefore)
        ):
            raise UnsupportedError(
                f"dfa-authors-code: got {network.recurrent}, expected one layer and one direction of a "
                "tanh RNN or a GRU with reset_after=False, as in that code. Use DFA."
            )
        self.quirks = tuple(quirks)
        if "feedback-per-matrix" in self.quirks:
            self._draw_per_matrix(generator(seed, self.spec.name))

    carries_back_to: ClassVar[tuple[str, ...]] = ()

    def _draw_per_matrix(self, generator: torch.Generator) -> None:
        """F of each gate's input and recurrent matrix, two buffers (gates, h, o)."""
        network = self.network
        for matrix in ("weight_ih", "weight_hh"):
            drawn = [
                feedback.gaussian(network.hidden_size, network.output_size, generator)
                for _ in network.cell.gate_names
            ]
            own = torch.stack(drawn).to(network.recurrent.like)
            self.register_buffer(f"feedback_{matrix}_l0", own)

    def _feedback_of(self, matrix: str) -> Tensor:
        """F of every gate's block of the matrix "weight_ih" or "weight_hh", (gates, h, o)."""
        if "feedback-per-matrix" not in self.quirks:
            return self.feedback_matrix().expand(len(self.network.cell.gate_names), -1, -1)
        return self.get_buffer(f"feedback_{matrix}_l0")

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        if batch.lengths is not None:
            raise UnsupportedError(
                "lengths: got sequences of unequal length, expected equal ones, as in that code. Use DFA."
            )
        cell, weights = self.network.cell, self.network.recurrent.weights(0, 0)
        forward = forward_pass(self.network, self.loss, batch, None)
        gradients = readout_gradients(self.network, forward)
        own = forward.trajectory.layers[0][0]
        if "shifted-states" in self.quirks:
            own = shift_states(own)
        deltas = {
            matrix: self._node_signals(
                own, weights.hh, forward.errors @ self._feedback_of(matrix).transpose(1, 2)
            )
            for matrix in ("weight_ih", "weight_hh")
        }
        for kind in self.network.recurrent.parameter_kinds:
            delta = deltas["weight_hh" if kind == "weight_hh" else "weight_ih"]
            blocks = list(cell.gradient(weights, kind, own, delta).chunk(len(cell.gate_names)))
            if "frozen-gate-biases" in self.quirks and kind.startswith("bias"):
                blocks[:-1] = [torch.zeros_like(block) for block in blocks[:-1]]
            if "frobenius" in self.quirks:
                blocks = [unit_norm(block) for block in blocks]
            gradients[f"recurrent.{kind}_l0"] = torch.cat(blocks)
        return forward, gradients

    def _node_signals(self, own: LayerTrajectory, recurrent: Tensor, signals: Tensor) -> Tensor:
        """δ (t, b, g), each gate's from a signal of its own at the hidden state, `signals` (gates, b, h)."""
        if isinstance(self.network.cell, RNNCell):
            return signals[0] * (1 - own.gates.square()) / self.network.cell.tau
        r, z, n = own.gates.chunk(3, -1)
        by_r, by_z, by_n = signals
        matrix = recurrent[-r.shape[-1] :]  # W_n
        candidate, slope = by_n * (1 - z), 1 - n.square()
        if "matrix-before-slope" in self.quirks:
            candidate = candidate @ matrix.t()
        behind = by_r * (1 - z) * slope
        reset = behind @ (matrix.t() if "untransposed-candidate" in self.quirks else matrix)
        gate = r if "reset-slope" in self.quirks else z
        return torch.cat(
            (
                reset * own.recurrent_input * r * (1 - r),
                by_z * (own.previous - n) * gate * (1 - gate),
                candidate * slope,
            ),
            -1,
        )


def _quirk_problems(quirks: object) -> list[Problem | None]:
    if not isinstance(quirks, list | tuple | set | frozenset):
        return [Problem("quirks", described(quirks), f"a list of some of {', '.join(QUIRKS)}")]
    return [unknown_name("quirks", quirk, QUIRKS) for quirk in quirks]


def shift_states(own: LayerTrajectory) -> LayerTrajectory:
    """h_{t-2} in place of h_{t-1}, treating (h_0, …, h_T) as a ring.

    The gates of a GRU are not shifted. The slope of a tanh RNN is computed from its states and so shifts
    with them: at step 1 it is that of h_0 = 0.
    """
    moved = replace(
        own,
        states=(own.states[0].roll(1, 0),),
        seen=None if own.seen is None else own.seen.roll(1, 0),
    )
    if own.auxiliary is None:
        return replace(moved, gates=torch.cat((torch.zeros_like(own.gates[:1]), own.gates[:-1])))
    return replace(moved, auxiliary=own.gates.chunk(3, -1)[0] * moved.recurrent_input)
