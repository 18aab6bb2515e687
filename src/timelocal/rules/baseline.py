"""The baseline for noisy runs without a clean run: a running mean of earlier losses.

The mean b is kept as a pair, running_loss = (Σ_k a_k L_k, Σ_k a_k) with a_k = (1 − λ) λ^(n−k) for the k-th of
n losses, so that the ratio b is a weighted mean from the first loss on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.arguments import as_real
from timelocal.errors import Problem, described
from timelocal.rules.batch import Batch


def decay_problem(decay: object) -> Problem | None:
    """A problem unless λ is in [0, 1) or None, which means no running mean."""
    if decay is None or 0 <= as_real(decay) < 1:
        return None
    return Problem(
        "baseline_decay", described(decay), "a number in [0, 1), or None for a clean run"
    )


def update(running_loss: Tensor, loss: Tensor, decay: float) -> Tensor:
    """(1 − λ) ((L, 1) − running_loss), which a loss L () adds to the pair (2,).

    >>> running_loss = torch.zeros(2)
    >>> for loss in (3.0, 1.0):
    ...     running_loss += update(running_loss, torch.tensor(loss), 0.5)
    >>> round(float(running_loss[0] / running_loss[1]), 4)  # (3 · 1/4 + 1 · 1/2) / (1/4 + 1/2)
    1.6667
    """
    latest = torch.stack((loss, torch.ones_like(loss))).to(running_loss)
    return (1 - decay) * (latest - running_loss)


def changes(running_loss: Tensor, batch: Batch, losses: Tensor, *, shared: bool) -> Tensor:
    """ℓ − b for losses ℓ (…, m, b) of m noisy runs of each sequence.

    In the first call (in a stream, the first step), b is for each sequence the mean loss of the other
    sequences in the batch, which does not depend on the noise that is credited. For a single sequence, or if
    all sequences share one reward, the result is 0 and nothing is learned.
    """
    total, weight = running_loss.tolist()
    if weight > 0:
        return losses - total / weight
    if shared:
        return torch.zeros_like(losses)
    entries = losses.mean(-2)  # (…, b)
    weights = torch.ones_like(entries)
    if batch.weights is not None:
        weights = batch.weights.view_as(entries)
    weighted = (entries.masked_fill(weights == 0, 0) * weights).view(-1, losses.shape[-1]).sum(0)
    counted = weights.view(-1, losses.shape[-1]).sum(0)
    others = counted.sum() - counted
    mean = (weighted.sum() - weighted) / others
    return torch.where(others > 0, losses - mean, 0)
