"""The common part of node and activity perturbation: clean and noisy runs in one batch, credit over time.

The batch that runs consists of copies of the sequences, one after another: copy 0 is the reference (clean,
or, for activity perturbation on request, noisy as well), and copies 1 … m carry noise. If losses are compared
with a running mean, there is no reference: copies 0 … m − 1 carry noise.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, get_args

import torch
from torch import Tensor, nn

from timelocal import kernels
from timelocal.arguments import as_real, flag_problem, is_flag, is_one_of, whole_problem
from timelocal.cells import outer_each
from timelocal.distributed import of_this_rank
from timelocal.errors import Problem, UnsupportedError, described, unknown_name
from timelocal.kernels.native_perturbed import NoisyCall
from timelocal.kernels.native_stream import CREDITS
from timelocal.losses import Loss
from timelocal.network import (
    Network,
    Trajectory,
    at_last_valid,
    is_linear,
    mean_over_steps,
    parameter_name,
    step_shares,
)
from timelocal.network.readout import readout_gradients as linear_gradients
from timelocal.precision import at_least_float32
from timelocal.rules import baseline, noisy_call
from timelocal.rules.batch import Batch
from timelocal.rules.estimate import ForwardPass
from timelocal.rules.forward import readout_gradients
from timelocal.rules.rule import Rule
from timelocal.rules.states import no_states, packed, unpacked
from timelocal.typing import Gradients, LossFunction, Memory, Place, States

Reward = Literal["sample", "batch"]
Noise = Literal["gaussian", "orthogonal"]
_TRACE = re.compile(r"trace\((.+)\)")


class PerturbationRule(Rule):
    """The base of all perturbation rules: noise of size σ, a kind of credit, and copies that carry noise."""

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss | LossFunction,
        at: Place,
        sigma: float,
        credit: str,
        antithetic: bool,
        directions: int,
        seed: int,
        silent: bool = False,
        problems: Iterable[Problem | None] = (),
    ) -> None:
        """silent: whether σ may be 0."""
        fits = 0 <= as_real(sigma) < math.inf and (silent or sigma != 0)
        problems = [
            None if fits else Problem("sigma", described(sigma), "a positive number"),
            _credit_problem(credit),
            flag_problem("antithetic", antithetic),
            whole_problem("directions", directions),
            *problems,
        ]
        super().__init__(network, loss=loss, at=at, seed=seed, problems=problems)
        if not is_linear(network.readout):
            self._refuse(network.readout)
        self.sigma = as_real(sigma)
        self.decay = decay_of(credit)
        self.credit = credit
        self.antithetic = bool(antithetic)
        self.directions = int(directions)
        if self.spec.estimates == "unbiased":
            self.spec = replace(self.spec, **self._declared())

    def _declared(self) -> dict[str, Any]:
        """The mean of this instance's estimates, as `RuleSpec.estimates` and `.target`."""
        if self.decay in (0, 1, None):
            return {"target": "tbptt1" if self.decay == 0 else "bptt"}
        return {"estimates": "biased", "target": "oracle"}  # λ between 0 and 1: neither gradient

    @property
    def readout(self) -> nn.Linear:
        """The readout, which may have been replaced since, but only by another `nn.Linear`."""
        readout = self.network.readout
        if type(readout) is not nn.Linear:
            self._refuse(readout)
        return readout

    def _refuse(self, readout: object) -> NoReturn:
        raise UnsupportedError(
            f"{self.spec.name}: got a {type(readout).__name__} readout, expected nn.Linear: its nodes are "
            "perturbed too. Use a linear readout, or DFA or BPTT."
        )

    @property
    def copies(self) -> int:
        """Noisy copies of every sequence."""
        return self.directions * (2 if self.antithetic else 1)


