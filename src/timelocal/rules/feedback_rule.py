"""What rules with a feedback of their own share: the error through F, followed back by a trace.

Credit assignment has two independent axes: how the output error reaches a hidden unit (`feedback`), and
what of the unit's past is credited (`trace`). DFA, RFLO and e-prop are points in that plane.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from timelocal import feedback as kinds
from timelocal import kernels
from timelocal.cells import CellWeights, LayerTrajectory, Trace
from timelocal.errors import Problem, UnsupportedError, unknown_name
from timelocal.kernels import OnlineSettings, OnlineState
from timelocal.losses import Loss
from timelocal.network import Network, at_last_valid, flip, parameter_name
from timelocal.rules import at_once, eligibility
from timelocal.rules.batch import Batch
from timelocal.rules.rule import Estimate, ForwardPass, Learner, Rule
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.typing import Gradients, LossFunction, Memory, Place

FeedbackPer = Literal["layer", "parameter"]
Normalize = Literal["frobenius"]


class FeedbackRule(Rule):
    """The output error through a matrix F (h, o) of each layer and direction, and back along a trace.

    Over a whole sequence signals go back in time, S_{t-1} = G_{t-1} + J_tᵀ S_t with the reduced Jacobian J;
    in a stream eligibility traces go forward, E_t = J_t E_{t-1} + ∂(states at t)/∂θ. The sums are the same.
    """

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction,
        at: Place,
        feedback: str,
        feedback_per: FeedbackPer,
        trace: Trace,
        normalize: Normalize | None,
        feedback_lr: float,
        feedback_decay: float,
        seed: int,
    ) -> None:
        problems = (
            unknown_name("feedback", feedback, (*kinds.FIXED, *kinds.FOLLOWING, *kinds.LEARNED)),
            unknown_name("feedback_per", feedback_per, get_args(FeedbackPer)),
            unknown_name("trace", trace, get_args(Trace)),
            None
            if normalize in (None, *get_args(Normalize))
            else Problem("normalize", repr(normalize), "None or 'frobenius'"),
            _not_negative("feedback_lr", feedback_lr),
            _not_negative("feedback_decay", feedback_decay),
        )
        super().__init__(network, loss=loss, at=at, seed=seed, problems=problems)
        self.feedback = feedback
        self.feedback_per = feedback_per
        self.trace: Trace = trace
        self.normalize = normalize
        self.feedback_lr = feedback_lr
        self.feedback_decay = feedback_decay
        if feedback not in kinds.FIXED:
            _check_following(network, feedback, feedback_per)
        if feedback not in kinds.FOLLOWING:
            self._draw()

    def _draw(self) -> None:
        """One buffer per layer and direction (h, o), or per parameter of these (gates, h, o)."""
        network = self.network
        size = (network.hidden_size, network.output_size)
        weight = network.recurrent.weights(0, 0).hh
        draw = kinds.FIXED.get(self.feedback, kinds.gaussian)
        gates = len(network.cell.gate_names)
        for layer in range(network.num_layers):
            for direction in range(network.directions):
                for name in self._buffer_names(layer, direction):
                    if self.feedback_per == "layer":
                        matrix = draw(*size, self.generator)
                    else:
                        matrix = torch.stack([draw(*size, self.generator) for _ in range(gates)])
                    # A readout of both directions has twice the inputs, and smaller weights.
                    matrix = matrix / math.sqrt(network.directions)
                    self.register_buffer(name, matrix.to(weight))

    def _buffer_names(self, layer: int, direction: int) -> tuple[str, ...]:
        """`feedback_l0`, or `feedback_weight_hh_l0` and the like."""
        if self.feedback_per == "layer":
            return (parameter_name("feedback", layer, direction),)
        return tuple(
            "feedback_" + parameter_name(kind, layer, direction)
            for kind in self.network.recurrent.kinds
        )

    def feedback_matrix(self, layer: int = 0, direction: int = 0, kind: str = "") -> Tensor:
        """F: (h, o), or (gates, h, o) for the parameter `kind`, such as "weight_hh"."""
        if self.feedback in kinds.FOLLOWING:
            readout = self.network.readout
            assert isinstance(readout, nn.Linear)
            last = self.network.num_layers - 1
            weight = self.network.signal_at_states(readout.weight, last)
            matrix = kinds.FOLLOWING[self.feedback](weight)
            return matrix.chunk(self.network.directions)[direction]
        prefix = f"feedback_{kind}" if kind else "feedback"
        matrix = getattr(self, parameter_name(prefix, layer, direction))
        if self.feedback in kinds.LEARNED:  # what is like the readout reaches h as from the readout
            matrix = self.network.recurrent.weights(layer, direction).carried_back(matrix.t()).t()
        return matrix

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward, gradients = at_once.compute(self, batch) or self._in_parts(batch)
        return forward, self._normalized(gradients)

    def learner(self) -> Learner:
        """Where one native call does it all: that call again, into the same tensors."""
        changed = any(
            getattr(type(self), name) is not getattr(FeedbackRule, name)
            for name in ("compute", "estimate_from", "local_steps")
        )
        if changed or self.normalize or self.feedback not in kinds.FIXED:
            return self.estimate_checked
        return at_once.learner(self)

    def _in_parts(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward = self.forward_pass(batch, self.generator)
        gradients = self.readout_gradients(forward)
        for layer, directions in enumerate(forward.trajectory.layers):
            for direction, own in enumerate(directions):
                found = self._credit(layer, direction, own, batch, forward)
                gradients |= self.network.named(layer, direction, found)
        return forward, gradients

    def _credit(
        self,
        layer: int,
        direction: int,
        own: LayerTrajectory,
        batch: Batch,
        forward: ForwardPass,
    ) -> CellWeights:
        """The gradients of one layer, in that direction's own time."""
        cell, weights = self.network.cell, self.network.recurrent.weights(layer, direction)
        lengths = forward.trajectory.lengths

        def signal(matrix: Tensor) -> Tensor:
            """G = F e, (b, h) or (t, b, h)."""
            projected = kernels.project(forward.errors, matrix)
            if batch.at == "last":
                return projected
            projected = projected.unflatten(0, batch.inputs.shape[:2])
            return flip(projected, lengths) if direction else projected

        def nodes(matrix: Tensor) -> Tensor:
            """δ (t, b, g)."""
            if self.trace == "none":
                return kernels.node_signals(cell, weights, own, signal(matrix), lengths)
            if batch.at == "every":
                entering, final = signal(matrix), None
            elif lengths is None:
                entering, final = None, signal(matrix)
            else:
                entering, final = at_last_valid(signal(matrix), len(own.inputs), lengths), None
            return kernels.traced_scan(cell, weights, self.trace, own, entering, final)

        if self.feedback_per == "layer":
            matrix = self.feedback_matrix(layer, direction)
            if self.trace == "none":
                return kernels.credit(cell, weights, own, signal(matrix), lengths)
            return kernels.weight_gradients(cell, weights, own, nodes(matrix))

        gradients: list[Tensor | None] = [None] * len(weights)
        for index, kind in enumerate(self.network.recurrent.kinds):
            blocks = []  # each gate's block of each parameter sees its own F
            for gate, matrix in enumerate(self.feedback_matrix(layer, direction, kind)):
                delta = nodes(matrix)
                blocks.append(delta.chunk(len(cell.gate_names), -1)[gate])
            gradients[index] = cell.gradient(kind, own, torch.cat(blocks, -1))
        return CellWeights(*gradients)  # type: ignore[arg-type]

    def _normalized(self, gradients: Gradients) -> Gradients:
        if self.normalize != "frobenius":
            return gradients
        return {name: unit_norm(gradient) for name, gradient in gradients.items()}

    def local_steps(self, batch: Batch, forward: ForwardPass) -> dict[str, Tensor]:
        if self.feedback != "kolen_pollack":
            return {}
        steps = {}
        for direction, features in enumerate(forward.features.chunk(self.network.directions, -1)):
            (name,) = self._buffer_names(0, direction)
            steps[name] = kinds.kolen_pollack(
                self.get_buffer(name),
                features,
                forward.errors,
                self.feedback_lr,
                self.feedback_decay,
            )
        return steps

    # --- a stream ---------------------------------------------------------------------------

    @property
    def _carries(self) -> bool:
        """Whether anything of a unit's past is credited."""
        return self.trace == "diagonal" or (self.trace == "leak" and self.network.cell.leaks)

    def begin(self, batch_size: int) -> Memory:
        memory = {"states": no_states(self.network, batch_size)}
        if self._carries:
            memory |= eligibility.no_traces(self.network, batch_size)
        return memory

    def advance(self, memory: Memory, batch: Batch, key: int, step: int) -> tuple[Estimate, Memory]:
        forward = self.forward_pass(batch.starting_from(unpacked(memory["states"])), self.generator)
        gradients = self.readout_gradients(forward)
        after = {"states": packed(forward.trajectory.final_states())}
        for layer, (own,) in enumerate(forward.trajectory.layers):
            if self._carries:
                after |= eligibility.advance(self.network, layer, own, self.trace, memory)
                found = self._credit_traces(layer, forward.errors, after)
            else:
                found = self._credit(layer, 0, own, batch, forward)
            gradients |= self.network.named(layer, 0, found)
        return self.estimate_from(batch, forward, self._normalized(gradients)), after

    def fused(self, memory: Memory) -> tuple[OnlineSettings, OnlineState] | None:
        follows = self.trace == "leak" or not (self.network.cell.leaks or self._carries)
        fixed = self.feedback in kinds.FIXED and self.feedback_per == "layer"
        if not (follows and fixed and self.normalize is None):
            return None
        trace = None
        if self._carries:  # one tensor for all, the bias as one more column
            parts = [_columns(memory[name]) for name in self._fused_traces()]
            trace = torch.cat(parts, -1)
        settings = OnlineSettings("rflo", feedback=self.feedback_matrix(0))
        return settings, OnlineState(memory["states"].flatten(0, 3), None, trace)

    def after_fused(self, memory: Memory, state: OnlineState) -> None:
        if state.trace is None:
            return
        names = self._fused_traces()
        widths = [_columns(memory[name]).shape[-1] for name in names]
        for name, columns in zip(names, state.trace.split(widths, -1), strict=True):
            memory[name].copy_(columns.view_as(memory[name]))
        if self.network.recurrent.bias:  # both biases have one past
            memory[eligibility.trace_name("h", "bias_hh", 0)].copy_(memory[names[-1]])

    def _fused_traces(self) -> list[str]:
        """The traces of the fused path, side by side in this order."""
        own = ["weight_hh", "weight_ih"] + ["bias_ih"] * self.network.recurrent.bias
        return [eligibility.trace_name("h", kind, 0) for kind in own]

    def _credit_traces(self, layer: int, errors: Tensor, traces: Memory) -> CellWeights:
        """Σ_b (F e) ⊙ E, in the parameters' shapes."""
        found: list[Tensor | None] = [None] * 4
        gates = len(self.network.cell.gate_names)
        for index, kind in enumerate(self.network.recurrent.kinds):
            if self.feedback_per == "layer":
                signal = (errors @ self.feedback_matrix(layer).t()).repeat(1, gates)
            else:
                signal = errors @ self.feedback_matrix(layer, 0, kind).flatten(0, 1).t()
            trace = traces[eligibility.trace_name("h", kind, layer)]
            found[index] = torch.einsum("bg,bg...->g...", signal, trace)
        return CellWeights(*found)  # type: ignore[arg-type]


