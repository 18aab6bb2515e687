"""Random feedback local online learning: random feedback, and the leak's own memory of the past."""

from __future__ import annotations

from timelocal.rules.estimate import RuleSpec
from timelocal.rules.feedback_rule import TracedRule


class RFLO(TracedRule):
    """Random feedback local online learning (RFLO; Murray 2019).

    The output error reaches a unit through a random matrix, and each synapse remembers its effect for as
    long as the unit's own leak does. For the leaky tanh RNN, with pre_t the input of the weight,

        p_t = (1/τ) φ'(a_t) ⊗ pre_t + (1 − 1/τ) p_{t-1},   dW = Σ_t (F e_t) ⊙ p_t

    and likewise through the GRU's z and the LSTM's f. It is `DFA` with trace="leak": over a whole sequence
    the signal goes back through the leak, in a stream the p go forward, and the sums are the same.

    Args:
        network: any timelocal network. A tanh RNN with τ = 1 has no leak, and there this is DFA.
        loss, feedback, feedback_lr, feedback_decay, sync: as in `DFA`.
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        seed: of the feedback matrices and of dropout masks.

    Raises:
        ArgumentError, UnsupportedError: as `DFA`.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(2, 16, output_size=1, tau=10)
    >>> rule = tl.RFLO(network, loss="mse", at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randn(4, 30, 1)).backward()

    Source: J. M. Murray (2019), equations 5–7. Differs from e-prop in ignoring W_ii, and from DFA in
    crediting the past that still affects a later loss. Biased.
    """

    follows = "leak"
    spec = RuleSpec(
        name="rflo",
        summary="random feedback, and traces that decay as the unit itself forgets",
        estimates="biased",
        target="oracle",
        online=True,
        autograd_free=True,
        weight_transport=False,
        bidirectional=True,
        references=(
            "J. M. Murray. Local online learning in recurrent networks with random feedback. "
            "eLife 8:e43299, 2019.",
        ),
    )
