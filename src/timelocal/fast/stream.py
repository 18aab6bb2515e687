"""A chunk of a stream in one native call, if one supports the rule, the network and the optimizer."""

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
"""The number of steps from which on the call that copies the matrices of a tanh layer is faster."""
_WORK_PER_CALL = 1e11
"""Approximate multiply-adds per call: some hundred milliseconds, after which Ctrl-C is handled."""


class NativeStream:
    """The native calls of one stream. Whatever they do not support is left to the caller's own loop."""

    def __init__(
        self, rule: Rule, optimizer: Optimizer, batch_size: int, clip: float | None = None
    ) -> None:
        self.rule, self.optimizer, self.batch_size, self.clip = rule, optimizer, batch_size, clip
        self._program = Program(rule, optimizer, clip)

    def run(
        self,
        memory: Memory,
        inputs: Tensor,
        targets: Tensor | None,
        mask: Tensor | None,
        key: int,
        first_step: int,
    ) -> tuple[Tensor, Tensor] | None:
        """Losses (t,) and outputs (t, b, o) of a chunk with an update at every step, all checked.

        inputs (t, b, i), mask (t, b) or None, targets (t, b) or (t, b, o), None if the mask is 0
        throughout. Returns None if nothing was done; a first step by the loop may then help, in which the
        optimizer creates its moments. The results have fewer steps if the next step would give numbers that
        are not finite.
        """
        steps = inputs.shape[0]
        if mask is None and self.clip is None and targets is not None and steps >= _WORTH_COPYING:
            found = run_tanh_layer(
                self.rule, self.optimizer, memory, inputs, targets, key, first_step
            )
            if found is not None:
                return found
        program = self._program
        if not program.is_ready(memory, inputs.shape[1]):
            return None
        if steps == 1:
            return program.run(inputs, targets, mask, key, first_step)
        parameters = list(self.rule.network.parameters())
        count_an_update(self.optimizer, parameters)
        work = 4.0 * sum(p.numel() for p in parameters) * self.batch_size
        longest = max(1, int(_WORK_PER_CALL / work))
        parts = []
        for start in range(0, steps, longest):
            part = slice(start, start + longest)
            some = None if mask is None else mask[part]
            wanted = None if targets is None else targets[part]
            parts.append(program.run(inputs[part], wanted, some, key, first_step + start))
            if program.call.steps < len(inputs[part]):
                break
        losses, outputs = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(outputs)

    def step(
        self,
        memory: Memory,
        inputs: Tensor,
        targets: Tensor | None,
        mask: Tensor | None,
        key: int,
        step: int,
    ) -> tuple[Tensor, Tensor] | None:
        """Loss () and outputs (b, o) of one step, without a time axis; otherwise as `run`.

        Returns empty tensors if the step would give numbers that are not finite.
        """
        if not self._program.is_ready(memory, inputs.shape[0]):
            return None
        return self._program.run(inputs, targets, mask, key, step)

    def peek(self, memory: Memory, inputs: Tensor) -> Tensor | None:
        """Outputs (b, o) for one more input (b, i), without a step; None if `step` would do nothing."""
        is_ready = self._program.is_ready(memory, inputs.shape[0])
        return self._program.peek(inputs) if is_ready else None
