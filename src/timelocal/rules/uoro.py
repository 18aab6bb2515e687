"""Unbiased online recurrent optimization: RTRL's influence matrix as one random product, exact on average."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from timelocal import kernels
from timelocal.arguments import whole_problem
from timelocal.cells import outer_each
from timelocal.losses import Loss
from timelocal.network import Network, Trajectory, parameter_name
from timelocal.precision import at_least_float32
from timelocal.rules.carried_rule import CarriedRule
from timelocal.rules.estimate import RuleSpec
from timelocal.rules.states import no_states, signals_at_states
from timelocal.typing import Gradients, LossFunction, Memory, Place


class UORO(CarriedRule):
    """Unbiased online recurrent optimization (UORO; Tallec & Ollivier 2017).

    RTRL's influence matrix P_t = ∂s_t/∂θ is replaced by a product s̃_t θ̃_t of a state vector and a
    parameter vector that equals it on average. With random signs ν_t, one per state,

        s̃_t = ρ₀ J_t s̃_{t-1} + ρ₁ ν_t        θ̃_t = θ̃_{t-1} / ρ₀ + (ν_tᵀ ∂s_t/∂θ) / ρ₁
        dW = Σ_t (∂ℓ_t/∂s_t · s̃_t) θ̃_t       ρ₀² = ‖θ̃_{t-1}‖ / ‖J_t s̃_{t-1}‖,  ρ₁² = ‖ν_tᵀ ∂s_t/∂θ‖ /
        ‖ν_t‖

    where these ρ minimise the variance. Each sequence of a batch has its own s̃, θ̃ and noise. In a stack, s
    holds the states of all layers, and a change of a lower layer's state, including ν_t, changes the one
    above in the same step: ‖ν_t‖ is taken after it has propagated upwards.

    Args:
        network: any timelocal network of one direction.
        loss: "cross_entropy", "mse", "bce", a `timelocal.losses.Loss`, or a function of outputs (n, o) and
            targets (n, …) that returns losses (n,).
        at: "last", "every", "ramp" or "mean": see `timelocal.typing.Place`. A stream ignores it.
        directions: the number of pairs (s̃, θ̃), each with its own noise, that are carried and averaged.
        seed: of the noise and of the dropout masks between layers.

    Raises:
        ArgumentError: for bad arguments, all at once.
        UnsupportedError: for a bidirectional network.

    >>> import torch, timelocal as tl
    >>> network = tl.LSTM(2, 16, output_size=3)
    >>> rule = tl.UORO(network, at="every", directions=4)
    >>> rule(torch.randn(4, 30, 2), torch.randint(3, (4, 30))).backward()

    Unbiased for BPTT's gradient as long as the weights do not change, in memory that does not grow with
    time: b · directions copies of the parameters. Its variance grows with the number of states. It can train
    every cell, including those that do not act locally, since noise is on the states, not on the nodes.

    Source: Tallec & Ollivier (2017), equations 12–14 and their algorithm 1. Differs from RTRL in the rank of
    the carried matrix, and from perturbation rules in carrying a derivative instead of measuring one.
    """

    spec = RuleSpec(
        name="uoro",
        summary="RTRL's influence matrix as one random product, unbiased",
        estimates="unbiased",
        target="bptt",
        online=True,
        autograd_free=True,
        weight_transport=True,
        draws=True,
        references=(
            "C. Tallec, Y. Ollivier. Unbiased online recurrent optimization. ICLR, 2018. arXiv:1702.05043.",
        ),
    )

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        at: Place = "last",
        directions: int = 1,
        seed: int = 0,
    ) -> None:
        problems = [whole_problem("directions", directions)]
        super().__init__(network, loss=loss, at=at, seed=seed, problems=problems)
        self.directions = int(directions)

    def no_traces(self, batch_size: int) -> Memory:
        """s̃ (b, k, states, l, h), and θ̃ of each recurrent parameter, (b, k, *parameter)."""
        recurrent, size = self.network.recurrent, (batch_size, self.directions)
        thetas = {
            name: own.new_zeros(*size, *own.shape) for name, own in recurrent.named_parameters()
        }
        states = no_states(self.network, batch_size, self.directions)
        return {"s": states, **{f"theta_{name}": theta for name, theta in thetas.items()}}

    def carried(self, traces: Memory, run: Trajectory, key: int, step: int) -> Memory:
        network, cell = self.network, self.network.cell
        before = traces["s"].permute(3, 2, 1, 0, 4)  # (l, states, k, b, h)
        layers: list[Tensor] = []
        local: dict[str, Tensor] = {}
        from_below: Tensor | None = None
        leaving: Tensor | None = None
        for layer, (own,) in enumerate(run.layers):
            weights = network.recurrent.weights(layer, 0)
            jacobian = cell.local_jacobian(own)
            if leaving is not None:
                from_below = network.tangent_between(run, layer, leaving)
                from_below = cell.input_tangent(weights, own, from_below)
            # two tangents side by side, J s̃ and the noise of this step
            tangents = tuple(torch.stack((past, torch.zeros_like(past))) for past in before[layer])
            moved = torch.stack(cell.jvp_step(weights, jacobian, tangents, from_below))
            signs = self._signs(key, step, layer, before[layer])
            moved[:, 1] += signs
            layers.append(moved)
            new = tuple(state[1] for state in own.states)
            seen = weights.decorrelated(cell.features_tangent(new, tuple(moved)))
            leaving = leaving + seen if network.recurrent.skip and leaving is not None else seen
            delta = cell.node_signal_of_states(weights, jacobian, tuple(signs))
            for kind in network.recurrent.parameter_kinds:
                gradient = cell.gradient(weights, kind, own, delta, outer_each)
                local[f"theta_{parameter_name(kind, layer, 0)}"] = gradient.transpose(0, 1)
        carried, noise = torch.stack(layers).permute(2, 4, 3, 1, 0, 5)  # (b, k, states, l, h) each
        past = {name: traces[name] for name in local}
        scale = _balance(_norm(past.values()), _norm([carried]))
        noise_scale = _balance(_norm(local.values()), _norm([noise]))
        after = {"s": _times(carried, scale) + _times(noise, noise_scale)}
        for name, gradient in local.items():
            after[name] = _times(past[name], 1 / scale) + _times(gradient, 1 / noise_scale)
        return after

    def met(self, signal: Tensor, traces: Memory, run: Trajectory) -> Gradients:
        credit = signal.new_zeros(())
        for layer in range(self.network.num_layers) if self.network.recurrent.skip else (-1,):
            at = torch.stack(signals_at_states(self.network, layer, run, signal))
            moved = traces["s"][:, :, : len(at), layer]
            credit = credit + torch.einsum("sbh,bksh->bk", at, moved) / self.directions
        return {
            f"recurrent.{name}": torch.einsum("bk,bk...->...", credit, traces[f"theta_{name}"])
            for name, _ in self.network.recurrent.named_parameters()
        }

    def _signs(self, key: int, step: int, layer: int, like: Tensor) -> Tensor:
        """ν: a random sign for each state of a layer, (states, k, b, h)."""
        states, many, sequences, units = like.shape
        shape = (many, sequences, states * units)
        drawn = kernels.normal(key, step, 1, layer, shape, like.dtype, like.device)[0]
        signs = torch.where(drawn < 0, -torch.ones_like(drawn), torch.ones_like(drawn))
        return signs.unflatten(-1, (states, units)).permute(2, 0, 1, 3)


def _norm(parts: Iterable[Tensor]) -> Tensor:
    """The norm of all parts (b, k, …) together, (b, k)."""
    rows = [at_least_float32(part.flatten(2)) for part in parts]
    norms = torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in rows])
    return torch.linalg.vector_norm(norms, dim=0)


def _balance(upper: Tensor, lower: Tensor) -> Tensor:
    """√(upper / lower), the factor that makes two norms equal; 1 where one of them is 0."""
    factor = upper.sqrt() / lower.sqrt()
    return torch.where((upper > 0) & (lower > 0), factor, torch.ones_like(factor))


def _times(values: Tensor, factor: Tensor) -> Tensor:
    """Values (b, k, …) times a factor (b, k)."""
    return (values * factor.view(*factor.shape, *(1,) * (values.dim() - 2))).to(values.dtype)
