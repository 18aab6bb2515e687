"""The base of rules with feedback: the error is projected by F and followed back by a trace.

Credit assignment has two independent axes: how the output error reaches a hidden unit (`feedback`), and
how much of the unit's past is credited (`trace`). DFA, RFLO, e-prop and SnAp-1 are points in that plane.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from timelocal import feedback as matrices
from timelocal import kernels
from timelocal.arguments import as_real, flag_problem, is_one_of
from timelocal.cells import CellWeights, LayerTrajectory, Trace
from timelocal.distributed import mean_over_ranks
from timelocal.errors import (
    Problem,
    UnsupportedError,
    described,
    did_you_mean,
    unknown_name,
)
from timelocal.losses import Loss
from timelocal.network import Network, Trajectory, at_last_valid, flip, masked, parameter_name
from timelocal.precision import at_least_float32
from timelocal.rules import eligibility
from timelocal.rules.batch import Batch
from timelocal.rules.bptt import at_every_step, signal_at_inputs, signal_below
from timelocal.rules.estimate import ForwardPass
from timelocal.rules.forward import readout_gradients, readout_signal
from timelocal.rules.rule import Rule
from timelocal.rules.slopes import Slope, find_slope
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.rules.stationary import decay_problem, decays, discounted
from timelocal.seeding import generator
from timelocal.typing import Gradients, LossFunction, Memory, Place

FeedbackPer = Literal["layer", "parameter"]
Normalize = Literal["frobenius"]
Followed = Literal["none", "leak", "stationary", "diagonal"]
EXACT = "exact"
"""The feedback without a matrix: the step's own error, carried down through the layers within the step."""


