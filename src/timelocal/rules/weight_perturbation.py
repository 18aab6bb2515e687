"""Weight perturbation: noise on every weight, credited with what it did to the loss."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from timelocal import kernels
from timelocal.arguments import is_one_of
from timelocal.cells import CellWeights
from timelocal.distributed import of_this_rank
from timelocal.errors import Problem, UnsupportedError, described, raise_problems, unknown_name
from timelocal.kernels.native_perturbed import NoisyCall
from timelocal.kernels.native_stream import CREDITS
from timelocal.losses import Loss
from timelocal.network import Network, parameter_name, step_shares
from timelocal.precision import at_least_float32, summing_type
from timelocal.rules import noisy_call
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass, RuleSpec
from timelocal.rules.forward import forward_pass
from timelocal.rules.node_perturbation import PAPER
from timelocal.rules.perturbation import PerturbationRule, copied, draw_key, write_noise
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.typing import Gradients, LossFunction, Memory, Place, States

Redraw = Literal["step", "sequence"]
_CHEAP = re.compile(r"(low_rank|sparse)\((\d+)\)")


class WP(PerturbationRule):
    """Weight perturbation (WP): noise on every weight, two forward passes, no error signal.

    A clean run and one with noise σΞ, Ξ ~ N(0, 1), on every weight and bias, one draw for the whole batch.
    With the change of each step's mean loss, δℓ_t = ℓ̃_t − ℓ_t:

        redraw="step":      dW = σ⁻² Σ_t c_t σΞ_t,  c_t from δℓ as in `NP`
        redraw="sequence":  dW = σ⁻² (Σ_t δℓ_t) σΞ

    Args:
        redraw: when the noise is drawn: at each "step", as in the perturbation paper, or once per "sequence"
            (Züge, Klos & Memmesheimer 2023), which is faster, has less variance, and whose mean is the
            gradient of BPTT.
        noise: the form of Ξ on a weight matrix (o, i). "gaussian": one number per weight. "low_rank(r)":
            U Vᵀ / √r with Gaussian U (o, r) and V (i, r). "sparse(k)": k Gaussian numbers times √(i / k) in
            each row, at random positions. Entries are always uncorrelated with variance 1, so that the mean
            is the same gradient; the last two need few random numbers for a large matrix and have more
            variance. Biases have Gaussian noise.
        The rest: as in `NP`. There is no `reward`: the noise is shared by the whole batch.

    Raises:
        ArgumentError: for bad arguments, all at once.
        UnsupportedError: for bidirectional networks, readouts that are not linear, dropout between layers.

    >>> import torch, timelocal as tl
    >>> network = tl.LSTM(2, 16, output_size=1)
    >>> rule = tl.WP(network, loss="mse", at="every", sigma=0.01, redraw="sequence", seed=0)
    >>> rule(torch.randn(8, 20, 2), torch.randn(8, 20, 1)).backward()

    Source: the perturbation paper's equations 4 and 5. Differs from NP in that the noise has as many
    dimensions as there are weights, which increases the variance, and in that it need not know the inputs of
    a weight. The noise of a step is a function of the seed and the step, so only one running sum of it is
    kept, whatever the length.
    """

    spec = RuleSpec(
        name="wp",
        summary="noise on every weight, credited with the change of the loss",
        estimates="unbiased",
        target="tbptt1",
        online=True,
        autograd_free=True,
        weight_transport=False,
        derivative_free=True,
        draws=True,
        references=(
            PAPER,
            "P. Züge, C. Klos, R.-M. Memmesheimer. Weight versus node perturbation learning in "
            "temporally extended tasks. Physical Review X 13:021006, 2023.",
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
        redraw: Redraw = "step",
        noise: str = "gaussian",
        antithetic: bool = False,
        directions: int = 1,
        seed: int = 0,
    ) -> None:
        problems = [unknown_name("redraw", redraw, get_args(Redraw)), _noise_problem(noise)]
        if is_one_of(redraw, ("sequence",)) and not is_one_of(credit, ("local",)):
            remedy = "Noise that lasts the whole sequence is credited with all the losses: leave credit out."
            problems.append(Problem("credit", described(credit), "'local' with 'sequence'", remedy))
        super().__init__(
            network,
            loss=loss,
            at=at,
            sigma=sigma,
            credit=credit,
            antithetic=antithetic,
            directions=directions,
            seed=seed,
            problems=problems,
        )
        if network.recurrent.dropout:
            raise UnsupportedError(
                f"wp: got dropout={network.recurrent.dropout}, expected 0. Use dropout=0, or NP."
            )
        self.redraw = redraw
        self.noise = noise
        if redraw == "sequence" and self.spec.estimates == "unbiased":
            self.spec = replace(self.spec, target="bptt")

    # --- a whole sequence -------------------------------------------------------------------

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        key = draw_key(of_this_rank(self.generator))
        if type(self) is WP and self.redraw == "step" and self.noise == "gaussian":
            credit = partial(write_weights, self)
            native = noisy_call.perturbed(self.network, self.loss, batch, key, credit, self.decay)
            if native is not None:
                return native
        clean = forward_pass(self.network, self.loss, batch, None)
        if self.redraw == "sequence":
            return clean, self._one_draw(batch, clean, key)
        noisy = copied(batch.initial, self.copies)
        gradients, _ = self._a_draw_a_step(batch, clean, key, 0, noisy)
        return clean, gradients

    def _one_draw(self, batch: Batch, clean: ForwardPass, key: int) -> Gradients:
        """σ⁻¹ δL Ξ, averaged over the directions; each is a whole scan with its own weights."""
        gradients = self._zeros()
        for direction, sign in self._signed_directions():
            noise = self._noise(key, 0, direction)
            perturbed = self._perturbed(noise, sign)
            run = self.network.unroll(
                batch.inputs, batch.lengths, batch.initial, weights=self._weights(perturbed)
            )
            features = run.last() if batch.at == "last" else run.outputs.flatten(0, 1)
            outputs = batch.pooled(self._read(features, perturbed))
            losses = batch.losses(self.loss, outputs)
            change = batch.mean(losses) - clean.loss
            for name, drawn in noise.items():
                gradients[name] += drawn * (sign * change / (self.sigma * self.copies))
        return gradients

    def _a_draw_a_step(
        self, batch: Batch, clean: ForwardPass, key: int, first_step: int, initial: States | None
    ) -> tuple[Gradients, States]:
        """σ⁻¹ Σ_t c_t Ξ_t with one running sum of Ξ a direction; and the noisy runs' last states."""
        gradients, steps = self._zeros(), len(batch.inputs)
        seen = batch.pooled(clean.outputs)
        clean_losses = batch.losses(self.loss, seen)
        shares = step_shares(steps, batch.lengths, batch.inputs)
        reached = []
        for copy, (direction, sign) in enumerate(self._signed_directions()):
            states: States | None = self._own(initial, copy, batch)
            traces, total = self._zeros(), torch.zeros_like(clean.loss)
            for t in range(steps):
                noise = self._noise(key, first_step + t, direction)
                self._still(noise, states)
                perturbed = self._perturbed(noise, sign)
                run = self.network.unroll(
                    batch.inputs[t : t + 1], None, states, weights=self._weights(perturbed)
                )
                states = run.final_states()
                outputs = self._read(run.outputs[0], perturbed)
                if batch.at == "mean":  # exchanged in the mean for the clean outputs of this step
                    before = clean.outputs.unflatten(0, batch.inputs.shape[:2])[t]
                    moved = shares[t] * (outputs - before)
                    outputs = seen + moved.masked_fill(shares[t] == 0, 0)  # padding may be NaN
                change = self._change(batch, clean_losses, outputs, t)
                total = total + change
                for name, drawn in noise.items():
                    if self.decay == 0:
                        gradients[name].add_(drawn * (sign * change))
                        continue
                    traces[name].mul_(1 if self.decay is None else self.decay).add_(drawn)
                    if self.decay is not None:
                        gradients[name].add_(traces[name] * (sign * change))
            if self.decay is None:
                for name, trace in traces.items():
                    gradients[name].add_(trace * (sign * total))
            assert states is not None
            reached.append(states)
        scale = 1 / (self.sigma * self.copies)
        return {name: own * scale for name, own in gradients.items()}, _side_by_side(reached)

    def _change(self, batch: Batch, clean: Tensor, outputs: Tensor, t: int) -> Tensor:
        """What the noise did to the mean loss through step t's outputs (b, o), a scalar."""
        if batch.at == "mean":
            here = torch.arange(len(outputs), device=clean.device)
        elif batch.at == "every":
            here = torch.arange(t * len(outputs), (t + 1) * len(outputs), device=clean.device)
        elif batch.lengths is None:
            last = t == len(batch.inputs) - 1
            here = torch.arange(len(outputs) if last else 0, device=clean.device)
        else:
            here = (batch.lengths.to(clean.device) - 1 == t).nonzero()[:, 0]
        rows = outputs[here] if batch.at == "last" else outputs
        if not len(rows):
            return clean.new_zeros(())
        changes = torch.zeros_like(clean)
        changes[here] = batch.losses(self.loss, rows, batch.targets[here]) - clean[here]
        return batch.scale_errors(changes[:, None]).sum()

    def _signed_directions(self) -> list[tuple[int, float]]:
        mirrored = [(d, -1.0) for d in range(self.directions)] if self.antithetic else []
        return [(d, 1.0) for d in range(self.directions)] + mirrored

    def _noise(self, key: int, step: int, direction: int) -> Gradients:
        """Ξ of one step and direction, for every parameter."""
        parameters = dict(self.network.named_parameters())

        def drawn(like: Tensor, place: int, *shape: int) -> Tensor:
            at = key, step, 1, direction * len(parameters) + place
            return kernels.normal(*at, shape, summing_type(like.dtype), like.device)[0]

        return {
            name: _entries(self.noise, partial(drawn, like, place), tuple(like.shape))
            for place, (name, like) in enumerate(parameters.items())
        }

    def _still(self, noise: Gradients, states: States | None) -> None:
        """Take out of a step's noise, in place, what is not to be: nothing here.

        states: those that the noisy run begins the step with; None for zero.
        """

    def _perturbed(self, noise: Gradients, sign: float) -> Gradients:
        """±σΞ in the parameters' type."""
        dtype = self.network.recurrent.like.dtype
        return {name: (sign * self.sigma * drawn).to(dtype) for name, drawn in noise.items()}

    def _zeros(self) -> Gradients:
        parameters = self.network.named_parameters()
        return {name: at_least_float32(torch.zeros_like(own)) for name, own in parameters}

    def _weights(self, noise: Gradients) -> list[list[CellWeights]]:
        """The recurrent weights with noise on them."""
        recurrent = self.network.recurrent
        weights = []
        for layer in range(recurrent.num_layers):
            own = recurrent.weights(layer, 0)
            moved = {
                kind: getattr(own, kind) + noise[f"recurrent.{parameter_name(kind, layer, 0)}"]
                for kind in recurrent.parameter_kinds
            }
            weights.append([recurrent.cell.weights(moved, own.decorrelation)])
        return weights

    def _read(self, features: Tensor, noise: Gradients) -> Tensor:
        """The outputs of the readout with noise on its weights."""
        readout = self.readout
        bias = None if readout.bias is None else readout.bias + noise["readout.bias"]
        return F.linear(features, readout.weight + noise["readout.weight"], bias)

    def _own(self, initial: States | None, copy: int, batch: Batch) -> States | None:
        """The states of one noisy run out of those of all."""
        if initial is None:
            return None
        rows = slice(copy * batch.inputs.shape[1], (copy + 1) * batch.inputs.shape[1])
        if isinstance(initial, Tensor):
            return initial[:, rows]
        return tuple(state[:, rows] for state in initial)

    # --- a stream ---------------------------------------------------------------------------

    def begin(self, batch_size: int) -> Memory:
        if self.redraw != "step" or self.decay != 0:
            raise_problems(
                [
                    Problem(
                        "stream",
                        f"wp with redraw={self.redraw!r}, credit={self.credit!r}",
                        "redraw='step' and credit='local'",
                        "Use these, or NP: noise on weights is shared by the whole batch, so streams cannot "
                        "have separate traces.",
                    )
                ],
                UnsupportedError,
            )
        return {
            "clean": no_states(self.network, batch_size, 1),
            "noisy": no_states(self.network, batch_size, self.copies),
        }

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        batch = batch.starting_from(unpacked(memory["clean"]))
        clean = forward_pass(self.network, self.loss, batch, None)
        gradients, noisy = self._a_draw_a_step(batch, clean, key, step, unpacked(memory["noisy"]))
        carried = {
            "clean": packed(clean.trajectory.final_states(), 1),
            "noisy": packed(noisy, self.copies),
        }
        return clean, gradients, carried


