"""Weight mirrors: feedback alignment through time with matrices that learn the weights from noise."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.arguments import as_real, flag_problem
from timelocal.distributed import mean_over_ranks, of_this_rank
from timelocal.feedback import mirror
from timelocal.losses import Loss
from timelocal.network import Network
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.feedback_alignment import FeedbackAlignment, feedback_name
from timelocal.rules.feedback_rule import not_negative
from timelocal.typing import LossFunction, Place


class WeightMirror(FeedbackAlignment):
    """Weight mirrors (WM; Akrout et al. 2019), carried through time.

    Signals go back as in `FeedbackAlignment`. Each matrix B learns its weight matrix W from the response to
    noise: units that fire at random, ξ ~ N(0, 1), drive those above by W ξ, and B follows the correlation of
    the two, which is W on average. Once per training call, with one draw for each of the b sequences of the
    batch,

        B ← B + feedback_lr (⟨W ξ ⊗ ξ⟩_b − feedback_decay B)

    The mean of B approaches W / feedback_decay by a factor 1 − feedback_lr feedback_decay each time. No
    weight is read backwards: the noise only runs forward through it.

    Args:
        network, loss, at: as in `FeedbackAlignment`.
        feedback_lr, feedback_decay: of the update above.
        sync: under DDP, whether B learns from all ranks' noise, as `Decorrelation.sync`.
        seed: of the matrices B, their noise and dropout masks.

    Raises:
        ArgumentError: for rates that are not non-negative numbers.
        UnsupportedError: as `FeedbackAlignment`.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(3, 8, output_size=2)
    >>> rule = tl.WeightMirror(network, at="every")
    >>> inputs, targets = torch.randn(32, 10, 3), torch.randint(2, (32, 10))
    >>> for _ in range(500):
    ...     rule(inputs, targets).backward()
    >>> learned = rule.feedback_matrices()["recurrent.weight_hh_l0"]
    >>> weight = network.recurrent.weight_hh_l0.detach()
    >>> bool(torch.cosine_similarity(learned.flatten(), weight.flatten(), 0) > 0.9)
    True

    Source: Akrout et al. (2019), with the noise passed only through the weights and not through the units'
    nonlinearity, so that the mean is W itself. Differs from a "kolen_pollack" feedback in needing no error.
    Biased as long as B is not W.
    """

    spec = RuleSpec(
        name="wm",
        summary="BPTT's backward pass through matrices that learn the weights from noise",
        estimates="biased",
        target="oracle",
        online=False,
        autograd_free=True,
        weight_transport=False,
        bidirectional=True,
        references=(
            "M. Akrout, C. Wilson, P. C. Humphreys, T. Lillicrap, D. B. Tweed. Deep learning without weight "
            "transport. NeurIPS 32, 2019.",
        ),
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        feedback_lr: float = 1e-2,
        feedback_decay: float = 1.0,
        sync: bool = False,
        seed: int = 0,
    ) -> None:
        problems = (
            not_negative("feedback_lr", feedback_lr),
            not_negative("feedback_decay", feedback_decay),
            flag_problem("sync", sync),
        )
        super().__init__(network, loss=loss, at=at, seed=seed, problems=problems)
        self.feedback_lr = as_real(feedback_lr)
        self.feedback_decay = as_real(feedback_decay)
        self.sync = bool(sync)

    def local_updates(self, forward: ForwardPass) -> dict[str, Tensor]:
        if not self.training or not forward.batch.count:
            return {}
        rows, draw = forward.batch.inputs.shape[1], of_this_rank(self.generator)
        updates, matrices = {}, self.feedback_matrices()
        for name, weight in self.mirrored().items():
            noise = torch.randn(rows, weight.shape[1], generator=draw)
            update = mirror(matrices[name], weight, noise, self.feedback_lr, self.feedback_decay)
            updates[feedback_name(name)] = mean_over_ranks(update) if self.sync else update
        return updates
