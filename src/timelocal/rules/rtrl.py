"""Real-time recurrent learning: the exact gradient forward in time, for small networks."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from timelocal.cells import outer_each
from timelocal.errors import UnsupportedError
from timelocal.network import Network, Trajectory, parameter_name
from timelocal.rules.carried_rule import CarriedRule
from timelocal.rules.estimate import RuleSpec
from timelocal.typing import Gradients, Memory

_LIMIT = 4 * 2**30
"""Bytes of influence matrices beyond which a step takes seconds, and most machines give up."""


class RTRL(CarriedRule):
    """Real-time recurrent learning (RTRL; Williams & Zipser 1989).

    What every parameter did to every state is carried forward, so that no past is needed:

        P_t = (∂s_t/∂s_{t-1}) P_{t-1} + ∂s_t/∂θ,   dW = Σ_t (∂ℓ_t/∂s_t) P_t

    with s the states of a layer; those of upper layers depend on the parameters below them too.

    Args:
        network: a small timelocal network of one direction.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        seed: of the dropout masks between layers, all it ever draws.

    Raises:
        UnsupportedError: for a bidirectional network, and for influence matrices of more than 4 GiB: they
            take b · h · (number of recurrent parameters) numbers, which is h³ · b for one layer.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(2, 6, output_size=1)
    >>> rule = tl.RTRL(network, loss="mse", at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randn(4, 30, 1)).backward()

    Exact: equal to BPTT to rounding as long as weights stay, in memory that does not grow with time. RFLO,
    e-prop and SnAp-1 keep of it what is local to a unit; UORO keeps one random direction of it.
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

    def no_traces(self, batch_size: int) -> Memory:
        """P of each layer, (b, states·h, parameters up to that layer)."""
        network = self.network
        weight = network.recurrent.like
        sizes = [sum(_sizes(network, layer)) for layer in range(network.num_layers)]
        ends = list(accumulate(sizes))
        units = len(network.cell.state_names) * network.hidden_size
        needed = batch_size * units * sum(ends) * weight.element_size()
        if needed > _LIMIT:
            raise UnsupportedError(
                f"rtrl: got {batch_size} sequences, {units} states and {sum(sizes)} recurrent parameters, "
                f"whose influence matrices take {needed / 2**30:.1f} GiB, expected at most "
                f"{_LIMIT / 2**30:.0f}. Use fewer hidden units or sequences, or EProp, RFLO, SnAp1 or TBPTT."
            )
        return {
            f"influence_l{layer}": weight.new_zeros(batch_size, units, end)
            for layer, end in enumerate(ends)
        }

    def carried(self, traces: Memory, run: Trajectory, key: int, step: int) -> Memory:
        network, cell = self.network, self.network.cell
        after: Memory = {}
        for layer, (own,) in enumerate(run.layers):
            before = traces[f"influence_l{layer}"]
            sequences, units, _ = before.shape
            weights = network.recurrent.weights(layer, 0)
            # One row per state and sequence, with the signal 1 at that state: its row of the Jacobian
            # comes back.
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
            local = [
                cell.gradient(weights, kind, own, delta, outer_each).flatten(2)
                for kind in network.recurrent.parameter_kinds
            ]
            lower = past.shape[-1] - sum(_sizes(network, layer))
            past[..., lower:] += torch.cat(local, -1).transpose(0, 1)
            if layer > 0:
                by_input = cell.input_signal(weights, own, delta)
                mask = run.dropout[layer - 1]
                by_input = by_input if mask is None else by_input * mask
                by_input = network.signal_at_states(by_input, layer - 1)
                below = after[f"influence_l{layer - 1}"][:, : network.hidden_size]
                past[..., :lower] += torch.einsum("ubh,bhp->bup", by_input, below)
            after[f"influence_l{layer}"] = past
        return after

    def met(self, signal: Tensor, traces: Memory) -> Gradients:
        """Σ_b (signal at the top hidden states) P, in the parameters' shapes."""
        recurrent, layers = self.network.recurrent, range(self.network.num_layers)
        hidden = traces[f"influence_l{layers[-1]}"][:, : signal.shape[-1]]
        total = torch.einsum("bh,bhp->p", signal, hidden)
        names = [
            parameter_name(kind, layer, 0) for layer in layers for kind in recurrent.parameter_kinds
        ]
        parts = total.split([size for layer in layers for size in _sizes(self.network, layer)])
        return {
            f"recurrent.{name}": part.view_as(recurrent.get_parameter(name))
            for name, part in zip(names, parts, strict=True)
        }


def _sizes(network: Network, layer: int) -> list[int]:
    """How many numbers each parameter of a layer has."""
    recurrent = network.recurrent
    return [
        recurrent.get_parameter(parameter_name(kind, layer, 0)).numel()
        for kind in recurrent.parameter_kinds
    ]
