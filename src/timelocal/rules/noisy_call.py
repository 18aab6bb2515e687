"""Perturbations of whole sequences in one native call: parallel runs, noise generated where it is used."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from timelocal.cells import LayerTrajectory
from timelocal.kernels import native_perturbed, native_stream
from timelocal.kernels.native_perturbed import NoisyCall, PerturbedCall, PerturbedParameter
from timelocal.kernels.native_stream import GroupCall, LayerCall, StreamCall
from timelocal.losses import Loss
from timelocal.network import (
    Network,
    Recurrent,
    Trajectory,
    masked,
    parameter_name,
    valid_steps,
)
from timelocal.rules import staged
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.typing import Gradients, States


def perturbed(
    network: Network,
    loss: Loss,
    batch: Batch,
    key: int,
    write: Callable[[NoisyCall], None],
    decay: float | None,
) -> tuple[ForwardPass, Gradients] | None:
    """The clean run of a batch and its gradients by perturbation; None if no native call supports it.

    write: writes into the call how noise is made and credited. decay: λ of the credit, or None if all losses
    are credited to every step.
    """
    if not _serves(network, loss, batch):
        return None
    recurrent, readout, inputs = network.recurrent, network.readout, batch.inputs
    assert isinstance(readout, nn.Linear)
    steps, sequences, _ = inputs.shape
    address = _Addresses()
    layers = recurrent.num_layers
    parameters = (PerturbedParameter * (4 * layers + 2))()
    call = PerturbedCall(
        threads=torch.get_num_threads(), steps=steps, batch=sequences, at_last=batch.at == "last",
        credit_is_global=decay is None, denominator=batch.denominator, key=key & (2**64 - 1),
        parameters=ctypes.addressof(parameters),
    )  # fmt: skip
    staged.write_network(call, network, loss)
    write(call)
    gradients = {}
    for name, parameter in network.named_parameters():
        gradients[name] = torch.empty_like(parameter, memory_format=torch.contiguous_format)
        own = parameters[_place(name, layers)]
        own.value, own.gradient = address(parameter), gradients[name].data_ptr()
    if batch.lengths is not None:
        inputs = masked(inputs, valid_steps(batch.lengths, steps, inputs.device))
    call.x, call.y, call.weights = address(inputs), address(batch.targets), address(batch.weights)
    call.lengths = address(batch.lengths)
    by_class = staged.write_loss(call, loss, inputs)
    count, hidden = len(recurrent.cell.state_names), recurrent.hidden_size
    initial = () if batch.initial is None else batch.initial
    initial = (initial,) if isinstance(initial, Tensor) else initial
    final = [inputs.new_empty(layers, sequences, hidden) for _ in range(count)]
    call.h0, call.c0 = (*map(address, initial), 0, 0)[:2]
    call.h, call.c = (*map(address, final), 0)[:2]
    entries = (sequences,) if batch.at == "last" else (steps * sequences,)
    losses, outputs = inputs.new_empty(entries), inputs.new_empty(*entries, call.outputs)
    call.losses, call.out = losses.data_ptr(), outputs.data_ptr()
    native_perturbed.perturbed(call)
    del by_class  # until here
    trajectory = _ended(recurrent, inputs, tuple(final))
    nothing = outputs.new_empty(0)  # the kernel keeps neither features nor errors
    forward = ForwardPass(
        batch,
        trajectory,
        nothing,
        outputs,
        nothing,
        batch.mean(losses),
        batch.accuracy(loss, outputs),
    )
    return forward, gradients


class _Addresses:
    """Addresses of tensors, contiguous and kept as long as this is; 0 of None."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def __call__(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        self._kept.append(tensor.contiguous())
        return self._kept[-1].data_ptr()


def _serves(network: Network, loss: Loss, batch: Batch) -> bool:
    plain = not batch.wanted and not torch.compiler.is_compiling()
    plain = plain and batch.at != "mean"  # its loss is known at the end
    plain = (
        plain and network.recurrent.decorrelate is None
    )  # the call does not return the states from which D learns
    return plain and staged.serves(network, loss) and network.recurrent.is_as_declared(batch.inputs)


@cache
def _place(name: str, layers: int) -> int:
    """Where a call has the parameter of this name: `weight_ih_l0`, … of every layer, then the readout's."""
    if name in _READOUT:
        return 4 * layers + _READOUT.index(name)
    kind, _, layer = name.removeprefix("recurrent.").rpartition("_l")
    return 4 * int(layer) + native_stream.KINDS.index(kind)


_READOUT = ("readout.weight", "readout.bias")


