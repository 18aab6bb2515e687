"""What takes no learning over time, beside every result."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timelocal import data
from timelocal.data import Sequences
from timelocal.data.metrics import mse
from timelocal.data.reading import is_file
from timelocal.data.trivial import majority_class
from timelocal.experiments.preparing import Prepared
from timelocal.losses import Gaussian, Loss, Quantile
from timelocal.network import Network

_MOST = 20_000
"""Sequences that a ridge regression is fitted to at most."""


def floors(
    prepared: Prepared, network: Network, loss: Loss, target: str | None
) -> dict[str, float]:
    """Test accuracies, or mean squared errors in the units that the network learns in.

    Of quantiles the pinball loss, every quantile being the same value; nothing beside a likelihood.
    target: the feature that is forecast, if one is.
    """
    dataset, split = prepared.dataset, prepared.split
    if dataset.card.classes is not None:
        return {
            "majority_class": majority_class(split.train.targets, split.test.targets),
            "readout_only": _readout_only(network, split.train, split.test),
        }
    if not is_file(dataset.name):
        named = data.floors(dataset.name, split).items()
        return {
            name.removesuffix(", MSE"): error for name, error in named if name.endswith(", MSE")
        }
    if isinstance(loss, Gaussian):
        return {}
    mean, deviation = prepared.outputs_scale or (torch.tensor(0.0), torch.tensor(1.0))
    found: dict[str, float] = {}
    for name, own in floor_predictions(prepared, target).items():
        values, targets = (own - mean) / deviation, split.test.targets
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


def floor_predictions(prepared: Prepared, target: str | None) -> dict[str, Tensor]:
    """What predictors of values without learning over time say of the test part, in its own units.

    The mean of the training part; of a forecast the last value, and a ridge regression on the window.
    """
    train, test = prepared.raw.train, prepared.raw.test
    outputs = train.targets.shape[-1]
    mean = train.targets.reshape(-1, outputs).mean(0)
    found = {"mean of training": mean.expand_as(test.targets)}
    if target is None:
        return found
    feature = prepared.dataset.card.features.index(target)
    found["persistence"] = test.inputs[:, -1, feature, None].expand_as(test.targets)
    found["ridge on the window"] = _ridge(train, test)
    return found


def _ridge(train: Sequences, test: Sequences) -> Tensor:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen = np.unique(np.linspace(0, len(train) - 1, _MOST).astype(int))
    ridge = make_pipeline(StandardScaler(), Ridge(1.0))
    ridge.fit(
        train.inputs.flatten(1).double().numpy()[chosen], train.targets.double().numpy()[chosen]
    )
    values = ridge.predict(test.inputs.flatten(1).double().numpy())
    return torch.from_numpy(values).reshape(test.targets.shape).to(test.targets.dtype)


def _readout_only(network: Network, train: Sequences, test: Sequences) -> float:
    """Accuracy of a ridge classifier on the last states of the untrained network."""
    from sklearn.linear_model import RidgeClassifier

    classifier = RidgeClassifier()
    classifier.fit(_features(network, train), train.targets.numpy())
    return float(classifier.score(_features(network, test), test.targets.numpy()))


def _features(network: Network, part: Sequences) -> NDArray[np.float32]:
    batches = data.minibatches(part, 256)
    return torch.cat([network.features(b.inputs, b.lengths) for b in batches]).numpy()
