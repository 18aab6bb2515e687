"""Feedback matrices F (h, o): how the output error e reaches the hidden units, G = F e.

Every kind is scaled to the root mean square of a freshly initialised torch.nn readout, 1/√(3H), so that the
signal DFA sends back is initially as large as BPTT's, and learning rates carry over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from timelocal.errors import ArgumentError, Problem
from timelocal.precision import at_least_float32


def rms(hidden: int) -> float:
    """The root mean square of U(−1/√H, 1/√H), torch.nn's initialisation of the readout."""
    return 1 / math.sqrt(3 * hidden)


def gaussian(hidden: int, outputs: int, generator: torch.Generator) -> Tensor:
    """F_ij ~ N(0, s²)."""
    return torch.randn(hidden, outputs, generator=generator) * rms(hidden)


def uniform(hidden: int, outputs: int, generator: torch.Generator) -> Tensor:
    """F_ij ~ U(−√3 s, √3 s)."""
    bound = math.sqrt(3) * rms(hidden)
    return torch.empty(hidden, outputs).uniform_(-bound, bound, generator=generator)


def orthogonal(hidden: int, outputs: int, generator: torch.Generator) -> Tensor:
    """Orthonormal columns (rows, if O > H), uniformly distributed, then scaled."""
    tall = torch.randn(max(hidden, outputs), min(hidden, outputs), generator=generator)
    basis, triangle = torch.linalg.qr(tall)
    basis = basis * triangle.diagonal().sign()  # without this the distribution is not uniform
    matrix = basis if hidden >= outputs else basis.t()
    return matrix * (rms(hidden) * math.sqrt(max(hidden, outputs)))


def sparse(hidden: int, outputs: int, generator: torch.Generator) -> Tensor:
    """Each hidden unit receives only one output, with a Gaussian weight (Crafton et al. 2019)."""
    heard = torch.randint(outputs, (hidden, 1), generator=generator)
    weights = torch.randn(hidden, 1, generator=generator) * (rms(hidden) * math.sqrt(outputs))
    return torch.zeros(hidden, outputs).scatter_(1, heard, weights)


def ternary(hidden: int, outputs: int, generator: torch.Generator) -> Tensor:
    """F_ij in {−1, 0, 1} with equal probabilities, then scaled."""
    drawn = torch.randint(-1, 2, (hidden, outputs), generator=generator)
    return drawn * (rms(hidden) * math.sqrt(1.5))


FIXED: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "gaussian": gaussian,
    "orthogonal": orthogonal,
    "sparse": sparse,
    "ternary": ternary,
    "uniform": uniform,
}
"""Kinds drawn once and kept."""


def symmetric(readout_weight: Tensor) -> Tensor:
    """F = W_outᵀ, currently: the weight transport that random feedback avoids."""
    return readout_weight.t()


def sign(readout_weight: Tensor) -> Tensor:
    """F = s · sign(W_out)ᵀ, currently: only the signs are transported (Liao et al. 2016)."""
    return readout_weight.t().sign() * rms(readout_weight.shape[1])


FOLLOWING: dict[str, Callable[[Tensor], Tensor]] = {"sign": sign, "symmetric": symmetric}
"""Kinds that follow the readout's weights (o, h) at every update."""


def kolen_pollack(
    matrix: Tensor, features: Tensor, errors: Tensor, lr: float, decay: float
) -> Tensor:
    """The update of F (h, o) from features (n, h) and errors (n, o): −lr (Σ feature ⊗ error + decay F).

    This is the update of W_outᵀ by SGD with the same rate and weight decay, so that their difference shrinks
    by 1 − lr · decay each time, and no weight is transported (Kolen & Pollack 1994; Akrout et al. 2019).
    """
    matrix, features, errors = map(at_least_float32, (matrix, features, errors))
    return torch.addmm(matrix, features.t(), errors, beta=decay).mul_(-lr)


def mirror(matrix: Tensor, weight: Tensor, noise: Tensor, lr: float, decay: float) -> Tensor:
    """The update of B (g, i) towards a weight W (g, i) from noise ξ (n, i): lr (⟨W ξ ⊗ ξ⟩ − decay B).

    ⟨ξ ⊗ ξ⟩ is the identity on average, and W ξ is the response of the weights to the noise: the mean of B
    approaches W / decay by a factor 1 − lr · decay each time (Akrout et al. 2019).
    """
    matrix, weight = map(at_least_float32, (matrix, weight))
    noise = noise.to(weight)
    response = noise @ weight.t()
    return torch.addmm(matrix, response.t(), noise, beta=-decay, alpha=1 / len(noise)).mul_(lr)


LEARNED = ("kolen_pollack",)
"""Kinds that start as "gaussian" and have their own learning rule."""


def check_width(matrix: Tensor, outputs: int) -> None:
    """A feedback (…, h, o) must have one column per output of the readout, which may have been replaced."""
    if matrix.shape[-1] != outputs:
        got = f"a feedback with {matrix.shape[-1]} outputs and a readout with {outputs}"
        remedy = "The readout was replaced: create the rule and its optimizer again."
        raise ArgumentError(str(Problem("rule", got, "the same number in both", remedy)))
