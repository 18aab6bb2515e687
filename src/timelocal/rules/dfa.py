"""Direct feedback alignment for recurrent networks: the output error, straight to every step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from timelocal.losses import Loss
from timelocal.network import Network
from timelocal.rules import single_call
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.feedback_rule import EXACT, FeedbackPer, FeedbackRule, Followed, Normalize
from timelocal.rules.slopes import Slope
from timelocal.typing import Gradients, LossFunction, Place


class DFA(FeedbackRule):
    """Direct feedback alignment (DFA) for RNNs, GRUs and LSTMs.

    The output error e = ∂L/∂y reaches every hidden unit at every step through one fixed random matrix,
    instead of being carried back step by step:

        G_t = F e  for all t ≤ T (loss at the last step),   G_t = F e_t  (loss at every step)
        δ_t = (∂h_t/∂a_t)ᵀ G_t, within the step,            dW = Σ_t δ_t ⊗ pre_t

    For a tanh RNN, δ_t = F e ⊙ (1 − h_t²). Nothing is sequential: after the forward scan the update is one
    element-wise pass and a few matrix products over t·b rows. The readout learns by the exact delta rule.
    Each layer (and direction) has its own F from the output error: no layer waits for another. The
    projected error is the one at the output of the readout, whatever module the readout is. In a network that
    decorrelates, G is still the signal at h itself: the random F ignores D. A stream keeps only the states,
    and one eligibility trace per synapse if `trace` is not "none".

    Args:
        network: any timelocal network.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        feedback: how F (h, o) is drawn: "gaussian", "uniform", "orthogonal", "sparse", "ternary"; or derived
            from the current readout: "symmetric" (F = W_outᵀ, or (W_out D)ᵀ if the network decorrelates),
            "sign"; or "kolen_pollack": drawn, then learned by the readout's own update, F ← F − feedback_lr
            (Σ feature ⊗ e + feedback_decay F), which with SGD of the same rate and weight decay leads to
            W_outᵀ. All are scaled like a freshly initialised readout, so learning rates carry over from
            BPTT. "exact" has no F: each step's own error goes down through the readout (any module that has
            a gradient) and the layers within the step, never through time; a loss at the last step reaches
            only the last step. It transports weights. Without a trace this is TBPTT(1), with
            trace="diagonal" SnAp-1.
        feedback_per: "layer": one F for all parameters of a layer; "parameter": one for each weight and
            bias of each gate, as in the paper's figure 1.
        trace: how the signal is followed back into a unit's past: "none"; "leak", through what passes
            through no weight (1 − 1/τ, the GRU's z, the LSTM's f); "stationary", by a constant factor
            `decay` per step, from one hidden state to the next; "diagonal", through every dependence of a
            unit's states on their own past. The past gets S_{t-1} = G_{t-1} + J_tᵀ S_t instead of G_{t-1},
            with G_t = 0 at every step but the last if only the last has a loss.
        decay: for the "stationary" trace only, λ in [0, 1) instead of J: one number for all units, (h,)
            numbers, or a range "0.5-0.99", over which the time constants 1 / (1 − λ) of the units are spread
            geometrically.
        normalize: None, or "frobenius": every gradient divided by its Frobenius norm, as in the authors'
            code but not in the paper.
        feedback_lr, feedback_decay: for "kolen_pollack" only.
        sync: under DDP, whether a "kolen_pollack" F learns from the joint batch, as `Decorrelation.sync`.
        slope: a replacement for the cell's derivative (augmented DFA; Nakajima et al. 2022): a function s of
            the pre-activations a (t, b, g) that returns a tensor of their shape, with which δ_t = G_t ⊙
            s(a_t) at every gate; or a name: "constant", "cos", "sech2" (1 − tanh²) or "module:function". No
            part of the cell is then differentiated, and a `tl.BlackBox`, which reports its pre-activations,
            learns from one forward pass. None: the derivative.
        seed: of the feedback matrices and of dropout masks.

    Raises:
        ArgumentError: for unknown names, all at once.
        UnsupportedError: for "symmetric", "sign" and "kolen_pollack" feedback below the top layer or
            from a readout that is not linear; for a slope together with a trace or the feedback "exact".

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(28, 16, output_size=10)
    >>> rule = tl.DFA(network, feedback="gaussian", seed=0)
    >>> optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    >>> rule(torch.rand(5, 28, 28), torch.arange(5)).backward()
    >>> optimizer.step()

    Source: the DFA paper's equations 4–5 and appendix A, with its algebra corrected (the z gate's slope
    is z (1 − z), δ_r is W_nᵀ δ_n ⊙ h ⊙ r (1 − r), and δ_n needs no matrix). Differs from RFLO and
    e-prop in the temporal trace (none by default), from feedback alignment in going to each step directly,
    and from BPTT in both. Biased: it works to the extent that the readout aligns with F.
    """

    spec = RuleSpec(
        name="dfa",
        summary="the output error through a fixed random matrix, to every step at once",
        estimates="biased",
        target="oracle",
        online=True,
        autograd_free=True,
        weight_transport=False,
        bidirectional=True,
        references=(
            "A. Cossu, A. Ceni, V. Lomonaco, D. Bacciu, C. Gallicchio. Direct Feedback Alignment for "
            "Recurrent Neural Networks. Second Workshop on Machine Learning with New Compute Paradigms at "
            "NeurIPS (MLNCP), 2024.",
            "A. Nøkland. Direct feedback alignment provides learning in deep neural networks. "
            "NeurIPS 29:1037–1045, 2016.",
            "T. P. Lillicrap, D. Cownden, D. B. Tweed, C. J. Akerman. Random synaptic feedback weights "
            "support error backpropagation for deep learning. Nature Communications 7:13276, 2016.",
            "M. Nakajima, K. Inoue, K. Tanaka, Y. Kuniyoshi, T. Hashimoto, K. Nakajima. Physical deep "
            "learning with biologically inspired training method: gradient-free approach for physical "
            "hardware. Nature Communications 13:7847, 2022.",
        ),
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        feedback: str = "gaussian",
        feedback_per: FeedbackPer = "layer",
        trace: Followed = "none",
        decay: float | str | Sequence[float] | Tensor = 0.9,
        normalize: Normalize | None = None,
        feedback_lr: float = 1e-3,
        feedback_decay: float = 1e-2,
        sync: bool = False,
        slope: str | Slope | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            network,
            loss=loss,
            at=at,
            feedback=feedback,
            feedback_per=feedback_per,
            trace=trace,
            decay=decay,
            normalize=normalize,
            feedback_lr=feedback_lr,
            feedback_decay=feedback_decay,
            sync=sync,
            slope=slope,
            seed=seed,
        )

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        """In one native call if there is one for these settings and tensors, otherwise in several."""
        simple = self.trace == "none" and self.feedback_per == "layer" and self.feedback != EXACT
        if type(self) is DFA and simple and self.slope is None:
            call = single_call.prepare(self.network, self.loss, self.feedback_matrix(), batch)
            if call is not None:
                forward, gradients = single_call.make(self.network, batch, call)
                return forward, self._normalized(gradients)
        return super().compute(batch)
