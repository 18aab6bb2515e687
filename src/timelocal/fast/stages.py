"""A chunk of a stream in one native call of four stages: forward, head, credit, optimizer.

`CREDITS` is the table of rules: how each hears of the loss, told to the kernel. A rule that is not in it, by
its exact type, takes the loop; so does any cell, readout, loss or optimizer that the kernels do not know.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, Module
from torch.optim import Optimizer

from timelocal.fast import optimizers
from timelocal.feedback import FIXED
from timelocal.kernels import native_stream
from timelocal.kernels.native_stream import GroupCall, LayerCall, ParameterCall, StreamCall
from timelocal.network import parameter_name
from timelocal.network.hooks import has_forward_hooks
from timelocal.rules import ANP, DFA, NP, RFLO, TBPTT, WP, EProp, Rule, SnAp1, staged
from timelocal.rules.eligibility import trace_name
from timelocal.rules.feedback_rule import EXACT, FeedbackRule
from timelocal.rules.perturbation import NodeRule
from timelocal.rules.weight_perturbation import write_weights
from timelocal.typing import Memory

_WIDEST_READOUT = 1024

_Write = Callable[[Any, StreamCall, Any], bool]
"""Writes how a rule credits to a call and its layers; False where the kernel does not."""


def _tbptt(rule: TBPTT, call: StreamCall, layers: Any) -> bool:
    call.credit = native_stream.CREDITS.index("exact")
    return rule.k == 1


def _feedback(rule: FeedbackRule, call: StreamCall, layers: Any) -> bool:
    exact = rule.feedback == EXACT or (rule.feedback == "symmetric" and call.layers == 1)
    if rule.normalize is not None or rule.feedback_per != "layer":
        return False
    if not (exact or rule.feedback in FIXED):
        return False
    call.credit = native_stream.CREDITS.index("exact" if exact else "feedback")
    call.trace = native_stream.TRACES.index(rule.trace if rule.carries_traces else "none")
    for layer, own in enumerate(layers):
        if exact:
            continue
        matrix = rule.feedback_matrix(layer)
        if not matrix.is_contiguous() or matrix.shape != (call.hidden, call.outputs):
            return False
        if matrix.element_size() != call.bytes or not matrix.is_cpu:
            return False
        own.feedback = matrix.data_ptr()
    return True


def _nodes(rule: NodeRule, call: StreamCall, layers: Any) -> bool:
    credit = rule.native_credit()
    if credit is None or rule.decay is None:
        return False
    credit(call)
    return True


def _weights(rule: WP, call: StreamCall, layers: Any) -> bool:
    write_weights(rule, call)
    return rule.decay == 0 and rule.redraw == "step"


CREDITS: dict[type[Rule], _Write] = {
    TBPTT: _tbptt,
    DFA: _feedback,
    RFLO: _feedback,
    EProp: _feedback,
    SnAp1: _feedback,
    NP: _nodes,
    ANP: _nodes,
    WP: _weights,
}
"""By the rule's exact type: a variation on a rule computes something else."""


def _identities(kept: Iterable[Mapping[str, object] | None]) -> list[int]:
    return [id(value) for each in kept if each for value in each.values()]


