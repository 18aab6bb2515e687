"""A trained model: predicts classes by name and values in their original units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from timelocal.arguments import as_series, as_tensor, lengths_problem
from timelocal.data.sequences import Values
from timelocal.errors import Problem, UnsupportedError, described, raise_problems
from timelocal.losses import BCE, CrossEntropy, Gaussian, Loss, Quantile
from timelocal.model.plain import Plain, at_the_end
from timelocal.network import Network, to_torch
from timelocal.rules import Rule
from timelocal.rules.batch import STEPWISE

Scale: TypeAlias = tuple[Tensor, Tensor]
"""Mean and standard deviation per feature, as returned by `timelocal.data.moments`."""

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Model:
    """A trained rule with its network, and the meaning of its inputs and outputs.

        y = mean_y + deviation_y ⊙ network((x − mean_x) / deviation_x)

    Args:
        rule: the trained rule, with its network.
        classes: the names of the outputs, in order, of a classifier.
        features: the names of the inputs (I of them).
        outputs: the names of the predicted values (O of them).
        inputs_scale: mean and deviation (I,) that inputs were standardized by.
        outputs_scale: mean and deviation (O,) that targets were standardized by.
        reading: how the training data were read from a file: arguments of `timelocal.data.read`.
        stepwise: whether it predicts at every step; None: if the rule's loss is at every step. False for a
            network with one label that was used at every step: it predicts its output at the last valid step.

    Raises:
        ArgumentError: for numbers of names or moments that do not match the network, or a prediction at
            every step by a rule with one loss for the whole sequence.

    >>> import torch, timelocal as tl
    >>> rule = tl.DFA(tl.GRU(1, 8, output_size=2))
    >>> model = tl.Model(rule, classes=("down", "up"))
    >>> model.predict(torch.zeros(3, 5, 1)).shape, model.predict_proba(torch.zeros(3, 5, 1)).shape
    ((3,), (3, 2))
    """

    rule: Rule
    classes: Sequence[str] | None = None
    features: Sequence[str] | None = None
    outputs: Sequence[str] | None = None
    inputs_scale: Scale | None = None
    outputs_scale: Scale | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    stepwise: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            got = described(self.rule)
            raise_problems([Problem("rule", got, "a rule, such as tl.DFA(network)")])
        features = self.network.input_size
        outputs = self.network.output_size // self.loss.outputs_per_target
        sizes = {
            "classes": outputs,
            "features": features,
            "outputs": outputs,
            "inputs_scale": features,
            "outputs_scale": outputs,
        }
        for name in ("classes", "features", "outputs"):
            given = getattr(self, name)
            raise_problems([_names_problem(name, given, sizes[name])])
            object.__setattr__(self, name, None if given is None else tuple(given))
        for name in ("inputs_scale", "outputs_scale"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _scale(name, given, sizes[name], self.network))
        every = self.rule.at in STEPWISE
        if self.stepwise is None:
            object.__setattr__(self, "stepwise", every)
        elif self.stepwise and not every:
            remedy = "Make the rule with at='every'."
            raise_problems(
                [Problem("stepwise", "True", f"False for a rule with at={self.rule.at!r}", remedy)]
            )

    @property
    def network(self) -> Network:
        """The rule's network."""
        return self.rule.network

    @property
    def loss(self) -> Loss:
        """The rule's loss."""
        return self.rule.loss

    def predict(self, inputs: Values, lengths: object = None) -> NDArray[Any]:
        """The most probable class of each sequence by name, or the values in their original units.

        Args:
            inputs: (b, t, i), in the units of the training data; a tensor, an array, or a list of b series of
                unequal length (t_b, i).
            lengths: (b,) valid steps of each, None if all are valid or `inputs` is a list.

        Returns:
            (b,) class names, or class numbers without names; or values (b, o); or, with the loss BCE,
            whether each output is true (b, o). For a `stepwise` model (b, t) and (b, t, o).

        Raises:
            ArgumentError: for inputs with other features, or values that are not finite.
        """
        values = self._outputs(inputs, lengths)
        if self.loss.outputs_per_target > 1:
            return in_own_units(self.loss.point(values), self.outputs_scale).numpy()
        if isinstance(self.loss, BCE):
            return (values > 0).numpy()
        if not self.loss.classifies:
            return in_own_units(values, self.outputs_scale).numpy()
        best: NDArray[Any] = values.argmax(-1).numpy()
        return best if self.classes is None else np.array(self.classes)[best]

    def predict_proba(self, inputs: Values, lengths: object = None) -> NDArray[Any]:
        """The probability of each class, (b, classes), or (b, t, classes) at every step.

        Arguments and errors: as `predict`. Besides,

        Raises:
            UnsupportedError: for a network that predicts values.
        """
        values = self._outputs(inputs, lengths)
        if not isinstance(self.loss, CrossEntropy | BCE):
            name = type(self.loss).__name__
            raise UnsupportedError(f"predict_proba: got a model with loss {name}. Use predict")
        probabilities = values.softmax(-1) if self.loss.classifies else values.sigmoid()
        return probabilities.numpy()

    def predict_quantiles(
        self, inputs: Values, lengths: object = None, levels: Sequence[float] = (0.1, 0.5, 0.9)
    ) -> NDArray[Any]:
        """The quantiles of each value in its original units, (b, o, levels).

        Args:
            inputs, lengths: as in `predict`.
            levels: in (0, 1), increasing; for a model with the loss `Quantile`, those that it has learned.

        Raises:
            UnsupportedError: for a model with a loss other than `Quantile` and `Gaussian`.
            ArgumentError: as `predict`, and for unknown levels.
        """
        values = self._outputs(inputs, lengths)
        if isinstance(self.loss, Gaussian):
            found = self.loss.quantiles(values, Quantile(levels).levels)
        elif isinstance(self.loss, Quantile):
            unknown = [level for level in levels if level not in self.loss.levels]
            if unknown:
                expected = f"some of {self.loss.levels}, which it has learned"
                raise_problems([Problem("levels", described(unknown[0]), expected)])
            places = [self.loss.levels.index(level) for level in levels]
            found = self.loss.quantiles(values)[..., places]
        else:
            name = type(self.loss).__name__
            raise UnsupportedError(
                f"predict_quantiles: got a model with loss {name}, expected Quantile or Gaussian"
            )
        own = in_own_units(found.transpose(-1, -2), self.outputs_scale)
        return own.transpose(-1, -2).numpy()

    def to_torch(self) -> nn.Module:
        """A plain torch.nn module that takes (b, t, i) and lengths (b,) and returns this model's predictions.

        Standardisation and softmax are included: probabilities (b, classes), or values (b, o). It shares the
        parameters of the network.

        Raises:
            UnsupportedError: for cells that torch.nn does not have.
        """
        if self.loss.outputs_per_target > 1:
            name = type(self.loss).__name__
            raise UnsupportedError(
                f"to_torch: got a model with loss {name}, which predicts several numbers per value, expected "
                "one number. Use predict_quantiles or `timelocal predict`"
            )
        recurrent, readout = to_torch(self.network)
        activation = "none"
        if isinstance(self.loss, CrossEntropy | BCE):
            activation = "softmax" if self.loss.classifies else "sigmoid"
        return Plain(
            recurrent,
            readout,
            at=self._place(),
            activation=activation,
            inputs_scale=self.inputs_scale,
            outputs_scale=self.outputs_scale,
        ).eval()

    def scaled(self, inputs: Tensor) -> Tensor:
        """Inputs (b, t, i) as the network takes them."""
        if self.inputs_scale is None:
            return inputs
        mean, deviation = self.inputs_scale
        return (inputs - mean) / deviation

    def _place(self) -> str:
        """Where outputs are: "last", "mean", at "every" step, or at the "end" of those at every step."""
        if self.rule.at not in STEPWISE:
            return self.rule.at
        return "every" if self.stepwise else "end"

    @torch.no_grad()
    def _outputs(self, inputs: Values, lengths: object) -> Tensor:
        like = self.network.recurrent.like
        padded, steps = as_series("inputs", inputs, like=like, floating=True)
        if lengths is not None:
            steps = as_tensor("lengths", lengths)
        width = self.network.input_size
        fits = padded.dim() == 3 and padded.shape[2] == width and len(padded) > 0
        names = "" if self.features is None else f": {', '.join(self.features)}"
        raise_problems(
            [
                None
                if fits
                else Problem("inputs", described(padded), f"(b, t, {width}), b from 1{names}"),
                lengths_problem(steps, padded.shape[0], padded.shape[1])
                if fits and steps is not None
                else None,
            ]
        )
        first = self.network.batch_first
        found = []
        for start in range(0, len(padded), _BATCH):
            rows = self.scaled(padded[start : start + _BATCH].to(like))
            valid = None if steps is None else steps[start : start + _BATCH]
            outputs = self.rule.outputs(rows if first else rows.transpose(0, 1), valid)
            if outputs.dim() == 3:
                outputs = outputs if first else outputs.transpose(0, 1)
                outputs = outputs if self.stepwise else at_the_end(outputs, valid)
            found.append(outputs)
        return torch.cat(found).cpu()


