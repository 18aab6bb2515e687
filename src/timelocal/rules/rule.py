"""A learning rule: a loss module over a network whose `backward()` delivers the rule's estimate.

A rule owns its network: `.to()`, `.train()`, `state_dict()`, `deepcopy` and DDP reach everything through it.
The author of a rule writes `recurrent_gradients`, and `begin` and `advance` for streams; the rest is here.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from timelocal import deprecated, losses
from timelocal.cells import BlackBox
from timelocal.distributed import of_this_rank
from timelocal.errors import ArgumentError, Problem, UnsupportedError, described, raise_problems
from timelocal.inference import outside_inference_mode
from timelocal.losses import Loss
from timelocal.network import Network, evaluation_mode, mean_decorrelation_loss
from timelocal.precision import NARROW
from timelocal.rules.batch import (
    Batch,
    autocasts,
    check_batch,
    check_construction,
    inputs_batch,
    make_batch,
    own_precision,
)
from timelocal.rules.bridge import Promises, as_loss
from timelocal.rules.estimate import Estimate, Evaluation, ForwardPass, RuleSpec
from timelocal.rules.forward import forward_pass, read_outputs, readout_gradients
from timelocal.seeding import generator
from timelocal.typing import Gradients, LossFunction, Memory, Place, States


class Rule(nn.Module, ABC):
    """The base of all rules: argument checks, the forward pass, and how gradients reach the parameters.

    A user calls the rule as a loss, or `estimate`, `accumulate`, `evaluate`, `outputs`, `check`. An author
    declares `spec` and writes `recurrent_gradients`, and `begin` and `advance` for a rule that learns online.

    >>> import torch, timelocal as tl
    >>> rule = tl.DFA(tl.GRU(3, 8, output_size=2), seed=0)
    >>> loss = rule(torch.randn(4, 7, 3), torch.tensor([0, 1, 1, 0]))
    >>> loss.backward()  # fills .grad with the rule's estimate
    >>> rule.network.recurrent.weight_hh_l0.grad.shape
    torch.Size([24, 8])
    """

    spec: RuleSpec
    carries_back_to: ClassVar[tuple[str, ...]] = ()
    """Which of "inputs" and "initial" get a gradient when a batch asks for one."""
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
        """problems: problems that a subclass found with its own arguments, reported with the rest."""
        super().__init__()
        check_construction(
            network, loss, at, seed, self.spec.name, self.spec.bidirectional, problems
        )
        if isinstance(network.cell, BlackBox) and not self.spec.derivative_free:
            network.cell.refuse(self.spec.name)
        self.network = network
        self.loss = losses.resolve(loss)
        losses.warn_of_activation(network.readout, self.loss)
        self.at: Place = at
        self.seed = int(seed)
        self.generator = generator(seed, self.spec.name)
        self._promises = Promises()

    # --- what a user calls --------------------------------------------------------------------

    # A compiler breaks its graph here: what runs below is compiled already, and writes to buffers.
    @torch.compiler.disable(  # type: ignore[untyped-decorator]
        reason="a timelocal rule runs outside the graph; use fullgraph=False"
    )
    def forward(
        self,
        inputs: Tensor | PackedSequence,
        targets: Tensor,
        lengths: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        initial: States | None = None,
    ) -> Tensor:
        """The mean loss of a batch, a scalar; its `backward()` adds the rule's estimate to `.grad`.

        No graph is built through the network: one node stands for it. Inputs and `initial` that carry a
        graph get their gradient from rules that provide one. Buffers with their own learning rule (D,
        Kolen–Pollack feedback) are updated here, once, in training mode. Under `torch.no_grad()` this is the
        loss and nothing else.

        Arguments and errors: as for `estimate`. In addition,

        Raises:
            UnsupportedError: for inputs or states that carry a graph, by rules that give them no gradient.
        """
        self._check_placement()
        if isinstance(inputs, PackedSequence) and lengths is None:
            inputs, lengths = pad_packed_sequence(inputs, batch_first=self.network.batch_first)
        inputs, initial = self._in_own_type(inputs, initial)
        if not torch.is_grad_enabled():
            return self._loss_alone(inputs, targets, lengths, mask, initial)
        entering = _with_a_graph(inputs, initial)
        self._refuse_graphs(entering)
        if self.training:
            self._promises.warn_if_lost()
        with torch.no_grad():
            batch = self._batch(inputs, targets, lengths, mask, initial, tuple(entering))
            estimate = estimate_batch(self, batch)
            if self.training:
                update_locally(self, estimate)
        arguments, gradients = self._handed_out(estimate, entering)
        return as_loss(estimate.loss, arguments, gradients, self._promises)

    @outside_inference_mode
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
        """The rule's estimate of the gradient. Nothing is written.

        Args:
            inputs: (b, t, i), right-padded if unequal; or a `PackedSequence`.
            targets: (b,) or (b, t) class indices, or (b, o) or (b, t, o) real values. Targets of a whole
                sequence, (b,) or (b, o), are used at every step if the loss is taken at every step.
            lengths: (b,) integers, or None if every sequence is t long.
            mask: (b,) or (b, t), bool or non-negative weights of the entries in the mean.
            initial: h, or (h, c) for the LSTM, each (l·directions, b, h) as in torch.nn; zeros if None. No
                gradient flows into it.

        Raises:
            ArgumentError: for anything wrong with these, all at once.
        """
        self._check_placement()
        return estimate_batch(self, self._batch(inputs, targets, lengths, mask, initial))

    @outside_inference_mode
    @torch.no_grad()
    def accumulate(self, estimate: Estimate) -> None:
        """Add the estimate to `.grad`, as `loss.backward()` would, and its local updates to their buffers.

        For loops without autograd. Frozen parameters are left alone. The estimate is not affected by later
        changes of `.grad` (clipping, zeroing).
        """
        named = dict(self.network.named_parameters())
        raise_problems(_estimate_problems(estimate, named))
        for name, parameter in named.items():
            gradient = estimate.gradients.get(name)
            if gradient is None or not parameter.requires_grad:
                continue
            if parameter.grad is None:
                parameter.grad = gradient.clone()
            else:
                parameter.grad += gradient
        update_locally(self, estimate)

    @outside_inference_mode
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
        """Loss, outputs and accuracy of the current network: no dropout, nothing is changed."""
        return evaluate_batch(self, self._batch(inputs, targets, lengths, mask, initial))

    @torch.no_grad()
    def outputs(
        self,
        inputs: Tensor | PackedSequence,
        lengths: Tensor | None = None,
        *,
        initial: States | None = None,
    ) -> Tensor:
        """The outputs at the entries of the loss: (b, o) for the last step or the mean, else (b, t, o).

        Like `evaluate`, for data without targets: no dropout, nothing is changed. These are the network's
        raw outputs: `timelocal.Model.predict` returns class names, or values in their original units.

        >>> import torch, timelocal as tl
        >>> rule = tl.DFA(tl.GRU(3, 8, output_size=2))
        >>> rule.outputs(torch.zeros(5, 7, 3)).shape
        torch.Size([5, 2])
        """
        inputs, lengths = inputs_batch(self.network, inputs, lengths, initial)
        assert self.network.output_size  # refuses a readout that does not fit
        with evaluation_mode(self.network), own_precision(inputs):
            return read_outputs(self.network, self.at, inputs, lengths, initial)

    def check(
        self,
        inputs: Tensor,
        targets: Tensor,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Raise what `estimate` would raise for these arguments, except if nothing counts. Nothing is run."""
        self._check_placement()
        check_batch(self.network, self.loss, self.at, inputs, targets, lengths, mask)

    # --- what an author writes ----------------------------------------------------------------

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        """The gradients of the recurrent parameters by `network.named_parameters()` names.

        Most rules find node signals δ [l][d] (t, b, g) and return
        `self.network.parameter_gradients(forward.trajectory, deltas)`. The readout also learns, by the exact
        delta rule, unless its gradients are among those returned.

        A rule that names "inputs" or "initial" in `carries_back_to` adds their gradients by these names when
        `forward.batch.wanted` does: (t, b, i), and (states, l·directions, b, h).
        """
        raise NotImplementedError(f"{type(self).__name__} has no `recurrent_gradients`: write it")

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        """One forward pass, then `recurrent_gradients`. Rules that need other passes override this."""
        forward = self._forward_pass(batch)
        gradients = readout_gradients(self.network, forward)
        if self.network.recurrent.is_frozen and not batch.wanted:
            return forward, gradients | self.network.recurrent_zeros()
        return forward, gradients | self.recurrent_gradients(forward)

    def local_updates(self, forward: ForwardPass) -> dict[str, Tensor]:
        """The updates of the rule's own buffers: `Estimate.local_updates`."""
        return {}

    @property
    def learns_locally(self) -> bool:
        """Whether any buffer has its own learning rule: D, or those in `local_updates`."""
        own = type(self).local_updates is not Rule.local_updates
        return own or self.network.recurrent.decorrelate is not None

    def begin(self, batch_size: int) -> Memory:
        """What a stream of the rule carries, at its start: tensors with the batch first.

        The states of the network are called "states" and are `packed`, with a noise-free run first.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `begin`: write it to learn online")

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        """One step of a stream: `batch` with t = 1; noise is a function of `key` and `step`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no `advance`: write it to learn online"
        )

    # --- until the next release ---------------------------------------------------------------

    stream = deprecated.Method(
        "timelocal.training.session.Session", "tl.Stream(rule, optimizer, batch_size)"
    )
    learner = deprecated.Method(
        "timelocal.fast.repeated_estimate", "timelocal.fast.repeated_estimate(rule)"
    )
    predict = deprecated.Method("timelocal.rules.Rule.outputs", "rule.outputs(inputs, lengths)")
    take_steps = deprecated.Method(
        "timelocal.rules.update_locally", "timelocal.rules.update_locally(rule, estimate)"
    )

    # --- inside -------------------------------------------------------------------------------

    @outside_inference_mode
    @torch.no_grad()
    def _loss_alone(
        self,
        inputs: Tensor | PackedSequence,
        targets: Tensor,
        lengths: Tensor | None,
        mask: Tensor | None,
        initial: States | None,
    ) -> Tensor:
        batch = self._batch(inputs, targets, lengths, mask, initial)
        with own_precision(batch.inputs):
            return self._forward_pass(batch).loss

    def _forward_pass(self, batch: Batch) -> ForwardPass:
        return forward_pass(self.network, self.loss, batch, of_this_rank(self.generator))

    def _batch(
        self,
        inputs: Tensor | PackedSequence,
        targets: Tensor,
        lengths: Tensor | None,
        mask: Tensor | None,
        initial: States | None,
        wanted: tuple[str, ...] = (),
    ) -> Batch:
        return make_batch(
            self.network, self.loss, self.at, inputs, targets, lengths, mask, initial, wanted
        )

    def _in_own_type(
        self, inputs: Tensor | PackedSequence, initial: States | None
    ) -> tuple[Tensor | PackedSequence, States | None]:
        """Under autocast, what a module in front computed in half precision, in the network's type."""
        if not isinstance(inputs, Tensor) or not autocasts(inputs.device.type):
            return inputs, initial
        own = next(self.network.parameters()).dtype

        def cast(values: Tensor) -> Tensor:
            return values.to(own) if values.is_floating_point() else values

        if isinstance(initial, Tensor):
            initial = cast(initial)
        elif isinstance(initial, tuple | list):
            initial = tuple(cast(own) if isinstance(own, Tensor) else own for own in initial)
        return cast(inputs), initial

    def _refuse_graphs(self, entering: dict[str, tuple[Tensor, ...]]) -> None:
        for name in entering:
            if name not in self.carries_back_to:
                able = "BPTT, TBPTT or DFA" if name == "inputs" else "BPTT"
                raise UnsupportedError(
                    f"{name}: got a tensor with a graph (requires_grad), expected one without: "
                    f"{self.spec.name} gives {name} no gradient, and the module that produced them would "
                    f"never learn. Use {able}, or detach() to leave that module untrained."
                )

    def _handed_out(
        self, estimate: Estimate, entering: dict[str, tuple[Tensor, ...]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Who gets a gradient from `backward()`, and which."""
        arguments: list[Tensor] = []
        gradients: list[Tensor] = []
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                gradient = estimate.gradients.get(name)
                arguments.append(parameter)
                gradients.append(torch.zeros_like(parameter) if gradient is None else gradient)
        for name, tensors in entering.items():
            found = estimate.entering[name]
            arguments += tensors
            if name == "inputs":
                gradients.append(found.transpose(0, 1) if self.network.batch_first else found)
            else:
                gradients += found.unbind(0)
        return arguments, gradients

    def _check_placement(self) -> None:
        """The rule's own tensors are where the network's are, in the same type."""
        own = dict(self.named_buffers(recurse=False))
        if not own:
            return
        weight = self.network.recurrent.like
        place = weight.dtype, weight.device
        for name, buffer in own.items():
            if (buffer.dtype, buffer.device) != place:
                got = f"{name} in {buffer.dtype} on {buffer.device}"
                expected = f"{weight.dtype} on {weight.device}, as the network"
                remedy = "Move the rule, not its network: rule.to(...) moves both."
                raise_problems([Problem("rule", got, expected, remedy)])

    def get_extra_state(self) -> Tensor:
        """The generator's state, a uint8 tensor."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        try:
            self.generator.set_state(state)
        except (RuntimeError, TypeError) as error:
            problem = Problem("state", described(state), f"a generator's state ({error})")
            raise ArgumentError(str(problem)) from None

    def __getstate__(self) -> dict[str, Any]:
        """A generator cannot be sent to another process: its state can."""
        state = {**self.__dict__, "generator": self.generator.get_state()}
        del state["_promises"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.generator = torch.Generator()
        self.generator.set_state(state["generator"])
        self._promises = Promises()


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"


def _estimate_problems(estimate: object, parameters: Mapping[str, Tensor]) -> list[Problem | None]:
    """What is wrong with an estimate that is to join the `.grad` of these parameters."""
    if not isinstance(estimate, Estimate):
        expected = "an Estimate, as returned by rule.estimate(inputs, targets)"
        return [Problem("estimate", described(estimate), expected)]
    wrong = [
        (name, gradient)
        for name, gradient in estimate.gradients.items()
        if (own := parameters.get(name)) is None
        or (gradient.shape, gradient.dtype, gradient.device) != (own.shape, own.dtype, own.device)
    ]
    return [
        Problem(
            "estimate",
            f"a gradient of {name}, {_form(gradient)}",
            f"{_form(parameters[name])}" if name in parameters else "the names of this network",
            "Use the estimate of this rule.",
        )
        for name, gradient in wrong
    ]


def _with_a_graph(
    inputs: Tensor | PackedSequence, initial: States | None
) -> dict[str, tuple[Tensor, ...]]:
    """What enters the network with a graph of its own, by name."""
    found: dict[str, tuple[Tensor, ...]] = {}
    if isinstance(inputs, Tensor) and inputs.requires_grad:
        found["inputs"] = (inputs,)
    if initial is not None:
        states = initial if isinstance(initial, tuple | list) else (initial,)
        if any(isinstance(state, Tensor) and state.requires_grad for state in states):
            found["initial"] = tuple(states)
    return found


# --- for loops that have checked their data ---------------------------------------------------


@torch.no_grad()
def estimate_batch(rule: Rule, batch: Batch) -> Estimate:
    """`rule.estimate` for a batch that is already checked and arranged."""
    with own_precision(batch.inputs):
        return estimate_from(rule, *rule.compute(batch))


@torch.no_grad()
def evaluate_batch(rule: Rule, batch: Batch) -> Evaluation:
    """`rule.evaluate` for a batch that is already checked and arranged; 0 if nothing counts."""
    with evaluation_mode(rule.network), own_precision(batch.inputs):
        forward = forward_pass(rule.network, rule.loss, batch, None)
    return Evaluation(
        forward.loss,
        batch.surface(forward.outputs.detach()),
        forward.accuracy,
        batch.count,
        batch.weight,
        forward.trajectory.final_states(),
    )


def estimate_from(rule: Rule, forward: ForwardPass, gradients: Gradients) -> Estimate:
    """The results of `compute` or `advance`, in the user's layout.

    Under any rule, D is also updated, and a cell's activity penalty is added to the gradients.
    """
    network, batch = rule.network, forward.batch
    updates, diagnostics = rule.local_updates(forward), {}
    if network.recurrent.decorrelate is not None:
        features = forward.trajectory.valid_features()
        diagnostics["decorrelation_loss"] = mean_decorrelation_loss(features)
        steps = network.decorrelation_steps(features)
        updates |= {f"network.recurrent.{name}": step for name, step in steps.items()}
    if network.cell.penalised and not network.recurrent.is_frozen:
        diagnostics["activity_loss"], pushes = network.activity_gradients(forward.trajectory)
        gradients = gradients | {name: gradients[name] + push for name, push in pushes.items()}
    if forward.outputs.dtype in NARROW:  # sums that were kept in float32
        gradients = {name: own.to(forward.outputs.dtype) for name, own in gradients.items()}
    entering = {name: gradients.pop(name) for name in batch.wanted}
    return Estimate(
        forward.loss,
        gradients,
        batch.surface(forward.outputs.detach()),
        forward.accuracy,
        batch.count,
        batch.weight,
        forward.trajectory.final_states(),
        updates,
        diagnostics,
        entering,
    )


@torch.no_grad()
def update_locally(rule: Rule, estimate: Estimate) -> None:
    """Add `Estimate.local_updates` to their buffers; non-finite updates are skipped."""
    for name, update in estimate.local_updates.items():
        if bool(update.isfinite().all()):
            rule.get_buffer(name).add_(update)
