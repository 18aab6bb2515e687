"""Predictors that learn nothing over time, reported with every result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from timelocal import data
from timelocal.data import Sequences, Split
from timelocal.data.metrics import mse
from timelocal.data.reading import is_file
from timelocal.data.sequences import valid
from timelocal.experiments.predictions import CLASS_METRICS, VALUE_METRICS
from timelocal.experiments.preparing import Prepared
from timelocal.losses import BCE, Gaussian, Loss, Quantile
from timelocal.network import Network

_MOST = 20_000
"""Sequences that a ridge regression is fitted to at most."""


def floors(
    prepared: Prepared, network: Network, loss: Loss, target: str | None
) -> dict[str, float]:
    """Test accuracies, or mean squared errors in the units that the network learns in.

    Of classes that are one-hot, the binary cross-entropy where that is what is learned.
    Of quantiles the pinball loss, every quantile being the same value; of a likelihood that of the normal
    distribution of the training part.
    target: the feature that is forecast, if one is.
    """
    dataset, split = prepared.dataset, prepared.split
    if dataset.card.classes is None and not is_file(dataset.name):
        named, measure = data.floors(dataset.name, split), "BCE" if isinstance(loss, BCE) else "MSE"
        return {
            name.removesuffix(f", {measure}"): error
            for name, error in named.items()
            if name.endswith(f", {measure}")
        }
    if isinstance(loss, Gaussian):
        return {"normal distribution of training": _normal(split, loss)}
    mean, deviation = prepared.outputs_scale or (torch.tensor(0.0), torch.tensor(1.0))
    found: dict[str, float] = {}
    for name, own in floor_predictions(prepared, target, network).items():
        targets = valid(split.test.targets, split.test.lengths)
        if dataset.card.classes is not None:
            found[name] = (valid(own, split.test.lengths) == targets).double().mean().item()
            continue
        values = valid((own - mean) / deviation, split.test.lengths)
        if isinstance(loss, Quantile):
            values = values.repeat_interleave(loss.outputs_per_target, -1)
            found[name] = float(loss.losses(values.flatten(0, -2), targets.flatten(0, -2)).mean())
        else:
            found[name] = mse(values, targets)
    return found


def is_fitted(name: str) -> bool:
    """Whether a floor is a regression, which learns, if not over time; the others learn nothing.

    >>> is_fitted("ridge on 48 lags"), is_fitted("persistence")
    (True, False)
    """
    return name.startswith(("readout", "ridge", "linear"))


def floor_predictions(
    prepared: Prepared, target: str | None, network: Network
) -> dict[str, Tensor]:
    """The scores on the test part of predictors that learn nothing over time, for classes or values.

    Of classes the most frequent one of the training part, of values its mean; of a forecast the last value,
    and a ridge regression on the window; of what one says of a whole sequence a ridge regression on the last
    states of `network`, which is untrained; of targets at every step one on the inputs of the step, and one
    on those states.
    """
    train, test = prepared.raw.train, prepared.raw.test
    if prepared.dataset.card.classes is not None:
        counts = valid(train.targets, train.lengths).flatten().bincount()
        majority = {"majority_class": counts.argmax().expand_as(test.targets)}
        if test.targets.dim() == 1:
            return majority | {"readout_only": _readout_only(prepared, network, RidgeClassifier())}
        return {
            **majority,
            "ridge_on_each_step": _of_steps(prepared, RidgeClassifier(), _inputs),
            "readout_only": _of_steps(
                prepared, RidgeClassifier(), partial(_features_of_steps, network)
            ),
        }
    outputs = train.targets.shape[-1]
    mean = valid(train.targets, train.lengths).reshape(-1, outputs).mean(0)
    found = {"mean of training": mean.expand_as(test.targets)}
    if target is not None:
        feature = prepared.dataset.card.features.index(target)
        found["persistence"] = test.inputs[:, -1, feature, None].expand_as(test.targets)
        found["ridge on the window"] = _ridge(train, test)
    elif test.targets.dim() == 2:
        found["readout only"] = _readout_only(prepared, network, Ridge(1.0))
    else:
        found["ridge on each step"] = _of_steps(prepared, Ridge(1.0), _inputs)
        found["readout only"] = _of_steps(
            prepared, Ridge(1.0), partial(_features_of_steps, network)
        )
    return found


def floor_metrics(
    name: str, prepared: Prepared, network: Network, target: str | None
) -> dict[str, float]:
    """The measure of this name of every predictor without learning over time, on the test part."""
    measure = (CLASS_METRICS | VALUE_METRICS)[name]
    test = prepared.raw.test

    def rows(values: Tensor) -> Tensor:
        found = valid(values, test.lengths)
        entries = 1 if values.is_floating_point() else 0  # axes behind that of the entries
        return found.flatten(0, -1 - entries)

    found = floor_predictions(prepared, target, network)
    return {floor: float(measure(rows(one), rows(test.targets))) for floor, one in found.items()}


def _normal(split: Split, loss: Gaussian) -> float:
    """Negative log likelihood of the test part under the normal distribution of the training part."""
    outputs = split.train.targets.shape[-1]
    rows = valid(split.train.targets, split.train.lengths).reshape(-1, outputs)
    spread = rows.std(0, correction=0)
    log_deviation = torch.where(spread > 0, spread, 1.0).log()
    told = torch.stack([rows.mean(0), log_deviation], -1).flatten()
    targets = valid(split.test.targets, split.test.lengths).reshape(-1, outputs)
    return float(loss.losses(told.expand(len(targets), -1), targets).mean())


def _ridge(train: Sequences, test: Sequences) -> Tensor:
    chosen = np.unique(np.linspace(0, len(train) - 1, _MOST).astype(int))
    ridge = make_pipeline(StandardScaler(), Ridge(1.0))
    fitted = train[chosen]
    ridge.fit(fitted.inputs.flatten(1).double().numpy(), fitted.targets.double().numpy())
    batches = data.minibatches(test, _MOST)
    values = [
        torch.from_numpy(ridge.predict(b.inputs.flatten(1).double().numpy())) for b in batches
    ]
    return torch.cat(values).reshape(test.targets.shape).to(test.targets.dtype)


def _readout_only(
    prepared: Prepared, network: Network, regression: RidgeClassifier | Ridge
) -> Tensor:
    """The test scores of a ridge regression on the last states of the untrained network."""
    split, targets = prepared.split, prepared.raw.train.targets
    regression.fit(_features(network, split.train), targets.numpy())
    values = torch.from_numpy(regression.predict(_features(network, split.test)))
    return values.reshape(prepared.raw.test.targets.shape).to(targets.dtype)


def _of_steps(
    prepared: Prepared, regression: RidgeClassifier | Ridge, read: Callable[[Sequences], Tensor]
) -> Tensor:
    """The test scores of a regression for every step on the features (n, t, f) that `read` returns."""
    split, targets = prepared.split, prepared.raw.train.targets
    count = max(1, _MOST // targets.shape[1])
    chosen = np.unique(np.linspace(0, len(targets) - 1, count).astype(int))
    part = split.train[chosen]
    rows, wanted = (valid(one, part.lengths) for one in (read(part), targets[chosen]))
    rows, wanted = rows.flatten(0, -2), wanted.flatten(0, -2 if targets.dim() == 3 else -1)
    fitted = make_pipeline(StandardScaler(), regression).fit(rows.numpy(), wanted.numpy())
    values = [
        torch.from_numpy(fitted.predict(read(batch).flatten(0, 1).numpy()))
        for batch in data.minibatches(split.test, 256)
    ]
    return torch.cat(values).reshape(prepared.raw.test.targets.shape).to(targets.dtype)


def _inputs(part: Sequences) -> Tensor:
    return part.inputs


def _features_of_steps(network: Network, part: Sequences) -> Tensor:
    """The features of each step that a readout reads, (n, t, f)."""
    batches = data.minibatches(part, 256)
    return torch.cat([network.scan(b.inputs, b.lengths).outputs.transpose(0, 1) for b in batches])


def _features(network: Network, part: Sequences) -> NDArray[np.float32]:
    batches = data.minibatches(part, 256)
    return torch.cat([network.features(b.inputs, b.lengths) for b in batches]).numpy()
