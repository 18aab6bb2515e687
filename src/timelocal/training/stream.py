"""Streams: a rule learns online, one step of a batch of sequences at a time, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, NamedTuple, get_args, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from timelocal import fast
from timelocal.arguments import as_positions, flag_problem, whole_problem
from timelocal.distributed import of_this_rank
from timelocal.errors import (
    ArgumentError,
    DivergedError,
    Problem,
    TimelocalError,
    raise_problems,
    unknown_name,
)
from timelocal.inference import outside_inference_mode
from timelocal.losses import MSE
from timelocal.network import read
from timelocal.network.readout import as_if_unread
from timelocal.precision import at_least_float32
from timelocal.rules import (
    Estimate,
    Rule,
    arrange,
    draw_key,
    estimate_from,
    own_precision,
    update_locally,
)
from timelocal.rules.states import clean_states
from timelocal.training import stream_file
from timelocal.training.carried import Carried
from timelocal.training.clipping import clip_gradient, clip_problem
from timelocal.training.door import Door
from timelocal.training.late import (
    WaitingStep,
    as_it_was,
    check_weights,
    delay_problem,
    expected_names,
    from_named,
    named,
    none_waits,
)
from timelocal.training.missing import Entered, Missing
from timelocal.training.stream_checks import (
    check_late,
    check_ranks,
    check_stream,
    optimizer_problem,
    rule_problem,
)
from timelocal.typing import Memory


class Learned(NamedTuple):
    """The result of one step or a chunk of a stream.

    loss: () of a step, (t,) of a chunk: the mean over the sequences, before each update.
    outputs: (b, o) of a step, (b, t, o) of a chunk (time first if the network is), before each update.
    """

    loss: Tensor
    outputs: Tensor


class _Predicted(NamedTuple):
    """A step that waits for its target after `predict`: inputs (b, i), and which rows are present (b,)."""

    inputs: Tensor
    present: Tensor | None


class Stream:
    """A stream of `batch_size` parallel sequences, from which `rule` learns at every step.

    The states (and traces) are carried from step to step, detached, until `reset`; the optimizer updates the
    weights after every step. Nothing that a stream holds grows with the number of steps, and feeding a
    stream in chunks of any size gives the same result as feeding it at once. `.grad` is left unchanged.

    `step` and `run` take inputs with their targets. `predict` returns the outputs before the target is
    known; `learn` then learns from it. A step whose target never comes advances states and traces but
    updates no weight.

    Args:
        rule: one that learns online; its `loss` is taken at every step, its `at` is ignored.
        optimizer: any `torch.optim` optimizer over the rule's parameters.
        batch_size: the number of parallel sequences.
        max_delay: how many steps late a target may come, to `learn(targets, delay=k)`. That many waiting
            steps, plus one, are kept with the states, traces and weights they were made from, which takes
            that many copies of the parameters.
        missing: what to do if an input is NaN. "raise": raise an `ArgumentError`. "hold": use the last known
            value of that sequence and channel, or 0 before the first. "skip": that sequence makes no step:
            its states and traces stay, its outputs are NaN, and nothing is learned from it.
        clip: the largest norm of the whole gradient of a step: a larger one is scaled down to it before the
            optimizer sees it, as by `torch.nn.utils.clip_grad_norm_`. None does not clip.
        sync: False allows a stream in a process group of several ranks: each rank then updates its own
            weights, bypassing DDP, and they drift apart.

    Attributes:
        steps: the number of steps made; the noise of a step is a function of this number.
        memory: the carried tensors, with the batch as their first axis, initially zero.
        key: the seed of this stream's noise, drawn from the rule's generator.

    Raises:
        UnsupportedError: for a rule or network that needs the whole sequence, in a process group, and for a
            `max_delay` with buffers that have their own learning rule (D, Kolen–Pollack feedback).
        ArgumentError: for a batch size below 1, or an optimizer of other parameters.

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
    >>> outputs = stream.predict(torch.zeros(1, 1))
    >>> bool(stream.learn(torch.zeros(1, 1)).loss == outputs.square())
    True

    For the usual cells, losses, rules and optimizers, one native call makes the steps of a chunk or a single
    step: the same updates up to rounding, much faster.
    """

    @outside_inference_mode
    def __init__(
        self,
        rule: Rule,
        optimizer: Optimizer,
        batch_size: int = 1,
        *,
        max_delay: int = 0,
        missing: Missing = "raise",
        clip: float | None = None,
        sync: bool | None = None,
    ) -> None:
        raise_problems([rule_problem(rule), None if sync is None else flag_problem("sync", sync)])
        check_stream(rule)
        raise_problems(
            [
                whole_problem("batch_size", batch_size),
                delay_problem("max_delay", max_delay),
                unknown_name("missing", missing, get_args(Missing)),
                clip_problem(clip),
                optimizer_problem(rule.network, optimizer),
            ]
        )
        check_late(rule, max_delay)
        check_ranks(sync)
        self.rule = rule
        self.optimizer = optimizer
        self.batch_size = batch_size = int(batch_size)
        self.max_delay = max_delay = int(max_delay)
        self.missing: Missing = missing
        self.clip = None if clip is None else float(clip)
        self.steps = 0
        self.memory: Memory = rule.begin(batch_size)  # first, because it may refuse
        self.key = draw_key(of_this_rank(rule.generator))
        self._carried = Carried(rule, self.memory)
        self._native = fast.NativeStream(rule, optimizer, batch_size, self.clip)
        self._door = Door(rule, batch_size, missing)
        self._predicted: _Predicted | None = None
        self._waiting = none_waits(max_delay)

    # --- steps ----------------------------------------------------------------------------------

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
            mask: (b,), bool or non-negative weights of the losses. If none counts, the states and traces
                advance but no weight changes, whatever the optimizer; the loss is 0.
            gradients: whether to return the whole `Estimate` instead of only loss and outputs.

        Raises:
            ArgumentError: for anything wrong with these, all at once; nothing is changed then.
            DivergedError: if the loss or the update is not finite; nothing is changed then either.
        """
        if type(gradients) is not bool:
            raise_problems([flag_problem("gradients", gradients)])
        entered = self._door.step(inputs, targets, mask, self._next_step())
        if self._predicted is not None:
            self._go_by()
        made = self._learn(entered.inputs, entered.present, targets, mask, gradients)
        self._door.hold(entered.inputs)
        if self.max_delay:
            self._waiting.append(None)
        return made

    @outside_inference_mode
    def predict(self, inputs: Tensor) -> Tensor:
        """The outputs (b, o) of the next step, before its targets are known.

        `learn` then learns for this step; both together are `step`, bit for bit. If anything else follows,
        another `predict`, `step`, `run`, `reset`, `state_dict` or `save`, the step is over without a target:
        states and traces advance, and no weight changes. The outputs are the network's own, without a rule's
        noise, in its current mode (training or not).

        Args:
            inputs: (b, i).

        Raises:
            ArgumentError: for anything wrong with the inputs; nothing is changed then.

        >>> import torch, timelocal as tl
        >>> rule = tl.DFA(tl.GRU(3, 8, output_size=2))
        >>> stream = tl.Stream(rule, torch.optim.Adam(rule.parameters()), batch_size=4)
        >>> stream.predict(torch.zeros(4, 3)).shape
        torch.Size([4, 2])
        >>> learned = stream.learn(torch.tensor([0, 1, 1, 0]))
        """
        entered = self._door.inputs(inputs, self._next_step())
        if self._predicted is not None:
            self._go_by()
        x, present = entered.inputs.detach().clone(), entered.present
        self._door.hold(x)
        outputs = self._outputs_of_rows(x, present)
        self._predicted = _Predicted(x, present)
        return outputs

    @outside_inference_mode
    def peek(self, inputs: Tensor) -> Tensor:
        """What `predict` would return (b, o), without making a step: the stream is unchanged.

        It can be called any number of times, with different inputs. Only a step that was predicted before is
        then over without a target.

        Args:
            inputs: (b, i).

        Raises:
            ArgumentError: for anything wrong with the inputs; nothing is changed then.

        >>> import torch, timelocal as tl
        >>> rule = tl.DFA(tl.GRU(3, 8, output_size=2))
        >>> stream = tl.Stream(rule, torch.optim.Adam(rule.parameters()))
        >>> bool((stream.peek(torch.ones(1, 3)) == stream.predict(torch.ones(1, 3))).all())
        True
        """
        entered = self._door.inputs(inputs, self._next_step())
        if self._predicted is not None:
            self._go_by()
        return self._outputs_of_rows(entered.inputs.detach(), entered.present)

    @outside_inference_mode
    def learn(self, targets: Tensor, *, mask: Tensor | None = None, delay: int = 0) -> Learned:
        """Learn from the step last predicted, or from the step `delay` steps before it.

        A late update is computed from the inputs, states, traces and weights of that time and applied now:
        the optimizer makes one step. Each step can be learned from once.

        Args:
            targets: (b,) class indices or (b, o) real values.
            mask: (b,), as in `step`.
            delay: how many steps ago, at most `max_delay`; 0 is the last step.

        Raises:
            ArgumentError: for a step that was not predicted or was already learned from, and for anything
                wrong with targets and mask; nothing is changed then.
            DivergedError: if the loss or the update is not finite; nothing is changed then either.
        """
        if type(delay) is not int or not 0 <= delay <= self.max_delay:
            raise_problems([delay_problem("delay", delay, self.max_delay)])
        if delay or self._predicted is None:
            return self._learn_late(targets, mask, delay)
        x, present = self._predicted
        self._door.targets(Entered(x, present), targets, mask)
        learned = self._learn(x, present, targets, mask)
        assert isinstance(learned, Learned)
        self._predicted = None
        if self.max_delay:
            self._waiting.append(None)
        return learned

    @outside_inference_mode
    def run(self, inputs: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Learned:
        """Run a chunk of the stream with an update at every step: (b, t, i) in, losses and outputs out.

        Args:
            inputs: (b, t, i). targets: (b, t) class indices or (b, t, o) real values; (b,) or (b, o) are
                used at every step of the chunk. Time first if the network is.
            mask: (b, t), bool or non-negative weights of the losses, as in `step`.

        Raises:
            ArgumentError: for anything wrong with the tensors, all at once; nothing is changed then.
            DivergedError: as `step`. The steps before it have been made; `steps` says how many.
        """
        network = self.rule.network
        x, present, targets = self._door.chunk(inputs, targets, mask)
        if self._predicted is not None:
            self._go_by()
        y, first = network.time_first(targets), self.steps
        all_count = mask is None or bool((mask == 1).all())
        weights = None if mask is None or all_count else network.time_first(mask)
        try:
            losses, outputs = (
                self._run(x, y, weights)
                if present is None
                else self._run_rows(x, y, weights, present)
            )
        finally:  # also after an error, hold the inputs of the last step that was made
            if self.steps > first:
                self._door.hold(x[self.steps - first - 1])
        if self.max_delay:
            self._waiting.extend([None] * len(x))
        return Learned(losses, outputs.transpose(0, 1) if network.batch_first else outputs)

    @torch.no_grad()
    def reset(self, rows: Tensor | None = None) -> None:
        """Start again with zero states: all sequences, or those of `rows`, (b,) bool or positions.

        Raises:
            ArgumentError: for anything else; nothing is changed.
        """
        index = slice(None) if rows is None else rows
        positions = as_positions("rows", index, self.batch_size)
        self._go_by()
        held = [] if self._door.held is None else [self._door.held]
        for tensor in (*self.memory.values(), *held):
            tensor[positions.to(tensor.device)] = 0

    # --- the mathematics ------------------------------------------------------------------------

    def _next_step(self) -> int:
        """The number of the step that enters next."""
        return self.steps + (self._predicted is not None)

    def _learn(
        self,
        x: Tensor,
        present: Tensor | None,
        y: Tensor,
        mask: Tensor | None,
        gradients: bool = False,
    ) -> Learned | Estimate:
        """One step (b, …) of the rows that are present (all by default), and its update."""
        if present is None:
            return self._learn_rows(x, y, mask, gradients)
        rows = present.nonzero()[:, 0]
        whole = x.new_full((len(x), self.rule.network.output_size), torch.nan)
        if not len(rows):
            if gradients:
                nothing, _ = self._estimate(
                    self.memory, self.steps, x, y, torch.zeros_like(x[:, 0])
                )
                return replace(nothing, outputs=whole)
            return Learned(x.new_zeros(()), whole)
        with self._only(rows):
            made = self._learn_rows(
                x[rows], y[rows], None if mask is None else mask[rows], gradients
            )
        whole[rows] = made.outputs
        if isinstance(made, Learned):
            return made._replace(outputs=whole)
        return replace(made, outputs=whole)

    def _learn_rows(
        self, x: Tensor, y: Tensor, mask: Tensor | None, gradients: bool
    ) -> Learned | Estimate:
        if not gradients:
            native = self._step_native(x, y, mask)
            if native is not None:
                return native
        estimate, self.memory = self._estimate(self.memory, self.steps, x, y, mask)
        self.steps += 1
        self._update(estimate)
        return estimate if gradients else Learned(estimate.loss, estimate.outputs)

    def _run(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Learned:
        """Steps (t, b, …) of all rows: losses (t,) and outputs (t, b, o)."""
        results: list[Learned] = []
        known = -1
        for t in range(len(x)):
            # try the native call at the first two steps, and after the optimizer's first update, which a
            # mask may delay
            if t < 2 or len(self.optimizer.state) != known:
                native = self._run_native(x[t:], y[t:], None if mask is None else mask[t:])
                if native is not None:
                    results.append(native)
                    break
            known = len(self.optimizer.state)
            counts = None if mask is None else mask[t]
            estimate, self.memory = self._estimate(self.memory, self.steps, x[t], y[t], counts)
            self.steps += 1
            self._update(estimate)
            results.append(Learned(estimate.loss[None], estimate.outputs[None]))
        losses, outputs = (torch.cat(parts) for parts in zip(*results, strict=True))
        return Learned(losses, outputs)

    def _run_rows(self, x: Tensor, y: Tensor, mask: Tensor | None, present: Tensor) -> Learned:
        """As `_run`, of the rows that are present (t, b): steps with the same rows run together."""
        losses = x.new_zeros(len(x))
        outputs = x.new_full((*x.shape[:2], self.rule.network.output_size), torch.nan)
        steps = present.any(1).nonzero()[:, 0]
        there = present[steps]
        changes = (there[1:] != there[:-1]).any(1).nonzero()[:, 0] + 1
        for span in steps.tensor_split(changes.tolist()) if len(steps) else ():
            rows = present[span[0]].nonzero()[:, 0]
            at = (span[:, None], rows)
            with self._only(rows):
                learned = self._run(x[at], y[at], None if mask is None else mask[at])
            losses[span], outputs[at] = learned
        return Learned(losses, outputs)

    def _fast(self) -> fast.NativeStream:
        if self._native.optimizer is not self.optimizer:
            self._native = fast.NativeStream(self.rule, self.optimizer, self.batch_size, self.clip)
        return self._native

    def _step_native(self, x: Tensor, y: Tensor | None, mask: Tensor | None) -> Learned | None:
        """One step (b, …) in one native call, if one supports it: loss () and outputs (b, o)."""
        found = self._fast().step(self.memory, x, y, mask, self.key, self.steps)
        if found is None:
            return None
        if not found[0].numel():
            raise _diverged(self.steps)
        self.steps += 1
        return Learned(*found)

    def _run_native(self, x: Tensor, y: Tensor, mask: Tensor | None) -> Learned | None:
        """Steps (t, b, …) in one native call, if one supports them: losses (t,) and outputs (t, b, o)."""
        found = self._fast().run(self.memory, x, y, mask, self.key, self.steps)
        if found is None:
            return None
        losses, outputs = found
        self.steps += len(losses)
        if len(losses) < len(x):
            raise _diverged(self.steps)
        return Learned(losses, outputs)

    @torch.no_grad()
    def _estimate(
        self, memory: Memory, step: int, x: Tensor, y: Tensor, mask: Tensor | None
    ) -> tuple[Estimate, Memory]:
        """The estimate of one step (b, …), and the memory after it; nothing is changed yet."""
        rule, network = self.rule, self.rule.network
        self._carried.check(memory, len(x))
        time = 1 if network.batch_first else 0
        weights = None if mask is None else mask.unsqueeze(time)
        x, y = x.unsqueeze(time), y.unsqueeze(time)
        batch = arrange(network, rule.loss, "every", x, y, mask=weights)
        with own_precision(batch.inputs):
            forward, gradients, after = rule.advance(memory, batch, self.key, step)
            estimate = estimate_from(rule, forward, gradients)
        if not _is_finite(estimate):
            raise _diverged(self.steps)
        return replace(estimate, outputs=estimate.outputs.squeeze(time)), after

    @torch.no_grad()
    def _update(self, estimate: Estimate) -> None:
        """One update by the optimizer and the local updates; `.grad` is restored afterwards."""
        update_locally(self.rule, estimate)
        if not estimate.weight:
            return
        named = list(self.rule.network.named_parameters())
        kept = [parameter.grad for _, parameter in named]
        for name, parameter in named:
            gradient = estimate.gradients.get(name) if parameter.requires_grad else None
            # clipping scales gradients in place, and the estimate belongs to the caller
            parameter.grad = gradient if self.clip is None or gradient is None else gradient.clone()
        if self.clip is not None:
            clip_gradient(self.rule.network.parameters(), self.clip)
        self.optimizer.step()
        for (_, parameter), gradient in zip(named, kept, strict=True):
            parameter.grad = gradient

    def _outputs_of_rows(self, x: Tensor, present: Tensor | None) -> Tensor:
        """As `_predict`; NaN in the rows that are absent."""
        if present is None:
            return self._predict(x)
        outputs = x.new_full((self.batch_size, self.rule.network.output_size), torch.nan)
        rows = present.nonzero()[:, 0]
        if len(rows):
            with self._only(rows):
                outputs[rows] = self._predict(x[rows])
        return outputs

    def _predict(self, x: Tensor) -> Tensor:
        """The outputs (b, o) of a step, without making it."""
        found = self._fast().peek(self.memory, x)
        return self._read(x) if found is None else found

    @torch.no_grad()
    def _read(self, x: Tensor) -> Tensor:
        rule, network = self.rule, self.rule.network
        assert network.output_size  # refuses a readout that does not fit
        self._carried.check(self.memory, len(x))
        drawn, states = rule.get_extra_state(), clean_states(self.memory)
        with own_precision(x), as_if_unread(network.readout):
            run = network.unroll(x[None], None, states, of_this_rank(rule.generator))
            outputs = read(network.readout, run.outputs[0])[1].detach()
        rule.set_extra_state(drawn)
        return outputs

    @contextmanager
    def _only(self, rows: Tensor) -> Iterator[None]:
        """The stream, temporarily with the memory of the given rows only."""
        whole = self.memory
        self.memory = {name: carried[rows] for name, carried in whole.items()}
        try:
            yield
        finally:  # if a step is refused, the changes by the steps before it stay
            for name, carried in self.memory.items():
                whole[name][rows] = carried
            self.memory = whole

    # --- steps without a target, and late ones --------------------------------------------------

    @outside_inference_mode
    def _go_by(self) -> None:
        """Make the step that was predicted, if there is one, without a target."""
        if self._predicted is None:
            return
        x, present = self._predicted
        if self.max_delay:
            self._waiting.append(WaitingStep.of(self.rule, self.memory, self.steps, x, present))
        if present is None:
            self._pass(x)
        elif bool(present.any()):
            rows = present.nonzero()[:, 0]
            with self._only(rows):
                self._pass(x[rows])
        self._predicted = None

    def _pass(self, x: Tensor) -> None:
        """One step (b, i) without a target: no weight changes."""
        nothing = x.new_zeros(len(x))
        if self._step_native(x, None, nothing) is not None:
            return
        rule = self.rule
        own, rule.loss = rule.loss, MSE()  # its targets have the shape of the outputs
        try:
            y = x.new_zeros(len(x), rule.network.output_size)
            estimate, self.memory = self._estimate(self.memory, self.steps, x, y, nothing)
        finally:
            rule.loss = own
        self.steps += 1
        update_locally(rule, estimate)

    def _learn_late(self, targets: Tensor, mask: Tensor | None, delay: int) -> Learned:
        behind = delay + (self._predicted is None)  # a predicted step is about to become the last
        waiting = self._waiting[-behind]
        if waiting is None:
            expected = "a predicted step that was not yet learned from"
            remedy = "Call predict(inputs) first, then learn(targets) once per step."
            raise ArgumentError(str(Problem("delay", delay, expected, remedy)))
        check_weights(self.rule.network, waiting)
        self._door.targets(Entered(waiting.inputs, waiting.present), targets, mask)
        self._go_by()
        rows = waiting.present.nonzero()[:, 0]
        outputs = waiting.inputs.new_full(
            (self.batch_size, self.rule.network.output_size), torch.nan
        )
        loss = outputs.new_zeros(())
        if len(rows):
            memory = {name: carried[rows] for name, carried in waiting.memory.items()}
            counts = None if mask is None else mask[rows]
            with as_it_was(self.rule, waiting):
                estimate, _ = self._estimate(
                    memory, int(waiting.step), waiting.inputs[rows], targets[rows], counts
                )
            self._update(estimate)
            loss, outputs[rows] = estimate.loss, estimate.outputs
        self._waiting[-1 - delay] = None
        return Learned(loss, outputs)

    # --- what is kept ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to continue later, as tensors, including the state of the rule's generator.

        A predicted step is first completed without a target.
        """
        self._go_by()
        return self._state()

    @outside_inference_mode
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state_dict()`, including the rule's generator.

        Raises:
            ArgumentError: for the state of a stream with another size or rule; nothing is changed.
        """
        self._check_state(state)
        self.rule.set_extra_state(state["generator"])  # first, because it may refuse
        self.steps, self.key = int(state["steps"]), int(state["key"])
        self.memory = {
            name: state[name].to(own.device, copy=True) for name, own in self.memory.items()
        }
        if self._door.held is not None:
            self._door.held = state["held"].to(self._door.held.device, copy=True)
        self._waiting = from_named(state, self._a_waiting_step(), self.max_delay)
        self._predicted = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write rule, network, optimizer and stream to one safetensors file; nothing is pickled.

        The file replaces an existing one only when it is complete. A scheduler, and the state of torch's own
        generator, must be saved by the caller.

        Raises:
            RunError: if it cannot be written.
            UnsupportedError: for an optimizer whose state is not made of numbers, texts and tensors.

        >>> import tempfile, torch, timelocal as tl
        >>> rule = tl.DFA(tl.GRU(3, 8, output_size=2))
        >>> stream = tl.Stream(rule, torch.optim.Adam(rule.parameters()), batch_size=4)
        >>> path = tempfile.mkdtemp() + "/stream.safetensors"
        >>> stream.save(path)
        >>> stream.load(path)
        """
        self._go_by()
        stream_file.write(path, self._whole_state(), self._description())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue, bit for bit, from where `save` was called, in a stream with the same rule and optimizer.

        Learning rates and other optimizer settings are taken from the file.

        Raises:
            RunError: for a file that is missing or damaged, or from another rule, network, optimizer or
                stream; nothing is changed then.
        """
        saved = stream_file.read(path, self._description())
        try:  # before anything changes: an optimizer adopts the dtypes of the parameters it is given
            stream_file.check_state(self.rule.state_dict(), saved["rule"], "rule")
            self._check_state(saved["stream"])
        except TimelocalError as error:
            raise stream_file.does_not_fit(path, error) from error
        before = self._whole_state()
        kept = self._predicted
        try:
            self._put_back(saved)
        except (TimelocalError, LookupError, ValueError, TypeError, RuntimeError) as error:
            self._put_back(before)
            self._predicted = kept
            raise stream_file.does_not_fit(path, error) from error

    def _whole_state(self) -> stream_file.State:
        rule, optimizer = self.rule.state_dict(), self.optimizer.state_dict()
        return stream_file.copied({"rule": rule, "optimizer": optimizer, "stream": self._state()})

    def _put_back(self, state: stream_file.State) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.rule.load_state_dict(state["rule"])
        self.load_state_dict(state["stream"])

    def _description(self) -> dict[str, object]:
        return stream_file.description(self.rule, self.optimizer, self.missing, self.clip)

    def _state(self) -> dict[str, Tensor]:
        """A copy of everything that is carried, except a predicted step."""
        return {**self._lasting_state(), **named(self._waiting)}

    def _lasting_state(self) -> dict[str, Tensor]:
        """As `_state`, without the steps that wait for their targets."""
        found = {name: carried.clone() for name, carried in self.memory.items()}
        found |= {"steps": torch.tensor(self.steps), "key": torch.tensor(self.key)}
        if self._door.held is not None:
            found["held"] = self._door.held.clone()
        return found | {"generator": self.rule.get_extra_state()}

    def _check_state(self, given: Mapping[str, Tensor]) -> None:
        stream_file.check_is_state(given)
        late = expected_names(given, self._a_waiting_step(), self.max_delay)
        stream_file.check_state({**self._lasting_state(), **late}, given)

    def _a_waiting_step(self) -> WaitingStep:
        """A step with the names and shapes that every waiting step must have."""
        like = self.rule.network.recurrent.like
        inputs = like.new_zeros(self.batch_size, self.rule.network.input_size)
        return WaitingStep.of(self.rule, self.memory, 0, inputs, None)


def _is_finite(estimate: Estimate) -> bool:
    """Whether a step can be made: loss, outputs and the squares of the gradients are finite."""
    values = (estimate.loss, estimate.outputs, *estimate.gradients.values())
    norms = [torch.linalg.vector_norm(at_least_float32(own)) for own in values]
    return bool(torch.stack(norms).isfinite().all())


def _diverged(steps: int) -> DivergedError:
    return DivergedError(
        f"stream: got a loss or an update that is not finite at step {steps + 1}, expected finite ones. This "
        f"step was not made; the {steps} before it were. Lower the learning rate, or scale the targets."
    )
