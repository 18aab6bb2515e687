"""Activity-based node perturbation: credit for the measured change of activity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.arguments import flag_problem, is_flag
from timelocal.errors import unknown_name
from timelocal.kernels.native_perturbed import NoisyCall
from timelocal.kernels.native_stream import CREDITS
from timelocal.losses import Loss
from timelocal.network import Network, at_last_valid
from timelocal.precision import at_least_float32
from timelocal.rules.estimate import RuleSpec
from timelocal.rules.node_perturbation import PAPER
from timelocal.rules.perturbation import Directions, NodeRule, Noise, Reward, Runs, write_nodes
from timelocal.typing import LossFunction, Place

Norm = Literal["network", "layer"]


class ANP(NodeRule):
    """Activity-based node perturbation (ANP): as NP, with the measured change of every node.

    It makes the two runs of NP, and credits not the noise itself but the total change of the pre-activations,
    δα_t = α̃_t − α_t, of all N perturbed nodes of that step and sequence, including the readout's:

        dW = Σ_t c_t N δα_t / ‖δα_t‖² ⊗ pre_t      (zero if δα_t = 0)

    with c_t as in `NP`. The noise need not be known, only its effect measured: with `clean=False` both runs
    are noisy.

    Args:
        clean: whether the reference run is free of noise. False makes two noisy runs, for devices that have
            no clean one; outputs and loss are then noisy as well. Use `sigma=0` if the device is noisy
            enough.
        norm: "network" takes N and ‖δα‖ over all nodes of a step, as in the paper; "layer" takes them
            separately for each layer and for the readout, as in the paper's code. With `carry=False`, "layer"
            is unbiased for each of them: a step's noise on the hidden nodes of one layer is isotropic, but
            over all nodes together it is not, since it also moves the outputs.
        The rest: as in `NP`. σ sets how far the runs differ, not the size of the update.

    Raises: as `NP`.

    >>> import torch, timelocal as tl
    >>> network = tl.RNN(2, 16, output_size=1)
    >>> rule = tl.ANP(network, loss="mse", at="every", sigma=0.01, clean=False)
    >>> rule(torch.randn(8, 20, 2), torch.randn(8, 20, 1)).backward()

    Source: the perturbation paper's equation 3, with δℓ for its ℓ, after Dalm, van Gerven & Ahmad 2023.
    To first order δℓ_t = ⟨g_t, δα_t⟩, so the mean is N ⟨δα δαᵀ / ‖δα‖²⟩ g_t: the one-step gradient times the
    normalised covariance of the change of activity. It equals the gradient only if that change is isotropic;
    noise carried by the states makes it less so.
    """

    spec = RuleSpec(
        name="anp",
        summary="as node perturbation, crediting the measured change of every node",
        estimates="biased",
        target="oracle",
        online=True,
        autograd_free=True,
        weight_transport=False,
        derivative_free=True,
        draws=True,
        references=(
            PAPER,
            "S. Dalm, M. van Gerven, N. Ahmad. Effective learning with node perturbation in deep neural "
            "networks. arXiv:2310.00965, 2023.",
        ),
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        sigma: float = 0.01,
        credit: str = "local",
        reward: Reward = "sample",
        antithetic: bool = False,
        directions: int = 1,
        carry: bool = True,
        noise: Noise = "gaussian",
        clean: bool = True,
        norm: Norm = "network",
        seed: int = 0,
    ) -> None:
        super().__init__(
            network,
            loss=loss,
            at=at,
            sigma=sigma,
            credit=credit,
            reward=reward,
            antithetic=antithetic,
            directions=directions,
            carry=carry,
            noise=noise,
            seed=seed,
            silent=is_flag(clean) and not clean,
            problems=[
                flag_problem("clean", clean),
                unknown_name("norm", norm, get_args(Norm)),
            ],
        )
        self.clean = bool(clean)
        self.norm = norm
        self.spec = replace(self.spec, clean=self.clean)

    def native_credit(self) -> Callable[[NoisyCall], None] | None:
        known = type(self) is ANP and self.clean
        return partial(write_activity, self) if known else None

    def _reference_noise(
        self,
        key: int,
        first_step: int,
        steps: int,
        place: int,
        shape: tuple[int, int],
        like: Tensor,
    ) -> Tensor:
        if self.clean:
            return super()._reference_noise(key, first_step, steps, place, shape, like)
        own = place + self.network.num_layers + 1  # a place that no other noise uses
        drawn = kernels.normal(key, first_step, steps, own, (1, *shape), like.dtype, like.device)
        return drawn.mul_(self.sigma)

    def directions_of_credit(self, runs: Runs) -> Directions:
        nodes, readout = self.changes(runs)
        steps, lengths = len(runs.rows.outputs), runs.rows.lengths
        at_last = readout.dim() == 3
        sizes = [change.square().sum(-1) for change in nodes]
        if self.norm == "layer":
            return Directions(
                [
                    change * _gain(size, change.shape[-1])
                    for change, size in zip(nodes, sizes, strict=True)
                ],
                readout * _gain(readout.square().sum(-1), readout.shape[-1]),
            )
        size = torch.stack(sizes).sum(0)
        count = torch.full_like(size, sum(self._nodes()))
        ours = readout.square().sum(-1)
        outputs = torch.full_like(ours, readout.shape[-1])
        if at_last:  # the readout's nodes exist at the last step only
            lengths = None if lengths is None else lengths[: runs.sequences]
            ours, outputs = (
                at_last_valid(part.t(), steps, lengths).transpose(1, 2) for part in (ours, outputs)
            )
        size, count = size + ours, count + outputs
        gain = _gain(size, count)
        if at_last:
            entries = torch.full((runs.sequences,), steps) if lengths is None else lengths
            rows = torch.arange(runs.sequences, device=gain.device)
            readout_gain = gain[entries.to(gain.device) - 1, :, rows].transpose(0, 1)
        else:
            readout_gain = gain
        return Directions([change * gain for change in nodes], readout * readout_gain)

    def changes(self, runs: Runs) -> tuple[list[Tensor], Tensor]:
        """δα (t, m, b, g) of each layer, and δβ at the readout's nodes."""
        network, reference = self.network, runs.copy(0)
        noisy = [runs.copy(index) for index in range(1, 1 + self.copies)]
        nodes = []
        for layer in range(network.num_layers):
            weights = network.recurrent.weights(layer, 0)
            before, noise = reference.layers[layer][0], runs.noise[layer]
            changes = [
                network.cell.node_change(
                    weights, before, run.layers[layer][0], noise[:, index] - noise[:, 0]
                )
                for index, run in enumerate(noisy, start=1)
            ]
            nodes.append(at_least_float32(torch.stack(changes, 1)))
        outputs = at_least_float32(runs.outputs)
        return nodes, outputs[..., 1:, :, :] - outputs[..., :1, :, :]


def write_activity(rule: ANP, call: NoisyCall) -> None:
    """Write the credit of the change of activity into a native call."""
    write_nodes(rule, call)
    call.credit, call.layer_norms = CREDITS.index("activity"), rule.norm == "layer"


def _gain(size: Tensor, count: Tensor | int) -> Tensor:
    """N / ‖δα‖² (…, 1), zero if nothing has changed."""
    return torch.where(size > 0, count / size, torch.zeros_like(size))[..., None]
