"""A recurrent network: layers of one cell and a readout. It runs forward; rules decide what it learns.

Data comes in batch first; `scan` checks it and converts it to time first. Everything from `unroll` down is
time first and unchecked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from timelocal import kernels
from timelocal.cells import Cell, CellWeights, zero_state
from timelocal.errors import Problem, UnsupportedError, raise_problems
from timelocal.network.between import normalised, through_norm
from timelocal.network.checks import initial_problems, input_problems
from timelocal.network.lengths import flip, masked, valid_steps
from timelocal.network.readout import output_size
from timelocal.network.recurrent import Recurrent
from timelocal.network.trajectory import Trajectory
from timelocal.typing import Gradients, State, States

NodeNoise: TypeAlias = Sequence[Sequence[Tensor]]
Weights: TypeAlias = Sequence[Sequence[CellWeights]]


class Network(nn.Module):
    """A recurrent stack and a readout, made by `RNN`, `GRU`, `LSTM`, `from_torch` or `from_cell`.

    Attributes:
        recurrent: the stack; its `state_dict` is that of the torch.nn module, plus D if it decorrelates.
        readout: any module from (n, f·directions) to (n, o); f is h unless the cell has other features.
        batch_first: whether sequences enter as (b, t, i), the default, or (t, b, i).

    >>> import torch, timelocal as tl
    >>> network = tl.GRU(3, 8, output_size=2)
    >>> network.recurrent.weight_hh_l0.shape, network.readout
    (torch.Size([24, 8]), Linear(in_features=8, out_features=2, bias=True))
    """

    def __init__(
        self, recurrent: Recurrent, readout: nn.Module, *, batch_first: bool = True
    ) -> None:
        super().__init__()
        _refuse_tied_weights(recurrent, readout)
        self.recurrent = recurrent
        self.readout = readout
        self.batch_first = batch_first

    @property
    def cell(self) -> Cell:
        return self.recurrent.cell

    @property
    def input_size(self) -> int:
        return self.recurrent.input_size

    @property
    def hidden_size(self) -> int:
        return self.recurrent.hidden_size

    @property
    def features_size(self) -> int:
        """f: the number of features of a layer and direction that its readers see."""
        return self.recurrent.features_size

    @property
    def output_size(self) -> int:
        """O: from a linear readout's sizes, otherwise by calling the readout once.

        Raises:
            ArgumentError: for a readout that does not fit, or no longer does.
        """
        recurrent = self.recurrent
        features = recurrent.features_size * recurrent.directions
        return output_size(self.readout, features, recurrent.like)

    @property
    def num_layers(self) -> int:
        return self.recurrent.num_layers

    @property
    def directions(self) -> int:
        return self.recurrent.directions

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Outputs at every step, (b, t, i) -> (b, t, o), for inference: no autograd graph is built.

        lengths (b,): of right-padded sequences; outputs at padded steps are meaningless.

        Raises:
            ArgumentError: as `scan`.
        """
        self._check(inputs, lengths)
        trajectory = self.unroll(self.time_first(inputs), lengths)
        with torch.no_grad():
            outputs: Tensor = self.readout(trajectory.outputs)
        return outputs.transpose(0, 1) if self.batch_first else outputs

    def features(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The features a readout sees at the last step: (b, t, i) -> (b, f·directions).

        Raises:
            ArgumentError: as `scan`.
        """
        self._check(inputs, lengths)
        # a view would keep the whole trajectory
        return self.unroll(self.time_first(inputs), lengths).last().clone()

    def scan(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        initial: States | None = None,
    ) -> Trajectory:
        """Run forward and keep everything a rule may need.

        Args:
            inputs: (b, t, i), the network's dtype and device, finite.
            lengths: (b,) integers in 1 … t of right-padded sequences; None if all are t long.
            initial: h, or (h, c) for the LSTM, each (l·directions, b, h) as in torch.nn; zeros if None.

        Raises:
            ArgumentError: for every violated condition, all at once.

        >>> import torch, timelocal as tl
        >>> network = tl.GRU(3, 8, output_size=2)
        >>> network.scan(torch.zeros(5, 7, 3)).outputs.shape
        torch.Size([7, 5, 8])
        """
        problems = self._input_problems(inputs, lengths)
        if not problems:
            batch = inputs.shape[0 if self.batch_first else 1]
            problems = initial_problems(self.recurrent, initial, batch)
        raise_problems(problems)
        return self.unroll(self.time_first(inputs), lengths, initial)

    def _check(self, inputs: object, lengths: object) -> None:
        if (
            not torch.compiler.is_compiling()
        ):  # the values of an exported network's inputs are unknown
            raise_problems(self._input_problems(inputs, lengths))

    def _input_problems(self, inputs: object, lengths: object) -> list[Problem]:
        return input_problems(self.recurrent, inputs, lengths, batch_first=self.batch_first)

    def time_first(self, values: Tensor) -> Tensor:
        """(b, t, …) -> (t, b, …), contiguous; as given if the network is not batch first."""
        return (values.transpose(0, 1) if self.batch_first else values).contiguous()

    @torch.no_grad()
    def unroll(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        initial: States | None = None,
        generator: torch.Generator | None = None,
        node_noise: NodeNoise | None = None,
        weights: Weights | None = None,
        copies: int = 1,
    ) -> Trajectory:
        """`scan` without checks: inputs (t, b, i), already checked.

        generator: draws the dropout masks between layers; none are drawn without it, or in eval mode.
        node_noise[l][d] (t, b, g): added to the pre-activations of a layer and direction.
        weights[l][d]: weights to use instead of the network's own.
        copies: the number of copies of the same sequences in the batch, one after another; they share masks.
        """
        recurrent = self.recurrent
        if lengths is not None:
            lengths = lengths.to(inputs.device, torch.int64)  # the type that indexes
        valid = None if lengths is None else valid_steps(lengths, inputs.shape[0], inputs.device)
        entering = outputs = inputs if valid is None else masked(inputs, valid)
        layers = []
        masks: list[Tensor | None] = []
        for layer in range(recurrent.num_layers):
            if layer > 0:
                masks.append(self._dropout_mask(outputs, generator, copies))
                entering = normalised(outputs) if recurrent.layer_norm else outputs
                entering = entering if masks[-1] is None else entering * masks[-1]
            directions = tuple(
                kernels.scan(
                    recurrent.cell,
                    weights[layer][direction] if weights else recurrent.weights(layer, direction),
                    flip(entering, lengths) if direction else entering,
                    self.start(inputs, initial, layer, direction),
                    node_noise[layer][direction] if node_noise else None,
                )
                for direction in range(recurrent.directions)
            )
            layers.append(directions)
            parts = [directions[0].features]
            parts += [flip(backward.features, lengths) for backward in directions[1:]]
            leaving = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
            if valid is not None:
                leaving = masked(leaving, valid)
            outputs = outputs + leaving if recurrent.skip and layer > 0 else leaving
        return Trajectory(tuple(layers), outputs, lengths, valid, tuple(masks), recurrent.skip)

    def start(self, inputs: Tensor, initial: States | None, layer: int, direction: int) -> State:
        """The initial state (h,) or (h, c), each (b, h), of one layer and direction."""
        if initial is None:
            return zero_state(self.recurrent.cell, inputs, self.recurrent.hidden_size)
        states = (initial,) if isinstance(initial, Tensor) else initial
        return tuple(state[layer * self.directions + direction] for state in states)

    def _dropout_mask(
        self, outputs: Tensor, generator: torch.Generator | None, copies: int
    ) -> Tensor | None:
        """Bernoulli(1 − p) / (1 − p), drawn where the generator lives: one seed, one mask."""
        p = self.recurrent.dropout
        if not p or not self.training or generator is None:
            return None
        steps, rows, features = outputs.shape
        kept = torch.empty(steps, rows // copies, features, device=generator.device)
        kept = kept.bernoulli_(1 - p, generator=generator).to(outputs).div_(1 - p)
        return kept if copies == 1 else kept.repeat(1, copies, 1)

    def leaving(self, trajectory: Trajectory, layer: int) -> Tensor:
        """The outputs of a layer to the next, in the sequence's time (t, b, f·directions): y of `between`."""
        total: Tensor | None = None
        for forward, *backward in trajectory.layers[
            0 if self.recurrent.skip else layer : layer + 1
        ]:
            flipped = [flip(own.features, trajectory.lengths) for own in backward]
            here = torch.cat((forward.features, *flipped), -1) if flipped else forward.features
            total = here if total is None else total + here
        assert total is not None
        return total

    def signal_between(self, trajectory: Trajectory, layer: int, signal: Tensor) -> Tensor:
        """From a signal at the inputs of a layer to the signal at the outputs of the layers below.

        signal (t, b, f·directions): at the first t steps, or at all; or at the step of a run of one.
        """
        mask = trajectory.dropout[layer - 1]
        signal = signal if mask is None else signal * mask[: len(signal)]
        if not self.recurrent.layer_norm:
            return signal
        return through_norm(self.leaving(trajectory, layer - 1)[: len(signal)], signal)

    def tangent_between(self, trajectory: Trajectory, layer: int, tangent: Tensor) -> Tensor:
        """The change of a layer's inputs with the outputs below it: the transpose of `signal_between`."""
        if self.recurrent.layer_norm:
            tangent = through_norm(self.leaving(trajectory, layer - 1), tangent)
        mask = trajectory.dropout[layer - 1]
        return tangent if mask is None else tangent * mask

    def parameter_gradients(
        self, trajectory: Trajectory, deltas: Sequence[Sequence[Tensor]]
    ) -> Gradients:
        """The contraction that every rule which credits nodes ends in: dW = Σ_t δ_t ⊗ pre_t.

        deltas[l][d] (t, b, g): the node signals, in each direction's own time. Returns the gradients
        of the recurrent parameters by their names in `named_parameters()`.
        """
        found: Gradients = {}
        for layer, directions in enumerate(trajectory.layers):
            for direction, own in enumerate(directions):
                weights = self.recurrent.weights(layer, direction)
                gradients = kernels.weight_gradients(
                    self.cell, weights, own, deltas[layer][direction]
                )
                found |= self.named(layer, direction, gradients)
        return found

    def named(self, layer: int, direction: int, gradients: CellWeights) -> Gradients:
        """The gradients of one layer and direction by the names in `named_parameters()`."""
        names = self.recurrent.parameter_names(layer, direction)
        return {
            f"recurrent.{name}": gradient
            for name, gradient in zip(names, gradients, strict=False)
            if gradient is not None
        }

    def activity_gradients(self, trajectory: Trajectory) -> tuple[Tensor, Gradients]:
        """The penalty of a `penalised` cell over all layers, a scalar, and its local gradients.

        Each unit's share of the penalty is credited along its own past alone, whatever the rule.
        """
        total, gradients = trajectory.outputs.new_zeros(()), Gradients()
        for layer, directions in enumerate(trajectory.layers):
            for direction, own in enumerate(directions):
                weights = self.recurrent.weights(layer, direction)
                after = tuple(state[1:] for state in own.states)
                penalty, signals = self.cell.activity(after, trajectory.valid)
                delta = kernels.traced_states(self.cell, weights, "diagonal", own, signals)
                found = kernels.weight_gradients(self.cell, weights, own, delta)
                gradients |= self.named(layer, direction, found)
                total = total + penalty
        return total, gradients

    def recurrent_zeros(self) -> Gradients:
        """The gradients of a recurrence that is frozen, by the names in `named_parameters()`."""
        named = self.recurrent.named_parameters()
        return {f"recurrent.{name}": torch.zeros_like(own) for name, own in named}

    def weights(self) -> Weights:
        """The parameters of every layer and direction [l][d], and their D."""
        return [
            [self.recurrent.weights(layer, direction) for direction in range(self.directions)]
            for layer in range(self.num_layers)
        ]

    def signal_at_states(
        self, signal: Tensor, layer: int, weights: Weights | None = None
    ) -> Tensor:
        """From a signal at what leaves a layer to the one at its cell's features: Dᵀ G, by direction.

        (…, f·directions), and the same is returned; the same signal where nothing is decorrelated.
        weights[l][d]: whose D it is, instead of the network's own.
        """
        if self.recurrent.decorrelate is None:
            return signal
        parts = [
            own.carried_back(part)
            for own, part in zip(
                (weights or self.weights())[layer], signal.chunk(self.directions, -1), strict=True
            )
        ]
        return torch.cat(parts, -1)

    def decorrelation_steps(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the matrices D learn from decorrelated states, by the names of their buffers.

        features: for each layer and direction, layer by layer, h* (n, f). Nothing is changed here; nothing is
        learned in eval mode, or where nothing is decorrelated.
        """
        law = self.recurrent.decorrelate
        if law is None or not self.training:
            return {}
        return {
            name: law.step(self.recurrent.get_buffer(name), seen)
            for name, seen in zip(self.recurrent.decorrelation_names(), features, strict=True)
        }


def _refuse_tied_weights(recurrent: nn.Module, readout: nn.Module) -> None:
    """A tensor in both would get two gradients under two names."""
    owned = {id(parameter): name for name, parameter in recurrent.named_parameters()}
    for name, parameter in readout.named_parameters():
        if id(parameter) in owned:
            raise UnsupportedError(
                f"readout: got a {name} that is also the recurrent stack's {owned[id(parameter)]}, "
                "expected separate parameters. Use a copy of it for the readout."
            )
