"""What a learning rule is: it turns a batch into an `Estimate` of the gradient, and writes nothing.

A rule is an `nn.Module`, so that whatever it must remember (feedback matrices, the state of its random
generator) is in its `state_dict()`, moves with `.to()` and survives a checkpoint. It refers to the
network without owning it: the network's parameters are the network's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from timelocal import kernels, losses
from timelocal.cells import BlackBox
from timelocal.errors import Problem, UnsupportedError, raise_problems
from timelocal.kernels import Head, HeadLoss, OnlineSettings, OnlineState
from timelocal.losses import Loss
from timelocal.network import (
    Network,
    Trajectory,
    evaluation_mode,
    is_linear,
    mean_decorrelation_loss,
    positive,
    read,
    readout_gradients,
    readout_signal,
)
from timelocal.rules.batch import (
    Batch,
    arrange,
    check_batch,
    check_rule,
    make_batch,
    own_precision,
)
from timelocal.rules.session import Session
from timelocal.seeding import generator
from timelocal.typing import Gradients, LossFunction, Memory, Place, States


@dataclass(frozen=True)
class RuleSpec:
    """What a rule declares of itself; `timelocal.testing` measures whether it is true."""

    name: str
    """On the command line and in configs."""
    summary: str
    """One line for a table."""
    estimates: Literal["exact", "unbiased", "biased"]
    target: str
    """The gradient it estimates, "bptt" or "tbptt1"; for a biased rule, what it follows instead."""
    online: bool
    """Whether it can update at every step of a stream, in memory that does not grow."""
    autograd_free: bool
    """Whether it trains a cell whose backward raises."""
    memory: Literal["linear", "constant"]
    """How its memory grows with the length of a sequence."""
    weight_transport: bool
    """Whether the signal at hidden units is made with the transpose of a forward weight."""
    bidirectional: bool = False
    """Whether it takes networks that run both ways, on whole sequences."""
    derivative_free: bool = False
    """Whether it trains a layer that only runs forward."""
    draws: bool = False
    """Whether an estimate is a draw: noise of its own, another one each time."""
    references: tuple[str, ...] = ()
    """Bibliography lines."""


@dataclass(frozen=True)
class Estimate:
    """What a rule says about one batch.

    loss: scalar, the mean over entries. gradients: by `network.named_parameters()` names.
    outputs: (b, o) at "last", (b, t, o) at "every". accuracy: scalar, None for regression.
    count: how many entries the means are over (their total weight).
    final_states: the states after the last valid step, the `initial` of a next call.
    steps: by the name of a buffer, what its own local law adds to it: the rule's, as "feedback_l0", or the
    network's, as "network.recurrent.decorrelation_l0". Optimizers know nothing of these.
    diagnostics: scalars worth a curve: the "decorrelation_loss" of a network that decorrelates, the mean
    over its layers and directions.
    """

    loss: Tensor
    gradients: Gradients
    outputs: Tensor
    accuracy: Tensor | None
    count: float
    final_states: States
    steps: dict[str, Tensor] = field(default_factory=dict)
    diagnostics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What the network does on one batch: as in `Estimate`, without gradients."""

    loss: Tensor
    outputs: Tensor
    accuracy: Tensor | None
    count: float
    final_states: States


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """A trajectory, what the readout made of it, and the output error, one row per entry.

    features (n, h·directions) and outputs (n, o), as `read` returned them; errors e = ∂L/∂outputs
    (n, o) of the mean loss L; accuracy, None for regression;
    n = b at "last", t·b (time first) at "every".
    readout_gradients: by the readout's own names, where they came with the rest.
    """

    trajectory: Trajectory
    features: Tensor
    outputs: Tensor
    errors: Tensor
    loss: Tensor
    accuracy: Tensor | None
    readout_gradients: Gradients | None = None


Learner = Callable[[Tensor, Tensor, Tensor | None], Estimate]
"""Inputs, targets and lengths that have been checked to what a rule says about them."""


