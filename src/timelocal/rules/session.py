"""A stream: a rule that learns online, one step of a batch of sequences at a time, in constant memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from timelocal.errors import Problem, raise_problems
from timelocal.network import Network
from timelocal.rules.batch import arrange, check_batch, own_precision
from timelocal.rules.fused import run_fused
from timelocal.typing import Memory

if TYPE_CHECKING:
    from timelocal.rules.rule import Estimate, Rule


class Session:
    """A stream of `batch_size` sequences side by side, made by `rule.stream(batch_size)`.

    The states (and traces) are carried from step to step, detached, until `reset`; weights may change
    after every step, by any optimizer. Nothing it holds grows with the number of steps, and a stream
    fed in chunks of any size goes the same way as one fed at once.

    Attributes:
        steps: how many steps have been made; the noise of a step is a function of this number.
        memory: what is carried, tensors with the batch as their first axis, zero at the start.
        key: the seed of this stream's noise, drawn from the rule's generator.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(1, 16, output_size=1)
    >>> rule = tl.TBPTT(network, 1, loss="mse")
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    >>> stream = rule.stream(batch_size=1)
    >>> for x in torch.linspace(0, 6, 100).sin():
    ...     optimizer.zero_grad()
    ...     estimate = stream.step(x.view(1, 1), -x.view(1, 1))
    ...     optimizer.step()
    >>> stream.steps
    100
    """

    def __init__(self, rule: Rule, batch_size: int) -> None:
        self.rule = rule
        self.batch_size = batch_size
        self.steps = 0
        self.key = int(torch.randint(2**62, (), generator=rule.generator))
        self.memory: Memory = rule.begin(batch_size)

    @torch.no_grad()
    def step(self, inputs: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Estimate:
        """One step of every sequence: the gradients join `.grad`, the states move on.

        Args:
            inputs: (b, i). targets: (b,) class indices or (b, o) real values.
            mask: (b,), bool or non-negative weights of the losses. Where none counts the loss and the
                gradients are 0: the states and traces move on.

        Returns the `Estimate` of this step, outputs (b, o).

        Raises:
            ArgumentError: for anything wrong with these, all at once.
        """
        rule = self.rule
        rule.check_placement()
        _check_step(self, inputs)
        time = 1 if rule.network.batch_first else 0
        x = inputs.unsqueeze(time)
        # the entries of one step are (b,), as those at a last step
        check_batch(rule.network, rule.loss, "last", x, targets, mask=mask)
        weights = None if mask is None else mask.unsqueeze(time)
        batch = arrange(
            rule.network, rule.loss, "every", x, targets.unsqueeze(time),
            mask=weights, may_be_empty=True,
        )  # fmt: skip
        with own_precision(batch.inputs):
            estimate, self.memory = rule.advance(self.memory, batch, self.key, self.steps)
        self.steps += 1
        rule.accumulate(estimate)
        return replace(estimate, outputs=estimate.outputs.squeeze(time))

    def run(
        self, inputs: Tensor, targets: Tensor, optimizer: Optimizer, *, mask: Tensor | None = None
    ) -> Tensor:
        """A chunk of the stream with an update at every step: (b, t, i) in, losses (t,) out.

        At every step: the gradients are set to zero, `step`, `optimizer.step()`. One tanh layer with a linear
        readout, the squared error and plain SGD do it all in one native call, much faster: the same steps
        up to rounding, but no gradients are left behind.
        Batch first or time first as the network is.

        Args:
            mask: (b, t), bool or non-negative weights of the losses, as in `step`; where none of a step
                counts the optimizer does not move. With a mask the steps are made one by one.

        Raises:
            ArgumentError: for anything wrong with the tensors, all at once, and for an optimizer of others.
        """
        network = self.rule.network
        self.rule.check(inputs, targets, mask=mask)
        raise_problems([optimizer_problem(network, optimizer)])
        fused = run_fused(self, inputs, targets, optimizer) if mask is None else None
        if fused is not None:
            return fused
        time = 1 if network.batch_first else 0
        masks = itertools.repeat(None) if mask is None else mask.unbind(time)
        losses = []
        for x, y, counts in zip(inputs.unbind(time), targets.unbind(time), masks, strict=False):
            optimizer.zero_grad()
            estimate = self.step(x, y, mask=counts)
            losses.append(estimate.loss)
            if estimate.count:
                optimizer.step()
        return torch.stack(losses)

    @torch.no_grad()
    def reset(self, rows: Tensor | None = None) -> None:
        """Begin again with zero states: all sequences, or those of `rows` (b,) bool or indices."""
        for carried in self.memory.values():
            if rows is None:
                carried.zero_()
            else:
                carried[rows] = 0

    def state_dict(self) -> dict[str, Tensor]:
        """All that must be kept to go on later, as tensors: the state of the rule's generator too."""
        numbers = {"steps": torch.tensor(self.steps), "key": torch.tensor(self.key)}
        return {**self.memory, **numbers, "generator": self.rule.get_extra_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where `state_dict()` was taken, the rule's generator too.

        Raises:
            ArgumentError: for the state of a stream of another size or of another rule; nothing is changed.
        """
        _check_state(self.state_dict(), state)
        self.steps, self.key = int(state["steps"]), int(state["key"])
        self.memory = {name: state[name].clone() for name in self.memory}
        self.rule.set_extra_state(state["generator"])


def optimizer_problem(network: Network, optimizer: Optimizer) -> Problem | None:
    """A problem if the optimizer holds no parameter of the network: it would train nothing."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if any(id(parameter) in held for parameter in network.parameters()):
        return None
    got = "none of the parameters of the rule's network"
    remedy = "Build it from `network.parameters()` of the network the rule was given"
    return Problem("optimizer", got, "some of them", remedy)


def _check_step(session: Session, inputs: object) -> None:
    shape = (session.batch_size, session.rule.network.input_size)
    if not isinstance(inputs, Tensor):
        raise_problems(
            [Problem("inputs", f"a {type(inputs).__name__}", f"a tensor of shape {shape}")]
        )
    elif inputs.shape != shape:
        remedy = "A session takes one step of each of its sequences; `run` takes many steps."
        raise_problems(
            [Problem("inputs", f"shape {tuple(inputs.shape)}", f"shape {shape}", remedy)]
        )


def _check_state(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    def told(tensor: object) -> str:
        if isinstance(tensor, Tensor):
            return f"{tuple(tensor.shape)} {tensor.dtype}"
        return "nothing" if tensor is None else f"a {type(tensor).__name__}"

    remedy = "Make the session of the same rule, network and batch size as the saved one."
    raise_problems(
        Problem(f"state {name!r}", told(given.get(name)), told(own.get(name)), remedy)
        for name in sorted({*own, *given})
        if told(given.get(name)) != told(own.get(name))
    )
