"""Sparse real-time recurrent learning: each unit follows only the few others with its strongest weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from timelocal.arguments import whole_problem
from timelocal.errors import UnsupportedError
from timelocal.losses import Loss
from timelocal.network import Network, Trajectory, parameter_name
from timelocal.rules.estimate import RuleSpec
from timelocal.rules.rtrl import RTRL
from timelocal.typing import LossFunction, Memory, Place


class SparseRTRL(RTRL):
    """Real-time recurrent learning with a sparse Jacobian: each unit follows itself and k others.

        P_t = (M ⊙ ∂s_t/∂s_{t-1}) P_{t-1} + ∂s_t/∂θ,   dW = Σ_t (∂ℓ_t/∂s_t) P_t

    with M_uv = 1 for v = u and for the k units v ≠ u with the largest Σ_gates |W_hh| (|W_hh D| if the
    network decorrelates), and 0 otherwise.

    Args:
        network: a small timelocal network of one direction.
        k: the number of other units, at least 0. 0 leaves the diagonal: for one layer this is SnAp-1, or
            e-prop with exact feedback. H − 1 or more is RTRL.
        refresh: a stream, whose weights change, chooses the units again after this many steps.
        loss, at, seed: as in `RTRL`.

    Raises:
        ArgumentError: for bad arguments, all at once.
        UnsupportedError: as `RTRL`, and for a cell without weight_hh whose units act on each other.

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(2, 6, output_size=1)
    >>> rule = tl.SparseRTRL(network, k=2, loss="mse", at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randn(4, 30, 1)).backward()

    Biased: paths through weaker weights are left out. It needs the memory of RTRL: P fills up over several
    steps, so this saves products, not storage. Differs from SnAp-n, which drops entries of P, in dropping
    entries of the Jacobian.
    """

    spec = RuleSpec(
        name="sparse-rtrl",
        summary="RTRL in which each unit follows only the few others with its strongest weights",
        estimates="biased",
        target="oracle",
        online=True,
        autograd_free=True,
        weight_transport=True,
        references=(
            *RTRL.spec.references,
            "J. Menick, E. Elsen, U. Evci, S. Osindero, K. Simonyan, A. Graves. Practical real time "
            "recurrent learning with a sparse approximation. ICLR, 2021. arXiv:2006.07232.",
        ),
    )

    def __init__(
        self,
        network: Network,
        k: int = 4,
        *,
        refresh: int = 1,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        seed: int = 0,
    ) -> None:
        problems = [whole_problem("k", k, 0), whole_problem("refresh", refresh)]
        super().__init__(network, loss=loss, at=at, full=True, seed=seed, problems=problems)
        self.k, self.refresh = int(k), int(refresh)
        cell, recurrent = network.cell, network.recurrent
        diagonal = cell.is_diagonal(recurrent.decorrelate is not None)
        if "weight_hh" not in recurrent.parameter_kinds and not diagonal:
            raise UnsupportedError(
                f"sparse-rtrl: got {cell!r}, expected a cell with weight_hh, which determines the units that "
                "each unit follows. Use RTRL, or SnAp1."
            )
        if diagonal or self.k >= network.hidden_size - 1:
            self.spec = replace(self.spec, estimates="exact", target="bptt")

    def no_traces(self, batch_size: int) -> Memory:
        """P, and M (b, h, h) of each layer, zero until it is chosen."""
        like, units = self.network.recurrent.like, self.network.hidden_size
        masks = {
            f"followed_l{layer}": like.new_zeros(batch_size, units, units)
            for layer in range(self.network.num_layers)
        }
        return super().no_traces(batch_size) | masks

    def carried(self, traces: Memory, run: Trajectory, key: int, step: int) -> Memory:
        masks = {
            name: self._chosen(layer, traces[name], step)
            for layer in range(self.network.num_layers)
            for name in (f"followed_l{layer}",)
        }
        return super().carried(traces | masks, run, key, step) | masks

    def _chosen(self, layer: int, before: Tensor, step: int) -> Tensor:
        """M (b, h, h): unchanged, or chosen again if it is due or if a row of the batch was reset."""
        due = step % self.refresh == 0
        begun = ~before.any(2).any(1)
        if not due and not bool(begun.any()):
            return before
        now = strongest(self.network, layer, self.k).repeat(len(before), 1, 1)
        return now if due else torch.where(begun[:, None, None], now, before)

    def followed(self, layer: int, by_state: Tensor, traces: Memory) -> Tensor:
        states = len(self.network.cell.state_names)
        return by_state * traces[f"followed_l{layer}"].transpose(0, 1).repeat(states, 1, states)


def strongest(network: Network, layer: int, k: int) -> Tensor:
    """M (h, h): 1 on the diagonal and, in each row, at the k other units with the largest weights."""
    units, weights = network.hidden_size, network.recurrent.weights(layer, 0)
    mask = torch.eye(
        units, dtype=network.recurrent.like.dtype, device=network.recurrent.like.device
    )
    if "weight_hh" not in network.recurrent.parameter_kinds or k == 0:
        return mask
    weight = network.recurrent.get_parameter(parameter_name("weight_hh", layer, 0)).detach()
    if weights.decorrelation is not None:
        weight = weight @ weights.decorrelation
    strength = weight.unflatten(0, (-1, units)).abs().sum(0).fill_diagonal_(-1.0)
    others = strength.topk(min(k, units - 1), dim=1).indices
    return mask.scatter_(1, others, 1.0)
