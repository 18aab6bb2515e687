"""Feedback alignment through time: BPTT's backward pass through fixed random matrices, not the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from timelocal.cells import CellWeights
from timelocal.errors import Problem, UnsupportedError
from timelocal.feedback import check_width
from timelocal.losses import Loss
from timelocal.network import Network, Weights
from timelocal.rules.bptt import backpropagate, signal_at_inputs
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.rule import Rule
from timelocal.typing import Gradients, LossFunction, Place


class FeedbackAlignment(Rule):
    """Feedback alignment (FA; Lillicrap et al. 2016), carried through time.

    The recursion of BPTT is kept, step by step and layer by layer, and so is every slope. Each weight matrix
    W that a signal passes on its way back, in the readout, from step to step and between layers, is replaced
    there by a matrix B of the same shape, drawn once like an initial W. For a tanh RNN

        G_t = B_outᵀ e_t + B_hhᵀ δ_{t+1},   δ_t = G_t ⊙ (1 − h_t²),   dW = Σ_t δ_t ⊗ pre_t

    A unit's connection to itself (the u of an IndRNN, the λ of an LRU, a leak) is kept. D, if the network
    decorrelates, is replaced by the identity on the way back. The readout learns by the exact delta rule.

    Args:
        network: any timelocal network with an `nn.Linear` readout.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`.
        seed: of the matrices B and of dropout masks.

    Raises:
        UnsupportedError: for a readout that is not linear.

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(3, 8, output_size=2)
    >>> rule = tl.FeedbackAlignment(network, at="every")
    >>> rule(torch.randn(4, 10, 3), torch.randint(2, (4, 10))).backward()
    >>> rule.feedback_matrices()["recurrent.weight_hh_l0"].shape
    torch.Size([24, 8])

    Source: Lillicrap et al. (2016), for the layers of a feedforward network. Differs from BPTT only in the
    matrices, from DFA in going through every step in between: it needs the whole sequence, and memory that
    grows with it. Biased; with B = W it is BPTT.
    """

    spec = RuleSpec(
        name="fa",
        summary="BPTT's backward pass through fixed random matrices",
        estimates="biased",
        target="oracle",
        online=False,
        autograd_free=True,
        weight_transport=False,
        bidirectional=True,
        references=(
            "T. P. Lillicrap, D. Cownden, D. B. Tweed, C. J. Akerman. Random synaptic feedback weights "
            "support error backpropagation for deep learning. Nature Communications 7:13276, 2016.",
        ),
    )

    carries_back_to: ClassVar[tuple[str, ...]] = ("inputs", "initial")

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        seed: int = 0,
        problems: Iterable[Problem | None] = (),
    ) -> None:
        """problems: problems that a subclass found with its own arguments."""
        super().__init__(network, loss=loss, at=at, seed=seed, problems=problems)
        recurrent = network.recurrent
        for name, weight in self.mirrored().items():
            drawn = torch.empty(weight.shape)
            if name == "readout.weight":
                bound = weight.shape[1] ** -0.5
                drawn.uniform_(-bound, bound, generator=self.generator)
            else:
                kind = name.removeprefix("recurrent.").rpartition("_l")[0]
                network.cell.initialise(kind, drawn, recurrent.hidden_size, self.generator)
            self.register_buffer(feedback_name(name), drawn.to(weight))

    def mirrored(self) -> dict[str, Tensor]:
        """The weight matrices that signals pass on their way back, by the network's names.

        Raises `UnsupportedError` for a readout that is not linear, also if it was replaced since.
        """
        readout, named = self.network.readout, self.network.named_parameters()
        if not isinstance(readout, nn.Linear):
            raise UnsupportedError(
                f"readout: got a {type(readout).__name__}, expected nn.Linear: the error goes back "
                "through a single matrix of the same size. Use DFA, or BPTT."
            )
        return {name: weight.detach() for name, weight in named if weight.dim() > 1}

    def feedback_matrices(self) -> dict[str, Tensor]:
        """The matrix B for each of these, of the same shape."""
        return {name: self.get_buffer(feedback_name(name)) for name in self.mirrored()}

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        network, trajectory, batch = self.network, forward.trajectory, forward.batch
        carriers, matrix = self._carriers(), self.get_buffer(feedback_name("readout.weight"))
        check_width(matrix.t(), forward.errors.shape[-1])
        signal = forward.errors @ matrix
        deltas, at_start = backpropagate(network, trajectory, signal, batch.at, carriers)
        gradients = network.parameter_gradients(trajectory, deltas)
        if "inputs" in batch.wanted:
            gradients["inputs"] = signal_at_inputs(network, trajectory, 0, deltas[0], carriers)
        if "initial" in batch.wanted:
            gradients["initial"] = at_start
        return gradients

    def _carriers(self) -> Weights:
        """[l][d]: what signals pass on their way back: B for each W, and the identity for D."""
        matrices = self.feedback_matrices()
        return [
            [
                self._carrier(matrices, layer, direction, own)
                for direction, own in enumerate(directions)
            ]
            for layer, directions in enumerate(self.network.weights())
        ]

    def _carrier(
        self, matrices: Mapping[str, Tensor], layer: int, direction: int, own: CellWeights
    ) -> CellWeights:
        names = self.network.recurrent.parameter_names(layer, direction)
        pairs = zip(names, own, strict=False)
        values = [matrices.get(f"recurrent.{name}", weight) for name, weight in pairs]
        if own.decorrelation is not None:
            values.append(torch.eye(len(own.decorrelation)).to(own.decorrelation))
        return type(own)(*values)  # type: ignore[arg-type]


def feedback_name(parameter: str) -> str:
    """`feedback_weight_hh_l0` of `recurrent.weight_hh_l0`, `feedback_readout_weight` of the readout's."""
    return "feedback_" + parameter.removeprefix("recurrent.").replace(".", "_")
