"""The floors of a finished run on other data, fitted to the training part of the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from timelocal import data
from timelocal.data import Sequences
from timelocal.data.own_files import More
from timelocal.errors import DataError
from timelocal.experiments.config import TrainConfig
from timelocal.experiments.floors import floor_predictions
from timelocal.experiments.origins import changes
from timelocal.experiments.preparing import prepared, scaled
from timelocal.experiments.run import build_network
from timelocal.files import read_object


def floors_beside(run: Path, more: More) -> dict[str, Tensor]:
    """Predictions for `more` by name, as `timelocal.model.evaluation.evaluated` takes them.

    Args:
        run: the folder of the run, whose training data are read again.
        more: with targets.

    Raises:
        DataError: training data that are not there any more, or have changed.
    """
    recorded = read_object(run / "config.json")
    for name in (recorded["dataset"], recorded.get("test")):
        if name is not None and data.locate(name) is None:
            raise DataError(f"{name}: no longer there")
    config = TrainConfig(**recorded)
    told = changes(config, read_object(run / "environment.json"))
    if told:
        raise DataError(told[0])
    ready = prepared(config, None)
    assert more.targets is not None
    test = Sequences(more.inputs, more.targets, more.lengths)
    again = scaled(config, ready.dataset, replace(ready.raw, test=test))
    target = config.reading.get("target")
    network = build_network(config, ready.dataset)
    found = floor_predictions(again, None if target is None else str(target), network)
    classes = ready.dataset.card.classes
    if classes is None:
        return found
    always = found.pop("majority_class")
    rest = {name.replace("_", " "): one for name, one in found.items()}
    return {f"always {classes[int(always.flatten()[0])]}": always, **rest}
