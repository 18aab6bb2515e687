"""From an estimate to a loss: a scalar whose `backward()` hands every parameter its estimated gradient.

One autograd node stands for the whole network. Its inputs are the parameters (and any inputs that carry a
graph), so everything that torch attaches to a loss works: DDP, hooks, GradScaler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from timelocal.errors import warn


class Promises:
    """Tracks whether the losses that a rule returned were used; warns once about one without `backward()`."""

    def __init__(self) -> None:
        self.lost = self.warned = False

    def warn_if_lost(self) -> None:
        """Called at each training call; a loop that never calls `backward()` is warned at its third."""
        if self.lost and not self.warned:
            self.warned = True
            warn(
                "a loss of this rule was discarded without loss.backward(), so nothing was learned from it. "
                "rule(inputs, targets) returns a loss and does not fill .grad itself. Call loss.backward() "
                "before optimizer.step(); only to measure, use rule.evaluate or torch.no_grad()."
            )


class _Promise:
    """One loss that was given out."""

    def __init__(self, promises: Promises) -> None:
        self.promises, self.kept = promises, False

    def __del__(self) -> None:
        if not self.kept:
            self.promises.lost = True


class _Backward(torch.autograd.Function):
    """Forward: the loss. Backward: each argument's gradient, times the one that comes in."""

    @staticmethod
    def forward(
        ctx: Any, loss: Tensor, gradients: Sequence[Tensor], promise: _Promise, *arguments: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*gradients)
        ctx.promise = promise
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ctx.promise.kept = True
        scaled = [(own.to(gradient.dtype) * gradient).to(own.dtype) for own in ctx.saved_tensors]
        return None, None, None, *scaled


def as_loss(
    loss: Tensor, arguments: Sequence[Tensor], gradients: Sequence[Tensor], promises: Promises
) -> Tensor:
    """A loss () whose `backward()` gives each argument its gradient, of the argument's shape."""
    made: Tensor = _Backward.apply(  # type: ignore[no-untyped-call]
        loss, gradients, _Promise(promises), *arguments
    )
    return made