class Rule(nn.Module, ABC):
    """Base of all rules: the checks at the door, the forward pass, how gradients are written.

    A rule implements `compute`. `estimate` is a door: loops that have checked their data go in beside it.
    """

    spec: ClassVar[RuleSpec]
    network: Network

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        seed: int = 0,
        problems: Iterable[Problem | None] = (),
    ) -> None:
        """problems: what the rule has found wrong with arguments of its own, told with the rest."""
        super().__init__()
        check_rule(network, loss, at, self.spec.name, self.spec.bidirectional, problems)
        if isinstance(network.cell, BlackBox) and not self.spec.derivative_free:
            network.cell.refuse(self.spec.name)
        object.__setattr__(self, "network", network)  # referred to, not owned: not a submodule
        self.loss = losses.resolve(loss)
        self.at: Place = at
        self.seed = seed
        self.generator = generator(seed, self.spec.name)

    @abstractmethod
    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        """Run the passes the rule needs and return one of them with the gradients."""

    @torch.no_grad()
    def estimate(
        self,
        inputs: Tensor | PackedSequence,
        targets: Tensor,
        lengths: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        initial: States | None = None,
    ) -> Estimate:
        """What this rule says the gradient is. Nothing is written.

        Args:
            inputs: (b, t, i), right-padded if unequal; or a `PackedSequence`.
            targets: (b,) or (b, t) class indices, or (b, o) or (b, t, o) real values.
            lengths: (b,) integers, or None if every sequence is t long.
            mask: (b,) or (b, t), bool or non-negative weights of the entries in the mean.
            initial: h, or (h, c) for the LSTM, each (l·directions, b, h) as in torch.nn; zeros if None. It is
                taken as it is: no gradient flows into it.

        Raises:
            ArgumentError: for anything wrong with these, all at once.
        """
        self.check_placement()
        return self._estimate(self._batch(inputs, targets, lengths, mask, initial))

    def check(
        self,
        inputs: Tensor,
        targets: Tensor,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Raise what `estimate` would for these, but for a batch in which nothing counts. Nothing is run."""
        self.check_placement()
        check_batch(self.network, self.loss, self.at, inputs, targets, lengths, mask)

    def learner(self) -> Learner:
        """A function from (inputs, targets, lengths or None) to an `Estimate`, for loops over the same data.

        It checks nothing: `check` does, once for all of it. Its estimates are those of `estimate`, each good
        until the next one: where that saves time, they are written into the same tensors.

        >>> import torch, timelocal as tl
        >>> rule = tl.DFA(tl.GRU(3, 8, 2))
        >>> inputs, targets = torch.randn(10, 5, 3), torch.randint(2, (10,))
        >>> rule.check(inputs, targets)
        >>> learn = rule.learner()
        >>> for start in (0, 5):
        ...     estimate = learn(inputs[start : start + 5], targets[start : start + 5], None)
        >>> estimate.gradients.keys() == dict(rule.network.named_parameters()).keys()
        True
        """
        return self.estimate_checked

    @torch.no_grad()
    def estimate_checked(
        self, inputs: Tensor, targets: Tensor, lengths: Tensor | None = None
    ) -> Estimate:
        """As `estimate`, of what `check` has let pass, or of a part of it: for loops over the same data."""
        return self._estimate(arrange(self.network, self.loss, self.at, inputs, targets, lengths))

    def _estimate(self, batch: Batch) -> Estimate:
        with own_precision(batch.inputs):
            return self.estimate_from(batch, *self.compute(batch))

    def estimate_from(self, batch: Batch, forward: ForwardPass, gradients: Gradients) -> Estimate:
        """What `compute` found, as the user sees it."""
        steps, diagnostics = self._decorrelation(forward.trajectory)
        return Estimate(
            forward.loss,
            gradients,
            batch.surface(forward.outputs.detach()),
            forward.accuracy,
            batch.count,
            forward.trajectory.final_states(),
            self.local_steps(batch, forward) | steps,
            diagnostics,
        )

    def _decorrelation(self, trajectory: Trajectory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The steps of the matrices D, alike for every rule, and how correlated the states still are."""
        if self.network.recurrent.decorrelate is None:
            return {}, {}
        features = trajectory.valid_features()
        loss = mean_decorrelation_loss(features)
        return self.network.decorrelation_steps(features), {"decorrelation_loss": loss}

    @torch.no_grad()
    def accumulate(self, estimate: Estimate) -> None:
        """Add the estimate to `.grad`, as `loss.backward()` would, and its steps to their buffers.

        Frozen parameters are left alone.

        The estimate stays what it was, whatever is done to `.grad` afterwards (clipping, zeroing).
        """
        for name, parameter in self.network.named_parameters():
            gradient = estimate.gradients.get(name)
            if gradient is None or not parameter.requires_grad:
                continue
            if parameter.grad is None:
                parameter.grad = gradient.clone()
            else:
                parameter.grad += gradient
        self.take_steps(estimate)

    @torch.no_grad()
    def take_steps(self, estimate: Estimate) -> None:
        """Let learn what learns by a law of its own: `Estimate.steps`."""
        for name, step in estimate.steps.items():
            own = name.removeprefix("network.")
            (self if own == name else self.network).get_buffer(own).add_(step)

    def forward(
        self,
        inputs: Tensor | PackedSequence,
        targets: Tensor,
        lengths: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        initial: States | None = None,
    ) -> Tensor:
        """`estimate`, then `accumulate`: fills `.grad` and returns the loss, a scalar."""
        estimate = self.estimate(inputs, targets, lengths, mask=mask, initial=initial)
        self.accumulate(estimate)
        return estimate.loss

    @torch.no_grad()
    def evaluate(
        self,
        inputs: Tensor | PackedSequence,
        targets: Tensor,
        lengths: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        initial: States | None = None,
    ) -> Evaluation:
        """Loss, outputs and accuracy of the network as it is: no dropout, nothing is changed."""
        batch = self._batch(inputs, targets, lengths, mask, initial)
        with evaluation_mode(self.network), own_precision(batch.inputs):
            forward = self.forward_pass(batch, None)
        return Evaluation(
            forward.loss,
            batch.surface(forward.outputs.detach()),
            forward.accuracy,
            batch.count,
            forward.trajectory.final_states(),
        )

    def _batch(
        self,
        inputs: Tensor | PackedSequence,
        targets: Tensor,
        lengths: Tensor | None,
        mask: Tensor | None,
        initial: States | None,
    ) -> Batch:
        return make_batch(self.network, self.loss, self.at, inputs, targets, lengths, mask, initial)

    def check_placement(self) -> None:
        """The rule's tensors are where the network's are, in the same type."""
        buffers = (
            self.buffers() if self._modules else self._buffers.values()
        )  # no walk for most rules
        weight = self.network.recurrent.weights(0, 0).hh
        place = weight.dtype, weight.device
        wrong = [b for b in buffers if b is not None and (b.dtype, b.device) != place]
        for name, buffer in self.named_buffers() if wrong else ():
            if (buffer.dtype, buffer.device) != place:
                got = f"{name} in {buffer.dtype} on {buffer.device}"
                expected = f"{weight.dtype} on {weight.device}, as the network"
                remedy = (
                    f"Use rule.to({str(weight.device)!r}, {weight.dtype}) after moving the network."
                )
                raise_problems([Problem("rule", got, expected, remedy)])

    def local_steps(self, batch: Batch, forward: ForwardPass) -> dict[str, Tensor]:
        """What the buffers that learn by a law of their own add: `Estimate.steps`."""
        return {}

    # --- online -----------------------------------------------------------------------------

    def stream(self, batch_size: int) -> Session:
        """A session that learns online, from `batch_size` sequences side by side, step by step.

        Raises:
            UnsupportedError: for a rule or network that needs the whole sequence, or a loss at the last step.
        """
        if not self.spec.online:
            raise UnsupportedError(
                f"stream: got the rule {self.spec.name!r}, expected one that learns online. Use TBPTT, "
                "RFLO or a perturbation rule."
            )
        if self.at != "every":
            raise UnsupportedError(
                f"stream: got at={self.at!r}, expected 'every': a stream has no last step. "
                "Use at='every', and a mask where a step has no target."
            )
        if self.network.directions > 1:
            raise UnsupportedError(
                "stream: got a bidirectional network, expected one direction: the other one begins at the "
                "end of the sequence. Use whole sequences."
            )
        raise_problems([positive("batch_size", batch_size)])
        return Session(self, batch_size)

    def begin(self, batch_size: int) -> Memory:
        """What a stream of the rule carries, at its start."""
        raise NotImplementedError

    def advance(self, memory: Memory, batch: Batch, key: int, step: int) -> tuple[Estimate, Memory]:
        """One step of a stream: `batch` with t = 1; noise is a function of `key` and `step`.

        The estimate is made by `estimate_from`, which lets D learn too.
        """
        raise NotImplementedError

    def fused(self, memory: Memory) -> tuple[OnlineSettings, OnlineState] | None:
        """How `kernels.online` makes this rule's steps, its state being that of `memory`; None if it cannot.

        The rule says kind, sigma and feedback; the rest of the settings is filled in.
        """
        return None

    def after_fused(self, memory: Memory, state: OnlineState) -> None:
        """Put back into `memory` what `fused` gave a copy of."""

    # --- what rules are made of -------------------------------------------------------------

    def forward_pass(self, batch: Batch, generator: torch.Generator | None) -> ForwardPass:
        """One clean run with its losses and output errors; the generator draws dropout masks."""
        trajectory = self.network.unroll(batch.inputs, batch.lengths, batch.initial, generator)
        last = batch.at == "last"
        features = trajectory.last() if last else trajectory.outputs.flatten(0, 1)
        at_once = self._head(batch, trajectory, features)
        if at_once is not None:
            return at_once
        valid = None if last or trajectory.valid is None else trajectory.valid.flatten()
        features, outputs = read(self.network.readout, features, valid)
        values = outputs.detach()
        per_entry, errors = self.loss.losses_and_errors(values, batch.targets)
        return ForwardPass(
            trajectory,
            features,
            outputs,
            batch.scale_errors(errors),
            batch.mean(per_entry, batch.denominator),
            batch.accuracy(self.loss, values),
        )

    def _head(self, batch: Batch, trajectory: Trajectory, features: Tensor) -> ForwardPass | None:
        """All that follows the scan in one call, where that can be; else None."""
        small = self.small_head(batch, len(features))
        if small is None:
            return None
        loss, weight, bias = small
        return self.with_head(
            trajectory, features, kernels.head(loss, features, weight, bias, batch.targets)
        )

    def small_head(self, batch: Batch, rows: int) -> tuple[HeadLoss, Tensor, Tensor | None] | None:
        """The loss and the readout's parameters, if a kernel makes the head of so many rows.

        Few rows that all count, a loss that it knows, a linear readout.
        """
        readout, loss = self.network.readout, self.loss.known_to_kernels()
        if loss is None or batch.weights is not None or not is_linear(readout):
            return None
        weight, bias = readout._parameters["weight"], readout._parameters.get("bias")
        assert weight is not None
        return (loss, weight, bias) if rows * weight.numel() <= kernels.SMALL_HEAD else None

    def with_head(self, trajectory: Trajectory, features: Tensor, found: Head) -> ForwardPass:
        """A forward pass whose head was made at once."""
        gradients = {"weight": found.weight}
        if found.bias is not None:
            gradients["bias"] = found.bias
        return ForwardPass(
            trajectory,
            features,
            found.outputs,
            found.errors,
            found.loss,
            found.accuracy,
            gradients,
        )

    def readout_gradients(self, forward: ForwardPass) -> Gradients:
        """The readout's gradients, by the network's names for its parameters."""
        found = forward.readout_gradients
        if found is None:
            found = readout_gradients(
                self.network.readout, forward.features, forward.outputs, forward.errors
            )
        return {f"readout.{name}": gradient for name, gradient in found.items()}

    def readout_signal(self, forward: ForwardPass) -> Tensor:
        """The signal at the top layer's states h (n, h·directions): the error carried back to them.

        Through the readout, and through Dᵀ where the network decorrelates.
        """
        signal = readout_signal(
            self.network.readout, forward.features, forward.outputs, forward.errors
        )
        return self.network.signal_at_states(signal, self.network.num_layers - 1)

    def get_extra_state(self) -> Tensor:
        """The generator's state, a uint8 tensor."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state)
