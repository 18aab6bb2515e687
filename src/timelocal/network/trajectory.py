"""The record of a forward run: everything that any rule needs, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from timelocal.cells import LayerTrajectory
from timelocal.network.lengths import last_state
from timelocal.typing import States


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A whole forward run, time first.

    layers[l][d]: the trajectory of layer l in direction d, in that direction's own time (the backward
    direction's step 0 is each sequence's last valid one).
    outputs (t, b, f·directions): the outputs of the top layer, its features or D times these if it
    decorrelates, in the sequence's time; zero at padding. lengths (b,) and valid (t, b), or None if nothing
    is padded.
    dropout: the mask on the output of each layer but the top one, (t, b, f·directions) or None.
    skip: whether the top layer outputs the sum of all layers' features.

    >>> import torch, timelocal as tl
    >>> trajectory = tl.GRU(3, 8, output_size=2).scan(torch.zeros(4, 7, 3))
    >>> trajectory.outputs.shape, trajectory.layers[0][0].hidden.shape
    (torch.Size([7, 4, 8]), torch.Size([7, 4, 8]))
    """

    layers: tuple[tuple[LayerTrajectory, ...], ...]
    outputs: Tensor
    lengths: Tensor | None
    valid: Tensor | None
    dropout: tuple[Tensor | None, ...]
    skip: bool = False

    def rows(self, rows: slice) -> Trajectory:
        """Some of the sequences."""
        return Trajectory(
            tuple(tuple(own.rows(rows) for own in directions) for directions in self.layers),
            self.outputs[:, rows],
            None if self.lengths is None else self.lengths[rows],
            None if self.valid is None else self.valid[:, rows],
            tuple(None if mask is None else mask[:, rows] for mask in self.dropout),
            self.skip,
        )

    def step(self, t: int) -> Trajectory:
        """Step t alone, as a run of one step without padding. For a network of one direction."""
        return Trajectory(
            tuple((own.step(t),) for (own,) in self.layers),
            self.outputs[t : t + 1],
            None,
            None,
            tuple(None if mask is None else mask[t : t + 1] for mask in self.dropout),
            self.skip,
        )

    def final_states(self) -> States:
        """The states after each direction's own last valid step, as torch.nn returns them.

        h, or (h, c) for the LSTM, each (l·directions, b, h); to be passed as `initial` of the next call.
        Never decorrelated.
        """
        if self.lengths is None and len(self.layers) == 1 and len(self.layers[0]) == 1:
            (own,) = self.layers[0]  # one copy, where slicing and stacking would take three calls
            copies = tuple(torch.narrow_copy(s, 0, len(s) - 1, 1) for s in own.states)
            return copies[0] if len(copies) == 1 else copies
        per_layer = [
            [last_state(state, self.lengths) for state in direction.states]
            for directions in self.layers
            for direction in directions
        ]
        stacked = tuple(torch.stack(states) for states in zip(*per_layer, strict=True))
        return stacked[0] if len(stacked) == 1 else stacked

    def valid_features(self) -> list[Tensor]:
        """The outputs of each layer and direction at all valid steps, (n, f), layer by layer."""
        return [
            own.features.flatten(0, 1) if self.valid is None else own.features[self.valid]
            for directions in self.layers
            for own in directions
        ]

    def last(self) -> Tensor:
        """The outputs of the top layer at the last valid step, directions side by side, (b, f·d).

        For the backward direction that is the state after its own last step, the sequence's first,
        as in torch's `h_n`.
        """
        total: Tensor | None = None
        for directions in self.layers if self.skip else self.layers[-1:]:
            parts = [last_state(own.leaving, self.lengths) for own in directions]
            here = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
            total = here if total is None else total + here
        assert total is not None
        return total