class FeedbackRule(Rule):
    """The output error through a matrix F (h, o) of each layer and direction, and back along a trace.

    Over a whole sequence signals go back in time, S_{t-1} = G_{t-1} + J_tᵀ S_t with the reduced Jacobian J;
    in a stream eligibility traces go forward, E_t = J_t E_{t-1} + ∂(states at t)/∂θ. The sums are the same.
    With feedback="exact" there is no F: G_t is the gradient of the step's own loss, `exact_signals`.
    """

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction,
        at: Place,
        feedback: str,
        feedback_per: FeedbackPer,
        trace: Followed,
        normalize: Normalize | None,
        feedback_lr: float,
        feedback_decay: float,
        sync: bool,
        seed: int,
        drawn_as: str | None = None,
        decay: float | str | Sequence[float] | Tensor = 0.9,
        slope: str | Slope | None = None,
        problems: Iterable[Problem | None] = (),
    ) -> None:
        """drawn_as: the rule whose matrices to draw, if not this rule's own."""
        problems = (
            *problems,
            unknown_name(
                "feedback",
                feedback,
                (*matrices.FIXED, *matrices.FOLLOWING, *matrices.LEARNED, EXACT),
            ),
            unknown_name("feedback_per", feedback_per, get_args(FeedbackPer)),
            unknown_name("trace", trace, get_args(Followed)),
            decay_problem(decay, network.hidden_size) if isinstance(network, Network) else None,
            None
            if is_one_of(normalize, (None, *get_args(Normalize)))
            else Problem(
                "normalize",
                described(normalize),
                "None or 'frobenius'",
                did_you_mean(normalize, get_args(Normalize)),
            ),
            not_negative("feedback_lr", feedback_lr),
            not_negative("feedback_decay", feedback_decay),
            flag_problem("sync", sync),
        )
        if slope is not None:  # set first: the base class may refuse layers that only run forward
            self.spec = replace(self.spec, derivative_free=True)
        super().__init__(network, loss=loss, at=at, seed=seed, problems=problems)
        self.slope = slope
        self._slope = None if slope is None else find_slope(slope)
        if slope is not None:
            _check_sloped(network, feedback, trace)
        self.feedback = feedback
        self.feedback_per = feedback_per
        self.trace: Followed = trace
        self.decay = decay
        self.normalize = normalize
        self.feedback_lr = as_real(feedback_lr)
        self.feedback_decay = as_real(feedback_decay)
        self.sync = bool(sync)
        spreads = slope is None and not network.cell.acts_locally
        if feedback in (*matrices.FOLLOWING, EXACT) or spreads:
            self.spec = replace(self.spec, weight_transport=True)
        if self._is_exact():
            self.spec = replace(self.spec, estimates="exact", target="bptt")
        if feedback_per == "parameter" and not network.cell.features_are_hidden:
            raise UnsupportedError(
                f"feedback_per: got 'parameter' and {network.cell!r}, expected a cell whose features are its "
                "hidden state: the nodes of a unit share one signal here. Use feedback_per='layer'."
            )
        if feedback not in matrices.FIXED:
            _check_following(network, feedback, feedback_per)
        if trace == "stationary" and not network.cell.features_are_hidden:
            raise UnsupportedError(
                f"trace: got 'stationary' and {network.cell!r}, expected a cell whose features are its "
                "hidden state, on which λ acts. Use trace='diagonal', which follows this cell's own λ."
            )
        if trace == "stationary":
            _check_hidden(network)
            units = decays(decay, network.hidden_size)
            self.register_buffer("trace_decays", units.to(network.recurrent.like))
        if feedback not in (*matrices.FOLLOWING, EXACT):
            self._draw(generator(seed, drawn_as) if drawn_as else self.generator)

    def _is_exact(self) -> bool:
        """Whether the estimate is BPTT's: the readout's own feedback, and a trace that leaves nothing out."""
        network = self.network
        own = self.feedback in (EXACT, "symmetric") and self.normalize is None
        diagonal = network.cell.is_diagonal(network.recurrent.decorrelate is not None)
        return own and self.trace == "diagonal" and diagonal and network.num_layers == 1

    def _draw(self, generator: torch.Generator) -> None:
        """One buffer per layer and direction (h, o), or per parameter of these (gates, h, o)."""
        network = self.network
        size = (network.features_size, network.output_size)
        weight = network.recurrent.like
        draw = matrices.FIXED.get(self.feedback, matrices.gaussian)
        gates = len(network.cell.gate_names)
        for layer in range(network.num_layers):
            for direction in range(network.directions):
                for name in self._buffer_names(layer, direction):
                    if self.feedback_per == "layer":
                        matrix = draw(*size, generator)
                    else:
                        matrix = torch.stack([draw(*size, generator) for _ in range(gates)])
                    # A readout of both directions has twice the inputs, and smaller weights.
                    matrix = matrix / math.sqrt(network.directions)
                    self.register_buffer(name, matrix.to(weight))

    def _buffer_names(self, layer: int, direction: int) -> tuple[str, ...]:
        """`feedback_l0`, or `feedback_weight_hh_l0` and the like."""
        if self.feedback_per == "layer":
            return (parameter_name("feedback", layer, direction),)
        return tuple(
            "feedback_" + parameter_name(kind, layer, direction)
            for kind in self.network.recurrent.parameter_kinds
        )

    def feedback_matrix(self, layer: int = 0, direction: int = 0, kind: str = "") -> Tensor:
        """F: (h, o), or (gates, h, o) for the parameter `kind`, such as "weight_hh"."""
        if self.feedback == EXACT:
            raise UnsupportedError(
                "feedback_matrix: got feedback='exact', expected a feedback with a matrix: here the error "
                "goes down through the layers themselves. Use feedback='symmetric' for W_out."
            )
        readout = self.network.readout
        if self.feedback in matrices.FOLLOWING:
            if not isinstance(readout, nn.Linear):  # replaced since the rule was made
                _check_following(self.network, self.feedback, self.feedback_per)
            assert isinstance(readout, nn.Linear)
            last = self.network.num_layers - 1
            weight = self.network.signal_at_states(readout.weight, last)
            followed = matrices.FOLLOWING[self.feedback](weight)
            return followed.chunk(self.network.directions)[direction]
        prefix = f"feedback_{kind}" if kind else "feedback"
        matrix: Tensor = getattr(self, parameter_name(prefix, layer, direction))
        if isinstance(readout, nn.Linear):
            matrices.check_width(matrix, readout.weight.shape[0])
        if self.feedback in matrices.LEARNED:  # F resembles the readout, which reads h through D
            matrix = self.network.recurrent.weights(layer, direction).carried_back(matrix.t()).t()
        return matrix

    carries_back_to: ClassVar[tuple[str, ...]] = ("inputs",)

    def _refuse_graphs(self, entering: dict[str, tuple[Tensor, ...]]) -> None:
        super()._refuse_graphs(entering)
        if entering and self.feedback_per == "parameter":
            raise UnsupportedError(
                "inputs: got a tensor with a graph (requires_grad), expected one without: with "
                "feedback_per='parameter' there is no single signal per node. Use feedback_per='layer', or "
                "detach()."
            )

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = super().compute(batch)
        return forward, self._normalized(gradients)

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        signals = self._signals(forward)
        gradients: Gradients = {}
        if "inputs" in forward.batch.wanted:
            deltas = [
                self._nodes(0, direction, own, forward, _the_one(signal))
                for direction, (own, signal) in enumerate(
                    zip(forward.trajectory.layers[0], signals[0], strict=True)
                )
            ]
            gradients["inputs"] = signal_at_inputs(self.network, forward.trajectory, 0, deltas)
        for layer, directions in enumerate(forward.trajectory.layers):
            for direction, own in enumerate(directions):
                found = self._credit(layer, direction, own, forward, signals[layer][direction])
                gradients |= self.network.named(layer, direction, found)
        return gradients

    def _signals(self, forward: ForwardPass) -> Sequence[Sequence[Tensor | None]]:
        """G [l][d], (b, h) or (t, b, h) in that direction's own time; None if each parameter has its F."""
        if self.feedback_per == "parameter":
            return [[None] * len(directions) for directions in forward.trajectory.layers]
        if self.feedback == EXACT:
            signal = readout_signal(self.network, forward)
            return exact_signals(self.network, forward.trajectory, signal, forward.batch.at)
        return [
            [
                self._projected(direction, forward, self.feedback_matrix(layer, direction))
                for direction in range(len(directions))
            ]
            for layer, directions in enumerate(forward.trajectory.layers)
        ]

    def _projected(self, direction: int, forward: ForwardPass, matrix: Tensor) -> Tensor:
        """G = F e, (b, h) or (t, b, h), in a direction's own time."""
        matrices.check_width(matrix, forward.errors.shape[-1])
        projected = kernels.project(forward.errors, matrix)
        if forward.batch.at == "last":
            return projected
        projected = projected.unflatten(0, forward.batch.inputs.shape[:2])
        return flip(projected, forward.trajectory.lengths) if direction else projected

    def _nodes(
        self,
        layer: int,
        direction: int,
        own: LayerTrajectory,
        forward: ForwardPass,
        signal: Tensor,
    ) -> Tensor:
        """δ (t, b, g) of one layer and direction, in its own time."""
        cell, weights = self.network.cell, self.network.recurrent.weights(layer, direction)
        lengths = forward.trajectory.lengths
        if self._slope is not None:
            slopes = self._slope(cell.pre_activations(weights, own))
            deltas = slopes * torch.cat([signal] * len(cell.gate_names), -1)
            valid = forward.trajectory.valid
            return deltas if valid is None else masked(deltas, valid)
        if self.trace == "none":
            return kernels.node_signals(cell, weights, own, signal, lengths)
        if self.trace == "stationary":
            if signal.dim() == 2:
                signal = at_last_valid(signal, len(own.inputs), lengths)
            signal = discounted(signal, self.get_buffer("trace_decays"))
            return kernels.node_signals(cell, weights, own, signal, lengths)
        entering: Tensor | None
        if signal.dim() == 3:
            entering, final = signal, None
        elif lengths is None:
            entering, final = None, signal
        else:
            entering, final = at_last_valid(signal, len(own.inputs), lengths), None
        return kernels.traced_scan(cell, weights, self.trace, own, entering, final)

    def _credit(
        self,
        layer: int,
        direction: int,
        own: LayerTrajectory,
        forward: ForwardPass,
        signal: Tensor | None,
    ) -> CellWeights:
        """The gradients of one layer, in that direction's own time, from its signal if it has one."""
        cell, weights = self.network.cell, self.network.recurrent.weights(layer, direction)
        if signal is not None:
            if self.trace == "none" and self._slope is None:
                return kernels.credit(cell, weights, own, signal, forward.trajectory.lengths)
            delta = self._nodes(layer, direction, own, forward, signal)
            return kernels.weight_gradients(cell, weights, own, delta)

        gradients: dict[str, Tensor] = {}
        for kind in self.network.recurrent.parameter_kinds:
            blocks = []  # each gate's block of each parameter sees its own F
            for gate, matrix in enumerate(self.feedback_matrix(layer, direction, kind)):
                projected = self._projected(direction, forward, matrix)
                delta = self._nodes(layer, direction, own, forward, projected)
                blocks.append(delta.chunk(len(cell.gate_names), -1)[gate])
            gradients[kind] = cell.gradient(weights, kind, own, torch.cat(blocks, -1))
        return cell.weights(gradients)

    def _normalized(self, gradients: Gradients) -> Gradients:
        if self.normalize != "frobenius":
            return gradients
        return {
            name: gradient if name == "inputs" else unit_norm(gradient)
            for name, gradient in gradients.items()
        }

    @property
    def learns_locally(self) -> bool:
        return self.feedback in matrices.LEARNED or self.network.recurrent.decorrelate is not None

    def local_updates(self, forward: ForwardPass) -> dict[str, Tensor]:
        if self.feedback != "kolen_pollack" or not self.training or not forward.batch.count:
            return {}
        updates = {}
        for direction, features in enumerate(forward.features.chunk(self.network.directions, -1)):
            (name,) = self._buffer_names(0, direction)
            update = matrices.kolen_pollack(
                self.get_buffer(name),
                features,
                forward.errors,
                self.feedback_lr,
                self.feedback_decay,
            )
            updates[name] = mean_over_ranks(update) if self.sync else update
        return updates

    # --- a stream ---------------------------------------------------------------------------

    @property
    def carries_traces(self) -> bool:
        """Whether any of a unit's past is credited."""
        leaks = self.trace == "leak" and self.network.cell.leaks
        return leaks or self.trace in ("diagonal", "stationary")

    def begin(self, batch_size: int) -> Memory:
        memory = {"states": no_states(self.network, batch_size)}
        if self.carries_traces:
            memory |= eligibility.no_traces(self.network, batch_size)
            if self.feedback_per == "parameter":
                eligibility.check_one_row_a_node(self.network)
        return memory

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        forward = self._forward_pass(batch.starting_from(unpacked(memory["states"])))
        gradients = readout_gradients(self.network, forward)
        after = {"states": packed(forward.trajectory.final_states())}
        signals = self._signals(forward)
        for layer, (own,) in enumerate(forward.trajectory.layers):
            (signal,) = signals[layer]
            if self.carries_traces:
                kept = self._kept()
                after |= eligibility.advance(self.network, layer, own, kept, memory)
                found = self._credit_traces(layer, forward, signal, after)
            else:
                found = self._credit(layer, 0, own, forward, signal)
            gradients |= self.network.named(layer, 0, found)
        return forward, self._normalized(gradients), after

    def _kept(self) -> Trace | Tensor:
        """What the traces keep of a unit's past: a kind of trace, or a decay for each unit."""
        return self.get_buffer("trace_decays") if self.trace == "stationary" else self.trace

    def _credit_traces(
        self, layer: int, forward: ForwardPass, signal: Tensor | None, traces: Memory
    ) -> CellWeights:
        """Σ_b G ⊙ E, in the parameters' shapes; G (1, b, f), or F e for each parameter's own F."""
        if signal is not None:
            return eligibility.met(self.network, layer, forward.trajectory, signal[0], traces)
        found: dict[str, Tensor] = {}
        for kind in self.network.recurrent.parameter_kinds:
            trace = traces[eligibility.trace_name("h", kind, layer)]
            own = forward.errors @ self.feedback_matrix(layer, 0, kind).flatten(0, 1).t()
            found[kind] = torch.einsum("bg,bg...->g...", own, trace)
        return self.network.cell.weights(found)