class NodeRule(PerturbationRule):
    """A rule that perturbs the nodes and credits each node with the effect of its noise on the loss.

    A subclass defines the directions d_t in `directions_of_credit`: δ_t = c_t d_t, averaged over the copies,
    where `credit_over_time` computes c_t from the changes of the loss.
    """

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
        baseline_decay: float | None = None,
        seed: int = 0,
        silent: bool = False,
        problems: Iterable[Problem | None] = (),
    ) -> None:
        super().__init__(
            network,
            loss=loss,
            at=at,
            sigma=sigma,
            credit=credit,
            antithetic=antithetic,
            directions=directions,
            seed=seed,
            silent=silent,
            problems=[
                unknown_name("reward", reward, get_args(Reward)),
                unknown_name("noise", noise, get_args(Noise)),
                _carry_problem(carry, credit, baseline_decay),
                baseline.decay_problem(baseline_decay),
                *problems,
            ],
        )
        self.reward = reward
        self.carry = bool(carry)
        self.noise = noise
        self.baseline_decay = None if baseline_decay is None else as_real(baseline_decay)
        if self.baseline_decay is None:
            return
        if at == "mean" and self.decay not in (1, None):
            raise UnsupportedError(
                f"{self.spec.name}: got credit={credit!r} with at='mean' and a baseline_decay, where no "
                "clean run shows how one step changed the loss of the mean. Use credit='to_go'."
            )
        self.register_buffer("running_loss", network.recurrent.like.new_zeros(2))
        self.spec = replace(
            self.spec, clean=False, variance="bounded" if self.antithetic else "1/sigma^2"
        )

    @property
    def runs_per_sequence(self) -> int:
        """The number of noisy copies, plus one for the reference unless that is a running mean."""
        return self.copies + (self.baseline_decay is None)

    def native_credit(self) -> Callable[[NoisyCall], None] | None:
        """A function that writes this rule's credit into a native call; None if no native call does it."""
        return None

    @abstractmethod
    def directions_of_credit(self, runs: Runs) -> Directions:
        """The directions that are credited: d (t, m, b, g) for each layer, and d at the readout's nodes."""

    # --- a whole sequence -------------------------------------------------------------------

    def compute(self, batch: Batch) -> tuple[ForwardPass, Gradients]:
        if not self.carry:
            raise UnsupportedError(
                f"{self.spec.name}: got carry=False on whole sequences, where the states carry noise along. "
                "Use it where weights are updated at every step: tl.Stream, fit(online=True), "
                "`timelocal train --online`."
            )
        generator = of_this_rank(self.generator)
        key = draw_key(generator)
        native = self._in_one_call(batch, key)
        if native is not None:
            return native
        runs = self._run(batch, copied(batch.initial, self.runs_per_sequence), key, 0, generator)
        learned = self._learn(batch, runs)
        return learned.forward, self._gradients(learned)

    def _in_one_call(self, batch: Batch, key: int) -> tuple[ForwardPass, Gradients] | None:
        """The same in native code; None if no native call does this."""
        credit, network = self.native_credit(), self.network
        if credit is None:
            return None
        if self.noise == "gaussian":
            return noisy_call.perturbed(network, self.loss, batch, key, credit, self.decay)
        if self.decay == 0:
            return noisy_call.summed(network, self.loss, batch, key, credit, 1 + self.copies)
        return None

    def _run(
        self,
        batch: Batch,
        initial: States | None,
        key: int,
        first_step: int,
        generator: torch.Generator,
    ) -> Runs:
        """Runs all copies as one batch; noise is a function of the key, the step and the place."""
        network, copies, readout = self.network, self.runs_per_sequence, self.readout
        steps, sequences = batch.inputs.shape[:2]
        noise = [
            self._noise(key, first_step, steps, layer, (sequences, nodes), batch.inputs)
            for layer, nodes in enumerate(self._nodes())
        ]
        rows = network.unroll(
            batch.inputs.repeat(1, copies, 1),
            None if batch.lengths is None else batch.lengths.repeat(copies),
            initial,
            generator,
            [[own.flatten(1, 2)] for own in noise],
            copies=copies,
        )
        place = network.num_layers
        readout_noise = self._noise(
            key, first_step, steps, place, (sequences, network.output_size), batch.inputs
        )
        if batch.at == "last":
            features = rows.last()
            last = _last_steps(readout_noise, batch.lengths)
            outputs = readout(features).unflatten(0, (copies, sequences)) + last
            readout_noise = last
        else:
            features = rows.outputs
            outputs = readout(features).unflatten(1, (copies, sequences)) + readout_noise
        return Runs(rows, noise, features, outputs, readout_noise, sequences)

    def _nodes(self) -> list[int]:
        """The number of nodes in each layer."""
        return [len(self.network.cell.gate_names) * self.network.hidden_size] * (
            self.network.num_layers
        )

    def _noise(
        self,
        key: int,
        first_step: int,
        steps: int,
        place: int,
        shape: tuple[int, int],
        like: Tensor,
    ) -> Tensor:
        """σ ξ (t, runs, b, nodes), without noise in the reference copy."""
        at = (key, first_step, steps, place, (self.directions, *shape))
        kind = (like.dtype, like.device)
        if self.noise == "orthogonal":
            nodes = [*self._nodes(), self.network.output_size]
            drawn = kernels.orthogonal(*at, sum(nodes[:place]), sum(nodes), *kind)
        else:
            drawn = kernels.normal(*at, *kind)
        drawn.mul_(self.sigma)
        reference = self._reference_noise(key, first_step, steps, place, shape, like)
        mirrored = (drawn.neg(),) if self.antithetic else ()
        return torch.cat((reference, drawn, *mirrored), 1)

    def _reference_noise(
        self,
        key: int,
        first_step: int,
        steps: int,
        place: int,
        shape: tuple[int, int],
        like: Tensor,
    ) -> Tensor:
        return like.new_zeros(steps, self.runs_per_sequence - self.copies, *shape)

    def _credit(self, batch: Batch, runs: Runs, losses: Tensor) -> tuple[Tensor, Tensor]:
        """c at the hidden nodes (t, m, b), and at the readout's, (t, m, b) or (m, b) at the last step."""
        change = self._changes(batch, losses).transpose(-1, -2)  # (…, b, m)
        once = losses.dim() == 2  # the loss of a sequence comes at its end
        if batch.at == "mean" and not once:  # one weight for all steps of a sequence
            by_sequence = change.transpose(0, 1)
            scaled = batch.scale_errors(by_sequence.flatten(1)).view(by_sequence.shape)
            shares = scaled.permute(1, 2, 0)
        else:
            shares = batch.scale_errors(change.flatten(0, -2)).view(change.shape).transpose(-1, -2)
        if self.reward == "batch":
            shares = shares.sum(-1, keepdim=True).expand(shares.shape)
        at_readout = at_steps = shares / self.copies
        if once:
            steps = len(runs.rows.outputs)
            at_steps = at_last_valid(shares.movedim(-1, 0), steps, batch.lengths) / self.copies
            at_steps = at_steps.movedim(1, -1)
        at_steps = credit_over_time(at_steps, self.decay)
        if runs.rows.valid is not None:
            at_steps = at_steps * runs.rows.valid[:, None, : runs.sequences]
        return at_steps, at_readout if batch.at == "last" else at_steps

    def _changes(self, batch: Batch, losses: Tensor) -> Tensor:
        """The changes of the losses of the noisy copies by noise, (…, m, b)."""
        if self.baseline_decay is None:
            return losses[..., 1:, :] - losses[..., :1, :]
        return baseline.changes(
            self.get_buffer("running_loss"), batch, losses, shared=self.reward == "batch"
        )

    def _learn(self, batch: Batch, runs: Runs) -> Learned:
        losses = self._losses(batch, runs)
        at_steps, at_readout = self._credit(batch, runs, losses)
        directions = self.directions_of_credit(runs)
        errors = (at_readout[..., None] * directions.readout).to(runs.outputs.dtype)
        features, outputs = runs.of_readout(slice(1))
        of_readout = None
        if self.baseline_decay is None:
            errors = errors.sum(-3).flatten(0, -2)
        else:  # every noisy run with its own inputs to the weights
            every = runs.of_readout(slice(None))
            of_readout = linear_gradients(self.readout, *every, errors.flatten(0, -2))
            errors = errors[..., 0, :, :].flatten(0, -2)
        first = losses[0, 0] if losses.dim() == 3 and batch.at == "mean" else losses[..., 0, :]
        forward = ForwardPass(
            batch,
            runs.copy(0),
            features,
            outputs,
            errors,
            batch.mean(first.flatten()),
            batch.accuracy(self.loss, batch.pooled(outputs)),
            of_readout,
        )
        return Learned(forward, at_steps, directions, runs)

    def _gradients(self, learned: Learned) -> Gradients:
        """Σ_t δ_t ⊗ pre_t with δ = Σ_m c d, and the readout's; pre_t of each run if there is no reference."""
        forward, credit = learned.forward, learned.credit[..., None]
        dtype = forward.outputs.dtype
        credited = [(credit * own).to(dtype) for own in learned.directions.nodes]
        if self.baseline_decay is None:
            trajectory, deltas = forward.trajectory, [[own.sum(1)] for own in credited]
        else:
            trajectory, deltas = learned.runs.rows, [[own.flatten(1, 2)] for own in credited]
        recurrent = self.network.parameter_gradients(trajectory, deltas)
        return readout_gradients(self.network, forward) | recurrent

    def _losses(self, batch: Batch, runs: Runs) -> Tensor:
        """ℓ of every copy, (t, runs, b), or (runs, b) if there is only one loss, at the end.

        At "mean", ℓ_t is the loss of the reference's mean output after replacing the outputs of step t by the
        copy's; without a reference, ℓ is the loss of each copy's own mean output.
        """
        outputs, targets = runs.outputs, batch.targets
        if batch.at == "every":
            targets = targets.unflatten(0, batch.inputs.shape[:2]).unsqueeze(1)
        elif batch.at == "mean" and self.baseline_decay is None:
            outputs = _exchanged(outputs, batch.lengths)
        elif batch.at == "mean":
            rows_of_all = at_least_float32(outputs).flatten(1, 2)
            means = mean_over_steps(rows_of_all, runs.rows.lengths)
            outputs = means.unflatten(0, outputs.shape[1:3])
        entries = outputs.shape[:-1]
        rows = targets.expand(*entries, *batch.targets.shape[1:]).flatten(0, len(entries) - 1)
        return batch.losses(self.loss, outputs.flatten(0, -2), rows).view(entries)

    @property
    def learns_locally(self) -> bool:
        decorrelates = self.network.recurrent.decorrelate is not None
        return decorrelates or self.baseline_decay is not None

    def local_updates(self, forward: ForwardPass) -> dict[str, Tensor]:
        if self.baseline_decay is None or not self.training or not forward.batch.count:
            return {}
        running = self.get_buffer("running_loss")
        return {"running_loss": baseline.update(running, forward.loss, self.baseline_decay)}

    # --- a stream ---------------------------------------------------------------------------

    def begin(self, batch_size: int) -> Memory:
        if self.decay is None:
            raise UnsupportedError(
                "stream: got credit='global', expected one that needs no end of a sequence: a stream has "
                "none. Use credit='to_go'."
            )
        memory = {"states": no_states(self.network, batch_size, self._carried)}
        if self.decay != 0:
            memory |= {
                f"trace_{name}": at_least_float32(
                    own.new_zeros(batch_size, self.copies, *own.shape)
                )
                for name, own in self.network.named_parameters()
            }
        return memory

    @property
    def _carried(self) -> int:
        """The number of runs that carry their state to the next step: all, or only the clean one."""
        return self.runs_per_sequence if self.carry else 1

    def advance(
        self, memory: Memory, batch: Batch, key: int, step: int
    ) -> tuple[ForwardPass, Gradients, Memory]:
        states = unpacked(memory["states"])
        initial = states if self.carry else copied(states, self.runs_per_sequence)
        runs = self._run(batch, initial, key, step, of_this_rank(self.generator))
        learned = self._learn(batch, runs)
        states = packed(runs.rows.final_states(), self.runs_per_sequence)
        after = {"states": states[:, : self._carried].contiguous()}
        if self.decay == 0:
            gradients = self._gradients(learned)
        else:
            traces = self._traces(memory, learned)
            gradients = {
                name: torch.einsum("mb,bm...->...", learned.credit[0], trace)
                for name, trace in traces.items()
            }
            after |= {f"trace_{name}": trace for name, trace in traces.items()}
        return learned.forward, gradients, after

    def _traces(self, memory: Memory, learned: Learned) -> Gradients:
        """E ← λ E + d ⊗ pre for each sequence and copy, by parameter, (b, m, …)."""
        network, cell = self.network, self.network.cell
        directions, runs = learned.directions, learned.runs
        # the run that supplies pre for each direction: the reference, or the noisy run itself
        own_runs = range(self.copies) if self.baseline_decay is not None else [0] * self.copies
        found: Gradients = {}
        for layer in range(network.num_layers):
            weights = network.recurrent.weights(layer, 0)
            beside = {run: runs.copy(run).layers[layer][0] for run in set(own_runs)}
            noise = directions.nodes[layer].to(beside[0].inputs.dtype).unbind(1)
            for kind in network.recurrent.parameter_kinds:
                each = [
                    cell.gradient(weights, kind, beside[run], d, outer_each)
                    for run, d in zip(own_runs, noise, strict=True)
                ]
                name = f"recurrent.{parameter_name(kind, layer, 0)}"
                found[name] = torch.cat(each).transpose(0, 1)
        features = runs.features.unflatten(1, (-1, runs.sequences))
        noise = directions.readout.unbind(1)
        each = [outer_each(d, features[:, run]) for run, d in zip(own_runs, noise, strict=True)]
        found["readout.weight"] = torch.cat(each).transpose(0, 1)
        found["readout.bias"] = directions.readout[0].transpose(0, 1)
        assert self.decay is not None
        return {
            name: torch.add(found[name], memory[f"trace_{name}"], alpha=self.decay)
            for name, _ in network.named_parameters()
        }


