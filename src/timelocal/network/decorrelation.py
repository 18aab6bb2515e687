"""Decorrelation of the hidden units: h* = D h, where D has its own local learning rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from timelocal.arguments import as_real, flag_problem, is_one_of, tensor_problem
from timelocal.distributed import mean_over_ranks
from timelocal.errors import Problem, described, raise_problems
from timelocal.precision import at_least_float32

Norm = Literal["preserve"]


@dataclass(frozen=True)
class Decorrelation:
    """How the decorrelation matrix D of a layer learns.

    h* = D h feeds the recurrent weights and every reader of the layer. D starts as the identity and is
    updated once per estimate in training mode, under any rule:

        D ← D − lr ⟨h* h*ᵀ − diag(h*²)⟩ D        ⟨·⟩: the mean over all valid steps of the batch

    A stream makes an estimate, and so an update of D, at every step. D is constant within an estimate and
    receives no gradient; what a gate carries from step to step (z ⊙ h, the LSTM's c, the leak) is never
    decorrelated.

    Args:
        lr: the learning rate of D, at least 0.
        norm: None, the update as it is, under which the size of h* only decreases (for given h, ⟨‖h*‖²⟩
            changes by −2 lr Σ_{i≠j} ⟨h*_i h*_j⟩² to first order); or "preserve": after an update each row of
            D is scaled back to its previous norm.
        sync: under DDP, whether the ranks' updates are averaged, so that D learns from the joint batch, as
            in `torch.nn.SyncBatchNorm`. False: every rank copies D from rank 0, as for a BatchNorm. In a
            process group all ranks must train in lockstep.

    Raises:
        ArgumentError: for an invalid learning rate or an unknown norm.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(2, 16, output_size=3, decorrelate=tl.Decorrelation(1e-3, norm="preserve"))
    >>> rule = tl.DFA(network)
    >>> loss = rule(torch.rand(4, 5, 2), torch.tensor([0, 1, 2, 0]))
    >>> bool((network.recurrent.decorrelation_l0 == torch.eye(16)).all())
    False

    Source: the perturbation paper's equation 6, after N. Ahmad, E. Schrader, M. van Gerven. Constrained
    parameter inference as a principle for learning. arXiv:2203.13203, 2022. The paper updates D at each step
    of a stream; over a whole sequence, its T updates of size ε correspond to one with lr = T ε here, to
    first order.
    """

    lr: float
    norm: Norm | None = None
    sync: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        norms = (None, *get_args(Norm))
        raise_problems(
            (
                None
                if 0 <= as_real(self.lr) < math.inf
                else Problem(
                    "decorrelate: lr", described(self.lr), "a finite number of at least 0"
                ),
                None
                if is_one_of(self.norm, norms)
                else Problem("decorrelate: norm", described(self.norm), "None or 'preserve'"),
                flag_problem("decorrelate: sync", self.sync),
            )
        )

    def step(self, matrix: Tensor, features: Tensor) -> Tensor:
        """The update of D (h, h) from decorrelated states h* (n, h)."""
        matrix, features = at_least_float32(matrix), at_least_float32(features)
        # In whichever order costs less: never more than O(n h²).
        outer = torch.linalg.multi_dot([features.t(), features, matrix])
        outer -= features.square().sum(0)[:, None] * matrix
        step = outer.mul_(-self.lr / len(features))
        if self.sync:
            step = mean_over_ranks(step)
        if self.norm is None:
            return step
        moved = matrix + step
        norms = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
        gain = torch.linalg.vector_norm(matrix, dim=1, keepdim=True) / norms
        return torch.where(norms > 0, moved * gain, moved) - matrix


def resolve(decorrelate: object) -> Decorrelation | None:
    """A `Decorrelation`, from itself or from just its learning rate."""
    if decorrelate is None or isinstance(decorrelate, Decorrelation):
        return decorrelate
    return Decorrelation(decorrelate)  # type: ignore[arg-type]


def decorrelation_loss(features: Tensor) -> Tensor:
    """How correlated the hidden units are: the mean squared covariance of pairs of units, a scalar.

        2 / (h (h − 1)) Σ_{i<j} cov(h*_i, h*_j)²,   cov with 1/n

    Args:
        features: h* (n, h), n states of h units; leading axes are flattened.

    Zero for a single unit or a single state. O(n h²).

    >>> import torch
    >>> decorrelation_loss(torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]))
    tensor(1.)

    Source: the perturbation paper's section 3.5 and figure 8.
    """
    problem = tensor_problem("features", features, "states (n, h), floating point")
    if not problem and not (
        features.is_floating_point() and features.dim() > 1 and features.numel()
    ):
        problem = Problem(
            "features", described(features), "states (n, h), floating point, at least one"
        )
    raise_problems([problem])
    rows = at_least_float32(features).flatten(0, -2)
    count, units = rows.shape
    if units == 1:
        return rows.new_zeros(())
    centred = rows - rows.mean(0)
    if count >= units:
        total = (centred.t() @ centred).fill_diagonal_(0).square().sum()
    else:  # the same sum from the smaller matrix of products between states
        own = centred.square().sum(0).square().sum()
        total = ((centred @ centred.t()).square().sum() - own).clamp_min(0)
    return total / (count**2 * units * (units - 1))


def mean_decorrelation_loss(features: Sequence[Tensor]) -> Tensor:
    """The mean of the losses of several layers and directions, `Trajectory.valid_features`, a scalar."""
    return torch.stack([decorrelation_loss(seen) for seen in features]).mean()
