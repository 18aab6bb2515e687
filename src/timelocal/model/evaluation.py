"""A model's scores on labelled data, and those of predictors without learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timelocal.data.own_files import More
from timelocal.data.sequences import valid
from timelocal.errors import Problem, raise_problems
from timelocal.losses import Gaussian, Quantile
from timelocal.model.model import Model
from timelocal.model.scores import class_scores, value_scores


def evaluated(
    model: Model, more: More, floors: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """The scores of a model, and under `floors` those of predictors without learning over time.

    For a quantile model, also how many targets lie between the lowest and the highest quantile (0.1 and 0.9
    for a normal distribution), how many should, and the width of that range.

    Args:
        floors: predictions by name, in the form of the targets. None: the most frequent class of these data,
            or their mean and, for a forecast, the last value before.

    Raises:
        ArgumentError: for data without targets.
    """
    if more.targets is None:
        raise_problems([Problem("data", "no targets", "one for each sequence")])
    assert more.targets is not None
    targets = more.targets
    if model.classes is not None:
        right = valid(targets, more.lengths).flatten()
        shares = torch.from_numpy(model.predict_proba(more.inputs, more.lengths))
        if floors is None:
            most = right.bincount(minlength=len(model.classes)).argmax()
            floors = {f"always {model.classes[int(most)]}": most.expand_as(targets)}
        kept = ("accuracy", "balanced_accuracy", "macro_f1")
        beside = {}
        for name, classes in floors.items():
            sure = torch.eye(len(model.classes))[valid(classes, more.lengths).flatten()]
            scores = class_scores(sure, right, model.classes)
            beside[name] = {score: scores[score] for score in kept}
        entries = valid(shares, more.lengths).flatten(0, -2)
        steps = {"steps": len(right)} if targets.dim() == 2 else {}
        scores = class_scores(entries, right, model.classes)
        return {**scores, "sequences": len(targets), **steps, "floors": beside}
    if floors is None:
        floors = _floors(model, more, targets)
    wanted = targets.double().numpy()
    values = model.predict(more.inputs, more.lengths)
    counted = np.ones(wanted.shape[:-1], bool)
    if more.lengths is not None and wanted.ndim == 3:
        counted = np.arange(wanted.shape[1]) < more.lengths.numpy()[:, None]
    found = {"sequences": len(wanted), **value_scores(values[counted], wanted[counted])}
    if isinstance(model.loss, Quantile | Gaussian):
        levels = model.loss.levels if isinstance(model.loss, Quantile) else (0.1, 0.9)
        ends = model.predict_quantiles(more.inputs, more.lengths, (levels[0], levels[-1]))
        found |= coverage(ends[counted], wanted[counted], levels[-1] - levels[0])
    beside = {
        name: value_scores(one.numpy()[counted], wanted[counted]) for name, one in floors.items()
    }
    return {**found, "floors": beside}


def coverage(ends: NDArray[Any], targets: NDArray[Any], expected: float) -> dict[str, float | None]:
    """The fraction of targets (n, o) between two quantiles (n, o, 2), its expected value, and their distance.

    >>> coverage(np.array([[[0.0, 2.0]], [[0.0, 4.0]]]), np.array([[1.0], [5.0]]), 0.8)
    {'coverage': 0.5, 'expected_coverage': 0.8, 'mean_width': 3.0}
    """
    low, high = ends[..., 0], ends[..., 1]
    return {
        "coverage": float(((targets >= low) & (targets <= high)).mean()),
        "expected_coverage": expected,
        "mean_width": float((high - low).mean()),
    }


def _floors(model: Model, more: More, targets: Tensor) -> dict[str, Tensor]:
    """The mean of the targets, and of a forecast the last value before."""
    mean = valid(targets, more.lengths).double().reshape(-1, targets.shape[-1]).mean(0)
    found = {"their mean": mean.expand_as(targets)}
    target = model.reading.get("target")
    if target is not None and model.features is not None:
        last = more.inputs[:, -1, model.features.index(target)]
        found["persistence"] = last[:, None].expand_as(targets)
    return found