class TracedRule(FeedbackRule):
    """A named point in the plane of feedback and trace: a subclass sets the trace."""

    follows: ClassVar[Trace]

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        feedback: str = "gaussian",
        feedback_lr: float = 1e-3,
        feedback_decay: float = 1e-2,
        sync: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            network,
            loss=loss,
            at=at,
            feedback=feedback,
            feedback_per="layer",
            trace=self.follows,
            normalize=None,
            feedback_lr=feedback_lr,
            feedback_decay=feedback_decay,
            sync=sync,
            seed=seed,
        )


def exact_signals(
    network: Network, trajectory: Trajectory, signal: Tensor, at: Place
) -> list[list[Tensor]]:
    """The gradient of each step's loss by the hidden states of that step, with h_{t-1} held constant.

    signal (n, h·directions): at the top layer's hidden states, as returned by `readout_signal`. The signal
    goes down through weights, D and the connections between layers, never through time. Returns G [l][d]
    (t, b, h), in that direction's own time; with a loss at the last step it is zero at all other steps.
    """
    lengths = trajectory.lengths
    leaving = at_every_step(network, trajectory, signal, at)
    found = [_in_own_time(network, leaving, lengths)]
    for layer in reversed(range(1, network.num_layers)):
        deltas = [
            kernels.node_signals(
                network.cell, network.recurrent.weights(layer, direction), own, signal, lengths
            )
            for direction, (own, signal) in enumerate(
                zip(trajectory.layers[layer], found[0], strict=True)
            )
        ]
        leaving = signal_below(network, trajectory, layer, deltas, leaving)
        found.insert(0, _in_own_time(network, leaving, lengths))
    return found


