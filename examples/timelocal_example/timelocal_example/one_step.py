"""The one-step rule: each step's error, carried back within that step and no further."""

import timelocal as tl
from timelocal.network import at_last_valid
from timelocal.rules import ForwardPass, readout_signal
from timelocal.typing import Gradients


class OneStep(tl.Rule):
    """dW = Σ_t δ_t ⊗ (what entered W at t), with δ_t = (∂h_t/∂a_t)ᵀ W_outᵀ e_t.

    The exact gradient of Σ_t ℓ_t with h_{t-1} held constant, for a network of one layer.
    """

    spec = tl.RuleSpec(
        name="one-step",
        summary="the output error, carried back within its own step",
        estimates="exact",
        target="tbptt1",
        online=False,
        autograd_free=True,
        weight_transport=True,
        references=(
            "R. J. Williams, J. Peng. An efficient gradient-based algorithm for on-line training of "
            "recurrent network trajectories. Neural Computation 2(4):490–501, 1990.",
        ),
    )

    def recurrent_gradients(self, forward: ForwardPass) -> Gradients:
        network, trajectory = self.network, forward.trajectory
        if network.num_layers > 1 or not network.cell.features_are_hidden:
            raise tl.UnsupportedError(
                "one-step knows one layer, whose readout sees h itself. Use timelocal.TBPTT(network, k=1)."
            )
        ((layer,),) = trajectory.layers  # one layer, one direction
        steps, sequences, _ = layer.hidden.shape
        signal = readout_signal(network, forward)  # W_outᵀ e, (b, h) or (t·b, h)
        if self.at == "last":
            signal = at_last_valid(signal, steps, trajectory.lengths)
        signal = signal.reshape(steps, sequences, -1)
        jacobian = network.cell.local_jacobian(layer)
        delta = network.cell.node_signal(network.recurrent.weights(0, 0), jacobian, signal)
        return network.parameter_gradients(trajectory, [[delta]])