def write_noise(rule: PerturbationRule, call: NoisyCall) -> None:
    """Write the size of the noise and the number of copies into a native call."""
    call.sigma, call.directions, call.antithetic = rule.sigma, rule.directions, rule.antithetic


def write_nodes(rule: NodeRule, call: NoisyCall) -> None:
    """Write the credit of noise on nodes into a native call."""
    write_noise(rule, call)
    call.credit = CREDITS.index("nodes")
    call.credit_decay = rule.decay or 0.0
    call.carries, call.batch_reward = rule.carry, rule.reward == "batch"
    call.orthogonal = rule.noise == "orthogonal"


@dataclass(frozen=True, slots=True)
class Runs:
    """All copies of a batch after one scan.

    rows: the trajectory of all runs·b rows. noise[l] (t, runs, b, g): as it was added.
    features: the readout's inputs for all rows. outputs and readout_noise (t, runs, b, o), or
    (runs, b, o) at the last step. sequences: b.
    """

    rows: Trajectory
    noise: list[Tensor]
    features: Tensor
    outputs: Tensor
    readout_noise: Tensor
    sequences: int

    def copy(self, index: int) -> Trajectory:
        """The trajectory of one copy; 0 is the reference."""
        return self.rows.rows(slice(index * self.sequences, (index + 1) * self.sequences))

    def of_readout(self, copies: slice) -> tuple[Tensor, Tensor]:
        """The readout's inputs (n, f) and outputs (n, o) in the given copies."""
        features = self.features.unflatten(-2, (-1, self.sequences))
        kept = features[..., copies, :, :], self.outputs[..., copies, :, :]
        return kept[0].flatten(0, -2), kept[1].flatten(0, -2)


