"""A chunk of a stream in one native call of four stages: forward, head, credit, optimizer.

`CREDITS` is the table of rules: a function for each that writes its credit into a call. A rule whose exact
type is not in it uses the Python loop, as does any cell, readout, loss or optimizer that the kernels lack.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from timelocal.fast import held, optimizers
from timelocal.fast.held import Held
from timelocal.feedback import FIXED
from timelocal.kernels import native_elementwise, native_stream
from timelocal.kernels.native_stream import GroupCall, LayerCall, ParameterCall, StreamCall
from timelocal.network import as_mlp, parameter_name
from timelocal.rules import ANP, DFA, NP, RFLO, RTRL, TBPTT, WP, EProp, Rule, SnAp1, staged
from timelocal.rules.eligibility import trace_name
from timelocal.rules.feedback_rule import EXACT, FeedbackRule
from timelocal.rules.perturbation import NodeRule
from timelocal.rules.weight_perturbation import write_weights
from timelocal.typing import Memory

_WIDEST_READOUT = 1024

_Write = Callable[[Any, StreamCall, Any], bool]
"""Writes a rule's credit into a call and its layers; False if the kernel does not support it."""


def _tbptt(rule: TBPTT, call: StreamCall, layers: Any) -> bool:
    call.credit = native_stream.CREDITS.index("exact")
    return rule.k == 1


def _feedback(rule: FeedbackRule, call: StreamCall, layers: Any) -> bool:
    exact = rule.feedback == EXACT or (rule.feedback == "symmetric" and call.layers == 1)
    if rule.normalize is not None or rule.slope is not None:
        return False
    if rule.feedback_per != "layer" or rule.trace == "stationary":
        return False
    if not (exact or rule.feedback in FIXED):
        return False
    call.credit = native_stream.CREDITS.index("exact" if exact else "feedback")
    call.trace = native_stream.TRACES.index(rule.trace if rule.carries_traces else "none")
    for layer, own in enumerate(layers):
        if exact:
            continue
        matrix = rule.feedback_matrix(layer)
        if not matrix.is_contiguous() or matrix.shape != (rule.network.features_size, call.outputs):
            return False
        if matrix.element_size() != call.bytes or not matrix.is_cpu:
            return False
        own.feedback = matrix.data_ptr()
    return True


def _rtrl(rule: RTRL, call: StreamCall, layers: Any) -> bool:
    """By the diagonal trace, which is complete for element-wise units."""
    call.credit = native_stream.CREDITS.index("exact")
    call.trace = native_stream.TRACES.index("diagonal")
    return rule.by_traces and call.cell >= native_stream.FIRST_UNITS


def _nodes(rule: NodeRule, call: StreamCall, layers: Any) -> bool:
    credit = rule.native_credit()
    others = call.cell >= native_stream.FIRST_UNITS or call.readout_hidden
    if credit is None or rule.decay is None or others:
        return False
    credit(call)
    return True


def _weights(rule: WP, call: StreamCall, layers: Any) -> bool:
    write_weights(rule, call)
    others = call.cell >= native_stream.FIRST_UNITS or call.readout_hidden
    drawn = rule.redraw == "step" and rule.noise == "gaussian"
    return rule.decay == 0 and drawn and not others


CREDITS: dict[type[Rule], _Write] = {
    TBPTT: _tbptt,
    DFA: _feedback,
    RFLO: _feedback,
    EProp: _feedback,
    SnAp1: _feedback,
    RTRL: _rtrl,
    NP: _nodes,
    ANP: _nodes,
    WP: _weights,
}
"""By exact type: a subclass of a rule may compute something else."""


