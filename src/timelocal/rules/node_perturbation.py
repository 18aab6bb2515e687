"""Node perturbation: noise on every node, credited with what it did to the loss."""

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

    A clean run and one with noise σξ, ξ ~ N(0, 1), on every pre-activation and on the outputs. With the
    change of each step's loss, δℓ_t = ℓ̃_t − ℓ_t, and what entered a weight in the clean run, pre_t:

        dW = σ⁻² Σ_t c_t σξ_t ⊗ pre_t,    c_t = δℓ_t                   credit="local"
                                          c_s = Σ_{t≥s} λ^{t−s} δℓ_t   credit="trace(λ)"
                                          c_s = Σ_{t≥s} δℓ_t           credit="to_go"
                                          c_s = Σ_t δℓ_t               credit="global"

    Nothing is carried back, no weight is transposed, no derivative is needed: the cell may be a black box.

    Args:
        network: one direction, any cell and layers, a linear readout.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        sigma: standard deviation σ of the noise. The expectation is exact as σ → 0; too small a σ
            drowns in rounding.
        credit: which losses a node's noise is credited with. The mean of "local" is the gradient that is
            truncated to one step; those of "to_go" and "global" are the full one of BPTT, the latter with
            more variance; "trace(λ)" lies between.
        reward: "sample", each sequence's noise is credited with its own loss; "batch", with the mean loss
            of the batch, as in the paper's code: √b noisier.
        antithetic: run −ξ beside ξ: even orders of the loss cancel.
        directions: how many ξ are run, as further rows of the same batch, and averaged.
        carry: whether a noisy run of a stream goes on from its own state, as in the paper. False: every
            step's noise begins from the clean state and lasts that step alone, so that nothing else moves
            the loss: local credit with the least variance, and for ANP a change that is isotropic at the
            hidden nodes. Many directions then cost no product with W. For `tl.Stream` with local credit.
        noise: "gaussian", or "orthogonal": signs ±1 whose directions are the rows of a Hadamard matrix,
            turned at random. A single direction is as good as Gaussian noise; K of them have a variance of
            N/K − 1 instead of N/K, and with as many as there are nodes (or the next power of two) and
            `carry=False` the estimate is the one-step gradient itself up to σ², for that many passes.
        seed: of the noise.

    Raises:
        ArgumentError: for bad arguments, all at once.
        UnsupportedError: for bidirectional networks and readouts that are not linear.

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(2, 16, output_size=1)
    >>> rule = tl.NP(network, loss="mse", at="every", sigma=0.01, credit="to_go", seed=0)
    >>> optimizer = torch.optim.SGD(rule.parameters(), lr=1e-3)
    >>> rule(torch.randn(8, 20, 2), torch.randn(8, 20, 1)).backward()
    >>> optimizer.step()

    Source: the perturbation paper's equations 1 and 2, with u and x in their right places; Werfel, Xie &
    Seung 2003; orthogonal directions: Choromanski et al. 2018. Differs from WP in perturbing H + O numbers a
    step instead of H², and from ANP, which credits the change of activity that was measured instead of the
    noise that was injected.
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
        ),
    )

    def directions_of_credit(self, runs: Runs) -> Directions:
        precision = self.sigma**-2
        return Directions(
            [at_least_float32(noise[:, 1:]) * precision for noise in runs.noise],
            at_least_float32(runs.readout_noise[..., 1:, :, :]) * precision,
        )

    def native_credit(self) -> Callable[[NoisyCall], None] | None:
        return partial(write_nodes, self) if type(self) is NP else None