def in_own_units(values: Tensor, scale: Scale | None) -> Tensor:
    """Standardized values (…, o) in the original units of the targets; unchanged if scale is None."""
    if scale is None:
        return values
    mean, deviation = (one.to(values.device) for one in scale)
    return mean + deviation * values


def _names_problem(what: str, names: object, count: int) -> Problem | None:
    if names is None:
        return None
    fits = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if fits and len(names) == count:  # type: ignore[arg-type]
        return None
    got = f"{len(names)} names" if fits else described(names)  # type: ignore[arg-type]
    return Problem(what, got, f"a list of {count} names, as the network has")


def _scale(what: str, given: object, count: int, network: Network) -> Scale:
    """Mean and deviation, checked, in the type of the network."""
    expected = f"(mean, deviation), {count} finite numbers each, deviations above 0"
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise_problems([Problem(what, described(given), expected)])
    like = network.recurrent.like
    mean, deviation = (as_tensor(what, one, like=like, floating=True) for one in given)  # type: ignore[attr-defined]
    fits = mean.shape == deviation.shape == (count,)
    if not fits or not bool((mean.isfinite() & deviation.isfinite() & (deviation > 0)).all()):
        raise_problems([Problem(what, f"{described(mean)} and {described(deviation)}", expected)])
    return mean.detach().to(like), deviation.detach().to(like)