class Program:
    """The native call of one stream, rewritten whenever something that it refers to was replaced or moved.

    Weights and moments are the tensors of the network and of the optimizer.
    """

    def __init__(self, rule: Rule, optimizer: Optimizer, clip: float | None = None) -> None:
        self.rule, self.optimizer, self.clip = rule, optimizer, clip
        self.call = StreamCall()
        self._is_served = False
        self._held: Held | None = None
        self._options: Held | None = None
        self._decisive: list[tuple[object, ...]] = []
        self._carried: tuple[Held, Memory, int] | None = None

    def __reduce__(self) -> tuple[object, ...]:  # a copy writes its own addresses
        return Program, (self.rule, self.optimizer, self.clip)

    def is_ready(self, memory: Memory, sequences: int) -> bool:
        """Whether the call can run the next steps of `sequences` sequences; it then lacks only the data."""
        if not (self._held and self._held.is_same() and self._follows_options()):
            if type(self.rule) not in CREDITS or type(self.optimizer) not in optimizers.NATIVE:
                return False
            self._carried, self._is_served = None, self._write()
            self._remember()
        return self._is_served and self._carries(memory, sequences)

    def _remember(self) -> None:
        """Record everything whose replacement requires rewriting the call."""
        rule, optimizer, groups = self.rule, self.optimizer, self.optimizer.param_groups
        self._decisive = list(map(optimizers.options, groups))
        self._options = Held(groups)
        self._held = Held(
            (*held.of_modules(rule), *held.of_optimizer(optimizer), *optimizers.hooks(optimizer)),
            (*rule.parameters(), *rule.buffers()),
        )

    def _follows_options(self) -> bool:
        """Write the present options of the groups; False if the call must be rewritten for them."""
        groups = self.optimizer.param_groups
        kept = self._options
        if kept and kept.is_same() and not kept.tensors:  # a tensor may have changed in place
            return True
        if list(map(optimizers.options, groups)) != self._decisive:
            return False
        self._options = Held(groups)
        if self._is_served:
            self._write_groups()
        return True

    def _write_groups(self) -> None:
        for own, group in zip(self.groups, self.optimizer.param_groups, strict=True):
            optimizers.write_group(own, group)

    def _write(self) -> bool:
        """Write the whole call except memory and data; False if the kernels do not support it."""
        rule, network, call = self.rule, self.rule.network, self.call
        recurrent = network.recurrent
        native = optimizers.native_of(self.optimizer, network.parameters())
        if native is None or not staged.serves(network, rule.loss, of_streams=True):
            return False
        if network.output_size > _WIDEST_READOUT:
            return False
        self.layers = (LayerCall * recurrent.num_layers)()
        self.groups = (GroupCall * len(self.optimizer.param_groups))()
        call.layer, call.groups = ctypes.addressof(self.layers), ctypes.addressof(self.groups)
        call.readout = call.readout_bias = call.inner = call.inner_bias = ParameterCall()
        staged.write_network(call, network, rule.loss)
        call.squash = 0
        if call.cell >= native_stream.FIRST_UNITS:
            _, call.squash = native_elementwise.kind_of(network.cell)
        call.optimizer = native_stream.OPTIMIZERS.index(native.kind)
        call.optimizer_decouples = optimizers.decouples(self.optimizer)
        call.directions, call.carries, call.clip = 1, True, self.clip or 0.0
        self._write_groups()
        if not (self._write_parameters(native) and self._write_decorrelation()):
            return False
        return CREDITS[type(rule)](rule, call, self.layers)

    def _write_parameters(self, native: optimizers.Native) -> bool:
        """Write the addresses of parameters and moments; False before the optimizer creates the moments."""
        groups, network = self.optimizer.param_groups, self.rule.network
        recurrent, readout = network.recurrent, network.readout
        number = {id(own): n for n, group in enumerate(groups) for own in group["params"]}
        places = [
            (
                own.parameters[native_stream.PLACES[name]],
                getattr(recurrent, parameter_name(name, layer, 0)),
            )
            for layer, own in enumerate(self.layers)
            for name in recurrent.parameter_kinds
        ]
        mlp = as_mlp(readout)
        last: Any = readout if mlp is None else mlp[1]
        places.append((self.call.readout, last.weight))
        if last.bias is not None:
            places.append((self.call.readout_bias, last.bias))
        self.call.readout_hidden = 0 if mlp is None else mlp[0].out_features
        if mlp is not None:
            places += [(self.call.inner, mlp[0].weight), (self.call.inner_bias, mlp[0].bias)]
        if not recurrent.is_as_declared(places[0][1]):
            return False
        self.written: list[Tensor] = []
        self.size = sum(parameter.numel() for _, parameter in places)
        for call, parameter in places:
            laid_out = parameter.is_cpu and parameter.is_contiguous()
            if parameter.dtype is not recurrent.like.dtype or not laid_out:
                return False
            call.value, call.group = parameter.data_ptr(), -1
            if id(parameter) not in number or not parameter.requires_grad:
                if self.clip is not None and parameter.requires_grad:
                    return False  # it counts in the norm
                continue
            call.group = number[id(parameter)]
            state = self.optimizer.state.get(parameter) or {}
            kept = optimizers.moments(native, groups[call.group], state, parameter)
            if kept is None:
                return False
            call.first, call.second, call.step = (
                0 if tensor is None else tensor.data_ptr() for tensor in kept
            )
            self.written += [own for own in (parameter, *kept) if own is not None]
        return True

    def _write_decorrelation(self) -> bool:
        """Write the address of D and its local update; False if the kernel cannot read its memory layout."""
        network, call = self.rule.network, self.call
        law, like = network.recurrent.decorrelate, network.recurrent.like
        learns = law is not None and network.training
        call.decorrelation_lr = law.lr if law is not None and learns else 0.0
        call.preserves_norm = law is not None and law.norm == "preserve"
        for own, name in zip(self.layers, network.recurrent.decorrelation_names(), strict=True):
            if law is None:
                continue
            matrix = network.recurrent.get_buffer(name)
            square = matrix.shape == (call.hidden, call.hidden) and matrix.is_contiguous()
            if not square or (matrix.dtype, matrix.device) != (like.dtype, like.device):
                return False
            own.decorrelation = matrix.data_ptr()
            self.written += [matrix] * learns
        return True

    def _carries(self, memory: Memory, sequences: int) -> bool:
        """Write the addresses of `memory`, if it has the form that the kernel assumes without checks."""
        if self._carried is not None:
            seen, own, rows = self._carried
            if own is memory and rows == sequences and seen.is_same():
                return True
        self._carried = None
        forms = {name: (own.dtype, own.shape[1:]) for name, own in self.rule.begin(1).items()}
        if forms != {name: (own.dtype, own.shape[1:]) for name, own in memory.items()}:
            return False
        if any(len(own) != sequences or not own.is_cpu for own in memory.values()):
            return False
        self._write_memory(memory)
        self._carried = Held([memory]), memory, sequences
        return True

    def run(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        mask: Tensor | None,
        key: int,
        first_step: int,
    ) -> tuple[Tensor, Tensor]:
        """Losses (t,) and outputs (t, b, o) of inputs (t, b, i), after `is_ready`.

        targets (t, b) or (t, b, o), None if the mask is 0 throughout; mask (t, b) or None. Weights, moments
        and memory are changed in place. The results have fewer steps if the next step would give numbers that
        are not finite.

        A single step has no time axis: inputs (b, i), loss (), outputs (b, o).
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
        call.threads = native_stream.threads_for(self.size, sequences * runs)
        call.steps, call.batch, call.peeks = steps[0] if steps else 1, sequences, False
        call.key, call.first_step = key & (2**64 - 1), first_step
        call.x, call.y = inputs.data_ptr(), 0 if targets is None else targets.data_ptr()
        call.mask = 0 if weights is None else weights.data_ptr()
        call.losses, call.out = losses.data_ptr(), outputs.data_ptr()
        native_stream.stream(call)
        del by_class  # until here
        torch.autograd.graph.increment_version(self.written)
        if call.steps < (steps[0] if steps else 1):
            return losses.view(-1)[: call.steps], outputs.view(-1, sequences, call.outputs)[
                : call.steps
            ]
        return losses, outputs

    def peek(self, inputs: Tensor) -> Tensor:
        """Outputs (b, o) of the clean network at one more step (b, i), after `is_ready`.

        Nothing is changed.
        """
        call, inputs = self.call, inputs.contiguous()
        sequences = inputs.shape[0]
        outputs = inputs.new_empty(sequences, call.outputs)
        call.steps, call.batch, call.peeks = 1, sequences, True
        call.threads = native_stream.threads_for(self.size, sequences)
        call.x, call.out = inputs.data_ptr(), outputs.data_ptr()
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
            for name in network.recurrent.parameter_kinds:
                kind = native_stream.PLACES[name]
                for state, letter in enumerate(network.cell.state_names):
                    trace = memory.get(trace_name(letter, name, layer))
                    own.traces[state][kind] = 0 if trace is None else trace.data_ptr()
                credit = memory.get(f"trace_recurrent.{parameter_name(name, layer, 0)}")
                own.credits[kind] = 0 if credit is None else credit.data_ptr()
        for place, name in enumerate(("weight", "bias")):
            credit = memory.get(f"trace_readout.{name}")
            call.readout_credits[place] = 0 if credit is None else credit.data_ptr()