def _in_own_time(network: Network, signal: Tensor, lengths: Tensor | None) -> list[Tensor]:
    """Each direction's share of a signal (t, b, h·directions)."""
    forward, *backward = signal.chunk(network.directions, -1)
    return [forward, *(flip(part, lengths) for part in backward)]


def unit_norm(gradient: Tensor) -> Tensor:
    """A gradient divided by its Frobenius norm; zero stays zero."""
    gradient = at_least_float32(gradient)
    norm = torch.linalg.vector_norm(gradient)
    return torch.where(norm > 0, gradient / norm, gradient)


def _check_following(network: Network, feedback: str, feedback_per: str) -> None:
    """Refuse feedback that follows the readout, or resembles it, where the readout does not reach."""
    refused = None
    if feedback == EXACT:
        if feedback_per == "parameter":
            refused = "feedback_per='parameter', expected 'layer' (a unit has a single error)"
    elif not isinstance(network.readout, nn.Linear):
        refused = f"a {type(network.readout).__name__} readout, expected nn.Linear"
    elif network.num_layers > 1:
        refused = f"{network.num_layers} layers, expected 1 (the readout sees only the top one)"
    elif feedback_per == "parameter":
        refused = "feedback_per='parameter', expected 'layer' (there is one readout to follow)"
    if refused:
        raise UnsupportedError(
            f"feedback={feedback!r}: got {refused}. Use feedback='gaussian', or BPTT."
        )


