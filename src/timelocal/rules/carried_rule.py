"""The base of rules that carry their past forward in time: RTRL and UORO, the third family.

    traces_t = carried(traces_{t-1}, step t),   dW = Σ_t met(∂ℓ_t/∂f_t, traces_t)

An author writes `no_traces`, `carried` and `met`; whole sequences and streams follow from them here.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from timelocal.distributed import of_this_rank
from timelocal.network import Trajectory, at_last_valid
from timelocal.precision import at_least_float32
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass
from timelocal.rules.forward import forward_pass, readout_gradients, readout_signal
from timelocal.rules.perturbation import draw_key
from timelocal.rules.rule import Rule
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.typing import Gradients, Memory


class CarriedRule(Rule):
    """A rule that carries traces of the past forward in time, for networks of one direction."""

    @abstractmethod
    def no_traces(self, batch_size: int) -> Memory:
        """The traces of an empty past, by name: zeros, each (b, …)."""

    @abstractmethod
    def carried(self, traces: Memory, run: Trajectory, key: int, step: int) -> Memory:
        """The traces after one more step, from the previous ones.

        run: the trajectory of that step alone (t = 1). Noise is a function of `key` and `step`.
        """

    @abstractmethod
    def met(self, signal: Tensor, traces: Memory, run: Trajectory) -> Gradients:
        """The recurrent gradients of one step's loss, from its traces.

        signal (b, f): at the top layer's features; zero where a sequence has no loss at that step. run: the
        trajectory of that step alone.
        """

    def met_in_all(self, signal: Tensor, run: Trajectory, batch: Batch) -> Gradients | None:
        """The recurrent gradients of a whole sequence, if that is faster than step by step; otherwise None.

        signal: at the top layer's features, (b, f) of a loss at the last step, else (t·b, f).
        """
        return None

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        """One forward pass, then the traces from the first step to the last."""
        steps, sequences = batch.inputs.shape[:2]
        if self.network.recurrent.is_frozen:
            return super().compute(batch)
        traces = self.no_traces(sequences)
        generator = of_this_rank(self.generator)
        key = draw_key(generator) if self.spec.draws else 0
        forward = forward_pass(self.network, self.loss, batch, generator)
        signal = readout_signal(self.network, forward)
        whole = self.met_in_all(signal, forward.trajectory, batch)
        if whole is not None:
            return forward, readout_gradients(self.network, forward) | whole
        if batch.at == "last":
            signal = at_last_valid(signal, steps, forward.trajectory.lengths)
        gradients: Gradients = {}
        only_last = batch.at == "last" and batch.lengths is None
        for t, own_signal in enumerate(signal.view(steps, sequences, -1)):
            run = forward.trajectory.step(t)
            traces = self.carried(traces, run, key, t)
            if only_last and t < steps - 1:
                continue
            for name, gradient in self.met(own_signal, traces, run).items():
                past = gradients.get(name)
                gradients[name] = at_least_float32(gradient) if past is None else past + gradient
        return forward, readout_gradients(self.network, forward) | gradients

    def begin(self, batch_size: int) -> Memory:
        traces = self.no_traces(batch_size)  # first: it may refuse
        return {"states": no_states(self.network, batch_size), **traces}

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        forward = self._forward_pass(batch.starting_from(unpacked(memory["states"])))
        traces = self.carried(memory, forward.trajectory, key, step)
        signal = readout_signal(self.network, forward)
        gradients = self.met(signal, traces, forward.trajectory)
        after = {"states": packed(forward.trajectory.final_states()), **traces}
        return forward, readout_gradients(self.network, forward) | gradients, after
