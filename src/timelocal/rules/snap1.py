"""SnAp-1: RTRL's influence matrix, restricted to the effect of a weight on its own unit."""

from __future__ import annotations

from timelocal.losses import Loss
from timelocal.network import Network
from timelocal.rules.estimate import RuleSpec
from timelocal.rules.feedback_rule import EXACT, FeedbackRule
from timelocal.typing import LossFunction, Place


class SnAp1(FeedbackRule):
    """The sparse one-step approximation of RTRL (SnAp-1; Menick et al. 2021).

    Of RTRL's influence matrix it keeps the effect of each weight on the states of its own unit, one number
    per synapse and state, which is multiplied by the gradient of each step's loss:

        E_t = diag(∂s_t/∂s_{t-1}) E_{t-1} + ∂s_t/∂θ,   dW = Σ_t (∂ℓ_t/∂h_t) ⊙ E_t

    For the LSTM s = (h, c), and the trace of one synapse is a pair. In a stack ∂ℓ_t/∂h_t of a lower layer
    goes down through the layers within the step, never through time. It is `DFA` with feedback="exact" and
    trace="diagonal": over a whole sequence the signal goes back through the diagonal, in a stream the E go
    forward, and the sums are the same.

    Args:
        network: any timelocal network.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        seed: of the dropout masks between layers, the only random draws.

    Raises:
        ArgumentError: for unknown names.
        UnsupportedError: for a stream over a cell in which a weight acts on other units within its step.

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(2, 16, output_size=3)
    >>> rule = tl.SnAp1(network, at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()

    Source: Menick et al. (2021), section 3, with n = 1. If no unit sees another's past (element-wise
    recurrences), it is exact for one layer and for the top layer of a stack; lower layers miss what reaches
    a later step through the state of an upper layer. Otherwise biased. Differs from e-prop only in the
    feedback, from RTRL in dropping all paths between units, and from TBPTT(1) in having a past.
    """

    spec = RuleSpec(
        name="snap1",
        summary="the step's own error, and traces through each unit's own past: RTRL's diagonal",
        estimates="biased",
        target="oracle",
        online=True,
        autograd_free=True,
        weight_transport=True,
        bidirectional=True,
        references=(
            "J. Menick, E. Elsen, U. Evci, S. Osindero, K. Simonyan, A. Graves. Practical real time "
            "recurrent learning with a sparse approximation to the Jacobian. ICLR, 2021.",
        ),
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        seed: int = 0,
    ) -> None:
        super().__init__(
            network,
            loss=loss,
            at=at,
            feedback=EXACT,
            feedback_per="layer",
            trace="diagonal",
            normalize=None,
            feedback_lr=0.0,
            feedback_decay=0.0,
            sync=False,
            seed=seed,
        )
