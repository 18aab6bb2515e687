"""Truncated backpropagation through time: each step's error, k steps back and no further."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from timelocal.arguments import whole_problem
from timelocal.cells import LayerTrajectory, at_states
from timelocal.losses import Loss
from timelocal.network import Network, Trajectory
from timelocal.rules.batch import Batch
from timelocal.rules.bptt import backpropagate, signal_at_inputs, signal_below
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.forward import readout_gradients, readout_signal
from timelocal.rules.rule import Rule
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.typing import Gradients, LossFunction, Memory, Place, State


class TBPTT(Rule):
    """Truncated backpropagation through time (Williams & Peng 1990), TBPTT(k).

    The error at step t is carried back exactly, down through the layers and through the last k steps,
    t − k + 1 … t; everything earlier is held constant:

        dW = Σ_t ∂ℓ_t/∂θ with h_{t-k} held constant

    k = 1 is the one-step gradient: weights are transported through readout and layers, not through time.
    k ≥ T is BPTT.

    Args:
        network: any timelocal network of one direction.
        k: the number of steps, at least 1.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        seed: of the dropout masks between layers, the only random draws.

    Raises:
        ArgumentError: for k < 1 and unknown names.
        UnsupportedError: for a bidirectional network.

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(3, 8, output_size=2)
    >>> rule = tl.TBPTT(network, 4, at="every")
    >>> rule(torch.randn(5, 10, 3), torch.randint(2, (5, 10))).backward()

    In a stream it keeps the last k − 1 steps and computes at each step the gradient of that step's loss; the
    stored steps are used as they ran, with the weights of that time. Every step then has k steps of past,
    unlike in training on chunks of length k, where the first step of a chunk has none. Exact for the
    truncated gradient, and biased for BPTT's. k = 1 in a stream is what the perturbation paper calls BP.
    """

    spec = RuleSpec(
        name="tbptt",
        summary="each step's error carried back exactly, k steps and no further",
        estimates="exact",
        target="tbptt1",
        online=True,
        autograd_free=True,
        weight_transport=True,
        references=(
            "R. J. Williams, J. Peng. An efficient gradient-based algorithm for on-line training of "
            "recurrent network trajectories. Neural Computation 2(4):490–501, 1990.",
        ),
    )

    def __init__(
        self,
        network: Network,
        k: int = 1,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        seed: int = 0,
    ) -> None:
        super().__init__(network, loss=loss, at=at, seed=seed, problems=[whole_problem("k", k)])
        self.k = int(k)
        if k > 1:
            self.spec = replace(self.spec, target="oracle")

    carries_back_to: ClassVar[tuple[str, ...]] = ("inputs",)

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        network, trajectory, batch = self.network, forward.trajectory, forward.batch
        signal, steps = readout_signal(network, forward), len(forward.trajectory.outputs)
        if batch.at == "last":
            trajectory = last_steps(trajectory, self.k)
            deltas, _ = backpropagate(network, trajectory, signal, "last")
        else:
            signal = signal.unflatten(0, batch.inputs.shape[:2])
            deltas = [[own] for own in truncated(network, trajectory, signal, self.k)]
        gradients = network.parameter_gradients(trajectory, deltas)
        if "inputs" in batch.wanted:
            entering = signal_at_inputs(network, trajectory, 0, deltas[0])
            gradients["inputs"] = _at_their_steps(entering, steps, batch.lengths)
        return gradients

    # --- a stream ---------------------------------------------------------------------------

    def begin(self, batch_size: int) -> Memory:
        memory = {"states": no_states(self.network, batch_size)}
        if self.k == 1:
            return memory
        like, network = memory["states"], self.network
        probe = network.unroll(like.new_zeros(1, batch_size, network.input_size))
        for layer, (own,) in enumerate(probe.layers):
            for name, values in _remembered(own).items():
                shape = (batch_size, self.k - 1, values.shape[-1])
                memory[f"{name}_l{layer}"] = like.new_zeros(shape)
            if layer > 0 and network.recurrent.dropout:
                shape = (batch_size, self.k - 1, network.features_size)
                memory[f"dropout_l{layer - 1}"] = like.new_zeros(shape)
        return memory | {"filled": like.new_zeros(batch_size, dtype=torch.int64)}

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        forward = self._forward_pass(batch.starting_from(unpacked(memory["states"])))
        gradients = readout_gradients(self.network, forward)
        after = {"states": packed(forward.trajectory.final_states())}
        window = forward.trajectory
        if self.k > 1:
            window, kept = _appended(window, memory, self.k)
            after |= kept
        signal = readout_signal(self.network, forward)
        deltas, _ = backpropagate(self.network, window, signal, "last")
        if self.k > 1:  # steps before the stream's start, where bias would learn from nothing
            ages = torch.arange(self.k - 1, -1, -1, device=after["filled"].device)
            missing = ages[:, None] > memory["filled"]
            for (own,) in deltas:
                own[missing] = 0
        return forward, gradients | self.network.parameter_gradients(window, deltas), after


def truncated(network: Network, trajectory: Trajectory, signal: Tensor, k: int) -> list[Tensor]:
    """Node signals δ [l] (t, b, g) from signals at the top hidden states (t, b, h), each k steps back.

    The signals of all steps go back side by side: after j rounds, the one of step t is at step t − j.
    """
    cell, recurrent = network.cell, network.recurrent
    steps, sequences, _ = signal.shape
    owns = [own for (own,) in trajectory.layers]
    jacobians = [tuple(part.flatten(0, 1) for part in cell.local_jacobian(own)) for own in owns]
    deltas = [torch.zeros_like(own.gates, memory_format=torch.contiguous_format) for own in owns]
    carried: list[State] = [
        tuple(torch.zeros_like(state[1:]).flatten(0, 1) for state in own.states) for own in owns
    ]
    for age in range(min(k, steps)):
        rows = (steps - age) * sequences
        entering: Tensor | None = signal if age == 0 else None
        for layer in reversed(range(network.num_layers)):
            weights = recurrent.weights(layer, 0)
            jacobian = tuple(part[:rows] for part in jacobians[layer])
            signals = carried[layer]
            if entering is not None:
                after = tuple(state[1 : steps - age + 1] for state in owns[layer].states)
                at = [own.flatten(0, 1) for own in at_states(cell, after, entering)]
                signals = (*map(torch.add, signals, at), *signals[len(at) :])
            if age + 1 < min(k, steps):
                delta, before = cell.backward_step(weights, jacobian, signals)
                carried[layer] = tuple(part[sequences:] for part in before)
            else:
                delta = cell.node_signal_of_states(weights, jacobian, signals)
            delta = delta.unflatten(0, (steps - age, sequences))
            deltas[layer][: steps - age] += delta
            if layer > 0:
                entering = signal_below(network, trajectory, layer, [delta], entering)
    return deltas


def last_steps(trajectory: Trajectory, k: int) -> Trajectory:
    """The last k valid steps of each sequence, as a run that started from the state before them."""
    steps, lengths = len(trajectory.outputs), trajectory.lengths
    count = min(k, steps)
    shorter = None if lengths is None else lengths.clamp(max=count)

    def cut(values: Tensor, more: int = 0) -> Tensor:
        if lengths is None or shorter is None:
            return values[steps - count : steps + more]
        index = torch.arange(count + more, device=values.device)[:, None] + (lengths - shorter)
        return values.gather(0, index[..., None].expand(-1, -1, values.shape[-1]))

    layers = tuple(
        tuple(
            LayerTrajectory(
                cut(own.inputs),
                tuple(cut(state, 1) for state in own.states),
                cut(own.gates),
                None if own.auxiliary is None else cut(own.auxiliary),
                None if own.seen is None else cut(own.seen, 1),
            )
            for own in directions
        )
        for directions in trajectory.layers
    )
    dropout = tuple(None if mask is None else cut(mask) for mask in trajectory.dropout)
    return Trajectory(layers, cut(trajectory.outputs), shorter, None, dropout, trajectory.skip)


def _at_their_steps(values: Tensor, steps: int, lengths: Tensor | None) -> Tensor:
    """Values (k, b, i) at each sequence's last valid steps, as `last_steps` cut them: (t, b, i), else 0."""
    whole = values.new_zeros(steps, *values.shape[1:])
    if lengths is None:
        whole[steps - len(values) :] = values
        return whole
    lengths = lengths.to(values.device)
    first = lengths - lengths.clamp(max=len(values))
    index = torch.arange(len(values), device=values.device)[:, None] + first
    inside = index < lengths  # a sequence shorter than the window has no more steps
    values = values * inside[..., None]
    return whole.scatter_add(0, index.clamp(max=steps - 1)[..., None].expand_as(values), values)


