"""NP, ANP and WP as in the perturbation paper's public code, for reproductions only.

One scalar, the mean loss of the batch, replaces the loss of each sequence, and the update is divided by σ
instead of σ². The paper's learning rates belong to these updates. After whole sequences of T steps, the
code's update is the sum over the steps, and that of ANP is not divided by B: multiply the learning rate by
T, or by T B.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from timelocal.losses import Loss
from timelocal.network import Network
from timelocal.rules.activity_perturbation import ANP
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass
from timelocal.rules.node_perturbation import NP
from timelocal.rules.perturbation import Directions, Runs
from timelocal.rules.weight_perturbation import WP
from timelocal.typing import Gradients, LossFunction, Memory, Place, States

SIGMA = 1e-3
"""The standard deviation in the code; the paper's table 1 prints a variance of 10⁻²."""


class NPAuthorsCode(NP):
    """Node perturbation with the deviations of the perturbation paper's public code.

        dW = σ⁻¹ Σ_t δℓ_t Σ_b σξ_t,b ⊗ pre_t,b,    δℓ_t the change of the batch's mean loss

    that is `NP(reward="batch")` times σ: a gradient scaled by σ, so each σ needs its own learning rate.

    Args:
        network, loss, at, seed: as in `NP`.
        sigma: standard deviation of the noise; 1e-3 as in the code, 0.1 for the paper's variance of 10⁻².

    >>> import torch, timelocal as tl
    >>> rule = tl.NPAuthorsCode(tl.RNN(1, 16, output_size=1), loss="mse", at="every")
    >>> rule(torch.rand(5, 6, 1), torch.rand(5, 6, 1)).backward()
    """

    spec = replace(
        NP.spec,
        name="np-authors-code",
        summary="node perturbation as in the paper's code, for reproductions",
        estimates="biased",
        target="oracle",
        references=NP.spec.references[:1],
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        sigma: float = SIGMA,
        seed: int = 0,
    ) -> None:
        super().__init__(network, loss=loss, at=at, sigma=sigma, reward="batch", seed=seed)

    def directions_of_credit(self, runs: Runs) -> Directions:
        right = super().directions_of_credit(runs)
        return Directions([own * self.sigma for own in right.nodes], right.readout * self.sigma)


class WPAuthorsCode(WP):
    """Weight perturbation with the deviations of the perturbation paper's public code.

        dW = σ⁻¹ Σ_t δℓ_t σΞ_t

    that is `WP` times σ. Recurrent weights with only zero inputs, as at the first step, get no noise, since
    it would change them without changing the loss.

    Args: as in `NPAuthorsCode`.

    >>> import torch, timelocal as tl
    >>> rule = tl.WPAuthorsCode(tl.RNN(1, 16, output_size=1), loss="mse", at="every")
    >>> rule(torch.rand(5, 6, 1), torch.rand(5, 6, 1)).backward()
    """

    spec = replace(
        WP.spec,
        name="wp-authors-code",
        summary="weight perturbation as in the paper's code, for reproductions",
        estimates="biased",
        target="oracle",
        references=WP.spec.references[:1],
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        sigma: float = SIGMA,
        seed: int = 0,
    ) -> None:
        super().__init__(network, loss=loss, at=at, sigma=sigma, seed=seed)

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = super().compute(batch)
        return forward, self._times_sigma(gradients)

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        forward, gradients, after = super().advance(memory, batch, key, step)
        return forward, self._times_sigma(gradients), after

    def _times_sigma(self, gradients: Gradients) -> Gradients:
        return {name: own * self.sigma for name, own in gradients.items()}

    def _still(self, noise: Gradients, states: States | None) -> None:
        if at_rest(states):
            for name, drawn in noise.items():
                if name.startswith("recurrent.weight_hh"):
                    drawn.zero_()


class ANPAuthorsCode(ANP):
    """Activity-based node perturbation with the deviations of the perturbation paper's public code.

        dW = √N δℓ_t / B · Σ_b δα_t,b / ‖δα_t‖²_F ⊗ pre_t,b      for each layer separately

    with δℓ_t the change of the batch's mean loss, ‖·‖_F over the whole batch of one layer, and N counting
    the inputs as well. A batch of B makes it about √N B² times smaller than `ANP`.

    Args: as in `NPAuthorsCode`.

    >>> import torch, timelocal as tl
    >>> rule = tl.ANPAuthorsCode(tl.RNN(1, 16, output_size=1), loss="mse", at="every")
    >>> rule(torch.rand(5, 6, 1), torch.rand(5, 6, 1)).backward()
    """

    spec = replace(
        ANP.spec,
        name="anp-authors-code",
        summary="activity-based perturbation as in the paper's code, for reproductions",
        references=ANP.spec.references[:1],
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        sigma: float = SIGMA,
        seed: int = 0,
    ) -> None:
        super().__init__(network, loss=loss, at=at, sigma=sigma, reward="batch", seed=seed)

    def directions_of_credit(self, runs: Runs) -> Directions:
        nodes, readout = self.changes(runs)
        valid, network = runs.rows.valid, self.network
        if valid is not None:  # noise on what is over is nobody's activity
            nodes = [own * valid[:, None, : runs.sequences, None] for own in nodes]
            if readout.dim() == 4:
                readout = readout * valid[:, None, : runs.sequences, None]
        count = network.input_size + sum(self._nodes()) + network.output_size
        gain = math.sqrt(count) / runs.sequences
        return Directions(
            [gain * _over_squared_norm(own) for own in nodes], gain * _over_squared_norm(readout)
        )


def at_rest(states: States | None) -> bool:
    """Whether the recurrent weights have only zero inputs, as at the first step of a sequence."""
    parts = [] if states is None else [states] if isinstance(states, Tensor) else states
    return not any(bool(part.any()) for part in parts)


def _over_squared_norm(change: Tensor) -> Tensor:
    """(…, b, n) over the squared Frobenius norm of its last two axes; zero stays zero."""
    size = change.square().sum((-2, -1), keepdim=True)
    return torch.where(size > 0, change / size, torch.zeros_like(change))
