"""Batches: checked, with all problems reported at once, then arranged time first with one row per entry.

An *entry* is one position at which the loss is taken: a sequence at "last" and "mean", a step of a sequence
at "every". "ramp" is "every" with a weight for each step.
A target for the whole sequence may be used at every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from timelocal.arguments import is_plain, seed_problem, tensor_problem
from timelocal.errors import Problem, UnsupportedError, described, raise_problems, unknown_name
from timelocal.losses import Loss, loss_problem
from timelocal.network import (
    Network,
    initial_problems,
    input_problems,
    mean_over_steps,
    step_shares,
    valid_steps,
)
from timelocal.precision import at_least_float32, summing_type
from timelocal.typing import Place, States

STEPWISE: tuple[Place, ...] = ("every", "ramp")
"""The values of `at` with an entry for each step."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A checked batch.

    inputs (t, b, i); lengths (b,) or None; initial states or None;
    targets (n, …), time first at "every", zero where not counted; at: "last", "every" or "mean";
    weights (n,): how much each entry counts, or None if all count 1; count: their sum;
    weight: the denominator of the mean loss, the count unless the loss weights classes; 0 if nothing counts;
    wanted: which of "inputs" and "initial" should get a gradient.
    """

    inputs: Tensor
    lengths: Tensor | None
    initial: States | None
    targets: Tensor
    weights: Tensor | None
    count: float
    weight: float
    at: Place
    batch_first: bool
    wanted: tuple[str, ...] = ()

    def starting_from(self, initial: States) -> Batch:
        """The same batch from other initial states."""
        return replace(self, initial=initial)

    @property
    def denominator(self) -> float:
        """The denominator of the mean loss; 1 if nothing counts."""
        return self.weight or 1.0

    def losses(self, loss: Loss, outputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """ℓ (n,) of outputs (n, o), in at least float32; with other targets than the batch's, if given."""
        targets = self.targets if targets is None else targets
        return loss.losses(at_least_float32(outputs), at_least_float32(targets))

    def losses_and_errors(self, loss: Loss, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """ℓ (n,) and ∂ℓ/∂outputs (n, o), in at least float32."""
        return loss.losses_and_errors(at_least_float32(outputs), at_least_float32(self.targets))

    def pooled(self, outputs: Tensor) -> Tensor:
        """Outputs (n, o) as the loss sees them: at "mean", those of all steps (t·b, o) become (b, o)."""
        if self.at != "mean":
            return outputs
        stepwise = outputs.unflatten(0, self.inputs.shape[:2])
        return mean_over_steps(stepwise, self.lengths).to(outputs.dtype)

    def spread(self, errors: Tensor) -> Tensor:
        """The transpose of `pooled`: errors of the entries to errors (n, o) at the readout's outputs."""
        if self.at != "mean":
            return errors
        return (errors * step_shares(len(self.inputs), self.lengths, errors)).flatten(0, 1)

    def mean(self, losses: Tensor) -> Tensor:
        """L = Σ w ℓ / Σ w of losses ℓ (n,)."""
        return self._mean(losses, self.weight)

    def scale_errors(self, errors: Tensor) -> Tensor:
        """Turn ∂ℓ/∂outputs of each entry (n, o) into ∂L/∂outputs of the mean loss L."""
        if self.weights is None:
            return errors / self.denominator
        missing = (self.weights == 0)[:, None]  # where the loss may well be NaN
        return errors.masked_fill(missing, 0) * (self.weights / self.denominator)[:, None]

    def accuracy(self, loss: Loss, outputs: Tensor) -> Tensor | None:
        """The weighted fraction of correctly classified entries; None for regression."""
        if not loss.classifies:
            return None
        correct = loss.correct(outputs, self.targets)
        return self._mean(correct.to(summing_type(outputs.dtype)), self.count)

    def _mean(self, values: Tensor, weight: float) -> Tensor:
        if self.weights is None:
            return values.mean() if weight == len(values) else values.sum() / (weight or 1.0)
        return torch.dot(values.masked_fill(self.weights == 0, 0), self.weights) / (weight or 1.0)

    def surface(self, outputs: Tensor) -> Tensor:
        """Rows (n, o) in the user's layout: (b, o), or (b, t, o) like the inputs."""
        if self.at != "every":
            return self.pooled(outputs)
        stepwise = outputs.unflatten(0, self.inputs.shape[:2])
        return stepwise.transpose(0, 1) if self.batch_first else stepwise


def check_batch(
    network: Network,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    initial: States | None = None,
) -> None:
    """Raise an `ArgumentError` that lists everything wrong with the user's arguments."""
    raise_problems(batch_problems(network, loss, at, inputs, targets, lengths, mask, initial))


def batch_problems(
    network: Network,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    initial: States | None = None,
) -> list[Problem | None]:
    """Everything wrong with the user's arguments."""
    problems: list[Problem | None] = [
        *input_problems(network.recurrent, inputs, lengths, batch_first=network.batch_first)
    ]
    if problems and not (is_plain(inputs) and inputs.dim() == 3):
        return problems  # without axes nothing more can be said
    sequences = inputs.shape[0 if network.batch_first else 1]
    surface = inputs.shape[:2] if at in STEPWISE else (sequences,)
    problems += _mask_problems(mask, tuple(surface), inputs.device)
    if not problems or (lengths is None and mask is None):
        counted = _counted(network, at, inputs, lengths, mask)
    else:  # not known: shapes and types of the targets are checked, values are not
        counted = torch.zeros(tuple(surface), dtype=torch.bool, device=inputs.device)
    problems += initial_problems(network.recurrent, initial, sequences)
    entries = tuple(surface)
    if is_asked_again(network, loss, at, sequences, targets):
        entries = (sequences,)
        counted = None if counted is None else counted.any(1 if network.batch_first else 0)
    problems += _target_problems(network, loss, targets, inputs, entries, counted)
    if any(problems) and _axes_swapped(network, at, inputs, targets, lengths):
        problems.insert(0, _swapped_problem(network, inputs))
    return problems


def make_batch(
    network: Network,
    loss: Loss,
    at: Place,
    inputs: Tensor | PackedSequence,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    initial: States | None = None,
    wanted: tuple[str, ...] = (),
) -> Batch:
    """Check the user's arguments and arrange them time first."""
    inputs, lengths = _padded(network, inputs, lengths)
    check_batch(network, loss, at, inputs, targets, lengths, mask, initial)
    batch = arrange(network, loss, at, inputs, targets, lengths, mask, initial, wanted)
    raise_problems([weight_problem(batch)])
    return batch


def weight_problem(counted: Batch | Entries) -> Problem | None:
    """A problem if nothing counts, so that there is no mean."""
    if counted.weight > 0:
        return None
    what, remedy = "mask", "Leave out batches in which nothing counts."
    if counted.count > 0:
        what, remedy = "class_weights", "Give a positive weight to a class that occurs."
    return Problem(what, "no entry that counts", "a positive sum", remedy)


def inputs_batch(
    network: Network,
    inputs: Tensor | PackedSequence,
    lengths: Tensor | None,
    initial: States | None,
) -> tuple[Tensor, Tensor | None]:
    """Inputs without targets: checked, and arranged time first with their lengths."""
    inputs, lengths = _padded(network, inputs, lengths)
    problems = input_problems(network.recurrent, inputs, lengths, batch_first=network.batch_first)
    if not problems:
        sequences = inputs.shape[0 if network.batch_first else 1]
        problems = initial_problems(network.recurrent, initial, sequences)
    raise_problems(problems)
    return network.time_first(inputs), lengths


def _padded(
    network: Network, inputs: Tensor | PackedSequence, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """A `PackedSequence` as padded inputs and their lengths; tensors as they are."""
    if not isinstance(inputs, PackedSequence):
        return inputs, lengths
    if lengths is not None:
        remedy = "A PackedSequence has its own lengths: leave lengths out."
        raise_problems(
            [Problem("lengths", "lengths together with a PackedSequence", "None", remedy)]
        )
    return pad_packed_sequence(inputs, batch_first=network.batch_first)


def arrange(
    network: Network,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    initial: States | None = None,
    wanted: tuple[str, ...] = (),
) -> Batch:
    """Arrange arguments that `check_batch` accepted, or a part of them, time first.

    If nothing counts, the loss and its errors are 0.
    """
    if lengths is not None:
        lengths = lengths.to(inputs.device, torch.int64)  # the type that indexes
    entries = arrange_entries(network, loss, at, inputs, targets, lengths, mask)
    return Batch(
        network.time_first(inputs), lengths, initial, entries.targets, entries.weights, entries.count,
        entries.weight, "every" if at == "ramp" else at, network.batch_first, wanted,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a `Batch`, one per row."""

    targets: Tensor
    weights: Tensor | None
    count: float
    weight: float


def arrange_entries(
    network: Network,
    loss: Loss,
    at: Place,
    inputs: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
) -> Entries:
    """The result of `arrange` for everything except the inputs, of which only the shape is needed."""
    counted = _counted(network, at, inputs, lengths, mask)
    steps, sequences = inputs.shape[:2][:: -1 if network.batch_first else 1]
    if is_asked_again(network, loss, at, sequences, targets):
        targets = at_every_step(network, targets, steps)
    weights = None
    if counted is not None:
        missing = ~counted.reshape(*counted.shape, *(1,) * (targets.dim() - counted.dim()))
        targets = targets.masked_fill(missing, 0)
        weights = counted if mask is None else counted * mask
        weights = _rows(network, at, weights).to(summing_type(inputs.dtype))
    if at == "ramp":
        ramp = _ramp(steps, sequences, lengths, inputs).flatten()
        weights = ramp if weights is None else weights * ramp
    targets = _rows(network, at, targets)
    count = weight = float(targets.shape[0]) if weights is None else float(weights.sum())
    by_class = loss.entry_weights(targets)
    if by_class is not None:
        by_class = by_class.to(summing_type(inputs.dtype))
        weight = float(by_class.sum() if weights is None else torch.dot(by_class, weights))
    return Entries(targets, weights, count, weight)


def _rows(network: Network, at: Place, values: Tensor) -> Tensor:
    """Entries as rows: (b, …) as they are, (b, t, …) to (t·b, …)."""
    return network.time_first(values).flatten(0, 1) if at in STEPWISE else values


def _ramp(steps: int, sequences: int, lengths: Tensor | None, like: Tensor) -> Tensor:
    """2 s / (T + 1) at step s of T: (t, b), with the sum T over the valid steps of each sequence."""
    kind = {"dtype": summing_type(like.dtype), "device": like.device}
    rising = torch.arange(1, steps + 1, **kind)[:, None].expand(-1, sequences)  # type: ignore[call-overload]
    valid: int | Tensor = steps if lengths is None else lengths.to(like.device)
    return rising * 2 / (valid + 1)


def is_asked_again(
    network: Network, loss: Loss, at: Place, sequences: int, targets: object
) -> bool:
    """Whether there is one target per sequence, (b, …), to be used at every step."""
    if (
        at not in STEPWISE
        or not isinstance(targets, Tensor)
        or targets.dim() != 1 + loss.target_axes
    ):
        return False
    return tuple(targets.shape) == (sequences, *(network.output_size,) * loss.target_axes)


def at_every_step(network: Network, targets: Tensor, steps: int) -> Tensor:
    """One target per sequence, (b, …), repeated for every step: (b, t, …) like the inputs."""
    time = 1 if network.batch_first else 0
    stepwise = targets.unsqueeze(time)
    return stepwise.expand(*(steps if axis == time else -1 for axis in range(stepwise.dim())))


def _counted(
    network: Network, at: Place, inputs: Tensor, lengths: Tensor | None, mask: Tensor | None
) -> Tensor | None:
    """Which entries count at all, of the surface's shape; None if every one does."""
    counted = None if mask is None else mask.bool()
    if lengths is not None and at in STEPWISE:
        steps = inputs.shape[1] if network.batch_first else inputs.shape[0]
        valid = valid_steps(lengths, steps, inputs.device)
        valid = valid.t() if network.batch_first else valid
        counted = valid if counted is None else counted & valid
    return counted


def _mask_problems(
    mask: object, surface: tuple[int, ...], device: torch.device
) -> list[Problem | None]:
    if mask is None:
        return []
    expected = f"a tensor of shape {surface}, bool or non-negative weights"
    if not isinstance(mask, Tensor) or not is_plain(mask):
        return [tensor_problem("mask", mask, expected)]
    if tuple(mask.shape) != surface:
        return [Problem("mask", f"shape {tuple(mask.shape)}", expected)]
    if mask.device != device:
        remedy = f"Use mask.to({str(device)!r})."
        return [Problem("mask", f"device {mask.device}", f"{device}", remedy)]
    if mask.is_meta:
        return [tensor_problem("mask", mask, expected)]
    if mask.dtype != torch.bool and not bool((mask.isfinite() & (mask >= 0)).all()):
        return [Problem("mask", "negative or non-finite weights", expected)]
    return []


def _target_problems(
    network: Network,
    loss: Loss,
    targets: object,
    inputs: Tensor,
    surface: tuple[int, ...],
    counted: Tensor | None,
) -> Sequence[Problem | None]:
    if not isinstance(targets, Tensor) or not is_plain(targets):
        return [tensor_problem("targets", targets)]
    if targets.device != inputs.device:
        remedy = f"Use targets.to({str(inputs.device)!r})."
        return [Problem("targets", f"device {targets.device}", f"{inputs.device}", remedy)]
    if targets.is_meta:
        return [tensor_problem("targets", targets)]
    return loss.target_problems(targets, surface, network.output_size, inputs.dtype, counted)


def _axes_swapped(
    network: Network, at: Place, inputs: Tensor, targets: object, lengths: object
) -> bool:
    """Whether lengths, or else targets, count the sequences along the axis that is taken for time."""
    time = 1 if network.batch_first else 0
    sequences, steps = inputs.shape[1 - time], inputs.shape[time]
    if steps == sequences:
        return False
    if lengths is not None:
        return isinstance(lengths, Tensor) and is_plain(lengths) and lengths.shape == (steps,)
    if not (isinstance(targets, Tensor) and is_plain(targets)):
        return False
    if at not in STEPWISE:
        return tuple(targets.shape[:1]) == (steps,)
    return tuple(targets.shape[:2]) == (inputs.shape[1], inputs.shape[0])


def _swapped_problem(network: Network, inputs: Tensor) -> Problem:
    taken, seem = "(batch, time, input)", "(time, batch, input)"
    if not network.batch_first:
        taken, seem = seem, taken
    remedy = "If so, use inputs.transpose(0, 1)"
    remedy += "." if network.batch_first else ", or batch_first=True in the torch.nn module."
    return Problem("inputs", f"{tuple(inputs.shape)}, which looks like {seem}", taken, remedy)


def check_construction(
    network: object,
    loss: object,
    at: object,
    seed: object,
    name: str,
    bidirectional: bool,
    others: Iterable[Problem | None],
) -> None:
    """The checks of every rule's constructor; `others` are problems found elsewhere."""
    problems: list[Problem | None] = []
    if not isinstance(network, Network):
        remedy = "Use timelocal.from_torch(recurrent, readout) on torch.nn modules."
        got = described(network)
        problems.append(Problem("network", got, "a timelocal network", remedy))
    problems += [
        loss_problem(loss),
        unknown_name("at", at, get_args(Place)),
        seed_problem(seed),
        *others,
    ]
    raise_problems(problems)
    assert isinstance(network, Network)
    if network.directions > 1 and not bidirectional:
        raise UnsupportedError(
            f"bidirectional: got a bidirectional network, expected one direction: {name} runs forward "
            "through time, step by step. Use DFA or BPTT."
        )


def own_precision(inputs: Tensor) -> AbstractContextManager[object]:
    """Switches autocast off: a rule works in the network's own dtype throughout."""
    device = inputs.device.type
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()


def autocasts(device: str) -> bool:
    """Whether autocast is on for a type of device; some, such as "meta", have none."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
