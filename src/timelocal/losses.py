"""Losses: ℓ per entry (one sample at one step), and the output error e = ∂ℓ/∂outputs.

The reported loss is the mean over valid entries, Σ w ℓ / Σ w, with w from masks, lengths and
class weights; a rule sees e already divided by Σ w.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from timelocal.arguments import TO_LABELS, as_real, as_tensor, is_plain
from timelocal.errors import Problem, described, did_you_mean, raise_problems, unknown_name, warn
from timelocal.typing import LossFunction


class Loss(ABC):
    """A loss on rows: outputs (n, o) and targets (n, …) to losses (n,) and errors (n, o)."""

    classifies: ClassVar[bool] = False
    """Whether accuracy is defined."""
    outputs_per_target: int = 1
    """The number of readout outputs per target."""
    own_activation: ClassVar[str] = ""
    """The activation it applies to the outputs, which the readout must not apply."""
    target_axes: ClassVar[int] = 0
    """The number of axes of one entry's target, each as long as the outputs: 0 for a class, 1 for values."""

    @abstractmethod
    def losses_and_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """ℓ (n,) and ∂ℓ/∂outputs (n, o), without normalisation."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """ℓ (n,) only, for rules that need nothing else."""
        return self.losses_and_errors(outputs, targets)[0]

    def entry_weights(self, targets: Tensor) -> Tensor | None:
        """The weight of each entry in the mean's denominator, (n,); None for 1."""
        return None

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Which entries are classified correctly, (n,)."""
        raise NotImplementedError

    def point(self, outputs: Tensor) -> Tensor:
        """One number per target from outputs (…, o): the outputs, a probability, a median or a mean."""
        return outputs

    @abstractmethod
    def target_problems(
        self,
        targets: Tensor,
        entries: tuple[int, ...],
        outputs: int,
        dtype: torch.dtype,
        counted: Tensor | None,
    ) -> list[Problem]:
        """Problems with `targets` for entries of shape `entries`, (b,) or (b, t).

        counted (of shape `entries`) or None: where False, the target is never read.
        """


def _shape_problem(
    targets: Tensor, entries: tuple[int, ...], rest: tuple[int, ...], kind: str
) -> list[Problem]:
    """A problem unless the shape is (*entries, *rest)."""
    shape, expected = tuple(targets.shape), (*entries, *rest)
    if shape == expected:
        return []
    remedy = _shape_remedy(shape, entries, rest)
    return [Problem("targets", f"shape {shape}", f"shape {expected} {kind}", remedy)]


def _shape_remedy(shape: tuple[int, ...], entries: tuple[int, ...], rest: tuple[int, ...]) -> str:
    if shape == (*entries, *rest, 1):
        return "Use targets.squeeze(-1)."
    if (*shape, 1) == (*entries, *rest):
        return "Use targets.unsqueeze(-1)."
    if shape == entries:
        return "For class labels use loss='cross_entropy'."
    if len(entries) == 2 and shape == (entries[0], *rest):
        return "For one target per sequence, make the rule with at='last'."
    if len(entries) == 1 and len(shape) == 2 + len(rest) and shape[0] == entries[0]:
        return "For a target at every step, make the rule with at='every'."
    return ""


def _finite_problems(targets: Tensor, counted: Tensor | None) -> list[Problem]:
    read = targets if counted is None else targets[counted]
    if math.isfinite(read.detach().sum().item()) or bool(read.isfinite().all()):
        return []
    remedy = "Exclude missing values by a mask."
    return [Problem("targets", "NaN or infinite values", "finite numbers", remedy)]


class CrossEntropy(Loss):
    """Softmax cross-entropy, as `torch.nn.functional.cross_entropy`: e = ŷ − y.

    Args:
        label_smoothing: ε in [0, 1]; targets become (1 − ε) y + ε / O.
        class_weights: (o,) non-negative; as in torch, the mean divides by the weights of the targets.

    >>> import torch, timelocal as tl
    >>> loss = tl.losses.CrossEntropy(label_smoothing=0.1)
    >>> losses, errors = loss.losses_and_errors(torch.zeros(1, 2), torch.tensor([0]))
    >>> errors
    tensor([[-0.4500,  0.4500]])
    """

    classifies = True
    own_activation = "softmax"

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        problems = []
        if not (0 <= as_real(label_smoothing) <= 1):
            problems.append(
                Problem("label_smoothing", described(label_smoothing), "a number in [0, 1]")
            )
        raise_problems(problems)
        if class_weights is not None:
            class_weights = as_tensor("class_weights", class_weights, floating=True)
            if not bool((class_weights.isfinite() & (class_weights >= 0)).all()):
                got = "negative or non-finite values"
                raise_problems([Problem("class_weights", got, "non-negative numbers")])
        self.label_smoothing = as_real(label_smoothing)
        self.class_weights = class_weights

    def _weights(self, outputs: Tensor) -> Tensor | None:
        return None if self.class_weights is None else self.class_weights.to(outputs)

    def losses_and_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        log_probabilities = F.log_softmax(outputs, -1)
        index = targets.unsqueeze(1)
        weights = self._weights(outputs)
        if weights is None and not self.label_smoothing:
            losses = F.nll_loss(log_probabilities, targets, reduction="none")
            return losses, log_probabilities.exp().scatter_(1, index, -1.0, reduce="add")
        wanted = torch.zeros_like(outputs).scatter_(1, index, 1 - self.label_smoothing)
        wanted += self.label_smoothing / outputs.shape[1]
        if weights is not None:
            wanted *= weights
        losses = (wanted * log_probabilities).sum(1).neg()
        return losses, log_probabilities.exp() * wanted.sum(1, keepdim=True) - wanted

    def entry_weights(self, targets: Tensor) -> Tensor | None:
        return (
            None if self.class_weights is None else self.class_weights.to(targets.device)[targets]
        )

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(-1) == targets

    def target_problems(
        self,
        targets: Tensor,
        entries: tuple[int, ...],
        outputs: int,
        dtype: torch.dtype,
        counted: Tensor | None,
    ) -> list[Problem]:
        if tuple(targets.shape) == (*entries, outputs) and _are_shares(targets):
            got, expected = f"shape {tuple(targets.shape)}, a share for each class", "class indices"
            return [Problem("targets", got, expected, "Use targets.argmax(-1).")]
        if targets.dtype != torch.int64:
            remedy = "Use targets.long()."
            if targets.is_floating_point():
                remedy = f"{TO_LABELS} For real-valued targets use loss='mse'."
            return [Problem("targets", f"{targets.dtype}", "class indices, torch.int64", remedy)]
        problems = _shape_problem(targets, entries, (), "of class indices")
        if not problems:
            read = targets if counted is None else targets[counted]
            low, high = map(int, read.aminmax()) if read.numel() else (0, 0)
            if low < 0 or high >= outputs:
                got = f"labels between {low} and {high}"
                expected = f"labels between 0 and {outputs - 1} (the readout has {outputs} outputs)"
                problems.append(
                    Problem("targets", got, expected, _label_remedy(low, high, outputs))
                )
        weights = self.class_weights
        if weights is not None and tuple(weights.shape) != (outputs,):
            got = f"shape {tuple(weights.shape)}"
            problems.append(Problem("class_weights", got, f"shape ({outputs},)"))
        return problems


def _are_shares(targets: Tensor) -> bool:
    """Whether the last axis runs over classes, or their probabilities, rather than steps."""
    rows = targets.double()
    return bool(((rows >= 0).all(-1) & ((rows.sum(-1) - 1).abs() < 1e-3)).all())


def _label_remedy(low: int, high: int, outputs: int) -> str:
    if low == -100:
        return "Exclude unlabelled entries by mask=targets != -100."
    if low < 0:
        return TO_LABELS
    if low == 1 and high == outputs:
        return "Use targets - 1."
    if outputs == 1 and high == 1:
        return "Give the readout 2 outputs; with one, use loss='bce' and targets (..., 1) of 0.0 and 1.0."
    return f"Give the readout an output for each class, {high + 1} or more."


class _RealTargets(Loss):
    """The base of losses on real-valued targets with the shape of the outputs."""

    target_axes = 1

    def target_problems(
        self,
        targets: Tensor,
        entries: tuple[int, ...],
        outputs: int,
        dtype: torch.dtype,
        counted: Tensor | None,
    ) -> list[Problem]:
        if targets.dtype != dtype:
            converted = f"targets.to({dtype})"
            if (*targets.shape, 1) == (*entries, outputs):
                converted += ".unsqueeze(-1)"
            remedy = f"Use {converted}."
            if not targets.is_floating_point() and outputs > 1:
                remedy = f"For class labels use loss='cross_entropy', for numbers {converted}."
            return [Problem("targets", f"{targets.dtype}", f"{dtype}", remedy)]
        problems = _shape_problem(targets, entries, (outputs,), "like the outputs")
        if not problems:
            problems += _finite_problems(targets, counted)
        return problems


class MSE(_RealTargets):
    """Mean squared error over the outputs, as `torch.nn.functional.mse_loss`: e = 2 (β − y) / O."""

    def losses_and_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        difference = outputs - targets
        return difference.square().mean(-1), difference * (2 / outputs.shape[-1])


class BCE(_RealTargets):
    """Binary cross-entropy with logits, mean over the outputs: e = (σ(β) − y) / O."""

    own_activation = "sigmoid"

    def losses_and_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(-1)
        return losses, (outputs.sigmoid() - targets) / outputs.shape[-1]

    def point(self, outputs: Tensor) -> Tensor:
        """The probability σ(β)."""
        return outputs.sigmoid()

    def target_problems(
        self,
        targets: Tensor,
        entries: tuple[int, ...],
        outputs: int,
        dtype: torch.dtype,
        counted: Tensor | None,
    ) -> list[Problem]:
        problems = super().target_problems(targets, entries, outputs, dtype, counted)
        if not problems:
            read = (targets if counted is None else targets[counted]).detach()
            if read.numel() and not (float(read.min()) >= 0 and float(read.max()) <= 1):
                got = f"values between {float(read.min()):g} and {float(read.max()):g}"
                problems.append(Problem("targets", got, "probabilities in [0, 1]"))
        return problems


class _Distribution(_RealTargets):
    """The base of losses with several outputs for each target."""

    def _by_target(self, outputs: Tensor) -> Tensor:
        """Outputs (n, k·p) as (n, k, p): p numbers for each of k targets."""
        return outputs.unflatten(-1, (-1, self.outputs_per_target))

    def target_problems(
        self,
        targets: Tensor,
        entries: tuple[int, ...],
        outputs: int,
        dtype: torch.dtype,
        counted: Tensor | None,
    ) -> list[Problem]:
        each = self.outputs_per_target
        if outputs % each:
            got, name = f"{outputs} outputs", type(self).__name__
            return [Problem("readout", got, f"{each} for each target, as the loss {name} requires")]
        return super().target_problems(targets, entries, outputs // each, dtype, counted)


class Quantile(_Distribution):
    """Pinball loss of quantiles, mean over targets and levels: e = ([y < ŷ_q] − q) / (K Q).

        ℓ = mean_q max(q (y − ŷ_q), (q − 1)(y − ŷ_q))

    Outputs (n, k·q): the quantiles of the first target, then those of the second, …; targets (n, k).

    Args:
        levels: q in (0, 1), increasing.

    Source: R. Koenker, G. Bassett. Regression quantiles. Econometrica 46(1):33–50, 1978.

    >>> import torch, timelocal as tl
    >>> loss = tl.losses.Quantile((0.1, 0.9))
    >>> loss.losses(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0]]))
    tensor([0.5500])
    """

    def __init__(self, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        listed = list(map(as_real, levels)) if isinstance(levels, list | tuple) else []
        rising = all(low < high for low, high in pairwise([0.0, *listed, 1.0]))
        if not listed or not rising:
            expected = "increasing numbers between 0 and 1, such as (0.1, 0.5, 0.9)"
            raise_problems([Problem("levels", described(levels), expected)])
        self.levels = tuple(listed)
        self.outputs_per_target = len(listed)

    def losses_and_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        levels = outputs.new_tensor(self.levels)
        above = targets.unsqueeze(-1) - self._by_target(outputs)
        losses = torch.maximum(levels * above, (levels - 1) * above).mean((-1, -2))
        errors = ((above < 0).to(outputs) - levels).flatten(-2) / outputs.shape[-1]
        return losses, errors

    def point(self, outputs: Tensor) -> Tensor:
        """The quantile whose level is closest to one half."""
        middle = min(range(len(self.levels)), key=lambda place: abs(self.levels[place] - 0.5))
        return self.quantiles(outputs)[..., middle]

    def quantiles(self, outputs: Tensor) -> Tensor:
        """(…, k·q) as (…, k, q), in increasing order."""
        return self._by_target(outputs).sort(-1).values


class Gaussian(_Distribution):
    """Negative log likelihood of a normal distribution per target, averaged over targets.

        ℓ = ln σ + (y − μ)² / (2 σ²) + ½ ln 2π
        e_μ = (μ − y) / σ² / K     e_{ln σ} = (1 − (y − μ)² / σ²) / K

    Outputs (n, 2k): μ and ln σ of the first target, then of the second, …; targets (n, k). ln σ is kept
    within ±10, beyond which its error is zero.

    >>> import torch, timelocal as tl
    >>> tl.losses.Gaussian().losses(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0]]))
    tensor([1.4189])
    """

    outputs_per_target = 2

    def losses_and_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self._by_target(outputs).unbind(-1)
        log_deviation = raw.clamp(-_WIDEST, _WIDEST)
        precision = (-2 * log_deviation).exp()
        difference = mean - targets
        losses = log_deviation + difference.square() * precision / 2 + math.log(2 * math.pi) / 2
        inside = (raw == log_deviation).to(outputs)
        errors = torch.stack(
            [difference * precision, (1 - difference.square() * precision) * inside], -1
        )
        return losses.mean(-1), errors.flatten(-2) / targets.shape[-1]

    def point(self, outputs: Tensor) -> Tensor:
        """The mean μ."""
        return self._by_target(outputs)[..., 0]

    def quantiles(self, outputs: Tensor, levels: Sequence[float]) -> Tensor:
        """(…, 2k) to the quantiles (…, k, q): μ + σ Φ⁻¹(q)."""
        mean, raw = self._by_target(outputs).unbind(-1)
        deviation = raw.clamp(-_WIDEST, _WIDEST).exp()
        z = torch.special.ndtri(outputs.new_tensor(list(levels), dtype=torch.float64)).to(outputs)
        return mean.unsqueeze(-1) + deviation.unsqueeze(-1) * z


_WIDEST = 10.0
"""The largest |ln σ| of a Gaussian: e^10 deviations of a standardized target."""


class Custom(Loss):
    """Any function of outputs (n, o) and targets (n, …) that returns losses (n,).

    Its error comes from autograd on the outputs alone.
    """

    def __init__(self, function: LossFunction) -> None:
        self.function = function

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = self.function(outputs, targets)
        plain = is_plain(losses) and not losses.is_meta
        if not plain or losses.shape != outputs.shape[:1]:
            got = f"shape {tuple(losses.shape)}" if plain else described(losses)
            expected = f"shape {tuple(outputs.shape[:1])}, one loss per entry"
            remedy = "Average over the outputs, not over the entries (reduction='none')."
            raise_problems([Problem("loss function", got, expected, remedy)])
        return losses.to(outputs.dtype)

    def losses_and_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            losses = self.losses(leaf, targets)
            errors = None
            if losses.requires_grad:
                (errors,) = torch.autograd.grad(losses.sum(), leaf, allow_unused=True)
        if errors is None:
            got = "losses that do not depend on the outputs through torch operations"
            remedy = "Avoid detach(), argmax and NumPy; perturbation rules need no gradient."
            raise_problems([Problem("loss function", got, "a function with a gradient", remedy)])
        assert errors is not None
        return losses.detach(), errors

    def target_problems(
        self,
        targets: Tensor,
        entries: tuple[int, ...],
        outputs: int,
        dtype: torch.dtype,
        counted: Tensor | None,
    ) -> list[Problem]:
        if tuple(targets.shape[: len(entries)]) != entries:
            expected = f"shape {entries}, or more axes after these"
            return [Problem("targets", f"shape {tuple(targets.shape)}", expected)]
        return _finite_problems(targets, counted)


LOSSES: dict[str, type[Loss]] = {
    "bce": BCE,
    "cross_entropy": CrossEntropy,
    "gaussian": Gaussian,
    "mse": MSE,
    "quantile": Quantile,
}


def loss_problem(loss: object) -> Problem | None:
    """A problem unless `loss` can be resolved."""
    if isinstance(loss, str):
        problem = unknown_name("loss", loss, LOSSES)
        own = "For another loss give a function of (outputs, targets) that returns one loss for each row."
        return problem and replace(problem, remedy=problem.remedy or own)
    expected = "a name, a timelocal.losses.Loss or a function"
    if isinstance(loss, type):
        return Problem("loss", described(loss), expected, f"Give an object: {loss.__name__}().")
    reduction = getattr(loss, "reduction", "none")
    if isinstance(loss, nn.Module) and reduction != "none":
        known = did_you_mean(type(loss).__name__, LOSSES)
        remedy = f"{known} Or make it with reduction='none'." if known else "Use reduction='none'."
        got = f"a {type(loss).__name__} with reduction={reduction!r}"
        return Problem("loss", got, "one loss for each row", remedy)
    if isinstance(loss, Loss) or callable(loss):
        return None
    return Problem("loss", described(loss), expected)


_ACTIVATIONS = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid)


def warn_of_activation(readout: nn.Module, loss: Loss) -> None:
    """Warn if a readout ends in a softmax or sigmoid that the loss applies itself."""
    last: nn.Module = readout
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    if loss.own_activation and isinstance(last, _ACTIVATIONS):
        warn(
            f"readout: ends in a {type(last).__name__}, and the loss {type(loss).__name__} applies a "
            f"{loss.own_activation} itself: it expects logits. Leave the {type(last).__name__} out, and "
            "apply it to predictions."
        )


def resolve(loss: str | Loss | LossFunction) -> Loss:
    """A loss from its name, itself, or a function of (outputs, targets)."""
    raise_problems([loss_problem(loss)])
    if isinstance(loss, Loss):
        return loss
    return LOSSES[loss]() if isinstance(loss, str) else Custom(loss)
