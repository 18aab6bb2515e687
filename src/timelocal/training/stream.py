"""A stream: a rule that learns online, one step of a batch of sequences at a time, in constant memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from timelocal import fast
from timelocal.arguments import as_positions, flag_problem, tensor_problem, whole_problem
from timelocal.distributed import of_this_rank, ranks
from timelocal.errors import (
    DivergedError,
    Problem,
    UnsupportedError,
    described,
    raise_problems,
)
from timelocal.inference import outside_inference_mode
from timelocal.network import Network
from timelocal.precision import at_least_float32
from timelocal.rules import (
    Estimate,
    Rule,
    arrange,
    check_batch,
    draw_key,
    estimate_from,
    own_precision,
    update_locally,
)
from timelocal.typing import Memory


class Learned(NamedTuple):
    """What one step or a chunk of a stream gave.

    loss: () of a step, (t,) of a chunk: the mean over the sequences, before each update.
    outputs: (b, o) of a step, (b, t, o) of a chunk (time first if the network is), before each update.
    """

    loss: Tensor
    outputs: Tensor


class Stream:
    """A stream of `batch_size` sequences side by side, from which `rule` learns at every step.

    The states (and traces) are carried from step to step, detached, until `reset`; weights move after every
    step, by the optimizer. Nothing that a stream holds grows with the number of steps, and a stream fed in
    chunks of any size goes the same way as one fed at once. `.grad` is left as it was.

    Args:
        rule: one that learns online; its `loss` is taken at every step, its `at` is ignored.
        optimizer: any `torch.optim` optimizer over the rule's parameters.
        batch_size: how many sequences run side by side.
        sync: False allows a stream in a process group of several ranks: each rank then updates its own
            weights, past DDP, and they drift apart.

    Attributes:
        steps: how many steps have been made; the noise of a step is a function of this number.
        memory: what is carried, tensors with the batch as their first axis, zero at the start.
        key: the seed of this stream's noise, drawn from the rule's generator.

    Raises:
        UnsupportedError: for a rule or network that needs the whole sequence, and in a process group.
        ArgumentError: for a batch size below 1, and an optimizer of other parameters.

    >>> import torch, timelocal as tl
    >>> rule = tl.TBPTT(tl.RNN(1, 16, output_size=1), 1, loss="mse")
    >>> stream = tl.Stream(rule, torch.optim.SGD(rule.parameters(), lr=0.1))
    >>> for x in torch.linspace(0, 6, 100).sin():
    ...     learned = stream.step(x.view(1, 1), -x.view(1, 1))
    >>> stream.steps, learned.outputs.shape
    (100, torch.Size([1, 1]))
    >>> chunk = stream.run(torch.zeros(1, 50, 1), torch.zeros(1, 50, 1))
    >>> chunk.loss.shape
    torch.Size([50])

    One tanh layer with a linear readout, the squared error and plain SGD runs a chunk in one native call:
    the same updates up to rounding, much faster.
    """

    @outside_inference_mode
    def __init__(
        self, rule: Rule, optimizer: Optimizer, batch_size: int = 1, *, sync: bool | None = None
    ) -> None:
        raise_problems([rule_problem(rule), None if sync is None else flag_problem("sync", sync)])
        check_stream(rule)
        raise_problems(
            [whole_problem("batch_size", batch_size), optimizer_problem(rule.network, optimizer)]
        )
        if ranks() > 1 and (sync is None or sync):
            raise UnsupportedError(
                f"stream: got a process group of {ranks()} ranks, expected one process: a stream updates "
                "weights at every step, past DDP, and the ranks would drift apart. Use rule(inputs, targets) "
                "under DDP, or sync=False for a stream of its own on every rank."
            )
        self.rule = rule
        self.optimizer = optimizer
        self.batch_size = int(batch_size)
        self.steps = 0
        self.memory: Memory = rule.begin(self.batch_size)  # first: it may refuse
        self.key = draw_key(of_this_rank(rule.generator))
        self._readout = rule.network.readout
        self._native = fast.NativeStream(rule, optimizer, self.batch_size)
        self._seen: tuple[object, ...] | None = None

    @overload
    def step(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        gradients: Literal[False] = False,
    ) -> Learned: ...

    @overload
    def step(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        gradients: Literal[True],
    ) -> Estimate: ...

    @outside_inference_mode
    def step(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        gradients: bool = False,
    ) -> Learned | Estimate:
        """One step of every sequence, and one update of the weights.

        Args:
            inputs: (b, i). targets: (b,) class indices or (b, o) real values.
            mask: (b,), bool or non-negative weights of the losses. Where none counts the states and traces
                move on, and no weight does, whatever the optimizer; the loss is 0.
            gradients: whether to return the whole `Estimate`, instead of loss and outputs alone.

        Raises:
            ArgumentError: for anything wrong with these, all at once; nothing has moved then.
            DivergedError: where the loss or the update is not finite; nothing has moved then, either.
        """
        raise_problems([flag_problem("gradients", gradients)])
        self._check_step(inputs, targets, mask)
        if not gradients:
            native = self._run_native(
                inputs[None], targets[None], None if mask is None else mask[None]
            )
            if native is not None:
                return Learned(native.loss[0], native.outputs[0])
        estimate = self._step_estimate(inputs, targets, mask)
        self._update(estimate)
        return estimate if gradients else Learned(estimate.loss, estimate.outputs)

    @outside_inference_mode
    def run(self, inputs: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Learned:
        """A chunk of the stream with an update at every step: (b, t, i) in, losses and outputs out.

        Args:
            inputs: (b, t, i). targets: (b, t) class indices or (b, t, o) real values. Time first if the
                network is.
            mask: (b, t), bool or non-negative weights of the losses, as in `step`.

        Raises:
            ArgumentError: for anything wrong with the tensors, all at once; nothing has moved then.
            DivergedError: as `step`. The steps before it have been made; `steps` says how many.
        """
        rule, network = self.rule, self.rule.network
        self._check_readout()
        check_batch(network, rule.loss, "every", inputs, targets, mask=mask)
        time = 1 if network.batch_first else 0
        _check_width(self, inputs.shape[1 - time])
        weights = itertools.repeat(None) if mask is None else mask.unbind(time)
        steps = zip(inputs.split(1, time), targets.split(1, time), weights, strict=False)
        x_time, y_time = network.time_first(inputs), network.time_first(targets)
        mask_time = None if mask is None else network.time_first(mask)
        results: list[Learned] = []
        begun = -1
        for start, (x, y, counts) in enumerate(steps):
            if (
                len(self.optimizer.state) != begun
            ):  # at the start, and after the optimizer's first step
                begun = len(self.optimizer.state)
                rest = None if mask_time is None else mask_time[start:]
                native = self._run_native(x_time[start:], y_time[start:], rest)
                if native is not None:
                    results.append(native)
                    break
            estimate = self._estimate(x, y, counts)
            self._update(estimate)
            results.append(Learned(estimate.loss[None], estimate.outputs[None]))
        losses, outputs = (torch.cat(parts) for parts in zip(*results, strict=True))
        return Learned(losses, outputs.transpose(0, 1) if time else outputs)

    def _check_step(self, inputs: Tensor, targets: Tensor, mask: Tensor | None) -> None:
        """One step (b, …) at the door; of tensors like the last ones, the values of the targets alone."""
        network, loss = self.rule.network, self.rule.loss
        self._check_readout()
        seen = _signature(inputs, targets, mask)
        if mask is None and seen is not None and seen == self._seen:
            raise_problems(
                loss.target_problems(
                    targets, (self.batch_size,), network.output_size, inputs.dtype, None
                )
            )
            return
        _check_step(self, inputs)
        # the entries of one step are (b,), as those at a last step
        x = inputs.unsqueeze(1 if network.batch_first else 0)
        check_batch(network, loss, "last", x, targets, mask=mask)
        self._seen = seen

    def _step_estimate(self, inputs: Tensor, targets: Tensor, mask: Tensor | None) -> Estimate:
        """The estimate of one step (b, …)."""
        time = 1 if self.rule.network.batch_first else 0
        return self._estimate(inputs.unsqueeze(time), targets.unsqueeze(time), mask)

    def _run_native(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Learned | None:
        """Steps (t, b, …) in one native call, where one does them: losses (t,) and outputs (t, b, o)."""
        if self._native.optimizer is not self.optimizer:
            self._native = fast.NativeStream(self.rule, self.optimizer, self.batch_size)
        found = self._native.run(self.memory, x, y, mask, self.key, self.steps)
        if found is None:
            return None
        losses, outputs = found
        self.steps += len(losses)
        if len(losses) < len(x):
            raise _diverged(self.steps)
        return Learned(losses, outputs)

    def _check_readout(self) -> None:
        """A readout that has replaced the one at the start may have no place in what is carried."""
        readout = self.rule.network.readout
        if readout is self._readout:
            return
        fresh = self.rule.begin(self.batch_size)
        if {n: own.shape for n, own in fresh.items()} != {
            n: own.shape for n, own in self.memory.items()
        }:
            got = "another readout than at the start, and traces of the old one"
            remedy = "Make the stream anew, and its optimizer."
            raise_problems([Problem("stream", got, "the same readout throughout", remedy)])
        self._readout = readout

    @torch.no_grad()
    def _estimate(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Estimate:
        """The estimate of one step, (b, 1, …), with the states moved on; no weight has."""
        rule, network = self.rule, self.rule.network
        time = 1 if network.batch_first else 0
        weights = None if mask is None else mask.unsqueeze(time)
        batch = arrange(network, rule.loss, "every", x, y, mask=weights)
        with own_precision(batch.inputs):
            forward, gradients, after = rule.advance(self.memory, batch, self.key, self.steps)
            estimate = estimate_from(rule, forward, gradients)
        if not _is_finite(estimate):
            raise _diverged(self.steps)
        self.memory = after
        self.steps += 1
        return replace(estimate, outputs=estimate.outputs.squeeze(time))

    @torch.no_grad()
    def _update(self, estimate: Estimate) -> None:
        """One step of the optimizer, and of what learns by a law of its own; `.grad` stays what it was."""
        update_locally(self.rule, estimate)
        if not estimate.weight:
            return
        named = list(self.rule.network.named_parameters())
        kept = [parameter.grad for _, parameter in named]
        for name, parameter in named:
            parameter.grad = estimate.gradients.get(name) if parameter.requires_grad else None
        self.optimizer.step()
        for (_, parameter), gradient in zip(named, kept, strict=True):
            parameter.grad = gradient

    @torch.no_grad()
    def reset(self, rows: Tensor | None = None) -> None:
        """Begin again with zero states: all sequences, or those of `rows`, (b,) bool or positions.

        Raises:
            ArgumentError: for what is neither; nothing is changed.
        """
        index = slice(None) if rows is None else rows
        positions = as_positions("rows", index, self.batch_size)
        for carried in self.memory.values():
            carried[positions.to(carried.device)] = 0

    def state_dict(self) -> dict[str, Tensor]:
        """All that must be kept to go on later, as tensors: the state of the rule's generator too."""
        numbers = {"steps": torch.tensor(self.steps), "key": torch.tensor(self.key)}
        carried = {name: tensor.clone() for name, tensor in self.memory.items()}
        return {**carried, **numbers, "generator": self.rule.get_extra_state()}

    @outside_inference_mode
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where `state_dict()` was taken, the rule's generator too.

        Raises:
            ArgumentError: for the state of a stream of another size or of another rule; nothing is changed.
        """
        _check_state(self.state_dict(), state)
        self.rule.set_extra_state(state["generator"])  # first: it may refuse
        self.steps, self.key = int(state["steps"]), int(state["key"])
        self.memory = {name: state[name].clone() for name in self.memory}


def _is_finite(estimate: Estimate) -> bool:
    """Whether a step can be made: loss, outputs and the squares of the gradients are finite."""
    values = (estimate.loss, estimate.outputs, *estimate.gradients.values())
    norms = [torch.linalg.vector_norm(at_least_float32(own)) for own in values]
    return bool(torch.stack(norms).isfinite().all())


def _diverged(steps: int) -> DivergedError:
    return DivergedError(
        f"stream: got a loss or an update that is not finite at step {steps + 1}, expected finite ones. The "
        f"step was not made, the {steps} before it were. Lower the learning rate, or scale the targets."
    )


def check_stream(rule: Rule) -> None:
    """Raise an `UnsupportedError` for a rule or a network that cannot learn from a stream."""
    if not rule.spec.online:
        raise UnsupportedError(
            f"stream: got the rule {rule.spec.name!r}, expected one that learns online. Use TBPTT, "
            "RFLO or a perturbation rule."
        )
    if rule.network.directions > 1:
        raise UnsupportedError(
            "stream: got a bidirectional network, expected one direction: the other one begins at the "
            "end of the sequence. Use whole sequences."
        )


def rule_problem(rule: object) -> Problem | None:
    """A problem unless `rule` is a learning rule."""
    if isinstance(rule, Rule):
        return None
    return Problem("rule", described(rule), "a learning rule such as tl.DFA(network)")


def optimizer_problem(network: Network, optimizer: object) -> Problem | None:
    """A problem if the optimizer holds no parameter of the network: it would train nothing."""
    if not isinstance(optimizer, Optimizer):
        return Problem("optimizer", described(optimizer), "an optimizer of torch.optim")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if any(id(parameter) in held for parameter in network.parameters()):
        return None
    got = "none of the parameters of the rule's network"
    remedy = "Build it from `rule.parameters()`"
    return Problem("optimizer", got, "some of them", remedy)


def _check_step(stream: Stream, inputs: Tensor) -> None:
    shape = (stream.batch_size, stream.rule.network.input_size)
    raise_problems(
        [tensor_problem("inputs", inputs, f"a tensor of shape {shape}", may_be_meta=True)]
    )
    if inputs.shape != shape:
        remedy = "A stream takes one step of each of its sequences; `run` takes many steps."
        raise_problems(
            [Problem("inputs", f"shape {tuple(inputs.shape)}", f"shape {shape}", remedy)]
        )


def _signature(inputs: object, targets: object, mask: object) -> tuple[object, ...] | None:
    """What the checks of a step look at, but for values; None for what are no tensors."""
    if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
        return None
    return inputs.shape, inputs.dtype, inputs.device, targets.shape, targets.dtype, targets.device


def _check_width(stream: Stream, sequences: int) -> None:
    if sequences != stream.batch_size:
        remedy = "Make the stream with batch_size= as many sequences as run side by side."
        raise_problems(
            [Problem("inputs", f"{sequences} sequences", f"{stream.batch_size}", remedy)]
        )


def _check_state(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    def told(tensor: object) -> str:
        return "nothing" if tensor is None else described(tensor)

    remedy = "Make the stream of the same rule, network and batch size as the saved one."
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise_problems([Problem("state", described(given), "what state_dict() gave", remedy)])
    raise_problems(
        Problem(f"state {name!r}", told(given.get(name)), told(own.get(name)), remedy)
        for name in sorted({*own, *given})
        if told(given.get(name)) != told(own.get(name))
    )