def _remembered(own: LayerTrajectory) -> dict[str, Tensor]:
    """What a window keeps of one layer's steps, each (t, b, …); of states, those a step began with."""
    found = {"inputs": own.inputs, "gates": own.gates}
    found |= {f"state{index}": state[:-1] for index, state in enumerate(own.states)}
    if own.auxiliary is not None:
        found["auxiliary"] = own.auxiliary
    if own.seen is not None:
        found["seen"] = own.seen[:-1]
    return found


def _appended(new: Trajectory, memory: Memory, k: int) -> tuple[Trajectory, Memory]:
    """The k − 1 remembered steps and a new one as one run, and what to remember next."""
    kept: Memory = {"filled": (memory["filled"] + 1).clamp(max=k - 1)}

    def joined(name: str, values: Tensor) -> Tensor:
        window = torch.cat((memory[name], values.transpose(0, 1)), 1)
        kept[name] = window[:, 1:]
        return window.transpose(0, 1)

    layers = []
    masks: list[Tensor | None] = []
    for layer, (own,) in enumerate(new.layers):
        found = {
            name: joined(f"{name}_l{layer}", values) for name, values in _remembered(own).items()
        }
        states = tuple(
            torch.cat((found[f"state{index}"], state[-1:]))
            for index, state in enumerate(own.states)
        )
        seen = own.seen
        if seen is not None:
            seen = torch.cat((found["seen"], seen[-1:]))
        run = LayerTrajectory(found["inputs"], states, found["gates"], found.get("auxiliary"), seen)
        layers.append((run,))
        if layer > 0:
            name, mask = f"dropout_l{layer - 1}", new.dropout[layer - 1]
            if name in memory and mask is None:
                mask = torch.ones_like(own.inputs)
            masks.append(None if mask is None else joined(name, mask))
    outputs = layers[-1][0].features
    return Trajectory(tuple(layers), outputs, None, None, tuple(masks), new.skip), kept
