"""A chunk of a stream in one native call, where one does what the rule, the network and the optimizer ask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from timelocal.fast.optimizers import count_an_update
from timelocal.fast.stages import Program
from timelocal.fast.tanh_layer import run_tanh_layer
from timelocal.rules import Rule
from timelocal.typing import Memory

_WORTH_COPYING = 8
"""Steps from which on the call that copies the matrices of a tanh layer is the faster one."""
_WORK_PER_CALL = 1e11
"""Multiply-adds, roughly: some hundred milliseconds, after which Ctrl-C is heard."""


class NativeStream:
    """The native calls of one stream. What it cannot do it leaves to the caller's own loop."""

    def __init__(self, rule: Rule, optimizer: Optimizer, batch_size: int) -> None:
        self.rule, self.optimizer, self.batch_size = rule, optimizer, batch_size
        self._program: Program | None = None

    @torch.no_grad()
    def run(
        self,
        memory: Memory,
        inputs: Tensor,
        targets: Tensor,
        mask: Tensor | None,
        key: int,
        first_step: int,
    ) -> tuple[Tensor, Tensor] | None:
        """Losses (t,) and outputs (t, b, o) of a chunk with an update at every step, all checked.

        inputs (t, b, i), targets (t, b) or (t, b, o), mask (t, b) or None. None: nothing was done, and a
        first step by the loop may help: an optimizer makes what it keeps in a step of its own. Of fewer steps
        where the next one is not made, because a number would no longer be finite.
        """
        steps = inputs.shape[0]
        if mask is None and steps >= _WORTH_COPYING:
            found = run_tanh_layer(
                self.rule, self.optimizer, memory, inputs, targets, key, first_step
            )
            if found is not None:
                return found
        program = self._served()
        if program is None or not program.has_begun():
            return None
        if steps == 1:
            return program.run(memory, inputs, targets, mask, key, first_step)
        parameters = list(self.rule.network.parameters())
        count_an_update(self.optimizer, parameters)
        work = 4.0 * sum(p.numel() for p in parameters) * self.batch_size
        longest = max(1, int(_WORK_PER_CALL / work))
        parts = []
        for start in range(0, steps, longest):
            part = slice(start, start + longest)
            some = None if mask is None else mask[part]
            parts.append(
                program.run(memory, inputs[part], targets[part], some, key, first_step + start)
            )
            if program.call.steps < len(inputs[part]):
                break
        losses, outputs = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(outputs)

    def _served(self) -> Program | None:
        layers, groups = self.rule.network.num_layers, len(self.optimizer.param_groups)
        program = self._program
        if program is None or (len(program.layers), len(program.groups)) != (layers, groups):
            program = self._program = Program(self.rule, self.optimizer, self.batch_size)
        return program if program.is_served() else None