@dataclass(frozen=True, slots=True)
class Directions:
    """nodes[l] (t, m, b, g); readout (t, m, b, o), or (m, b, o) at the last step."""

    nodes: list[Tensor]
    readout: Tensor


@dataclass(frozen=True, slots=True)
class Learned:
    """The results of the runs: copy 0's forward pass, c at the hidden nodes (t, m, b), d, and the runs."""

    forward: ForwardPass
    credit: Tensor
    directions: Directions
    runs: Runs


def credit_over_time(changes: Tensor, decay: float | None) -> Tensor:
    """c_s = Σ_{t ≥ s} decay^{t−s} δℓ_t for changes (t, …): 0 is "local", 1 "to_go", None "global"."""
    if decay is None:
        return changes.sum(0, keepdim=True).expand(changes.shape)
    if decay == 0:
        return changes
    if decay == 1:
        return changes.flip(0).cumsum(0).flip(0)
    credit = changes.clone()
    for t in range(len(credit) - 2, -1, -1):
        credit[t] += decay * credit[t + 1]
    return credit


def decay_of(credit: str) -> float | None:
    """λ of a kind of credit: "local" 0, "to_go" 1, "trace(0.9)" 0.9, "global" None."""
    known = {"local": 0.0, "to_go": 1.0, "global": None}
    return known[credit] if credit in known else float(_TRACE.fullmatch(credit)[1])  # type: ignore[index]


