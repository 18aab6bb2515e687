"""Leaky integrate-and-fire neurons with a hard threshold: spikes, and no derivative to pretend.

    a_t = V x_t + W h_{t-1} + b        v_t = β v_{t-1} + (1 − β) a_t        s_t = 1 if v_t > θ else 0
    v_t ← v_t (1 − s_t)                h_t = κ h_{t-1} + (1 − κ) s_t

h is the spike train seen through an exponential synapse: what the recurrent weights and the readout read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from timelocal.arguments import as_real
from timelocal.cells.black_box import BlackBox
from timelocal.cells.cell import LayerTrajectory
from timelocal.cells.weights import CellWeights
from timelocal.errors import Problem, described, raise_problems
from timelocal.typing import State


class LIFCell(BlackBox):
    """A spiking layer: membrane v, spikes s, synaptic trace h."""

    name = "lif"
    label = "LIF"
    state_names = ("h", "v")

    def __init__(self, membrane: float = 0.8, synapse: float = 0.8, threshold: float = 0.3) -> None:
        constants = {"membrane": membrane, "synapse": synapse}
        problems = [
            Problem(name, described(value), "a number in [0, 1)")
            for name, value in constants.items()
            if not 0 <= as_real(value) < 1
        ]
        if not 0 < as_real(threshold) < math.inf:
            problems.append(Problem("threshold", described(threshold), "a positive number"))
        raise_problems(problems)
        self.membrane = as_real(membrane)
        self.synapse = as_real(synapse)
        self.threshold = as_real(threshold)

    def scan(
        self,
        weights: CellWeights,
        inputs: Tensor,
        initial: State,
        node_noise: Tensor | None = None,
    ) -> LayerTrajectory:
        trace, potential = initial
        traces, potentials, currents = [trace], [potential], []
        for drive in self.drive(weights, inputs, node_noise):
            current = torch.addmm(drive, weights.decorrelated(trace), weights.hh.t())
            potential = torch.lerp(current, potential, self.membrane)
            spikes = (potential > self.threshold).to(potential.dtype)
            potential = potential * (1 - spikes)
            trace = torch.lerp(spikes, trace, self.synapse)
            traces.append(trace)
            potentials.append(potential)
            currents.append(current)
        return self.report(
            inputs, (torch.stack(traces), torch.stack(potentials)), torch.stack(currents)
        )

    def __repr__(self) -> str:
        return (
            f"LIFCell(membrane={self.membrane}, synapse={self.synapse}, threshold={self.threshold})"
        )
