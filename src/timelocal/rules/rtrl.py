"""Real-time recurrent learning: the exact gradient forward in time, for small networks."""

from __future__ import annotations

import torch
from torch import Tensor

from timelocal.cells import outer_each
from timelocal.errors import UnsupportedError
from timelocal.network import Network, Trajectory, at_last_valid, parameter_name
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.forward import readout_gradients, readout_signal
from timelocal.rules.rule import Rule
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.typing import Gradients, Memory

_LIMIT = 4 * 2**30
"""Bytes of influence matrices beyond which a step takes seconds, and most machines give up."""


class RTRL(Rule):
    """Real-time recurrent learning (RTRL; Williams & Zipser 1989).

    What every parameter did to every state is carried forward, so that no past is needed:

        P_t = (∂s_t/∂s_{t-1}) P_{t-1} + ∂s_t/∂θ,   dW = Σ_t (∂ℓ_t/∂s_t) P_t

    with s the states of a layer; those of upper layers depend on the parameters below them too.

    Args:
        network: a small timelocal network of one direction.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last" or "every" step.
        seed: of the dropout masks between layers, all it ever draws.

    Raises:
        UnsupportedError: for a bidirectional network, and for influence matrices of more than 4 GiB: they
            take b · h · (number of recurrent parameters) numbers, which is h³ · b for one layer.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(2, 6, output_size=1)
    >>> rule = tl.RTRL(network, loss="mse", at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randn(4, 30, 1)).backward()

    Exact: equal to BPTT to rounding as long as weights stay, in memory that does not grow with time. RFLO
    and e-prop keep of it what is local to a unit.
    """

    spec = RuleSpec(
        name="rtrl",
        summary="the exact gradient forward in time, for small networks",
        estimates="exact",
        target="bptt",
        online=True,
        autograd_free=True,
        weight_transport=True,
        references=(
            "R. J. Williams, D. Zipser. A learning algorithm for continually running fully recurrent "
            "neural networks. Neural Computation 1(2):270–280, 1989.",
        ),
    )

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        batch = forward.batch
        steps, sequences = batch.inputs.shape[:2]
        signal = readout_signal(self.network, forward)
        if batch.at == "last":
            signal = at_last_valid(signal, steps, forward.trajectory.lengths)
        else:
            signal = signal.unflatten(0, (steps, sequences))
        influence = self._no_influence(sequences)
        total = torch.zeros_like(influence[-1][0, 0])
        for t in range(steps):
            influence = advanced(self.network, forward.trajectory, t, influence)
            total += _met(signal[t], influence[-1])
        return self._split(total)

    def begin(self, batch_size: int) -> Memory:
        influence = self._no_influence(batch_size)
        named = {f"influence_l{layer}": matrix for layer, matrix in enumerate(influence)}
        return {"states": no_states(self.network, batch_size), **named}

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        forward = self._forward_pass(batch.starting_from(unpacked(memory["states"])))
        layers = range(self.network.num_layers)
        before = [memory[f"influence_l{layer}"] for layer in layers]
        influence = advanced(self.network, forward.trajectory, 0, before)
        total = _met(readout_signal(self.network, forward), influence[-1])
        gradients = readout_gradients(self.network, forward) | self._split(total)
        after = {f"influence_l{layer}": matrix for layer, matrix in enumerate(influence)}
        after["states"] = packed(forward.trajectory.final_states())
        return forward, gradients, after

    def _no_influence(self, sequences: int) -> list[Tensor]:
        """P of each layer at the start, (b, states·h, parameters up to that layer): zero."""
        network = self.network
        weight = network.recurrent.like
        sizes = [sum(_sizes(network, layer)) for layer in range(network.num_layers)]
        units = len(network.cell.state_names) * network.hidden_size
        rows = sequences * units
        needed = rows * sum(sum(sizes[: layer + 1]) for layer in range(len(sizes)))
        if needed * weight.element_size() > _LIMIT:
            raise UnsupportedError(
                f"rtrl: got {sequences} sequences, {units} states and {sum(sizes)} recurrent parameters, "
                f"whose influence matrices take {needed * weight.element_size() / 2**30:.1f} GiB, expected "
                f"at most {_LIMIT / 2**30:.0f}. Use fewer hidden units or sequences, or EProp, RFLO or TBPTT."
            )
        ends = [sum(sizes[: layer + 1]) for layer in range(len(sizes))]
        return [weight.new_zeros(sequences, units, end) for end in ends]

    def _split(self, total: Tensor) -> Gradients:
        """All recurrent parameters in one row, back into their shapes."""
        names = [
            parameter_name(kind, layer, 0)
            for layer in range(self.network.num_layers)
            for kind in self.network.recurrent.kinds
        ]
        shapes = [self.network.recurrent.get_parameter(name).shape for name in names]
        parts = total.split([shape.numel() for shape in shapes])
        return {
            f"recurrent.{name}": part.view(shape)
            for name, part, shape in zip(names, parts, shapes, strict=True)
        }


def advanced(
    network: Network, trajectory: Trajectory, t: int, influence: list[Tensor]
) -> list[Tensor]:
    """P of each layer after step t, from those before it, (b, states·h, parameters up to that layer)."""
    cell = network.cell
    after: list[Tensor] = []
    for layer, ((run,), before) in enumerate(zip(trajectory.layers, influence, strict=True)):
        own = run.step(t)
        sequences, units, _ = before.shape
        weights = network.recurrent.weights(layer, 0)
        # One row per state and sequence, with the signal 1 at that state: its row of the Jacobian comes back.
        rows = torch.eye(units, dtype=before.dtype, device=before.device)
        rows = rows[:, None].expand(-1, sequences, -1).flatten(0, 1)
        jacobian = tuple(
            part.expand(units, -1, -1).flatten(0, 1) for part in cell.local_jacobian(own)
        )
        signals = rows.chunk(len(cell.state_names), -1)
        delta, back = cell.backward_step(weights, jacobian, signals)
        delta = delta.unflatten(0, (units, sequences))
        by_state = torch.cat(back, -1).unflatten(0, (units, sequences))
        past = torch.einsum("ubv,bvp->bup", by_state, before)
        local = torch.cat(
            [
                cell.gradient(weights, kind, own, delta, outer_each).flatten(2)
                for kind in network.recurrent.kinds
            ],
            -1,
        ).transpose(0, 1)
        lower = past.shape[-1] - local.shape[-1]
        past[..., lower:] += local
        if layer > 0:
            by_input = cell.input_signal(weights, own, delta)
            mask = trajectory.dropout[layer - 1]
            by_input = by_input if mask is None else by_input * mask[t]
            by_input = network.recurrent.weights(layer - 1, 0).carried_back(by_input)
            below = after[-1][:, : network.hidden_size]
            past[..., :lower] += torch.einsum("ubh,bhp->bup", by_input, below)
        after.append(past)
    return after


def _met(signal: Tensor, influence: Tensor) -> Tensor:
    """Σ_b (signal at the top hidden states (b, h)) P: one row of all parameters."""
    hidden = influence[:, : signal.shape[-1]]
    return torch.einsum("bh,bhp->p", signal, hidden)


def _sizes(network: Network, layer: int) -> list[int]:
    """How many numbers each parameter of a layer has."""
    recurrent = network.recurrent
    return [
        recurrent.get_parameter(parameter_name(kind, layer, 0)).numel() for kind in recurrent.kinds
    ]