def _credit_problem(credit: object) -> Problem | None:
    if is_one_of(credit, ("local", "to_go", "global")):
        return None
    found = _TRACE.fullmatch(credit) if isinstance(credit, str) else None
    with suppress(ValueError):
        if found and 0 <= float(found[1]) <= 1:
            return None
    expected = "'local', 'trace(λ)' with λ in [0, 1] such as 'trace(0.9)', 'to_go' or 'global'"
    return Problem("credit", described(credit), expected)


def _carry_problem(carry: object, credit: object, baseline_decay: object) -> Problem | None:
    if not is_flag(carry):
        return flag_problem("carry", carry)
    if not carry and baseline_decay is not None:
        remedy = (
            "Noise that lasts one step starts from a clean run, and a running mean replaces it."
        )
        return Problem("carry", "False", "True with a baseline_decay", remedy)
    if carry or is_one_of(credit, ("local",)):
        return None
    expected = "True unless credit='local'"
    remedy = "Noise that lasts one step cannot affect later losses."
    return Problem("carry", "False", expected, remedy)


def draw_key(generator: torch.Generator) -> int:
    """The seed of one estimate's noise."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def copied(states: States | None, copies: int) -> States | None:
    """Initial states for every copy."""
    if states is None or isinstance(states, Tensor):
        return None if states is None else states.repeat(1, copies, 1)
    return tuple(state.repeat(1, copies, 1) for state in states)


def _exchanged(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Means over time of the reference's outputs, with one step's replaced by a copy's, (t, 1 + m, b, o)."""
    outputs = at_least_float32(outputs)
    reference = outputs[:, :1]
    shares = step_shares(len(outputs), lengths, outputs).unsqueeze(1)
    return mean_over_steps(outputs[:, 0], lengths) + shares * (outputs - reference)


def _last_steps(noise: Tensor, lengths: Tensor | None) -> Tensor:
    """(t, m, b, o) at each sequence's last valid step, (m, b, o)."""
    if lengths is None:
        return noise[-1]
    rows = torch.arange(noise.shape[2], device=noise.device)
    return noise[lengths.to(noise.device) - 1, :, rows].transpose(0, 1)
