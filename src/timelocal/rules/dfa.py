"""Direct feedback alignment for recurrent networks: the output error, straight to every step."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from timelocal import feedback as kinds
from timelocal import kernels
from timelocal.cells import CellWeights, LayerTrajectory
from timelocal.errors import Problem, UnsupportedError, unknown_name
from timelocal.losses import Loss
from timelocal.network import Network, flip, parameter_name
from timelocal.rules.batch import Batch
from timelocal.rules.rule import ForwardPass, Rule, RuleSpec
from timelocal.typing import Gradients, LossFunction, Place

FeedbackPer = Literal["layer", "parameter"]
Normalize = Literal["frobenius"]


class DFA(Rule):
    """Direct feedback alignment (DFA) for RNNs, GRUs and LSTMs.

    The output error e = ∂L/∂y reaches every hidden unit at every step through one fixed random matrix,
    instead of being carried back step by step:

        G_t = F e  for all t ≤ T (loss at the last step),   G_t = F e_t  (loss at every step)
        δ_t = (∂h_t/∂a_t)ᵀ G_t, within the step,            dW = Σ_t δ_t ⊗ pre_t

    for a tanh RNN δ_t = F e ⊙ (1 − h_t²). Nothing is sequential: after the forward scan the update is one
    elementwise pass and a few matrix products over t·b rows. The readout learns by the exact delta rule.
    Each layer (and direction) has its own F from the output error: no layer waits for another. The
    error that is projected is the one at the output of the readout, whatever module that is. In a network
    that decorrelates G is still the signal at h itself: the random F takes no notice of D.

    Args:
        network: any timelocal network.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last" or "every" step.
        feedback: how F (h, o) is drawn: "gaussian", "uniform", "orthogonal", "sparse", "ternary"; or made
            from the readout as it is now: "symmetric" (F = W_outᵀ, of W_out D where the network
            decorrelates), "sign". All have the size that a fresh readout has, so learning rates carry over
            from BPTT.
        feedback_per: "layer": one F for all parameters of a layer; "parameter": one for each weight and
            bias of each gate, as in the paper's figure 1.
        normalize: None, or "frobenius": every gradient divided by its Frobenius norm, as the paper's
            authors do without saying so.
        seed: of the feedback matrices and of dropout masks.

    Raises:
        ArgumentError: for unknown names, all at once.
        UnsupportedError: for "symmetric" and "sign" feedback below the top layer or from a readout that is
            not linear.

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(28, 16, output_size=10)
    >>> rule = tl.DFA(network, feedback="gaussian", seed=0)
    >>> optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    >>> loss = rule(torch.rand(5, 28, 28), torch.arange(5))
    >>> optimizer.step()

    Source: the DFA paper's equations 4–5 and appendix A, with its algebra corrected (the z gate's slope
    is z (1 − z), δ_r is W_nᵀ δ_n ⊙ h ⊙ r (1 − r), and δ_n needs no matrix). Differs from RFLO and
    e-prop in the temporal trace (none here), from feedback alignment in going to each step directly, and
    from BPTT in both. Biased: it works as far as the readout aligns itself with F.
    """

    spec = RuleSpec(
        name="dfa",
        summary="the output error through a fixed random matrix, to every step at once",
        estimates="biased",
        target="the output error through fixed random feedback, without a path through time",
        online=False,
        autograd_free=True,
        memory="linear",
        weight_transport=False,
        references=(
            "Direct Feedback Alignment for Recurrent Neural Networks. Second Workshop on Machine "
            "Learning with New Compute Paradigms at NeurIPS (MLNCP), 2024.",
            "A. Nøkland. Direct feedback alignment provides learning in deep neural networks. "
            "NeurIPS 29:1037–1045, 2016.",
            "T. P. Lillicrap, D. Cownden, D. B. Tweed, C. J. Akerman. Random synaptic feedback weights "
            "support error backpropagation for deep learning. Nature Communications 7:13276, 2016.",
        ),
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        feedback: str = "gaussian",
        feedback_per: FeedbackPer = "layer",
        normalize: Normalize | None = None,
        seed: int = 0,
    ) -> None:
        problems = (
            unknown_name("feedback", feedback, (*kinds.FIXED, *kinds.FOLLOWING)),
            unknown_name("feedback_per", feedback_per, get_args(FeedbackPer)),
            None
            if normalize in (None, *get_args(Normalize))
            else Problem("normalize", repr(normalize), "None or 'frobenius'"),
        )
        super().__init__(network, loss=loss, at=at, seed=seed, problems=problems)
        self.feedback = feedback
        self.feedback_per = feedback_per
        self.normalize = normalize
        if feedback in kinds.FOLLOWING:
            _check_following(network, feedback, feedback_per)
        else:
            self._draw()

    def _draw(self) -> None:
        """One buffer per layer and direction (h, o), or per parameter of these (gates, h, o)."""
        network = self.network
        size = (network.hidden_size, network.output_size)
        weight = network.recurrent.weights(0, 0).hh
        draw = kinds.FIXED[self.feedback]
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
        return self.get_buffer(parameter_name(prefix, layer, direction))

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        forward = self.forward_pass(batch, self.generator)
        gradients = self.readout_gradients(forward)
        for layer, directions in enumerate(forward.trajectory.layers):
            for direction, own in enumerate(directions):
                found = self._credit(layer, direction, own, batch, forward)
                gradients |= self.network.named(layer, direction, found)
        if self.normalize == "frobenius":
            gradients = {name: unit_norm(gradient) for name, gradient in gradients.items()}
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
            projected = forward.errors @ matrix.t()
            if batch.at == "last":
                return projected
            projected = projected.unflatten(0, batch.inputs.shape[:2])
            return flip(projected, lengths) if direction else projected

        if self.feedback_per == "layer":
            matrix = self.feedback_matrix(layer, direction)
            return kernels.credit(cell, weights, own, signal(matrix), lengths)

        found: list[Tensor | None] = [None] * len(weights)
        for index, kind in enumerate(self.network.recurrent.kinds):
            blocks = []  # each gate's block of each parameter sees its own F
            for gate, matrix in enumerate(self.feedback_matrix(layer, direction, kind)):
                delta = kernels.node_signals(cell, weights, own, signal(matrix), lengths)
                blocks.append(delta.chunk(len(cell.gate_names), -1)[gate])
            found[index] = cell.gradient(kind, own, torch.cat(blocks, -1))
        return CellWeights(*found)  # type: ignore[arg-type]


def unit_norm(gradient: Tensor) -> Tensor:
    """A gradient over its Frobenius norm; zero stays zero."""
    norm = torch.linalg.vector_norm(gradient)
    return torch.where(norm > 0, gradient / norm, gradient)


def _check_following(network: Network, feedback: str, feedback_per: str) -> None:
    """Feedback made from the readout reaches only what the readout reads."""
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