def summed(
    network: Network,
    loss: Loss,
    batch: Batch,
    key: int,
    write: Callable[[StreamCall], None],
    runs: int,
) -> tuple[ForwardPass, Gradients] | None:
    """The clean run and the sum over time of all gradients by local credit; None if not supported natively.

    This is the call of a stream in which nothing is updated: the gradients of all steps add up. write:
    writes into it how noise is credited. runs: clean and noisy ones, of each sequence.
    """
    recurrent, readout, inputs = network.recurrent, network.readout, batch.inputs
    if batch.lengths is not None or not _serves(network, loss, batch):
        return None
    assert isinstance(readout, nn.Linear)
    steps, sequences, _ = inputs.shape
    address = _Addresses()
    gradients = {own: torch.zeros_like(p, memory_format=torch.contiguous_format)
                 for own, p in network.named_parameters()}  # fmt: skip
    layers, group = (LayerCall * recurrent.num_layers)(), GroupCall()
    call = StreamCall(
        steps=steps, batch=sequences, carries=True, key=key & (2**64 - 1),
        optimizer=native_stream.OPTIMIZERS.index("none"), denominator=float(batch.denominator),
        layer=ctypes.addressof(layers), groups=ctypes.addressof(group),
    )  # fmt: skip
    staged.write_network(call, network, loss)
    write(call)
    parameters = sum(own.numel() for own in gradients.values())
    call.threads = native_stream.threads_for(parameters, sequences * runs)
    for layer, own in enumerate(layers):
        for place, kind in enumerate(native_stream.KINDS[: 4 if recurrent.bias else 2]):
            name_here = parameter_name(kind, layer, 0)
            parameter = recurrent.get_parameter(name_here)
            own.parameters[place].value = address(parameter)
            own.parameters[place].first = gradients[f"recurrent.{name_here}"].data_ptr()
    call.readout.value = address(readout.weight)
    call.readout.first = gradients["readout.weight"].data_ptr()
    call.readout_bias.value = address(readout.bias)
    if readout.bias is not None:
        call.readout_bias.first = gradients["readout.bias"].data_ptr()
    call.x = address(inputs)
    call.y, call.mask = _entries(batch, address)
    by_class = staged.write_loss(call, loss, inputs)
    states = _all_states(network, batch, runs)
    call.states = address(states)
    losses, made = inputs.new_empty(steps), inputs.new_empty(steps, sequences, call.outputs)
    call.losses, call.out = losses.data_ptr(), made.data_ptr()
    native_stream.stream(call)
    del by_class  # until here
    if call.steps < steps:  # it has met numbers that are not finite: in its parts they are seen
        return None
    trajectory = _ended(recurrent, inputs, unpacked(states[:, :1]))
    outputs = made[-1] if batch.at == "last" else made.flatten(0, 1)
    nothing = outputs.new_empty(0)  # the kernel keeps neither features nor errors
    forward = ForwardPass(
        batch, trajectory, nothing, outputs, nothing, losses.sum(), batch.accuracy(loss, outputs)
    )
    return forward, gradients


def _entries(batch: Batch, address: _Addresses) -> tuple[int, int]:
    """Addresses of the targets and of the mask of every step: at a last step the others count nothing."""
    steps, sequences, _ = batch.inputs.shape
    if batch.at == "every":
        return address(batch.targets), address(batch.weights)
    targets = batch.targets.new_zeros(steps, *batch.targets.shape)
    targets[-1] = batch.targets
    mask = batch.inputs.new_zeros(steps, sequences)
    mask[-1] = 1.0 if batch.weights is None else batch.weights
    return address(targets), address(mask)


def _all_states(network: Network, batch: Batch, copies: int) -> Tensor:
    """Where every run begins, (b, copies, states, l, h)."""
    if batch.initial is None:
        return no_states(network, batch.inputs.shape[1], copies)
    initial: States = batch.initial
    return packed(initial).expand(-1, copies, -1, -1, -1).contiguous()


def _ended(recurrent: Recurrent, inputs: Tensor, states: States) -> Trajectory:
    """What is left of a run that was not kept: one of no steps, from its last states (l, b, h)."""
    each = (states,) if isinstance(states, Tensor) else states
    before, sequences, hidden = inputs[:0], inputs.shape[1], recurrent.hidden_size
    gates = inputs.new_empty(0, sequences, len(recurrent.cell.gate_names) * hidden)
    layers = tuple(
        (LayerTrajectory(before, tuple(state[layer : layer + 1] for state in each), gates),)
        for layer in range(recurrent.num_layers)
    )
    return Trajectory(layers, inputs.new_empty(0, sequences, hidden), None, None, ())