class TracedRule(FeedbackRule):
    """A named point in the plane of feedback and trace: a subclass says what is followed."""

    follows: ClassVar[Trace]

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "every",
        feedback: str = "gaussian",
        feedback_lr: float = 1e-3,
        feedback_decay: float = 1e-2,
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
            seed=seed,
        )


def unit_norm(gradient: Tensor) -> Tensor:
    """A gradient over its Frobenius norm; zero stays zero."""
    norm = torch.linalg.vector_norm(gradient)
    return torch.where(norm > 0, gradient / norm, gradient)


def _check_following(network: Network, feedback: str, feedback_per: str) -> None:
    """Feedback made from the readout, or like it, reaches only what the readout reads."""
    refused = None
    if not isinstance(network.readout, nn.Linear):
        refused = f"a {type(network.readout).__name__} readout, expected nn.Linear"
    elif network.num_layers > 1:
        refused = f"{network.num_layers} layers, expected 1 (the readout sees only the top one)"
    elif feedback_per == "parameter":
        refused = "feedback_per='parameter', expected 'layer' (there is one readout to follow)"
    if refused:
        raise UnsupportedError(
            f"feedback={feedback!r}: got {refused}. Use feedback='gaussian', or BPTT."
        )


def _not_negative(what: str, value: object) -> Problem | None:
    if isinstance(value, Real) and 0 <= float(value) < math.inf:
        return None
    return Problem(what, repr(value), "a number of at least 0")


def _columns(trace: Tensor) -> Tensor:
    """A trace as (b, h, …): that of a bias is one column."""
    return trace if trace.dim() == 3 else trace[..., None]