class Program:
    """The native call of one stream: what it says is written anew each time, from where everything now lies.

    Weights and moments are the tensors of the network and of the optimizer. What kind of network, loss and
    optimizer they are is looked at again only where one of them is another one.
    """

    def __init__(self, rule: Rule, optimizer: Optimizer, batch_size: int) -> None:
        self.rule, self.optimizer = rule, optimizer
        self.call = StreamCall(batch=batch_size)
        self._known: tuple[object, ...] | None = None
        self._fits = False
        self._told: tuple[object, ...] | None = None
        self._carried: list[Tensor] = []

    def is_served(self) -> bool:
        """Whether the kernels know this rule, cell, readout, loss and optimizer; writes all but addresses."""
        network, optimizer = self.rule.network, self.optimizer
        recurrent, readout, groups = network.recurrent, network.readout, optimizer.param_groups
        plain = type(readout) is Linear and not has_forward_hooks(readout)
        known = (
            recurrent, recurrent.cell, recurrent.decorrelate, recurrent.num_layers, self.rule.loss,
            recurrent.dropout and network.training, readout,
            plain and (readout.weight.shape, getattr(readout.bias, "shape", None)),
            optimizers.is_hooked(optimizer), *map(optimizers.options, groups),
            [id(parameter) for group in groups for parameter in group["params"]],
        )  # fmt: skip
        if known != self._known:
            self._known, self._fits, self._told = known, self._check(), None
        return self._fits and CREDITS[type(self.rule)](self.rule, self.call, self.layers)

    def _check(self) -> bool:
        rule, network, call = self.rule, self.rule.network, self.call
        recurrent, readout = network.recurrent, network.readout
        self.layers = (LayerCall * recurrent.num_layers)()
        self.groups = (GroupCall * len(self.optimizer.param_groups))()
        call.layer, call.groups = ctypes.addressof(self.layers), ctypes.addressof(self.groups)
        fits = (
            type(rule) in CREDITS
            and staged.serves(network, rule.loss)
            and network.output_size <= _WIDEST_READOUT
        )
        made = optimizers.native_of(self.optimizer, network.parameters())
        if not fits or made is None:
            return False
        self.native, self.dtype, self.is_written = made, recurrent.like.dtype, False
        self.places: list[tuple[ParameterCall, Module, str]] = [
            (own.parameters[kind], recurrent, parameter_name(name, layer, 0))
            for layer, own in enumerate(self.layers)
            for kind, name in enumerate(native_stream.KINDS)
            if recurrent.bias or kind < 2
        ]
        self.places.append((call.readout, readout, "weight"))
        if readout.bias is not None:
            self.places.append((call.readout_bias, readout, "bias"))
        _, self.modules, self.names = zip(*self.places, strict=True)
        self.number = {
            id(parameter): number
            for number, group in enumerate(self.optimizer.param_groups)
            for parameter in group["params"]
        }
        staged.write_network(call, network, rule.loss)
        call.optimizer = native_stream.OPTIMIZERS.index(made.kind)
        call.optimizer_decouples = optimizers.decouples(self.optimizer)
        call.directions, call.carries = 1, True
        return True

    def has_begun(self) -> bool:
        """Whether the optimizer has made its first step, which makes what it keeps; writes all addresses."""
        groups, state = self.optimizer.param_groups, self.optimizer.state
        for own, group in zip(self.groups, groups, strict=True):
            optimizers.write_group(own, group)
        if self.is_written and self._is_where_it_was():
            return True
        self.is_written = False
        self.written: list[Tensor] = []
        self.parameters = [getattr(module, name) for _, module, name in self.places]
        if not self.rule.network.recurrent.is_as_declared(self.parameters[0]):
            return False
        self.kept = [state.get(parameter) for parameter in self.parameters]
        for (call, _, _), parameter, own in zip(
            self.places, self.parameters, self.kept, strict=True
        ):
            laid_out = parameter.is_cpu and parameter.is_contiguous()
            if parameter.dtype is not self.dtype or not laid_out:
                return False
            call.value, call.group = parameter.data_ptr(), -1
            number = self.number.get(id(parameter))
            if number is None or not parameter.requires_grad:
                continue
            kept = optimizers.moments(self.native, groups[number], own or {}, parameter)
            if kept is None:
                return False
            call.group = number
            call.first, call.second, call.step = (
                0 if tensor is None else tensor.data_ptr() for tensor in kept
            )
            self.written.append(parameter)
            self.written += [tensor for tensor in kept if tensor is not None]
        self.learn = [parameter.requires_grad for parameter in self.parameters]
        self.identities = _identities(self.kept)
        self.tensors = list({id(one): one for one in (*self.written, *self.parameters)}.values())
        self.addresses = [tensor.data_ptr() for tensor in self.tensors]
        self.is_written = True
        return True

    def _is_where_it_was(self) -> bool:
        """Whether the tensors whose addresses `has_begun` wrote are the same, and lie where they did."""
        found = list(map(getattr, self.modules, self.names))
        kept = list(map(self.optimizer.state.get, found))
        return (
            all(map(is_, found, self.parameters))
            and all(map(is_, kept, self.kept))
            and [one.requires_grad for one in found] == self.learn
            and _identities(kept) == self.identities
            and [one.data_ptr() for one in self.tensors] == self.addresses
            and all(map(Tensor.is_contiguous, found))
        )

    def carries(self, memory: Memory, sequences: int) -> bool:
        """Whether `memory` is what the kernel will read and write, after `is_served`: it looks at no size."""
        carried, call = self._carried, self.call
        told = call.credit, call.trace, call.directions, call.antithetic, call.carries
        same = told == self._told and len(memory) == len(carried)
        if same and all(map(is_, memory.values(), carried)):
            return True
        fresh = self.rule.begin(1)
        forms = {name: (own.dtype, own.shape[1:]) for name, own in fresh.items()}
        self._told, self._carried = None, list(memory.values())
        if forms != {name: (own.dtype, own.shape[1:]) for name, own in memory.items()}:
            return False
        if any(len(own) != sequences or not own.is_cpu for own in self._carried):
            return False
        self._told = told
        return True

    def run(
        self,
        memory: Memory,
        inputs: Tensor,
        targets: Tensor | None,
        mask: Tensor | None,
        key: int,
        first_step: int,
    ) -> tuple[Tensor, Tensor]:
        """Losses (t,) and outputs (t, b, o) of inputs (t, b, i), after `is_served` and `has_begun`.

        targets (t, b) or (t, b, o), None where the mask is 0 throughout; mask (t, b) or None. Weights,
        moments and memory are changed in place. Of fewer steps where the next one would leave numbers that
        are not finite.

        One step comes without the first axis: inputs (b, i), loss (), outputs (b, o).
        """
        call = self.call
        inputs = inputs.contiguous()
        *steps, sequences, _ = inputs.shape
        losses = inputs.new_empty(steps)
        outputs = inputs.new_empty(*steps, sequences, call.outputs)
        if targets is not None:
            targets = targets.contiguous()
        weights = mask if mask is None else mask.to(inputs.dtype).contiguous()
        by_class = staged.write_loss(call, self.rule.loss, inputs)
        runs = 1 + call.directions * (2 if call.antithetic else 1)
        call.threads = native_stream.threads_for(self.parameters, sequences * runs)
        call.steps, call.batch, call.peeks = steps[0] if steps else 1, sequences, False
        call.key, call.first_step = key & (2**64 - 1), first_step
        call.x, call.y = inputs.data_ptr(), 0 if targets is None else targets.data_ptr()
        call.mask = 0 if weights is None else weights.data_ptr()
        call.losses, call.out = losses.data_ptr(), outputs.data_ptr()
        self._write_memory(memory)
        native_stream.stream(call)
        del by_class  # until here
        torch.autograd.graph.increment_version(self.written)
        if call.steps < (steps[0] if steps else 1):
            return losses.view(-1)[: call.steps], outputs.view(-1, sequences, call.outputs)[
                : call.steps
            ]
        return losses, outputs

    def peek(self, memory: Memory, inputs: Tensor) -> Tensor:
        """Outputs (b, o) of the clean network at one more step (b, i), after `is_served` and `has_begun`.

        Nothing is changed.
        """
        call, inputs = self.call, inputs.contiguous()
        outputs = inputs.new_empty(len(inputs), call.outputs)
        call.steps, call.batch, call.peeks = 1, len(inputs), True
        call.threads = native_stream.threads_for(self.parameters, len(inputs))
        call.x, call.out = inputs.data_ptr(), outputs.data_ptr()
        self._write_memory(memory)
        native_stream.stream(call)
        return outputs

    def _write_memory(self, memory: Memory) -> None:
        call, network = self.call, self.rule.network
        for name, tensor in memory.items():
            if not tensor.is_contiguous():
                memory[name] = tensor.contiguous()
        if "clean" in memory:
            call.states, call.noisy_states = memory["clean"].data_ptr(), memory["noisy"].data_ptr()
            return
        call.states = memory["states"].data_ptr()
        if len(memory) == 1:
            return
        for layer, own in enumerate(self.layers):
            for kind, name in enumerate(native_stream.KINDS):
                for state, letter in enumerate(network.cell.state_names):
                    trace = memory.get(trace_name(letter, name, layer))
                    own.traces[state][kind] = 0 if trace is None else trace.data_ptr()
                credit = memory.get(f"trace_recurrent.{parameter_name(name, layer, 0)}")
                own.credits[kind] = 0 if credit is None else credit.data_ptr()
        for place, name in enumerate(("weight", "bias")):
            credit = memory.get(f"trace_readout.{name}")
            call.readout_credits[place] = 0 if credit is None else credit.data_ptr()