def _noise_problem(noise: object) -> Problem | None:
    found = _CHEAP.fullmatch(noise) if isinstance(noise, str) else None
    if is_one_of(noise, ("gaussian",)) or (found and int(found[2]) > 0):
        return None
    expected = (
        "'gaussian', 'low_rank(r)' with r ≥ 1 such as 'low_rank(4)', or 'sparse(k)' with k ≥ 1"
    )
    return Problem("noise", described(noise), expected)


def _entries(noise: str, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
    """Ξ of a kind of noise from draw(*shape), which gives standard normal numbers."""
    found = _CHEAP.fullmatch(noise)
    if found is None or len(shape) < 2:
        return draw(*shape)
    (rows, columns), count = shape, int(found[2])
    if found[1] == "low_rank":
        left, right = draw(rows + columns, count).split((rows, columns))
        return (left @ right.t()).div_(math.sqrt(count))
    values, chosen = draw(2, rows, count)
    places = torch.special.ndtr(chosen).mul_(columns).long().clamp_(max=columns - 1)  # uniform
    made = values.new_zeros(rows, columns)
    return made.scatter_add_(1, places, values * math.sqrt(columns / count))


def write_weights(rule: WP, call: NoisyCall) -> None:
    """Write into a native call how noise on weights is credited."""
    write_noise(rule, call)
    call.credit, call.credit_decay = CREDITS.index("weights"), rule.decay or 0.0


def _side_by_side(runs: list[States]) -> States:
    """The states of several runs as those of one batch, one run after another."""
    if isinstance(runs[0], Tensor):
        return torch.cat([run for run in runs if isinstance(run, Tensor)], 1)
    return tuple(torch.cat(states, 1) for states in zip(*runs, strict=True))
