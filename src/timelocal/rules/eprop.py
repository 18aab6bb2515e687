"""e-prop: eligibility traces through a unit's own past, and a learning signal from the output."""

from __future__ import annotations

from timelocal.rules.estimate import RuleSpec
from timelocal.rules.feedback_rule import TracedRule


class EProp(TracedRule):
    """Eligibility propagation (e-prop; Bellec et al. 2020).

    Each synapse carries an eligibility trace through its unit's own states and every way they depend on
    their own past: the diagonal of the Jacobian, including W_ii. A learning signal F e multiplies the traces:

        E_t = diag(∂s_t/∂s_{t-1}) E_{t-1} + ∂s_t/∂θ,   dW = Σ_t (F e_t) ⊙ E_t

    For the LSTM s = (h, c), and the trace of one synapse is a pair. On spiking cells, `tl.LIF` and `tl.ALIF`,
    this is the paper's own rule, with a surrogate as the derivative of a spike. It is `DFA` with
    trace="diagonal".

    Args:
        network: any timelocal network.
        loss, feedback_lr, feedback_decay, sync: as in `DFA`.
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        feedback: as in `DFA`; "symmetric" is the paper's symmetric e-prop, "gaussian" its random one, and
            "kolen_pollack" its adaptive one.
        seed: of the feedback matrices and of dropout masks.

    Raises:
        ArgumentError, UnsupportedError: as `DFA`.

    >>> import torch, timelocal as tl
    >>> network = tl.LSTM(2, 16, output_size=3)
    >>> rule = tl.EProp(network, at="every", feedback="symmetric")
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()

    Source: Bellec et al. (2020), equations 1–5. Differs from RFLO in the paths through W_ii; from SnAp-1
    (Menick et al. 2021), which has the same traces, in the feedback. With symmetric feedback it equals RTRL
    if every recurrent matrix is diagonal. Biased.
    """

    follows = "diagonal"
    spec = RuleSpec(
        name="eprop",
        summary="the output error through feedback, and traces through each unit's own past",
        estimates="biased",
        target="oracle",
        online=True,
        autograd_free=True,
        weight_transport=False,
        bidirectional=True,
        references=(
            "G. Bellec, F. Scherr, A. Subramoney, E. Hajek, D. Salaj, R. Legenstein, W. Maass. A solution "
            "to the learning dilemma for recurrent networks of spiking neurons. "
            "Nature Communications 11:3625, 2020.",
            "J. Menick, E. Elsen, U. Evci, S. Osindero, K. Simonyan, A. Graves. Practical real time "
            "recurrent learning with a sparse approximation to the Jacobian. ICLR, 2021.",
        ),
    )
