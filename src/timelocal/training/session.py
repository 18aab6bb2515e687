"""The stream of the previous release, `rule.stream(batch_size)`; removed in the next one. Use `Stream`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from timelocal.errors import raise_problems
from timelocal.rules import Estimate, Rule
from timelocal.training.stream import Stream
from timelocal.training.stream_checks import optimizer_problem


class Session(Stream):
    """A `Stream` whose steps fill `.grad` and leave the update to the caller."""

    def __init__(self, rule: Rule, batch_size: int) -> None:
        super().__init__(rule, SGD(rule.parameters(), lr=0.0), batch_size)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, inputs: Tensor, targets: Tensor, *, mask: Tensor | None = None
    ) -> Estimate:
        """One step of every sequence: gradients are added to `.grad`, states advance."""
        entered = self._door.step(inputs, targets, mask, self.steps)
        estimate, self.memory = self._estimate(
            self.memory, self.steps, entered.inputs, targets, mask
        )
        self.steps += 1
        self.rule.accumulate(estimate)
        return estimate

    def run(  # type: ignore[override]
        self, inputs: Tensor, targets: Tensor, optimizer: Optimizer, *, mask: Tensor | None = None
    ) -> Tensor:
        """A chunk with an update at every step, by the optimizer: losses (t,)."""
        raise_problems([optimizer_problem(self.rule.network, optimizer)])
        optimizer.zero_grad()
        self.optimizer = optimizer
        return super().run(inputs, targets, mask=mask).loss
