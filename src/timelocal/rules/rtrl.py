"""Real-time recurrent learning: the exact gradient forward in time, for small or element-wise networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.arguments import flag_problem
from timelocal.cells import outer_each
from timelocal.errors import Problem, UnsupportedError
from timelocal.losses import Loss
from timelocal.network import Network, Trajectory, parameter_name
from timelocal.rules import eligibility
from timelocal.rules.batch import Batch
from timelocal.rules.carried_rule import CarriedRule
from timelocal.rules.estimate import RuleSpec
from timelocal.rules.feedback_rule import exact_signals
from timelocal.rules.states import signals_at_states
from timelocal.typing import Gradients, LossFunction, Memory, Place

_LIMIT = 4 * 2**30
"""Bytes of influence matrices beyond which a step takes seconds, and most machines give up."""


class RTRL(CarriedRule):
    """Real-time recurrent learning (RTRL; Williams & Zipser 1989).

    The effect of every parameter on every state is carried forward, so that no past needs to be stored:

        P_t = (∂s_t/∂s_{t-1}) P_{t-1} + ∂s_t/∂θ,   dW = Σ_t (∂ℓ_t/∂s_t) P_t

    with s the states of a layer; those of upper layers depend on the parameters below them too.

    If each unit sees only its own past (`tl.IndRNN`, `LRU`, `RTU`, `MinGRU`, `MinLSTM`, and any cell that
    declares it) P is one eligibility trace per synapse and state, E_t = diag(∂s_t/∂s_{t-1}) E_{t-1} +
    ∂s_t/∂θ, with a block of 2×2 for a complex unit: the exact gradient in memory and time proportional to the
    parameters, at any size. In a stack of such layers the traces are exact in the top one. In lower layers,
    they omit what reaches a later step through the state of an upper layer, and `rule.spec` says so;
    `full=True` carries the whole of P.

    Args:
        network: a timelocal network of one direction; a small one, unless its cell is element-wise.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        full: whether to carry the whole influence matrix even if traces suffice for the top layer.
        seed: of the dropout masks between layers, the only random draws.

    Raises:
        UnsupportedError: for a bidirectional network, and for influence matrices of more than 4 GiB: they
            take b · h · (number of recurrent parameters) numbers, which is h³ · b for one layer.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(2, 6, output_size=1)
    >>> rule = tl.RTRL(network, loss="mse", at="every")
    >>> rule(torch.randn(4, 30, 2), torch.randn(4, 30, 1)).backward()

    Exact: equal to BPTT to rounding as long as the weights do not change, in memory that does not grow with
    time; for the lower layers of an element-wise stack see above. RFLO, e-prop and SnAp-1 keep the part of P
    that is local to a unit; UORO keeps one random direction of it.

    Source: Williams & Zipser (1989). Exact traces of element-wise recurrences: Mozer (1989), Zucchet et al.
    (2023, whose treatment of stacks is used here) and Elelimy et al. (2024).
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
            "N. Zucchet, R. Meier, S. Schug, A. Mujika, J. Sacramento. Online learning of long-range "
            "dependencies. NeurIPS, 2023.",
        ),
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        full: bool = False,
        seed: int = 0,
        problems: Iterable[Problem | None] = (),
    ) -> None:
        problems = [flag_problem("full", full), *problems]
        super().__init__(network, loss=loss, at=at, seed=seed, problems=problems)
        decorrelated = network.recurrent.decorrelate is not None
        self.full = bool(full)
        self.by_traces = (
            not self.full
            and network.cell.is_diagonal(decorrelated)
            and not eligibility.row_problems(network)
        )
        if self.by_traces and network.num_layers > 1:
            self.spec = replace(self.spec, estimates="biased", target="oracle")

    def no_traces(self, batch_size: int) -> Memory:
        """P of each layer, (b, states·h, parameters up to that layer), or one E per synapse and state."""
        network = self.network
        if self.by_traces:
            return eligibility.no_traces(network, batch_size)
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
        if self.by_traces:
            for layer, (own,) in enumerate(run.layers):
                after |= eligibility.advance(network, layer, own, "diagonal", traces)
            return after
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
            by_state = self.followed(layer, by_state, traces)
            past = torch.einsum("ubv,bvp->bup", by_state, before)
            local = [
                cell.gradient(weights, kind, own, delta, outer_each).flatten(2)
                for kind in network.recurrent.parameter_kinds
            ]
            lower = past.shape[-1] - sum(_sizes(network, layer))
            past[..., lower:] += torch.cat(local, -1).transpose(0, 1)
            if layer > 0:
                by_input = network.signal_between(
                    run, layer, cell.input_signal(weights, own, delta)
                )
                by_input = network.signal_at_states(by_input, layer - 1)
                for other in range(0 if network.recurrent.skip else layer - 1, layer):
                    by_state = torch.cat(signals_at_states(network, other, run, by_input), -1)
                    below = after[f"influence_l{other}"][:, : by_state.shape[-1]]
                    reached = torch.einsum("ubh,bhp->bup", by_state, below)
                    past[..., : reached.shape[-1]] += reached
            after[f"influence_l{layer}"] = past
        return after

    def followed(self, layer: int, by_state: Tensor, traces: Memory) -> Tensor:
        """The part of the Jacobian (states·h, b, states·h) of a layer's step that is followed: all of it."""
        return by_state

    def met_in_all(self, signal: Tensor, run: Trajectory, batch: Batch) -> Gradients | None:
        """By kernels that carry the traces of all steps, one layer at a time."""
        network = self.network
        if not self.by_traces:
            return None
        signals = [signal]
        if network.num_layers > 1 or batch.at != "last":
            signals = [own for (own,) in exact_signals(network, run, signal, batch.at)]
        gradients: Gradients = {}
        for layer, ((own,), at_layer) in enumerate(zip(run.layers, signals, strict=True)):
            weights = network.recurrent.weights(layer, 0)
            found = kernels.traced_gradients(network.cell, weights, own, at_layer, run.lengths)
            if found is None:
                return None
            gradients |= network.named(layer, 0, found)
        return gradients

    def met(self, signal: Tensor, traces: Memory, run: Trajectory) -> Gradients:
        """Σ_b (signal at the top states) P, in the parameters' shapes; or Σ_b G ⊙ E of each layer."""
        recurrent, layers = self.network.recurrent, range(self.network.num_layers)
        if self.by_traces:
            gradients: Gradients = {}
            signals = exact_signals(self.network, run, signal, "every")
            for layer in layers:
                found = eligibility.met(self.network, layer, run, signals[layer][0][0], traces)
                gradients |= self.network.named(layer, 0, found)
            return gradients
        total = signal.new_zeros(
            sum(size for layer in layers for size in _sizes(self.network, layer))
        )
        for layer in layers if recurrent.skip else layers[-1:]:
            at = torch.cat(signals_at_states(self.network, layer, run, signal), -1)
            influence = traces[f"influence_l{layer}"][:, : at.shape[-1]]
            total[: influence.shape[-1]] += torch.einsum("bs,bsp->p", at, influence)
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
