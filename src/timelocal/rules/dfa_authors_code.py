"""DFA as the DFA paper's authors run it, for reproductions only: each of their quirks by its name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from timelocal.cells import CellWeights, GRUResetBefore, LayerTrajectory, RNNCell
from timelocal.errors import Problem, UnsupportedError, described, unknown_name
from timelocal.losses import Loss
from timelocal.network import Network
from timelocal.rules.batch import Batch
from timelocal.rules.dfa import DFA
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.feedback_rule import FeedbackRule, unit_norm
from timelocal.rules.forward import forward_pass, readout_gradients
from timelocal.typing import Gradients, LossFunction, Place

QUIRKS = ("shifted-time", "untransposed-candidate", "frozen-gate-biases", "frobenius")


class DFAAuthorsCode(FeedbackRule):
    """DFA with the deviations of the DFA paper's public code, to see what they cost.

    Args:
        network: one layer, one direction, a tanh RNN or a GRU with `reset_after=False`.
        loss: as in `DFA`.
        at: "last", of sequences of equal length: that code knows no other place.
        quirks: which deviations to make, of
            "shifted-time": σ' is taken at h_{t-1} and pairs with h_{t-2}; the first steps wrap round to h_T;
            "untransposed-candidate": δ_r uses W_n where W_nᵀ is right (GRU);
            "frozen-gate-biases": the biases of r and z get no update (GRU);
            "frobenius": each gate's block of each update is divided by its Frobenius norm.
        seed: of the feedback matrix; the same as `DFA`'s for the same seed.

    With no quirks this is `DFA`.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(3, 8, output_size=2)
    >>> rule = tl.DFAAuthorsCode(network, quirks=["shifted-time"])
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
                f"at: got {at!r}, expected 'last', the only place that code knows. Use DFA."
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

    carries_back_to: ClassVar[tuple[str, ...]] = ()

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        if batch.lengths is not None:
            raise UnsupportedError(
                "lengths: got sequences of unequal length, expected equal ones, as in that code. Use DFA."
            )
        cell, weights = self.network.cell, self.network.recurrent.weights(0, 0)
        forward = forward_pass(self.network, self.loss, batch, None)
        gradients = readout_gradients(self.network, forward)
        own = forward.trajectory.layers[0][0]
        if "shifted-time" in self.quirks:
            own = shift_time(own)
        if "untransposed-candidate" in self.quirks:
            weights = transpose_last_gate(weights)
        signal = forward.errors @ self.feedback_matrix().t()
        delta = cell.node_signal(weights, cell.local_jacobian(own), signal)
        gates = len(cell.gate_names)
        for kind in self.network.recurrent.parameter_kinds:
            blocks = list(cell.gradient(weights, kind, own, delta).chunk(gates))
            if "frozen-gate-biases" in self.quirks and kind.startswith("bias"):
                blocks[:-1] = [torch.zeros_like(block) for block in blocks[:-1]]
            gradients[f"recurrent.{kind}_l0"] = self._scaled(blocks)
        for name in ("readout.weight", "readout.bias"):
            if name in gradients:
                gradients[name] = self._scaled([gradients[name]])
        return forward, gradients

    def _scaled(self, blocks: list[Tensor]) -> Tensor:
        if "frobenius" in self.quirks:
            blocks = [unit_norm(block) for block in blocks]
        return torch.cat(blocks)


def _quirk_problems(quirks: object) -> list[Problem | None]:
    if not isinstance(quirks, list | tuple | set | frozenset):
        return [Problem("quirks", described(quirks), f"a list of some of {', '.join(QUIRKS)}")]
    return [unknown_name("quirks", quirk, QUIRKS) for quirk in quirks]


def shift_time(own: LayerTrajectory) -> LayerTrajectory:
    """What was computed one step before, the first steps wrapping round to the end.

    With H = (h_1, …, h_T): step t reads h_{t-1} where h_t is right, and h_{t-2} where h_{t-1} is.
    """
    states = _shifted(own.states[0])
    seen = None if own.seen is None else _shifted(own.seen)
    gates = own.gates.roll(1, 0)
    moved = replace(own, states=(states,), gates=gates, seen=seen)
    if own.auxiliary is None:
        return moved
    return replace(moved, auxiliary=gates.chunk(3, -1)[0] * moved.recurrent_input)


def _shifted(states: Tensor) -> Tensor:
    """(h_0, …, h_T) -> (h_{T-1}, h_T, h_1, …, h_{T-1}), (t + 1, b, h)."""
    later = states[1:]
    return torch.cat((later[-2:], later[:-1])) if len(later) > 1 else torch.cat((later,) * 2)


def transpose_last_gate(weights: CellWeights) -> CellWeights:
    """W_nᵀ in the place of W_n; of no effect where the cell has no gates."""
    size = weights.hh.shape[1]
    return weights._replace(hh=torch.cat((weights.hh[:-size], weights.hh[-size:].t())))