def _check_hidden(network: Network) -> None:
    """Refuse a stationary trace, which is one of hidden states, if the readout reads something else."""
    if network.features_size != network.hidden_size:
        raise UnsupportedError(
            f"trace='stationary': got {network.cell!r}, expected a cell whose features are its hidden "
            "states. Use trace='diagonal'."
        )


def _check_sloped(network: Network, feedback: str, trace: Followed) -> None:
    """Refuse a slope in place of the derivative next to anything that needs the cell's derivatives."""
    refused = None
    if trace != "none":
        refused = f"trace={trace!r}, expected 'none' (a trace follows the cell's own Jacobian)"
    elif feedback == EXACT:
        refused = (
            "feedback='exact', expected one with a matrix (the error goes down through derivatives)"
        )
    elif not network.cell.features_are_hidden:
        refused = f"{network.cell!r}, expected a cell whose features are its hidden state"
    if refused:
        raise UnsupportedError(f"slope: got a slope and {refused}. Use slope=None.")


def _the_one(signal: Tensor | None) -> Tensor:
    """The signal at a node; `_refuse_graphs` has made sure that there is one."""
    assert signal is not None
    return signal


def not_negative(what: str, value: object) -> Problem | None:
    if 0 <= as_real(value) < math.inf:
        return None
    return Problem(what, described(value), "a number of at least 0")
