"""Node perturbation: noise on every node, credited with the change of the loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from timelocal.kernels.native_perturbed import NoisyCall
from timelocal.precision import at_least_float32
from timelocal.rules.estimate import RuleSpec
from timelocal.rules.perturbation import Directions, NodeRule, Runs, write_nodes

PAPER = (
    "J. García Fernández, S. Keemink, M. van Gerven. Gradient-free training of recurrent neural "
    "networks using random perturbations. Frontiers in Neuroscience 18:1439155, 2024."
)


class NP(NodeRule):
    """Node perturbation (NP): noise on every node, two forward passes, no error signal.

    It compares a clean run with one that has noise σξ, ξ ~ N(0, 1), on every pre-activation and on the
    outputs. With δℓ_t = ℓ̃_t − ℓ_t, the change of each step's loss, and pre_t, the input of a weight in the
    clean run:

        dW = σ⁻² Σ_t c_t σξ_t ⊗ pre_t,    c_t = δℓ_t                   credit="local"
                                          c_s = Σ_{t≥s} λ^{t−s} δℓ_t   credit="trace(λ)"
                                          c_s = Σ_{t≥s} δℓ_t           credit="to_go"
                                          c_s = Σ_t δℓ_t               credit="global"

    No error is carried back, no weight is transposed, and no derivative is needed: the cell may be a black
    box.

    With a `baseline_decay` λ_b there is no clean run. The loss of a single noisy run is compared with a
    running mean of the losses of earlier calls (a reward-prediction error), and pre_t is the input of the
    weight in the noisy run:

        δℓ_t = ℓ̃_t − b,    b ← λ_b b + (1 − λ_b) L̃ after each training call, L̃ its mean loss

    b does not depend on the noise that is credited, so the mean of the estimates is the same. Their variance
    is larger: it grows as ⟨(ℓ_t − b)²⟩ / σ², so a larger σ is better here. In the first call (in a
    stream, the first step), b is the mean loss of the other sequences in the batch; if there are none, or if
    all share one reward, nothing is learned from that call.

    Args:
        network: one direction, any cell and layers, a linear readout.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        sigma: standard deviation σ of the noise. The expectation is exact as σ → 0; if σ is too small,
            rounding errors dominate.
        credit: the losses that a node's noise is credited with. The mean of "local" is the one-step truncated
            gradient; those of "to_go" and "global" are the full gradient of BPTT, "global" with more
            variance; "trace(λ)" lies in between.
        reward: "sample" credits each sequence's noise with its own loss, "batch" with the mean loss
            of the batch, as in the paper's code, which is √b times noisier.
        antithetic: run −ξ with each ξ, so that even orders of the loss cancel.
        directions: the number of ξ that are run, as further rows of the same batch, and averaged.
        carry: whether a noisy run of a stream continues from its own state, as in the paper. If False, the
            noise of every step starts from the clean state and lasts only that step, so that no earlier noise
            moves the loss: local credit with the least variance, and for ANP an isotropic change at the
            hidden nodes. Many directions then cost no product with W. For `tl.Stream` with local credit.
        noise: "gaussian", or "orthogonal": signs ±1 whose directions are the rows of a Hadamard matrix with
            random signs. A single direction is as good as Gaussian noise; K directions have a variance of
            N/K − 1 instead of N/K. With as many as there are nodes (or the next power of two) and
            `carry=False`, the estimate is the one-step gradient itself up to σ², for that many passes.
        baseline_decay: None compares each noisy run with a clean one. λ_b in [0, 1), such as 0.9, compares it
            with the running mean b, and each sequence runs once (twice if `antithetic`: the two runs are then
            each other's baseline, and the variance is bounded again). Loss, outputs and accuracy of a
            training call are those of the first noisy run; `evaluate` and `outputs` have no noise. b is the
            ratio of the two numbers in the buffer `running_loss`, and is updated at every step of a stream.
        seed: of the noise.

    Raises:
        ArgumentError: for all bad arguments at once, such as `carry=False` with a `baseline_decay`.
        UnsupportedError: for bidirectional networks and readouts that are not linear; for a `baseline_decay`
            with `at="mean"` and a credit that depends on which step changed the loss: "local", "trace(λ)".

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(2, 16, output_size=1)
    >>> rule = tl.NP(network, loss="mse", at="every", sigma=0.01, credit="to_go", seed=0)
    >>> optimizer = torch.optim.SGD(rule.parameters(), lr=1e-3)
    >>> rule(torch.randn(8, 20, 2), torch.randn(8, 20, 1)).backward()
    >>> optimizer.step()

    One run of each sequence, and a single number for it at the end:

    >>> rule = tl.NP(network, loss="mse", sigma=0.1, credit="global", baseline_decay=0.9)
    >>> rule(torch.randn(8, 20, 2), torch.randn(8, 1)).backward()

    Source: the perturbation paper's equations 1 and 2, with u and x in their right places; Werfel, Xie &
    Seung 2003; orthogonal directions: Choromanski et al. 2018; baselines: Williams 1992; one noisy run: Fiete
    & Seung 2006; comparison with a running mean: Miconi 2017 (who keeps one for each kind of trial) and
    García Fernández, Ahmad & van Gerven 2025. Unlike WP, NP perturbs H + O numbers per step instead of H²;
    unlike ANP, it credits the injected noise instead of the measured change of activity.
    """

    spec = RuleSpec(
        name="np",
        summary="noise on every node, credited with the change of the loss",
        estimates="unbiased",
        target="tbptt1",
        online=True,
        autograd_free=True,
        weight_transport=False,
        derivative_free=True,
        draws=True,
        references=(
            PAPER,
            "J. Werfel, X. Xie, H. S. Seung. Learning curves for stochastic gradient descent in linear "
            "feedforward networks. NeurIPS 16, 2003.",
            "K. Choromanski, M. Rowland, V. Sindhwani, R. Turner, A. Weller. Structured evolution with "
            "compact architectures for scalable policy optimization. ICML 2018.",
            "R. J. Williams. Simple statistical gradient-following algorithms for connectionist "
            "reinforcement learning. Machine Learning 8:229–256, 1992.",
            "I. R. Fiete, H. S. Seung. Gradient learning in spiking neural networks by dynamic perturbation "
            "of conductances. Physical Review Letters 97:048104, 2006.",
            "T. Miconi. Biologically plausible learning in recurrent neural networks reproduces neural "
            "dynamics observed during cognitive tasks. eLife 6:e20899, 2017.",
            "J. García Fernández, N. Ahmad, M. van Gerven. Noise-based reward-modulated learning. "
            "arXiv:2503.23972, 2025.",
        ),
    )

    def directions_of_credit(self, runs: Runs) -> Directions:
        precision = self.sigma**-2
        return Directions(
            [at_least_float32(noise[:, -self.copies :]) * precision for noise in runs.noise],
            at_least_float32(runs.readout_noise[..., -self.copies :, :, :]) * precision,
        )

    def native_credit(self) -> Callable[[NoisyCall], None] | None:
        known = type(self) is NP and self.baseline_decay is None
        return partial(write_nodes, self) if known else None
