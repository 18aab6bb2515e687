"""A model on labelled data, beside what takes no learning at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from timelocal.data.own_files import More
from timelocal.errors import Problem, raise_problems
from timelocal.losses import Gaussian, Quantile
from timelocal.model.model import Model
from timelocal.model.scores import class_scores, value_scores


def evaluated(model: Model, more: More) -> dict[str, Any]:
    """The scores of a model, and under `floors` those of predictors that learn nothing.

    Of classes: always the most frequent one of these data. Of values: their mean, and of a forecast the last
    value before.

    Of a model of quantiles also how many targets lie between the lowest and the highest (of a normal
    distribution those of 0.1 and 0.9), how many should, and how wide that is.

    Raises:
        ArgumentError: for data without targets.
    """
    if more.targets is None:
        raise_problems([Problem("data", "no targets", "one for each sequence")])
    assert more.targets is not None
    if model.classes is not None:
        shares = model.predict_proba(more.inputs, more.lengths)
        found = class_scores(shares, more.targets, model.classes)
        count = torch.bincount(more.targets, minlength=len(model.classes))
        always = np.zeros_like(shares)
        always[:, int(count.argmax())] = 1
        floor = class_scores(always, more.targets, model.classes)
        kept = ("accuracy", "balanced_accuracy", "macro_f1")
        name = f"always {model.classes[int(count.argmax())]}"
        return {**found, "floors": {name: {one: floor[one] for one in kept}}}
    targets = more.targets.double().numpy()
    values = model.predict(more.inputs, more.lengths)
    valid = np.ones(targets.shape[:-1], bool)
    if more.lengths is not None and targets.ndim == 3:
        valid = np.arange(targets.shape[1]) < more.lengths.numpy()[:, None]
    floors = {"their mean": np.broadcast_to(targets[valid].mean(0), targets.shape)}
    target = model.reading.get("target")
    if target is not None and model.features is not None:
        last = more.inputs[:, -1, model.features.index(target)].double().numpy()
        floors["persistence"] = np.broadcast_to(last[:, None], targets.shape)
    scores = {name: value_scores(one[valid], targets[valid]) for name, one in floors.items()}
    found = {"sequences": len(targets), **value_scores(values[valid], targets[valid])}
    if isinstance(model.loss, Quantile | Gaussian):
        levels = model.loss.levels if isinstance(model.loss, Quantile) else (0.1, 0.9)
        ends = model.predict_quantiles(more.inputs, more.lengths, (levels[0], levels[-1]))
        low, high = ends[..., 0][valid], ends[..., -1][valid]
        inside = (targets[valid] >= low) & (targets[valid] <= high)
        found |= {
            "coverage": float(inside.mean()),
            "expected_coverage": levels[-1] - levels[0],
            "mean_width": float((high - low).mean()),
        }
    return {**found, "floors": scores}
